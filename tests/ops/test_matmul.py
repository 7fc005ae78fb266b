"""MatMul, Gemm and the internal product: every form against numpy, on one thread and on several."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from linnet import _core

ALL_THREADS = (1, 3)


def build(nodes, inputs, outputs, constants=(), opset=13):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
        [numpy_helper.from_array(array, name) for name, array in dict(constants).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return model.SerializeToString()


def session(model, threads=1, optimization=None):
    options = _core.SessionOptions()
    options.threads = threads
    if optimization is not None:
        options.optimization = optimization
    return _core.Session.from_bytes(model, options)


def run(model, feeds, threads=1):
    return session(model, threads).run(feeds)


def onnx_type(array):
    return helper.np_dtype_to_tensor_dtype(array.dtype)


def product_model(a, b, constant_b, symbolic=False):
    def shape(array, tag):
        return [f"{tag}{i}" for i in range(array.ndim)] if symbolic else list(array.shape)

    inputs = [("a", onnx_type(a), shape(a, "a"))]
    if not constant_b:
        inputs.append(("b", onnx_type(b), shape(b, "b")))
    return build(
        [helper.make_node("MatMul", ["a", "b"], ["y"])],
        inputs,
        [("y", onnx_type(a))],
        {"b": b} if constant_b else {},
    )


SHAPES = [
    ((3, 4), (4, 5)),
    ((1, 7), (7, 33)),
    ((2, 64), (64, 1)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((6,), (6,)),
    ((2, 3, 4), (4,)),
    ((4,), (2, 4, 5)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 6)),
    ((1, 3, 4), (7, 4, 2)),
    ((5, 2, 1, 8), (8, 9)),
    ((5, 1, 1, 8), (1, 3, 8, 9)),
    ((37, 129), (129, 65)),
    ((300, 130), (130, 250)),
    ((12, 50, 64), (12, 64, 50)),
    ((3, 0), (0, 5)),
    ((0, 3), (3, 5)),
    ((3, 4), (4, 0)),
    ((0, 3, 4), (4, 5)),
    ((2, 3, 0), (2, 0, 5)),
]


@pytest.mark.parametrize("constant_b", [False, True])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_float32(shapes, constant_b):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    feeds = {"a": a} if constant_b else {"a": a, "b": b}
    results = [
        run(product_model(a, b, constant_b, symbolic), feeds, threads)[0]
        for threads in ALL_THREADS
        for symbolic in (False, True)
    ]
    expected = a @ b
    assert results[0].shape == expected.shape
    np.testing.assert_allclose(results[0], expected, rtol=1e-4, atol=1e-4)
    for other in results[1:]:
        assert np.array_equal(results[0], other)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int64, np.uint32, np.uint64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_other_types(shapes, dtype):
    rng = np.random.default_rng(1)
    if dtype is np.float64:
        a, b = (rng.standard_normal(s) for s in shapes)
    else:
        a, b = (rng.integers(np.iinfo(dtype).min // 2, np.iinfo(dtype).max // 2, s).astype(dtype) for s in shapes)
    for threads in ALL_THREADS:
        y = run(product_model(a, b, False), {"a": a, "b": b}, threads)[0]
        with np.errstate(over="ignore"):
            expected = a @ b
        assert y.dtype == dtype and y.shape == np.shape(expected)
        if dtype is np.float64:
            np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
        else:
            assert np.array_equal(y, expected)


@pytest.mark.parametrize("constant_b", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half(dtype, constant_b):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((3, 17, 40)).astype(dtype), rng.standard_normal((40, 24)).astype(dtype)
    y = run(product_model(a, b, constant_b), {"a": a} if constant_b else {"a": a, "b": b})[0]
    expected = (a.astype(np.float32) @ b.astype(np.float32)).astype(dtype)
    assert y.dtype == expected.dtype
    step = float(ml_dtypes.finfo(dtype).eps)
    np.testing.assert_allclose(y.astype(np.float32), expected.astype(np.float32), rtol=step, atol=step)


def test_sizes_that_do_not_fit():
    a, b = np.ones((3, 4), np.float32), np.ones((5, 6), np.float32)
    with pytest.raises(Exception, match="4 columns against 5 rows"):
        session(product_model(a, b, False))


GEMM_CASES = list(itertools.product([0, 1], [0, 1], [None, (), (1,), (6,), (1, 6), (5, 1), (5, 6)]))


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("factors", [(1.0, 1.0), (0.5, -2.0), (1.0, 0.0)], ids=str)
@pytest.mark.parametrize("case", GEMM_CASES, ids=str)
def test_gemm(case, factors, constant):
    trans_a, trans_b, c_shape = case
    alpha, beta = factors
    rng = np.random.default_rng(3)
    a = rng.standard_normal((7, 5) if trans_a else (5, 7)).astype(np.float32)
    b = rng.standard_normal((6, 7) if trans_b else (7, 6)).astype(np.float32)
    arrays = {"a": a, "b": b}
    expected = alpha * ((a.T if trans_a else a) @ (b.T if trans_b else b))
    if c_shape is not None:
        arrays["c"] = np.asarray(rng.standard_normal(c_shape), np.float32)
        expected = expected + beta * arrays["c"]
    node = helper.make_node("Gemm", list(arrays), ["y"], transA=trans_a, transB=trans_b, alpha=alpha, beta=beta)
    constants = {n: v for n, v in arrays.items() if constant and n != "a"}
    feeds = {n: v for n, v in arrays.items() if n not in constants}
    inputs = [(n, TensorProto.FLOAT, list(v.shape)) for n, v in feeds.items()]
    model = build([node], inputs, [("y", TensorProto.FLOAT)], constants)
    np.testing.assert_allclose(run(model, feeds)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.uint64])
def test_gemm_types(dtype):
    rng = np.random.default_rng(4)
    a, b, c = (rng.integers(0, 9, s).astype(dtype) for s in ((4, 3), (5, 3), (5,)))
    node = helper.make_node("Gemm", ["a", "b", "c"], ["y"], transB=1)
    inputs = [(n, onnx_type(v), list(v.shape)) for n, v in zip("abc", (a, b, c), strict=True)]
    model = build([node], inputs, [("y", onnx_type(a))])
    assert np.array_equal(run(model, {"a": a, "b": b, "c": c})[0], a @ b.T + c)


@pytest.mark.parametrize("opset", [1, 6])
def test_gemm_old_broadcast(opset):
    rng = np.random.default_rng(5)
    a, b, c = (rng.standard_normal(s).astype(np.float32) for s in ((4, 3), (3, 5), (5,)))
    node = helper.make_node("Gemm", ["a", "b", "c"], ["y"], broadcast=1)
    inputs = [(n, TensorProto.FLOAT, list(v.shape)) for n, v in zip("abc", (a, b, c), strict=True)]
    model = build([node], inputs, [("y", TensorProto.FLOAT)], opset=opset)
    np.testing.assert_allclose(run(model, {"a": a, "b": b, "c": c})[0], a @ b + c, rtol=1e-5, atol=1e-5)
