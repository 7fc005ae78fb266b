"""Writes the plan of `_places` into a model: QuantizeLinear and DequantizeLinear pairs, integer weights and biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from linnet.compress import _numbers
from linnet.compress._graph import Array, Graph, attribute
from linnet.compress._numbers import Affine, ByteType
from linnet.compress._places import Places

if TYPE_CHECKING:
    import onnx

Means = Mapping[str, Array]
"""Mean of a value by channel: axis 1 of what a convolution takes, the last axis of what a Gemm or MatMul takes."""


class Writer:
    """Turns a copy of a float model into a QDQ model.

    Args:
        model: simplified, of opset 13 or later; it is changed.
        places: the plan, made on this very model.
        scales: the parameters of each value in ``places.scale_of.values()``.
        activation: what they are made for.
        per_channel: one scale for each output channel of a layer's weights instead of one for all.
        means: of the layers' inputs; biases are corrected by what rounding the weights shifts the mean output by
            (M. Nagel et al., Data-Free Quantization through Weight Equalization and Bias Correction, 2019, eq. 15).
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        places: Places,
        scales: Mapping[str, Affine],
        activation: ByteType,
        *,
        per_channel: bool = True,
        means: Means | None = None,
    ) -> None:
        self.graph = Graph(model)
        self._places = places
        self._scales = scales
        self._zero_type = np.dtype(activation.name)
        self._per_channel = per_channel
        self._means = means or {}
        self._nodes: list[onnx.NodeProto] = []  # of the new graph, as far as it is written
        self._parameters: dict[str, tuple[str, str]] = {}  # representative -> names of scale and zero point
        self._floats: dict[str, str] = {}  # value -> its dequantized form
        self._weights: dict[tuple[str, int | None, bytes], str] = {}

    def write(self) -> onnx.ModelProto:
        """Does it."""
        places = self._places
        layers = {node.name for node in places.layers}
        values = set(places.values)
        for port in self.graph.proto.input:
            if port.name in values:
                self._pair(port.name)
        for node in list(self.graph.proto.node):
            if node.name in layers:
                self._layer(node)
            for i, name in enumerate(node.input):
                if self._stays_float(node, name):
                    continue
                if name in self._floats:
                    node.input[i] = self._floats[name]
                elif name in places.constants and node.op_type == "Concat":
                    node.input[i] = self._constant(name, places.constants[name])
            self._nodes.append(node)
            for name in node.output:
                if name in values:
                    self._pair(name)
        self._replace_nodes()
        return self.graph.model

    def _replace_nodes(self) -> None:
        before = len(self.graph.proto.node)
        self.graph.proto.node.extend(self._nodes)  # copies
        del self.graph.proto.node[:before]
        self.graph.drop_unused()

    def _stays_float(self, node: onnx.NodeProto, name: str) -> bool:
        """Whether the node takes the value within a piece of elementwise operators."""
        root = self._places.root
        return name in root and bool(node.output) and root.get(node.output[0]) == root[name]

    def _add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def _parameters_of(self, value: str) -> tuple[str, str]:
        key = self._places.scale_of[value]
        if key not in self._parameters:
            affine = self._scales[key]
            scale = self.graph.add_initializer(f"{key}_scale", np.float32(affine.scale))
            zero = self.graph.add_initializer(f"{key}_zero_point", np.array(affine.zero, self._zero_type))
            self._parameters[key] = scale, zero
        return self._parameters[key]

    def _pair(self, value: str) -> None:
        parameters = list(self._parameters_of(value))
        integers = self._add("QuantizeLinear", [value, *parameters], self.graph.unique(f"{value}_quantized"))
        back = self.graph.unique(f"{value}_dequantized")
        self._floats[value] = self._add("DequantizeLinear", [integers, *parameters], back)

    def _constant(self, name: str, like: str) -> str:
        affine = self._scales[self._places.scale_of[like]]
        value = self.graph.constant(name)
        assert value is not None
        limits = np.iinfo(self._zero_type)
        integers = np.clip(np.rint(value / affine.scale) + affine.zero, limits.min, limits.max)
        stored = self.graph.add_initializer(f"{name}_quantized", integers.astype(self._zero_type))
        parameters = list(self._parameters_of(like))
        return self._add("DequantizeLinear", [stored, *parameters], self.graph.unique(f"{name}_dequantized"))

    # ---- layers ------------------------------------------------------------------------------------------------------

    def _layer(self, node: onnx.NodeProto) -> None:
        if node.op_type == "MatMul":
            for i, name in enumerate(node.input):
                weights = self.graph.constant(name)
                if weights is not None:
                    axis = weights.ndim - 1 if i == 1 and weights.ndim == 2 and self._per_channel else None
                    scales = _numbers.weight_scales(weights, axis)
                    if i == 1 and weights.ndim == 2:
                        self._correct_sum(node, weights, scales, axis)
                    node.input[i] = self._weight(name, weights, scales, axis)
            return
        weights = self.graph.constant(node.input[1])
        assert weights is not None
        if node.op_type == "Gemm":
            weights = self._plain_gemm(node, weights)
        axis = _channel_axis(node) if self._per_channel else None
        scales = _numbers.weight_scales(weights, axis)
        bias_name = node.input[2] if len(node.input) > 2 else ""
        bias = self.graph.constant(bias_name)
        channels = _channels(node, weights)
        plain = bias is not None and bias.dtype == np.float32 and bias.size == channels == bias.shape[-1]
        if bias is not None and plain:
            bias = bias.reshape(-1)
        if plain or not bias_name:
            shift = self._shift(node, weights, scales, axis)
            if shift is not None:
                bias = -shift if bias is None else bias - shift
        if bias is not None and (plain or not bias_name):
            input_scale = self._scales[self._places.scale_of[node.input[0]]].scale
            scales = _numbers.bias_scales(bias, input_scale, scales)
            steps = (scales.astype(np.float64) * input_scale).astype(np.float32)
            integers = np.clip(np.rint(bias / steps.astype(np.float64)), -(2**31), 2**31 - 1).astype(np.int32)
            name = self._dequantized(bias_name or f"{node.name}_bias", integers, steps, 0 if axis is not None else None)
            del node.input[2:]
            node.input.append(name)
        node.input[1] = self._weight(node.input[1], weights, scales, axis)

    def _plain_gemm(self, node: onnx.NodeProto, weights: Array) -> Array:
        """Gemm's factors go into its constants: the weights with alpha in them."""
        alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
        bias = self.graph.constant(node.input[2]) if len(node.input) > 2 else None
        if beta != 1 and bias is not None:
            node.input[2] = self.graph.add_initializer(node.input[2], bias * np.float32(beta))
        elif beta != 1 and len(node.input) > 2 and node.input[2]:
            return weights  # a computed bias: integer engines do not fuse it either
        kept = [a for a in node.attribute if a.name not in ("alpha", "beta")]
        del node.attribute[:]
        node.attribute.extend(kept)
        if alpha == 1:
            return weights
        scaled: Array = weights * np.float32(alpha)
        node.input[1] = self.graph.add_initializer(node.input[1], scaled)
        return scaled

    def _weight(self, name: str, weights: Array, scales: Array, axis: int | None) -> str:
        key = name, axis, scales.tobytes()
        if key not in self._weights:
            self._weights[key] = self._dequantized(name, _numbers.quantized(weights, scales, axis), scales, axis)
        return self._weights[key]

    def _dequantized(self, base: str, integers: Array, scales: Array, axis: int | None) -> str:
        stored = self.graph.add_initializer(f"{base}_quantized", integers)
        scale = self.graph.add_initializer(f"{base}_scale", scales)
        zero = self.graph.add_initializer(f"{base}_zero_point", np.zeros(scales.shape, integers.dtype))
        out = self.graph.unique(f"{base}_dequantized")
        attributes = {} if axis is None else {"axis": axis}
        return self._add("DequantizeLinear", [stored, scale, zero], out, **attributes)

    # ---- bias correction ---------------------------------------------------------------------------------------------

    def _shift(self, node: onnx.NodeProto, weights: Array, scales: Array, axis: int | None) -> Array | None:
        """By what the rounding of the weights moves the mean of the layer's output, by channel; None: not known."""
        mean = self._means.get(node.input[0])
        if mean is None or node.op_type == "ConvTranspose":
            return None
        shape = [1] * weights.ndim
        if axis is not None:
            shape[axis] = -1
        moved = _numbers.quantized(weights, scales, axis) * scales.reshape(shape).astype(np.float64) - weights
        if node.op_type == "Conv":
            by_input = moved.reshape(*moved.shape[:2], -1).sum(2)  # [outputs, inputs of a group]
            groups = attribute(node, "group", 1)
            if mean.size != groups * by_input.shape[1]:
                return None
            each = np.repeat(mean.reshape(groups, -1), by_input.shape[0] // groups, axis=0)
            return np.asarray((by_input * each).sum(1), np.float32)
        if node.op_type == "Gemm" and attribute(node, "transA", 0):
            return None
        if node.op_type == "Gemm" and attribute(node, "transB", 0):
            moved = moved.T
        return np.asarray(mean @ moved, np.float32)

    def _correct_sum(self, node: onnx.NodeProto, weights: Array, scales: Array, axis: int | None) -> None:
        """The same for a MatMul whose bias is added behind it."""
        shift = self._shift(node, weights, scales, axis)
        if shift is None or not self.graph.used_once(node.output[0]):
            return
        user = self.graph.consumers[node.output[0]][0]
        for i, name in enumerate(user.input):
            bias = self.graph.constant(name)
            if user.op_type == "Add" and bias is not None and bias.size == shift.size == bias.shape[-1]:
                user.input[i] = self.graph.add_initializer(name, (bias.reshape(-1) - shift).reshape(bias.shape))


def _channel_axis(node: onnx.NodeProto) -> int | None:
    """The axis of the weights along which the output's channels lie."""
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    if node.op_type == "ConvTranspose":
        return 1 if attribute(node, "group", 1) == 1 else None
    return 0


def _channels(node: onnx.NodeProto, weights: Array) -> int:
    if node.op_type == "ConvTranspose":
        return int(weights.shape[1]) * int(attribute(node, "group", 1))
    axis = _channel_axis(node)
    return int(weights.shape[axis or 0])
