"""Products and recurrent layers with constant weights of 4 or 8 bits, against numpy with real weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import linnet

Array = np.ndarray[Any, Any]
rng = np.random.default_rng(5)

RANGES = {
    TensorProto.INT4: (-8, 7, np.int8),
    TensorProto.UINT4: (0, 15, np.uint8),
    TensorProto.INT8: (-128, 127, np.int8),
    TensorProto.UINT8: (0, 255, np.uint8),
}


def integers(kind: int, *shape: int) -> Array:
    low, high, dtype = RANGES[kind]
    return rng.integers(low, high + 1, shape).astype(dtype)


def constant(name: str, kind: int, values: Array) -> Any:
    return helper.make_tensor(name, kind, values.shape, values.ravel())


def session(
    nodes: list[Any], constants: list[Any], x: Array, outputs: int = 1, threads: int = 1
) -> linnet.InferenceSession:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(f"y{i}" if i else "y", TensorProto.FLOAT, None) for i in range(outputs)],
        constants,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = linnet.SessionOptions()
    options.intra_op_num_threads = threads
    return linnet.InferenceSession(model.SerializeToString(), options)


def operators(s: linnet.InferenceSession) -> str:
    return str(s.dump("lower"))


def check(s: linnet.InferenceSession, x: Array, want: Array, bound: Array, operator: str = "linnet.MatMulBits") -> None:
    """`bound`: what the products add up to without their signs."""
    assert f"= {operator}(" in operators(s), operators(s)
    (got,) = s.run(None, {"x": x})
    assert got.dtype == np.float32 and got.shape == want.shape
    assert np.all(np.abs(got - want) <= 3e-6 * bound + 1e-6), np.abs(got - want).max()


def spread(parameter: Array, k: int, block: int) -> Array:
    return np.repeat(parameter, block, axis=0)[:k]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 17])
@pytest.mark.parametrize("kind", RANGES)
@pytest.mark.parametrize("form", ["MatMul", "Transpose", "Gemm", "transB"])
def test_blocks(kind: int, form: str, rows: int) -> None:
    k, n, block = 72, 45, 16
    blocks = -(-k // block)
    q, scale = integers(kind, k, n), rng.uniform(0.01, 0.1, (blocks, n)).astype(np.float32)
    has_zero = (rows + kind) % 2 == 0
    zero = integers(kind, blocks, n)
    real = (q.astype(np.float64) - (spread(zero, k, block) if has_zero else 0)) * spread(scale, k, block)
    swapped = form in ("Transpose", "transB")
    turn = (lambda a: np.ascontiguousarray(a.T)) if swapped else (lambda a: a)
    constants = [constant("q", kind, turn(q)), numpy_helper.from_array(turn(scale), "s")]
    if has_zero:
        constants.append(constant("z", kind, turn(zero)))
    nodes = [
        helper.make_node(
            "DequantizeLinear",
            ["q", "s", "z"] if has_zero else ["q", "s"],
            ["w"],
            axis=1 if swapped else 0,
            block_size=block,
        )
    ]
    bias = rng.standard_normal(n).astype(np.float32)
    x = rng.standard_normal((rows, k)).astype(np.float32)
    want = x @ real
    if form in ("Gemm", "transB"):
        constants.append(numpy_helper.from_array(bias, "c"))
        attributes = {"alpha": 0.5, "beta": 2.0, "transB": int(swapped)}
        nodes.append(helper.make_node("Gemm", ["x", "w", "c"], ["y"], **attributes))
        want = 0.5 * want + 2 * bias
    else:
        b = "w"
        if swapped:
            nodes.append(helper.make_node("Transpose", ["w"], ["t"]))
            b = "t"
        nodes.append(helper.make_node("MatMul", ["x", b], ["y"]))
    bound = np.abs(x) @ (np.abs(q.astype(np.float64)) + 128) * scale.max()
    check(session(nodes, constants, x), x, want, bound)


@pytest.mark.parametrize("scales", [1, 33])
@pytest.mark.parametrize("shape", [(40,), (1, 40), (2, 3, 40), (7, 40), (0, 40)], ids=str)
def test_per_column(shape: tuple[int, ...], scales: int) -> None:
    q = integers(TensorProto.INT8, 40, 33)
    scale = rng.uniform(0.01, 0.1, scales).astype(np.float32)
    constants = [
        constant("q", TensorProto.INT8, q),
        numpy_helper.from_array(scale if scales > 1 else scale[0], "s"),
        numpy_helper.from_array(rng.standard_normal(33).astype(np.float32), "c"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "c"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    x = rng.standard_normal(shape).astype(np.float32)
    s = session(nodes, constants, x)
    assert "= Relu(" not in operators(s) and "= Add(" not in operators(s)
    bias = numpy_helper.to_array(constants[2])
    want = np.maximum(x @ (q.astype(np.float64) * scale) + bias, 0)
    check(s, x, want, np.abs(x) @ np.abs(q * scale) + 1)


def test_other_forms_stay_float() -> None:
    q = integers(TensorProto.INT8, 40, 33)
    x = rng.standard_normal((2, 40)).astype(np.float32)
    scale = rng.uniform(0.01, 0.1, 40).astype(np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0),  # a scale per row of the weights
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    s = session(nodes, [constant("q", TensorProto.INT8, q), numpy_helper.from_array(scale, "s")], x)
    assert "MatMulBits" not in operators(s)
    np.testing.assert_allclose(s.run(None, {"x": x})[0], x @ (q * scale[:, None]), rtol=1e-4, atol=1e-4)


def nbits(k: int, n: int, bits: int, block: int, zero: str, rows: int, threads: int = 1) -> tuple[Any, Array, Array]:
    """A session with MatMulNBits, its input and the product in double."""
    blocks = -(-k // block)
    q = rng.integers(0, 1 << bits, (n, blocks * block)).astype(np.uint8)
    each = 8 // bits
    packed = sum(q[:, i::each].astype(np.uint32) << (i * bits) for i in range(each)).astype(np.uint8)
    scale = rng.uniform(0.01, 0.1, (n, blocks)).astype(np.float32)
    constants = [
        numpy_helper.from_array(packed.reshape(n, blocks, -1), "q"),
        numpy_helper.from_array(scale.ravel(), "s"),
    ]
    inputs, offset = ["x", "q", "s"], np.full((n, blocks), 1 << (bits - 1), np.float64)
    if zero == "packed":
        whole = rng.integers(0, 1 << bits, (n, -(-blocks // each) * each)).astype(np.uint8)
        offset = whole[:, :blocks].astype(np.float64)
        fields = sum(whole[:, i::each].astype(np.uint32) << (i * bits) for i in range(each)).astype(np.uint8)
        constants.append(numpy_helper.from_array(fields.ravel(), "z"))
        inputs.append("z")
    if zero == "float":
        offset = rng.uniform(0, (1 << bits) - 1, (n, blocks)).astype(np.float32)
        constants.append(numpy_helper.from_array(offset.ravel(), "z"))
        inputs.append("z")
    real = ((q - np.repeat(offset, block, axis=1)) * np.repeat(scale, block, axis=1))[:, :k].T
    node = helper.make_node("MatMulNBits", inputs, ["y"], domain="com.microsoft", K=k, N=n, bits=bits, block_size=block)
    x = rng.standard_normal((rows, k)).astype(np.float32)
    return session([node], constants, x, threads=threads), x, x @ real


@pytest.mark.parametrize("rows", [1, 4, 9])
@pytest.mark.parametrize("zero", ["none", "packed", "float"])
@pytest.mark.parametrize("block", [16, 64, 256])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_matmul_nbits(bits: int, block: int, zero: str, rows: int) -> None:
    s, x, want = nbits(136, 50, bits, block, zero, rows)
    check(s, x, want, np.full_like(want, np.abs(x).sum(axis=1).max() * 0.1 * (1 << bits)))


def test_matmul_nbits_of_fewer_k_than_a_block() -> None:
    s, x, want = nbits(24, 10, 4, 32, "packed", 2)
    check(s, x, want, np.full_like(want, np.abs(x).sum(axis=1).max() * 1.6))


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_the_same_bits_for_any_number_of_threads(rows: int) -> None:
    global rng
    results = []
    for threads in (1, 2, 3):
        rng = np.random.default_rng(7)
        s, x, _ = nbits(256, 700, 4, 32, "packed", rows, threads)
        results.append(s.run(None, {"x": x})[0])
    assert all(np.array_equal(results[0], r) for r in results)


def test_weights_stay_narrow() -> None:
    k, n = 1024, 4096
    q = integers(TensorProto.INT4, k, n)
    constants = [
        constant("q", TensorProto.INT4, q),
        numpy_helper.from_array(np.full((k // 128, n), 0.01, np.float32), "s"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0, block_size=128),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    x = rng.standard_normal((1, k)).astype(np.float32)
    s = session(nodes, constants, x)
    s.run(None, {"x": x})
    assert "float32 1024x4096" not in operators(s)


def gates(op: str) -> int:
    return {"LSTM": 4, "GRU": 3, "RNN": 1}[op]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.UINT8])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_recurrent(op: str, kind: int, direction: str, batch: int) -> None:
    steps, inputs, hidden = 9, 10, 37
    directions = 2 if direction == "bidirectional" else 1
    rows = gates(op) * hidden
    w = integers(kind, directions, rows, inputs)
    r = integers(kind, directions, rows, hidden)
    scale = rng.uniform(0.0005, 0.002, rows).astype(np.float32)
    middle = np.full(rows, 128 if kind == TensorProto.UINT8 else 0, w.dtype)
    bias = rng.uniform(-0.1, 0.1, (directions, 2 * rows)).astype(np.float32)
    attributes = {"hidden_size": hidden, "direction": direction}
    if op == "GRU":
        attributes["linear_before_reset"] = int(batch == 1)
    layer = helper.make_node(op, ["x", "w", "r", "b"], ["y", "y1"], **attributes)
    x = rng.standard_normal((steps, batch, inputs)).astype(np.float32)

    def real(values: Array) -> Array:
        return ((values.astype(np.float64) - middle[:, None]) * scale[:, None]).astype(np.float32)

    b = numpy_helper.from_array(bias, "b")
    plain = session([layer], [numpy_helper.from_array(real(w), "w"), numpy_helper.from_array(real(r), "r"), b], x, 2)
    nodes = [helper.make_node("DequantizeLinear", [f"{name}q", "s", "z"], [name], axis=1) for name in ("w", "r")]
    constants = [constant("wq", kind, w), constant("rq", kind, r), numpy_helper.from_array(scale, "s")]
    constants += [constant("z", kind, middle), b]
    narrow = session([*nodes, layer], constants, x, 2)
    assert f"= linnet.{op}(" in operators(narrow)
    for got, want in zip(narrow.run(None, {"x": x}), plain.run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=3e-5)  # the state is rounded to 16 bits


def test_recurrent_weights_with_zero_points_stay_float() -> None:
    rows, hidden = 32, 32
    r, scale = integers(TensorProto.INT8, 1, rows, hidden), np.float32(0.002)
    constants = [
        constant("q", TensorProto.INT8, r),
        numpy_helper.from_array(scale, "s"),
        numpy_helper.from_array(np.int8(3), "z"),
        numpy_helper.from_array(rng.standard_normal((1, rows, 4)).astype(np.float32), "w"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["r"]),
        helper.make_node("RNN", ["x", "w", "r"], ["y"], hidden_size=hidden),
    ]
    x = rng.standard_normal((3, 1, 4)).astype(np.float32)
    s = session(nodes, constants, x)
    assert "linnet.RNN" not in operators(s)
    h, w = np.zeros(hidden), numpy_helper.to_array(constants[3])[0]
    for step in s.run(None, {"x": x})[0][:, 0, 0]:
        h = np.tanh(w @ x[0, 0] + (r[0].astype(np.float64) - 3) * np.float64(scale) @ h)
        np.testing.assert_allclose(step, h, atol=1e-5)
        x = x[1:]


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("scales", ["one", "direction", "column"])
def test_dynamic_quantize_lstm(scales: str, direction: str) -> None:
    hidden, inputs = 20, 6
    directions = 2 if direction == "bidirectional" else 1
    w = integers(TensorProto.INT8, directions, inputs, 4 * hidden)
    r = integers(TensorProto.INT8, directions, hidden, 4 * hidden)
    shape = (directions, 4 * hidden) if scales == "column" else (directions,)
    scale = rng.uniform(0.001, 0.002, shape).astype(np.float32)
    if scales == "one":
        scale[:] = 0.0015
    zero = np.zeros(shape, np.int8)
    node = helper.make_node(
        "DynamicQuantizeLSTM",
        ["x", "w", "r", "", "", "", "", "", "s", "z", "s", "z"],
        ["y"],
        domain="com.microsoft",
        hidden_size=hidden,
        direction=direction,
    )
    constants = [numpy_helper.from_array(v, n) for n, v in (("w", w), ("r", r), ("s", scale), ("z", zero))]
    x = rng.standard_normal((5, 1, inputs)).astype(np.float32)
    s = session([node], constants, x)
    assert "= linnet.LSTM(" in operators(s)
    wide = scale.reshape(directions, 1, -1)
    real = [np.ascontiguousarray((v * wide).astype(np.float32).transpose(0, 2, 1)) for v in (w, r)]
    layer = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=hidden, direction=direction)
    plain = session([layer], [numpy_helper.from_array(v, n) for n, v in zip("wr", real, strict=True)], x)
    np.testing.assert_allclose(s.run(None, {"x": x})[0], plain.run(None, {"x": x})[0], atol=3e-5)
