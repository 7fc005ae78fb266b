"""Quantized graphs as ONNX models, and what they must give: the definition of docs/int8.md in numpy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Bytes = NDArray[Any]


@dataclass
class Real:
    """What a byte means: (byte - zero) * scale."""

    scale: float
    zero: int = 0
    dtype: Any = np.uint8

    @property
    def range(self) -> tuple[int, int]:
        info = np.iinfo(self.dtype)
        return info.min, info.max

    def quantize(self, x: NDArray[Any]) -> Bytes:
        q = np.rint(x.astype(np.float32) / np.float32(self.scale)).astype(np.int64) + self.zero
        return np.clip(q, *self.range).astype(self.dtype)

    def dequantize(self, q: Bytes) -> NDArray[np.float32]:
        return ((q.astype(np.int32) - self.zero).astype(np.float32) * np.float32(self.scale)).astype(np.float32)

    def from_steps(self, steps: NDArray[Any]) -> Bytes:
        """Rounds float32 numbers of output steps, half to even, and saturates."""
        assert steps.dtype == np.float32
        return np.clip(np.rint(steps).astype(np.int64) + self.zero, *self.range).astype(self.dtype)


@dataclass
class Model:
    """A graph that is written node by node; values are float32 unless they are called bytes."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    count: int = 0

    def name(self, base: str) -> str:
        self.count += 1
        return f"{base}_{self.count}"

    def constant(self, value: NDArray[Any], base: str = "c") -> str:
        name = self.name(base)
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [self.name(op.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=self.name(op), **attributes))
        return names[0] if outputs == 1 else names

    def bytes_input(self, name: str, shape: tuple[Any, ...], dtype: Any) -> str:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def quantize(self, x: str, real: Real) -> str:
        scale, zero = np.float32(real.scale), np.asarray(real.zero, real.dtype)
        return self.node("QuantizeLinear", x, self.constant(scale), self.constant(zero))

    def dequantize(self, x: str, real: Real) -> str:
        scale, zero = np.float32(real.scale), np.asarray(real.zero, real.dtype)
        return self.node("DequantizeLinear", x, self.constant(scale), self.constant(zero))

    def pair(self, x: str, real: Real) -> str:
        return self.dequantize(self.quantize(x, real), real)

    def weights(self, w: Bytes, scale: NDArray[Any], zero: NDArray[Any] | None = None) -> str:
        inputs = [self.constant(w, "w"), self.constant(np.asarray(scale, np.float32))]
        if zero is not None:
            inputs.append(self.constant(zero))
        return self.node("DequantizeLinear", *inputs, axis=0)

    def bytes(self, output_names: list[str], opset: int = 19) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "quantized",
            self.inputs,
            [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in output_names],
            self.constants,
        )
        for info in graph.output:
            info.ClearField("type")
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def conv_sums(x: Bytes, x_zero: int, w: NDArray[Any], attributes: dict[str, Any]) -> NDArray[np.int64]:
    """Exact sums of (x - x_zero) * w for NCHW x and OIHW w (already less its zero points)."""
    group = attributes.get("group", 1)
    pads = attributes.get("pads", [0, 0, 0, 0])
    sh, sw = attributes.get("strides", [1, 1])
    dh, dw = attributes.get("dilations", [1, 1])
    padded = np.pad(x.astype(np.int64) - x_zero, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    n, c, h, width = padded.shape
    o, per_group, kh, kw = w.shape
    out_h = (h - ((kh - 1) * dh + 1)) // sh + 1
    out_w = (width - ((kw - 1) * dw + 1)) // sw + 1
    out = np.zeros((n, o, out_h, out_w), np.int64)
    filters = o // group
    for g in range(group):
        part = padded[:, g * per_group : (g + 1) * per_group]
        for i in range(kh):
            for j in range(kw):
                top, left = i * dh, j * dw
                rows = slice(top, top + sh * (out_h - 1) + 1, sh)
                columns = slice(left, left + sw * (out_w - 1) + 1, sw)
                taps = w[g * filters : (g + 1) * filters, :, i, j].astype(np.int64)
                out[:, g * filters : (g + 1) * filters] += np.einsum("nchw,oc->nohw", part[:, :, rows, columns], taps)
    return out


def requantize(sums: NDArray[Any], x: Real, w_scale: NDArray[Any], y: Real) -> Bytes:
    """The convolution's sums (channels on axis 1) as bytes."""
    wrapped = sums.astype(np.int32)
    scale = (np.float32(x.scale) * np.asarray(w_scale, np.float32) / np.float32(y.scale)).astype(np.float32)
    shape = [1, -1] + [1] * (sums.ndim - 2)
    return y.from_steps(wrapped.astype(np.float32) * scale.reshape(shape))


def add(a: Bytes, a_real: Real, b: Bytes, b_real: Real, y: Real) -> Bytes:
    left = (a.astype(np.int32) - a_real.zero).astype(np.float32) * np.float32(np.float32(a_real.scale) / np.float32(y.scale))
    right = (b.astype(np.int32) - b_real.zero).astype(np.float32) * np.float32(np.float32(b_real.scale) / np.float32(y.scale))
    return y.from_steps((left + right).astype(np.float32))


def multiply(a: Bytes, a_real: Real, b: Bytes, b_real: Real, y: Real) -> Bytes:
    product = (a.astype(np.int32) - a_real.zero) * (b.astype(np.int32) - b_real.zero)
    scale = np.float32(np.float32(a_real.scale) * np.float32(b_real.scale)) / np.float32(y.scale)
    return y.from_steps(product.astype(np.float32) * np.float32(scale))


def average(x: Bytes, x_real: Real, y: Real, axes: tuple[int, ...]) -> Bytes:
    sums = (x.astype(np.int64) - x_real.zero).sum(axis=axes, keepdims=True)
    count = np.prod([x.shape[a] for a in axes])
    scale = np.float32(np.float32(x_real.scale) / np.float32(y.scale)) / np.float32(count)
    return y.from_steps(sums.astype(np.float32) * np.float32(scale))
