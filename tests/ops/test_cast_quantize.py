"""Cast and the operators that quantize, for every element type."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from elementwise_model import INTS, SPECIAL, check, reference, run

CAST = [
    np.float32,
    np.float64,
    np.float16,
    ml_dtypes.bfloat16,
    *INTS,
    np.bool_,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e4m3fnuz,
    ml_dtypes.float8_e5m2,
    ml_dtypes.float8_e5m2fnuz,
    ml_dtypes.float4_e2m1fn,
    ml_dtypes.int4,
    ml_dtypes.uint4,
    ml_dtypes.int2,
    ml_dtypes.uint2,
]


@pytest.mark.parametrize("source", CAST, ids=lambda d: np.dtype(d).name)
def test_cast(source: Any) -> None:
    x = np.array([0, 1, -1, 2, 3, -2, 6, 1.5, 0.25, 100, 0.3], np.float64)
    if np.dtype(source).name.startswith("u") or source is np.bool_:
        x = np.abs(x)
    if np.dtype(source).name in ("int2", "uint2", "int4", "uint4"):
        x = x[:3]
    x = x.astype(source)
    for target in CAST:
        with np.errstate(all="ignore"):
            wide = x.astype(np.float64)
            fits = np.ones(x.shape, bool)
            if np.dtype(target).kind in "iu" or np.dtype(target).name.endswith(("nt4", "nt2")):
                info = ml_dtypes.iinfo(target)
                fits = (np.trunc(wide) >= info.min) & (np.trunc(wide) <= info.max)
            values_that_fit = x[fits]
            if np.dtype(target).name.startswith("float8"):
                limit = float(ml_dtypes.finfo(target).max)
                want = np.clip(values_that_fit.astype(np.float32), -limit, limit).astype(target)
            elif np.dtype(target).name.endswith(("nt4", "nt2")):
                want = np.trunc(values_that_fit.astype(np.float64)).astype(np.int8).astype(target)
            else:
                want = values_that_fit.astype(np.float64).astype(target)
        got = run("Cast", values_that_fit, to=helper.np_dtype_to_tensor_dtype(np.dtype(target)))
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"])
def test_every_float8(name: str) -> None:
    dtype = getattr(ml_dtypes, name)
    codes = np.arange(256, dtype=np.uint8).view(dtype)
    decoded = run("Cast", codes, to=TensorProto.FLOAT)
    np.testing.assert_array_equal(decoded, codes.astype(np.float32))
    rng = np.random.default_rng(10)
    x = np.concatenate(
        [
            rng.normal(0, 1, 2000),
            rng.normal(0, 1e-3, 2000),
            rng.normal(0, 300, 2000),
            (decoded[:-1].astype(np.float64) + decoded[1:]) / 2,
            SPECIAL,
        ]
    ).astype(np.float32)
    to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    np.testing.assert_array_equal(
        run("Cast", x, to=to, saturate=0).astype(np.float32), x.astype(dtype).astype(np.float32)
    )
    limit = float(ml_dtypes.finfo(dtype).max)
    np.testing.assert_array_equal(
        run("Cast", x, to=to).astype(np.float32), np.clip(x, -limit, limit).astype(dtype).astype(np.float32)
    )


def test_cast_large_integers() -> None:
    x = np.array([2**63 - 1, -(2**63), 2**53 + 1, 16777217, -1], np.int64)
    for dtype in (np.float32, np.float64, np.int32, np.uint8, np.uint64, np.int16):
        check(run("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))), x.astype(dtype), 0)
    check(run("Cast", np.array([2**64 - 1, 2**63], np.uint64), to=TensorProto.DOUBLE), np.array([2.0**64, 2.0**63]), 0)
    # Beyond the integer's range nothing is promised but that it does not crash.
    run("Cast", np.array(SPECIAL, np.float32), to=TensorProto.INT8)
    run("Cast", np.array(SPECIAL, np.float64), to=TensorProto.UINT64)


def test_cast_strings() -> None:
    x = np.array(["3.14", "1e-5", "1E8", "+INF", "-inf", "NaN", " 7 ", "-0.5"], object)
    np.testing.assert_array_equal(
        run("Cast", x, to=TensorProto.FLOAT), np.array([3.14, 1e-5, 1e8, np.inf, -np.inf, np.nan, 7, -0.5], np.float32)
    )
    np.testing.assert_array_equal(
        run("Cast", np.array(["9223372036854775807", "-3", "2.7"], object), to=TensorProto.INT64), [2**63 - 1, -3, 2]
    )
    for dtype in (np.float32, np.float64, np.float16, np.int64, np.uint64, np.bool_):
        y = np.array([0, 1, 2.5, 100, 1e-3], np.float64).astype(dtype)
        assert run("Cast", y, to=TensorProto.STRING).tolist() == y.astype(np.str_).tolist()
    y = np.array([0.1, 1 / 3, 1e-7, 1.5e20, -0.0, np.nan, -np.inf, 123456.789], np.float32)
    assert run("Cast", y, to=TensorProto.STRING).tolist() == y.astype(np.str_).tolist()
    with pytest.raises(Exception, match="not a number"):
        run("Cast", np.array(["Hello"], object), to=TensorProto.FLOAT)


QUANT = [np.uint8, np.int8, np.uint16, np.int16, ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2]


@pytest.mark.parametrize("dtype", QUANT, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("real", [np.float32, np.float16], ids=["float32", "float16"])
def test_quantize(dtype: Any, real: Any) -> None:
    rng = np.random.default_rng(11)
    info = ml_dtypes.iinfo(dtype)
    span = (int(info.max) - int(info.min)) * 0.6
    for shape, scales, more in [
        ((7, 300), (), {}),
        ((7, 30), (30,), {"axis": 1}),
        ((3, 5, 11), (5,), {"axis": -2}),
        ((3, 10, 4), (3, 4, 4), {"axis": 1, "block_size": 3}),
        ((6, 10), (6, 3), {"axis": 1, "block_size": 4}),
        ((0, 5), (), {}),
        ((), (), {}),
    ]:
        scale = (rng.random(scales) + 0.5).astype(real)
        zero = np.asarray(rng.integers(0, 2, scales)).astype(dtype)
        x = np.asarray(rng.uniform(-span, span, shape)).astype(real)
        q = run("QuantizeLinear", x, scale, zero, opset=25, **more)
        want = reference("QuantizeLinear", x, scale, zero, opset=25, **more)
        assert q.dtype == want.dtype
        np.testing.assert_array_equal(q.astype(np.int32), want.astype(np.int32))
        got = run("DequantizeLinear", q, scale, zero, opset=25, **more)
        check(got, reference("DequantizeLinear", want, scale, zero, opset=25, **more), 0)


@pytest.mark.parametrize(
    "name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float4_e2m1fn"]
)
def test_quantize_to_narrow_floats(name: str) -> None:
    x = np.random.default_rng(12).normal(0, 300, (5, 64)).astype(np.float32)
    scale, zero = np.array(0.7, np.float32), np.zeros((), getattr(ml_dtypes, name))
    q = run("QuantizeLinear", x, scale, zero, opset=25)
    want = reference("QuantizeLinear", x, scale, zero, opset=25)
    np.testing.assert_array_equal(q.astype(np.float32), want.astype(np.float32))
    check(run("DequantizeLinear", q, scale, zero, opset=25), want.astype(np.float32) * scale)


def test_dynamic_quantize() -> None:
    x = np.random.default_rng(13).normal(1, 2, (3, 700)).astype(np.float32)
    y, scale, zero = run("DynamicQuantizeLinear", x, outputs=3)
    lo, hi = min(x.min(), 0), max(x.max(), 0)
    np.testing.assert_allclose(scale, (hi - lo) / 255, rtol=1e-6)
    np.testing.assert_array_equal(y, np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8))


def quantized(real: Any, scale: float, zero: int) -> Any:
    return np.clip(np.rint(np.asarray(real, np.float32) / np.float32(scale)) + zero, 0, 255).astype(np.uint8)


def test_quantized_operators() -> None:
    rng = np.random.default_rng(14)
    scalar, point = (lambda v: np.array(v, np.float32)), (lambda v: np.array(v, np.uint8))
    a, b = rng.integers(0, 256, (1, 4, 6, 6)).astype(np.uint8), rng.integers(0, 256, (4, 1, 1)).astype(np.uint8)
    fa, fb = (a.astype(np.float32) - 120) * np.float32(0.05), (b.astype(np.float32) - 7) * np.float32(0.1)
    ms = {"domain": "com.microsoft", "opset": 17}
    for op, want in (("QLinearAdd", fa + fb), ("QLinearMul", fa * fb)):
        got = run(op, a, scalar(0.05), point(120), b, scalar(0.1), point(7), scalar(0.3), point(128), **ms)
        np.testing.assert_array_equal(got, quantized(want, 0.3, 128))
    condition = rng.random((4, 6, 1)) < 0.5
    got = run(
        *("QLinearWhere", condition, a, scalar(0.05), point(120), b, scalar(0.1), point(7), scalar(0.2), point(9)), **ms
    )
    np.testing.assert_array_equal(got, quantized(np.where(condition, fa, fb), 0.2, 9))
    got = run("QLinearSigmoid", a, scalar(0.05), point(120), scalar(1 / 256), point(0), **ms)
    assert np.abs(got.astype(int) - quantized(1 / (1 + np.exp(-fa)), 1 / 256, 0)).max() <= 1
    got = run("QLinearLeakyRelu", a, scalar(0.05), point(120), scalar(0.05), point(20), alpha=0.1, **ms)
    assert np.abs(got.astype(int) - quantized(np.where(fa < 0, fa * np.float32(0.1), fa), 0.05, 20)).max() <= 1
    got = run("QLinearGlobalAveragePool", a, scalar(0.05), point(120), scalar(0.02), point(100), **ms)
    assert np.abs(got.astype(int) - quantized(fa.mean((2, 3), keepdims=True), 0.02, 100)).max() <= 1
    soft = np.exp(fa - fa.max(-1, keepdims=True))
    soft /= soft.sum(-1, keepdims=True)
    got = run("QLinearSoftmax", a, scalar(0.05), point(120), scalar(1 / 256), point(0), axis=-1, **ms)
    assert np.abs(got.astype(int) - quantized(soft, 1 / 256, 0)).max() <= 1
    got = run(
        "QLinearConcat", scalar(0.1), point(100), a, scalar(0.05), point(120), a, scalar(0.1), point(100), axis=1, **ms
    )
    np.testing.assert_array_equal(got, np.concatenate([quantized(fa, 0.1, 100), a], 1))
    got = run(
        "QLinearAveragePool",
        a,
        scalar(0.05),
        point(120),
        scalar(0.05),
        point(120),
        kernel_shape=[2, 2],
        strides=[2, 2],
        **ms,
    )
    pooled = fa.reshape(1, 4, 3, 2, 3, 2).mean((3, 5))
    assert np.abs(got.astype(int) - quantized(pooled, 0.05, 120)).max() <= 1
