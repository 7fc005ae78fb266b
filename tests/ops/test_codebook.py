"""Tensors of codes: products that look weights up, rows gathered as codes, the rest as floats; against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import linnet
from linnet import _core
from linnet.compress import cluster

Array = np.ndarray[Any, Any]
rng = np.random.default_rng(3)

ROWS = {"avx2": 2, "avx512": 4, "amx": 4, "neon": 1, "neon_dot": 1}.get(_core.isa(), 0)
"""Up to so many rows weights are looked up (`book_gain` of the kernels)."""


def model_of(nodes: list[Any], weights: dict[str, Array], shape: list[int | str], dtype: int = 1) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, name) for name, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run_both(model: onnx.ModelProto, x: Array, threads: int = 1) -> tuple[str, Array]:
    data = model.SerializeToString()
    options = linnet.SessionOptions()
    options.intra_op_num_threads = threads
    session = linnet.InferenceSession(data, options)
    (got,) = session.run(None, {"x": x})
    (want,) = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5 * float(np.abs(want).max()))
    return str(session.dump("lower")), got


def product(form: str, k: int, n: int, rows: int | str, zeros: float = 0) -> onnx.ModelProto:
    w = rng.standard_normal((k, n), np.float32)
    w[rng.random(w.shape) < zeros] = 0
    turned = form in ("Transpose", "transB")
    weights = {"w": np.ascontiguousarray(w.T) if turned else w}
    nodes = {
        "MatMul": [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "Transpose": [
            helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
            helper.make_node("MatMul", ["x", "t"], ["y"]),
        ],
        "Gemm": [helper.make_node("Gemm", ["x", "w", "b"], ["y"], alpha=0.5, beta=2.0)],
        "transB": [
            helper.make_node("Gemm", ["x", "w", "b"], ["s"], transB=1),
            helper.make_node("Relu", ["s"], ["y"]),
        ],
    }[form]
    if form in ("Gemm", "transB"):
        weights["b"] = rng.standard_normal(n, np.float32)
    return model_of(nodes, weights, [rows, k])


@pytest.mark.parametrize("form", ["MatMul", "Transpose", "Gemm", "transB"])
@pytest.mark.parametrize(("k", "n"), [(768, 700), (767, 702), (702, 767), (803, 705)])
@pytest.mark.parametrize("codes", [16, 5])
def test_products(form: str, k: int, n: int, codes: int) -> None:
    """Two codes in a byte along the first axis, the second one, or none (803 by 705)."""
    model = cluster(product(form, k, n, "m"), codes=codes).model
    for rows in (1, 2, 3, 4, 5, 9):
        text, got = run_both(model, rng.standard_normal((rows, k), np.float32), threads=1 + rows % 2)
        assert ("= linnet.MatMulBits(" in text) == (ROWS > 0), text
        assert got.shape == (rows, n)


def test_one_session_takes_few_rows_and_many_in_turn() -> None:
    """The weights are packed as codes and as floats, whichever is first; each time all are there."""
    data = cluster(product("MatMul", 768, 700, "m")).model.SerializeToString()
    peer = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for first in ([1, 8, 1, 2], [8, 1, 8]):
        session = linnet.InferenceSession(data)
        for rows in first:
            x = rng.standard_normal((rows, 768), np.float32)
            want = peer.run(None, {"x": x})[0]
            np.testing.assert_allclose(session.run(None, {"x": x})[0], want, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("rows", "codes", "per", "zeros"),
    [(64, 16, "tensor", 0), (1, 256, "tensor", 0), (1, 16, "channel", 0), (1, 16, "tensor", 0.8)],
)
def test_what_is_faster_as_floats(rows: int, codes: int, per: str, zeros: float) -> None:
    model = cluster(product("MatMul", 768, 700, rows, zeros), codes=codes, per=per).model
    text, _ = run_both(model, rng.standard_normal((rows, 768), np.float32))
    assert "linnet.Codebook(" not in text and "MatMulBits" not in text, text


@pytest.mark.parametrize("shape", [(701, 512), (512, 701), (3, 401, 300)])
@pytest.mark.parametrize("codes", [16, 256])
def test_rows_of_a_table(shape: tuple[int, ...], codes: int) -> None:
    """Codes are gathered, unless rows share bytes, and give the same bits as the table."""
    axis = len(shape) - 2
    table = rng.standard_normal(shape, np.float32)
    nodes = [helper.make_node("Gather", ["w", "x"], ["y"], axis=axis)]
    model = cluster(model_of(nodes, {"w": table}, ["a", "b"], TensorProto.INT64), codes=codes).model
    x = rng.integers(-shape[axis], shape[axis], (2, 7))
    data = model.SerializeToString()
    session = linnet.InferenceSession(data)
    peer = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], peer.run(None, {"x": x})[0])
    shared = codes == 16 and shape[axis] % 2 == 0 and axis == 0
    assert ("linnet.Codebook(" in str(session.dump("lower"))) == (not shared)


@pytest.mark.parametrize(("codes", "per"), [(16, "tensor"), (16, "channel"), (256, "tensor")])
@pytest.mark.parametrize("outputs", [32, 33])
def test_convolutions_have_floats(outputs: int, codes: int, per: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "b", "s"], ["y"]),
    ]
    weights = {
        "w": rng.standard_normal((outputs, 15, 3, 3), np.float32),
        "b": rng.standard_normal(outputs, np.float32),
        "s": rng.uniform(0.5, 2, outputs).astype(np.float32),
    }
    model = cluster(model_of(nodes, weights, [1, 15, 9, 9]), codes=codes, per=per).model
    text, _ = run_both(model, rng.standard_normal((1, 15, 9, 9), np.float32))
    assert "linnet.Codebook(" not in text and "BatchNormalization" not in text and "Gather" not in text, text


@pytest.mark.parametrize("rows", [1, 64])
def test_codes_beyond_the_book_are_refused(rows: int) -> None:
    model = cluster(product("MatMul", 768, 700, rows), codes=9).model
    pairs = next(t for t in model.graph.initializer if t.data_type == TensorProto.UINT8)
    codes = numpy_helper.to_array(pairs).copy()
    codes[-1, -1] = 0x0F if rows == 1 else 0xF0
    pairs.CopyFrom(numpy_helper.from_array(codes, pairs.name))
    with pytest.raises(linnet.LinnetError, match=r"index 15 is outside \[-9, 8\]"):
        linnet.InferenceSession(model.SerializeToString()).run(None, {"x": np.ones((rows, 768), np.float32)})


@pytest.mark.parametrize("codes", [13, 200])
def test_codes_beyond_the_last_book_are_refused(codes: int) -> None:
    """A code may lie in the book of a later place, as Gather has it, but not beyond all of them."""
    model = cluster(product("MatMul", 4000, 8, 1), codes=codes, per="channel").model
    stored = next(t for t in model.graph.initializer if t.data_type == TensorProto.UINT8)
    places = numpy_helper.to_array(stored).copy()
    places[3, 5] = 255
    stored.CopyFrom(numpy_helper.from_array(places, stored.name))
    x = rng.standard_normal((1, 4000), np.float32)
    run_both(model, x)
    places[4, 7] = 255
    stored.CopyFrom(numpy_helper.from_array(places, stored.name))
    last = 7 * codes + (255 if codes == 200 else 15)
    with pytest.raises(linnet.LinnetError, match=rf"index {last} is outside \[-{8 * codes}"):
        linnet.InferenceSession(model.SerializeToString()).run(None, {"x": x})
