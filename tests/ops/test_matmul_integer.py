"""Products of 8-bit integers and the composed products of com.microsoft, against exact sums and onnxruntime."""

from __future__ import annotations

import itertools

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from linnet import _core

rng = np.random.default_rng(0)


def run(op, feeds, outputs, constants=(), domain="", opset=21, threads=1, **attributes):
    """One node; inputs in the order of `feeds`, None for one that is left out."""
    given = {n: v for n, v in feeds.items() if v is not None}
    graph = helper.make_graph(
        [
            helper.make_node(
                op, [n if v is not None else "" for n, v in feeds.items()], ["y"], domain=domain, **attributes
            )
        ],
        "g",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in given.items()
            if n not in constants
        ],
        [helper.make_tensor_value_info("y", outputs, None)],
        [numpy_helper.from_array(given[n], n) for n in constants if n in given],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    options = _core.SessionOptions()
    options.threads = threads
    values = {n: v for n, v in given.items() if n not in constants}
    return _core.Session.from_bytes(model, options).run(values)[0], model, values


def against_onnxruntime(op, feeds, outputs, **kwargs):
    y, model, values = run(op, feeds, outputs, **kwargs)
    expected = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, values)[0]
    assert y.dtype == expected.dtype and y.shape == expected.shape
    return y, expected


def ints(dtype, *shape):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


SHAPES = [
    ((3, 4), (4, 5)),
    ((1, 130), (130, 37)),
    ((65, 33), (33, 70)),
    ((2, 3, 7), (2, 7, 5)),
    ((2, 3, 7), (7, 5)),
    ((3, 0), (0, 4)),
    ((0, 3), (3, 4)),
]


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("types", list(itertools.product([np.uint8, np.int8], repeat=2)), ids=str)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("zeros", ["none", "scalar", "vector"])
def test_matmul_integer(shapes, types, zeros, constant):
    a, b = ints(types[0], *shapes[0]), ints(types[1], *shapes[1])
    a_zero = b_zero = None
    if zeros != "none":
        a_zero = ints(types[0]) if zeros == "scalar" else ints(types[0], shapes[0][-2])
        b_zero = ints(types[1]) if zeros == "scalar" else ints(types[1], shapes[1][-1])
        if np.size(a_zero) == 0:
            pytest.skip("no rows")
    feeds = {"a": a, "b": b, "az": None if a_zero is None else np.asarray(a_zero, types[0])}
    feeds["bz"] = None if b_zero is None else np.asarray(b_zero, types[1])
    wide_a = a.astype(np.int32) - (0 if a_zero is None else np.reshape(a_zero, (-1, 1)).astype(np.int32))
    wide_b = b.astype(np.int32) - (0 if b_zero is None else np.asarray(b_zero).astype(np.int32))
    for threads in (1, 3):
        y = run("MatMulInteger", feeds, TensorProto.INT32, ("b",) if constant else (), threads=threads)[0]
        assert np.array_equal(y, wide_a @ wide_b)


@pytest.mark.parametrize("types", [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)], ids=str)
@pytest.mark.parametrize("columns", [False, True])
def test_qlinear_matmul(types, columns):
    a, b = ints(types[0], 2, 9, 40), ints(types[1], 40, 19)
    b_scale = rng.random(19 if columns else ()).astype(np.float32) * 0.01 + 0.001
    b_zero = np.zeros(19, types[1]) if columns else np.asarray(3, types[1])
    feeds = {
        "a": a,
        "as": np.float32(0.02),
        "az": np.asarray(7, types[0]),
        "b": b,
        "bs": np.asarray(b_scale, np.float32),
        "bz": b_zero,
        "ys": np.float32(0.5),
        "yz": np.asarray(5, types[0]),
    }
    feeds = {n: np.asarray(v) for n, v in feeds.items()}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(types[0]))
    y = run("QLinearMatMul", feeds, kind)[0]
    sums = (a.astype(np.int64) - 7) @ (b.astype(np.int64) - b_zero.astype(np.int64))
    exact = np.rint(sums * (np.float64(0.02) * b_scale.astype(np.float64) / 0.5)) + 5
    info = np.iinfo(types[0])
    assert y.dtype == types[0]
    assert np.abs(y.astype(int) - np.clip(exact, info.min, info.max)).max() <= 1
    assert np.mean(y != np.clip(exact, info.min, info.max)) < 0.01


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("columns", [False, True])
def test_to_float(columns, bias):
    a, b = ints(np.uint8, 3, 9, 40), ints(np.int8, 40, 19)
    scale = rng.random(19 if columns else 1).astype(np.float32)
    feeds = {"a": a, "b": b, "as": np.array([0.1], np.float32), "bs": scale, "az": np.array([9], np.uint8)}
    feeds |= {"bz": None, "bias": rng.random(19).astype(np.float32) if bias else None}
    y, expected = against_onnxruntime("MatMulIntegerToFloat", feeds, 1, domain="com.microsoft")
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-3)


