"""Quantized products in every form that quantizers write them become one integer step, with exact sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import linnet

Array = np.ndarray[Any, Any]
rng = np.random.default_rng(3)
A_SCALE, Y_SCALE = np.float32(0.02), np.float32(0.7)


class Net:
    """Nodes and constants by name; x is the input."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}

    def add(self, op: str, inputs: str, outputs: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs.split(" "), outputs.split(" "), **attributes))

    def session(self, x: Array, outputs: dict[str, int], threads: int = 1) -> linnet.InferenceSession:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
            [helper.make_tensor_value_info(n, kind, None) for n, kind in outputs.items()],
            [numpy_helper.from_array(v, n) for n, v in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        options = linnet.SessionOptions()
        options.intra_op_num_threads = threads
        return linnet.InferenceSession(model.SerializeToString(), options)


def steps(s: linnet.InferenceSession) -> list[str]:
    """The operators that are left, in order."""
    return [
        line.split(" = ")[1].split("(")[0]
        for line in str(s.dump("lower")).splitlines()
        if " = " in line and "(" in line
    ]


def ints(dtype: Any, *shape: int) -> Array:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


class Operands:
    """Bytes a and w with their parameters, and the exact sums."""

    def __init__(self, net: Net, types: tuple[Any, Any], shape: tuple[int, ...], n: int, columns: bool) -> None:
        k = shape[-1]
        self.a, self.w = ints(types[0], *shape), ints(types[1], k, n)
        self.a_zero = types[0](5)
        self.w_zero = (
            ints(types[1], n if columns else 1) if types[1] == np.uint8 else np.zeros(n if columns else 1, np.int8)
        )
        if types[1] == np.uint8 and columns:
            self.w_zero[:] = 128
        self.w_scale = rng.uniform(0.001, 0.01, n if columns else 1).astype(np.float32)
        self.sums = (self.a.astype(np.int64) - int(self.a_zero)) @ (self.w.astype(np.int64) - self.w_zero)
        net.constants |= {"as": A_SCALE, "az": np.asarray(self.a_zero), "w": self.w}
        net.constants |= {"ws": self.w_scale if columns else self.w_scale[0]}
        net.constants |= {"wz": self.w_zero if columns else np.asarray(self.w_zero[0])}


def quantized(o: Operands, bias: Array | int, y_zero: Any, low: int | None = None) -> Array:
    scale = A_SCALE * o.w_scale / Y_SCALE  # in float32, as the contract says
    info = np.iinfo(y_zero.dtype)
    q = np.rint((o.sums + bias).astype(np.float32) * scale) + int(y_zero)
    return np.clip(q, info.min if low is None else low, info.max).astype(y_zero.dtype)


TYPES = [(np.uint8, np.int8), (np.int8, np.int8), (np.uint8, np.uint8)]


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("form", ["MatMul", "Add", "Gemm", "transB"])
@pytest.mark.parametrize("types", TYPES, ids=str)
def test_static(types: tuple[Any, Any], form: str, relu: bool, columns: bool) -> None:
    net = Net()
    o = Operands(net, types, (7, 90), 35, columns)
    y_zero = types[0](20)
    net.constants |= {"ys": Y_SCALE, "yz": np.asarray(y_zero)}
    bias = rng.integers(-20000, 20000, 35).astype(np.int32)
    net.constants |= {"c": bias, "cs": (A_SCALE * o.w_scale) if columns else (A_SCALE * o.w_scale)[0]}
    net.add("DequantizeLinear", "x as az", "a")
    if form == "transB":
        net.constants["w"] = np.ascontiguousarray(o.w.T)
    net.add("DequantizeLinear", "w ws wz", "wr", axis=0 if form == "transB" else 1)
    if form != "MatMul":
        net.add("DequantizeLinear", "c cs", "cr", axis=0)
    if form in ("Gemm", "transB"):
        net.add("Gemm", "a wr cr", "p", transB=int(form == "transB"))
    else:
        net.add("MatMul", "a wr", "p")
        if form == "Add":
            net.add("Add", "p cr", "s")
    last = "s" if form == "Add" else "p"
    if relu:
        net.add("Relu", last, "r")
    net.add("QuantizeLinear", f"{'r' if relu else last} ys yz", "y")
    s = net.session(o.a, {"y": helper.np_dtype_to_tensor_dtype(np.dtype(types[0]))})
    assert steps(s) == ["linnet.QLinearMatMul"]
    want = quantized(o, 0 if form == "MatMul" else bias, y_zero, int(y_zero) if relu else None)
    np.testing.assert_array_equal(s.run(None, {"x": o.a})[0], want)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("to_float", [False, True])
def test_weights_take_the_order_of_what_is_flattened(to_float: bool, swapped: bool) -> None:
    net = Net()
    o = Operands(net, TYPES[0], (7, 90), 35, True)
    y_zero = TYPES[0][0](20)
    net.constants |= {"ys": Y_SCALE, "yz": np.asarray(y_zero), "shape": np.array([7, 90], np.int64)}
    if swapped:
        net.constants["w"] = np.ascontiguousarray(o.w.T)
    net.add("DequantizeLinear", "x as az", "a")
    net.add("Transpose", "a", "t", perm=[0, 3, 1, 2])
    net.add("Reshape", "t shape", "f")
    net.add("QuantizeLinear", "f as az", "q")
    net.add("DequantizeLinear", "q as az", "r")
    net.add("DequantizeLinear", "w ws wz", "wr", axis=0 if swapped else 1)
    net.add("Gemm", "r wr", "y" if to_float else "p", transB=int(swapped))
    if not to_float:
        net.add("QuantizeLinear", "p ys yz", "y")
    x = np.ascontiguousarray(o.a.reshape(7, 6, 3, 5).transpose(0, 2, 3, 1))
    kind = TensorProto.FLOAT if to_float else helper.np_dtype_to_tensor_dtype(y_zero.dtype)
    s = net.session(x, {"y": kind})
    assert "Transpose" not in steps(s)
    got = s.run(None, {"x": x})[0]
    if to_float:
        np.testing.assert_allclose(got, o.sums.astype(np.float32) * (A_SCALE * o.w_scale), rtol=1e-6, atol=1e-5)
    else:
        np.testing.assert_array_equal(got, quantized(o, 0, y_zero, None))


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("types", TYPES, ids=str)
@pytest.mark.parametrize("shape", [(90,), (1, 90), (2, 3, 90), (40, 90)], ids=str)
def test_to_float(shape: tuple[int, ...], types: tuple[Any, Any], columns: bool) -> None:
    net = Net()
    o = Operands(net, types, shape, 35, columns)
    net.constants["c"] = rng.standard_normal(35).astype(np.float32)
    net.add("DequantizeLinear", "x as az", "a")
    net.add("DequantizeLinear", "w ws wz", "wr", axis=1)
    net.add("MatMul", "a wr", "p")
    net.add("Add", "p c", "s")
    net.add("Relu", "s", "y")
    s = net.session(o.a, {"y": TensorProto.FLOAT})
    assert steps(s) == ["linnet.MatMulIntegerToFloat"]
    want = np.maximum(o.sums.astype(np.float32) * (A_SCALE * o.w_scale) + net.constants["c"], 0)
    np.testing.assert_allclose(s.run(None, {"x": o.a})[0], want, rtol=1e-6, atol=1e-5)


def dynamic_net(weights: list[Array], scales: list[Array], zero: Any, bias: Array) -> Net:
    """What quantize_dynamic writes: products by several weights of one input."""
    net = Net()
    net.add("DynamicQuantizeLinear", "x", "q as az")
    net.constants |= {"c": bias, "wz": np.asarray(zero)}
    for i, (w, scale) in enumerate(zip(weights, scales, strict=True)):
        net.constants |= {f"w{i}": w, f"ws{i}": scale}
        net.add("MatMulInteger", f"q w{i} az wz", f"i{i}")
        net.add("Cast", f"i{i}", f"f{i}", to=TensorProto.FLOAT)
        net.add("Mul", f"as ws{i}", f"ss{i}")
        net.add("Mul", f"f{i} ss{i}", f"p{i}")
        net.add("Add", f"p{i} c", f"y{i}")
    return net


@pytest.mark.parametrize("zero", [np.int8(0), np.int8(3), np.uint8(128), np.uint8(100)], ids=repr)
@pytest.mark.parametrize("columns", [False, True])
def test_dynamic(columns: bool, zero: Any) -> None:
    x = rng.standard_normal((2, 9, 64)).astype(np.float32)
    weights = [ints(zero.dtype, 64, 33) for _ in range(3)]
    scales = [rng.uniform(0.001, 0.01, 33 if columns else 1).astype(np.float32) for _ in weights]
    if not columns:
        scales = [np.asarray(s[0]) for s in scales]
    net = dynamic_net(weights, scales, zero, rng.standard_normal(33).astype(np.float32))
    s = net.session(x, {f"y{i}": TensorProto.FLOAT for i in range(3)})
    assert steps(s) == ["DynamicQuantizeLinear"] + ["linnet.MatMulIntegerToFloat"] * 3
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = np.float32((high - low) / np.float32(255))
    a_zero = np.rint(np.clip(-low / scale, 0, 255))
    q = np.clip(np.rint(x / scale) + a_zero, 0, 255)
    results = s.run(None, {"x": x})
    for y, w, w_scale in zip(results, weights, scales, strict=True):
        sums = (q.astype(np.int64) - int(a_zero)) @ (w.astype(np.int64) - int(zero))
        want = sums.astype(np.float32) * (scale * w_scale) + net.constants["c"]
        np.testing.assert_allclose(y, want, rtol=2e-6, atol=2e-5)
    threaded = net.session(x, {f"y{i}": TensorProto.FLOAT for i in range(3)}, threads=3).run(None, {"x": x})
    assert all(np.array_equal(a, b) for a, b in zip(results, threaded, strict=True))


def test_sums_that_are_read_as_integers_stay() -> None:
    x = rng.standard_normal((4, 64)).astype(np.float32)
    net = dynamic_net([ints(np.int8, 64, 33)], [np.asarray(np.float32(0.01))], np.int8(0), np.zeros(33, np.float32))
    s = net.session(x, {"y0": TensorProto.FLOAT, "i0": TensorProto.INT32})
    assert "MatMulInteger" in steps(s) and "linnet.MatMulIntegerToFloat" not in steps(s)
    y, sums = s.run(None, {"x": x})
    scale = np.float32((max(x.max(), 0) - min(x.min(), 0)) / np.float32(255))
    np.testing.assert_allclose(y, sums.astype(np.float32) * (scale * np.float32(0.01)), rtol=1e-6, atol=1e-6)
