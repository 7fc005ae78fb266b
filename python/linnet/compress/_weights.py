"""Integer weights without calibration: dynamic quantization, weights in blocks, recurrent layers."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from linnet.compress import _numbers
from linnet.compress._graph import Array, Graph, attribute

if TYPE_CHECKING:
    import onnx

PRODUCTS = {"MatMul", "Gemm"}
RECURRENT = {"LSTM", "GRU", "RNN"}


def reason(graph: Graph, node: onnx.NodeProto, floats: Collection[str]) -> str | None:
    """Why a product's or a recurrent layer's weights cannot become integers; None when they can."""
    names = node.input[1:3] if node.op_type in RECURRENT else node.input[1:2]
    constants = [graph.constant(name) for name in names]
    for weights in constants:
        if weights is None:
            return "its weights are computed while the model runs"
        if weights.dtype != np.float32 or node.input[0] not in floats:
            return "its weights or its input are not float32"
        if not weights.size:
            return "its weights are empty"
        if not np.isfinite(weights).all():
            return "its weights hold NaN or infinity"
        if node.op_type in PRODUCTS and weights.ndim != 2:
            return "its weights are no matrix"
    if node.op_type == "Gemm" and attribute(node, "transA", 0):
        return "it takes its input transposed"
    return None


class Writer:
    """Turns a copy of a float model into one with integer weights.

    Args:
        model: simplified, of opset 13 or later (21 with blocks); it is changed.
        names: of the nodes whose weights become integers.
    """

    def __init__(self, model: onnx.ModelProto, names: Collection[str]) -> None:
        self.graph = Graph(model)
        self._names = set(names)
        self._nodes: list[onnx.NodeProto] = []
        self._cache: dict[tuple[object, ...], tuple[str, ...]] = {}

    def dynamic(self, per_channel: bool) -> onnx.ModelProto:
        """Products of bytes: the input's scale is found while the model runs (DynamicQuantizeLinear)."""
        for node in list(self.graph.proto.node):
            if node.name in self._names and node.op_type in PRODUCTS:
                self._dynamic_product(node, per_channel)
            else:
                if node.name in self._names:
                    self._recurrent(node)
                self._nodes.append(node)
        return self._finish()

    def weight_only(self, bits: int, block: int, symmetric: bool, search: bool) -> onnx.ModelProto:
        """Products of floats with weights that are stored as integers; ``block`` 0 is a scale for each column."""
        for node in list(self.graph.proto.node):
            if node.name in self._names and node.op_type in PRODUCTS:
                node.input[1] = self._stored(node, bits, block, symmetric, search)
            elif node.name in self._names:
                self._recurrent(node)
            self._nodes.append(node)
        return self._finish()

    def _finish(self) -> onnx.ModelProto:
        kept = [type(node).FromString(node.SerializeToString()) for node in self._nodes]
        del self.graph.proto.node[:]
        self.graph.proto.node.extend(kept)
        self.graph.drop_unused()
        return self.graph.model

    def _add(self, op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    def _dynamic_product(self, node: onnx.NodeProto, per_channel: bool) -> None:
        from onnx import TensorProto

        graph, out = self.graph, node.output[0]
        source, weights = node.input[0], graph.constant(node.input[1])
        assert weights is not None
        alpha = 1.0
        if node.op_type == "Gemm":
            weights = weights.T if attribute(node, "transB", 0) else weights
            alpha = attribute(node, "alpha", 1.0)
        key: tuple[object, ...] = "input", source
        if key not in self._cache:
            names = tuple(graph.unique(f"{source}_{part}") for part in ("quantized", "scale", "zero_point"))
            self._add("DynamicQuantizeLinear", [source], list(names))
            self._cache[key] = names
        integers, scale, zero = self._cache[key]
        key = "weights", node.input[1], weights.shape, alpha
        if key not in self._cache:
            axis = 1 if per_channel else None
            steps = _numbers.weight_scales(weights, axis)
            stored = graph.add_initializer(f"{node.input[1]}_quantized", _numbers.quantized(weights, steps, axis))
            zero_point = graph.add_initializer(f"{node.input[1]}_zero_point", np.zeros((), np.int8))
            step = graph.add_initializer(f"{node.input[1]}_scale", steps * np.float32(alpha))
            self._cache[key] = stored, zero_point, step
        stored, zero_point, step = self._cache[key]
        sums = self._add("MatMulInteger", [integers, stored, zero, zero_point], [graph.unique(f"{out}_sums")])
        floats = self._add("Cast", [sums], [graph.unique(f"{out}_cast")], to=TensorProto.FLOAT)
        factor = self._add("Mul", [scale, step], [graph.unique(f"{out}_scale")])
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else ""
        product = self._add("Mul", [floats, factor], [graph.unique(f"{out}_product") if bias else out])
        if not bias:
            return
        beta = attribute(node, "beta", 1.0)
        if beta != 1:
            factor = graph.add_initializer(f"{out}_beta", np.float32(beta))
            bias = self._add("Mul", [bias, factor], [graph.unique(f"{bias}_scaled")])
        self._add("Add", [product, bias], [out])

    def _stored(self, node: onnx.NodeProto, bits: int, block: int, symmetric: bool, search: bool) -> str:
        graph, name = self.graph, node.input[1]
        weights = graph.constant(name)
        assert weights is not None
        turned = node.op_type == "Gemm" and bool(attribute(node, "transB", 0))
        key = "blocks", name, turned
        if key in self._cache:
            return self._cache[key][0]
        rows = weights.T if turned else weights  # [K, N]
        size = block or rows.shape[0]
        integers, scales, zeros = _numbers.blocks(rows, size, bits, symmetric, search)
        if not block:
            scales, zeros = scales[0], None if zeros is None else zeros[0]
        elif turned:
            scales, zeros = scales.T, None if zeros is None else zeros.T
        parts = [self._integers(f"{name}_quantized", integers.T if turned else integers, bits)]
        parts.append(graph.add_initializer(f"{name}_scale", scales))
        parts.append(self._integers(f"{name}_zero_point", _zeros(scales, integers) if zeros is None else zeros, bits))
        attributes = {"axis": int(turned), "block_size": block} if block else {"axis": int(not turned)}
        out = self._add("DequantizeLinear", parts, [graph.unique(f"{name}_dequantized")], **attributes)
        self._cache[key] = (out,)
        return out

    def _integers(self, base: str, value: Array, bits: int) -> str:
        """An initializer of ``bits`` bits an element."""
        if bits == 8:
            return self.graph.add_initializer(base, value)
        from onnx import TensorProto, helper

        flat = np.ascontiguousarray(value).view(np.uint8).ravel() & 15
        packed = np.append(flat, np.uint8(0)) if flat.size % 2 else flat
        data = (packed[0::2] | packed[1::2] << 4).astype(np.uint8).tobytes()  # the first element in the low half
        kind = TensorProto.INT4 if value.dtype == np.int8 else TensorProto.UINT4
        return self.graph.add_tensor(helper.make_tensor(self.graph.unique(base), kind, value.shape, data, raw=True))

    def _recurrent(self, node: onnx.NodeProto) -> None:
        """W and R [directions, gates * hidden, inputs] with a scale for each row, the directions sharing it."""
        for i in (1, 2):
            name = node.input[i]
            if ("row", name) not in self._cache:
                weights = self.graph.constant(name)
                assert weights is not None
                scales = _numbers.weight_scales(weights, 1)
                parts = [
                    self.graph.add_initializer(f"{name}_quantized", _numbers.quantized(weights, scales, 1)),
                    self.graph.add_initializer(f"{name}_scale", scales),
                    self.graph.add_initializer(f"{name}_zero_point", np.zeros(scales.shape, np.int8)),
                ]
                out = self._add("DequantizeLinear", parts, [self.graph.unique(f"{name}_dequantized")], axis=1)
                self._cache["row", name] = (out,)
            node.input[i] = self._cache["row", name][0]


def _zeros(scales: Array, integers: Array) -> Array:
    return np.zeros(scales.shape, integers.dtype)