def test_dynamic():
    feeds = {"a": rng.standard_normal((5, 40)).astype(np.float32), "b": ints(np.int8, 40, 19)}
    feeds |= {"bs": np.array([0.03], np.float32), "bz": None, "bias": rng.random(19).astype(np.float32)}
    y, expected = against_onnxruntime("DynamicQuantizeMatMul", feeds, 1, domain="com.microsoft", constants=("b",))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("trans", [(0, 0), (1, 0), (0, 1), (1, 1)], ids=str)
def test_qgemm(trans, quantized):
    a = ints(np.uint8, *((40, 9) if trans[0] else (9, 40)))
    b = ints(np.int8, *((19, 40) if trans[1] else (40, 19)))
    feeds = {
        "a": a,
        "as": np.float32(0.02),
        "az": np.uint8(7),
        "b": b,
        "bs": np.float32(0.01),
        "bz": np.int8(0),
        "c": ints(np.int32, 19) // 1000000,
        "ys": np.float32(0.5) if quantized else None,
        "yz": np.uint8(100) if quantized else None,
    }
    feeds = {n: None if v is None else np.asarray(v) for n, v in feeds.items()}
    kind = TensorProto.UINT8 if quantized else TensorProto.FLOAT
    y, expected = against_onnxruntime("QGemm", feeds, kind, domain="com.microsoft", transA=trans[0], transB=trans[1])
    np.testing.assert_allclose(y.astype(float), expected.astype(float), rtol=1e-5, atol=1 if quantized else 1e-3)


@pytest.mark.parametrize("flags", list(itertools.product([0, 1], repeat=4)), ids=str)
def test_fused_matmul(flags):
    trans_a, trans_b, batch_a, batch_b = flags

    def shape(rows, columns, trans, batch):
        if trans:
            rows, columns = columns, rows
        return (rows, 2, 3, columns) if batch else (2, 3, rows, columns)

    feeds = {
        "a": rng.standard_normal(shape(5, 7, trans_a, batch_a)).astype(np.float32),
        "b": rng.standard_normal(shape(7, 6, trans_b, batch_b)).astype(np.float32),
    }
    y, expected = against_onnxruntime(
        "FusedMatMul",
        feeds,
        1,
        domain="com.microsoft",
        transA=trans_a,
        transB=trans_b,
        transBatchA=batch_a,
        transBatchB=batch_b,
        alpha=0.3,
    )
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", [("Relu", {}), ("LeakyRelu", {"activation_alpha": 0.2}), ("Tanh", {})], ids=str)
def test_fused_gemm(activation):
    name, extra = activation
    feeds = {n: rng.standard_normal(s).astype(np.float32) for n, s in (("a", (5, 7)), ("b", (6, 7)), ("c", (6,)))}
    y, expected = against_onnxruntime(
        "FusedGemm", feeds, 1, domain="com.microsoft", transB=1, alpha=0.5, activation=name, **extra
    )
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_matmul_nbits(bits, zero, constant):
    k, n, block = 80, 24, 32
    blocks = -(-k // block)
    feeds = {
        "a": rng.standard_normal((2, 3, k)).astype(np.float32),
        "b": ints(np.uint8, n, blocks, block * bits // 8),
        "s": rng.random((n, blocks)).astype(np.float32),
        "z": ints(np.uint8, n, (blocks * bits + 7) // 8) if zero else None,
    }
    y, expected = against_onnxruntime(
        "MatMulNBits",
        feeds,
        1,
        domain="com.microsoft",
        constants=("b", "s", "z") if constant else (),
        K=k,
        N=n,
        bits=bits,
        block_size=block,
    )
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-3 * np.abs(expected).max())
