"""Quantized graphs run as integers: what the lowered graph holds, and the bits of its results on every table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import linnet
from integer_model import Model, Real, add, average, conv_sums, multiply, requantize
from linnet import _core

U8, S8 = np.uint8, np.int8


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def bytes_of(shape: tuple[int, ...], dtype: Any, seed: int = 3) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, shape).astype(dtype)


def run(model: bytes, feeds: dict[str, np.ndarray], threads: int = 1) -> list[np.ndarray]:
    options = linnet.SessionOptions()
    options.intra_op_num_threads = threads
    return linnet.InferenceSession(model, options).run(None, feeds)


def operators(model: bytes) -> list[str]:
    """The operators that the lowered graph is made of, without layout changes."""
    text = _core.Session.from_bytes(model, _core.SessionOptions()).dump("lower")
    names = re.findall(r" = ([\w.]+)\(", text)
    return [n for n in names if n not in ("Transpose", "Reshape", "Flatten")]


def same(model: bytes, feeds: dict[str, np.ndarray], want: np.ndarray) -> None:
    """Equal bits with one thread and three."""
    for threads in (1, 3):
        got = run(model, feeds, threads)[0]
        assert got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_array_equal(got, want)


CONVS = [
    # channels, filters, size, kernel, attributes
    (3, 8, 13, 3, {"pads": [1, 1, 1, 1], "strides": [2, 2]}),  # a first layer
    (1, 5, 9, 5, {"pads": [2, 2, 2, 2]}),
    (16, 24, 7, 1, {}),
    (33, 17, 5, 1, {"strides": [2, 2]}),
    (16, 19, 9, 3, {"pads": [1, 1, 1, 1]}),
    (32, 64, 15, 3, {"pads": [1, 1, 1, 1]}),  # Winograd's F(4,3), where it pays
    (32, 33, 10, 3, {"pads": [1, 1, 1, 1]}),  # F(2,3)
    (160, 32, 12, 3, {"pads": [1, 1, 1, 1]}),  # either, as the weights are
    (40, 33, 11, 3, {"pads": [1, 0, 1, 2]}),
    (12, 18, 8, 3, {"group": 3, "pads": [1, 1, 1, 1], "dilations": [2, 2]}),
    (20, 20, 10, 3, {"group": 20, "pads": [1, 1, 1, 1]}),
    (37, 37, 9, 5, {"group": 37, "pads": [2, 2, 2, 2], "strides": [2, 2]}),
    (24, 10, 6, 6, {}),  # a kernel as large as the picture
]


@pytest.mark.parametrize("adversarial", [False, True])
@pytest.mark.parametrize(
    "x_dtype,w_dtype,per_channel", [(U8, S8, True), (S8, S8, False), (U8, U8, False), (S8, U8, True)]
)
@pytest.mark.parametrize("shape", CONVS, ids=str)
def test_conv(shape: Any, x_dtype: Any, w_dtype: Any, per_channel: bool, adversarial: bool) -> None:
    channels, filters, size, kernel, attributes = shape
    r = rng()
    group = attributes.get("group", 1)
    w_shape = (filters, channels // group, kernel, kernel)
    info = np.iinfo(w_dtype)
    x = bytes_of((2, channels, size, size), x_dtype)
    if adversarial:  # the extremes that saturate 16-bit sums
        w = np.where(np.arange(np.prod(w_shape)).reshape(w_shape) % 3 == 0, info.min, info.max).astype(w_dtype)
        x = np.where(x > np.median(x), np.iinfo(x_dtype).max, np.iinfo(x_dtype).min).astype(x_dtype)
    else:
        w = r.integers(info.min, info.max + 1, w_shape).astype(w_dtype)
    count = filters if per_channel else 1
    w_scale = (r.random(count) * 0.01 + 0.001).astype(np.float32)
    w_zero = None
    if w_dtype == U8:
        w_zero = r.integers(100, 140, count).astype(U8)
    zeros = np.zeros(1, np.int64) if w_zero is None else w_zero.astype(np.int64)
    x_real = Real(0.02, 7 if x_dtype == S8 else 121, x_dtype)
    depth = w_shape[1] * kernel * kernel
    y_real = Real(float(0.02 * w_scale.max() * 60 * np.sqrt(depth)), 3 if x_dtype == S8 else 100, x_dtype)
    bias = r.integers(-5000, 5000, filters).astype(np.int32)

    m = Model()
    real = m.dequantize(m.bytes_input("x", ("n", channels, size, size), x_dtype), x_real)
    scale = w_scale if per_channel else w_scale[0]
    weights = m.weights(w, scale, None if w_zero is None else (w_zero if per_channel else w_zero[0]))
    bias_scale = (np.float32(x_real.scale) * w_scale).astype(np.float32)
    b = m.node("DequantizeLinear", m.constant(bias), m.constant(bias_scale if per_channel else bias_scale[0]), axis=0)
    y = m.node("Conv", real, weights, b, **attributes)
    model = m.bytes([m.quantize(m.node("Relu", y), y_real)])

    assert operators(model) == ["linnet.QLinearConv"]
    full = w.astype(np.int64) - zeros.reshape(-1, 1, 1, 1)
    sums = conv_sums(x, x_real.zero, full, attributes) + bias.reshape(1, -1, 1, 1)
    want = np.maximum(requantize(sums, x_real, w_scale, y_real), y_real.zero).astype(x_dtype)
    same(model, {"x": x}, want)


def small_conv(m: Model, x: str, channels: int, filters: int, y: Real, seed: int = 1, **attributes: Any) -> Any:
    """A quantized 1x1 convolution; its float result, and a function that computes its bytes."""
    r = np.random.default_rng(seed)
    w = r.integers(-127, 128, (filters, channels, 1, 1)).astype(S8)
    w_scale = (r.random(filters) * 0.01 + 0.002).astype(np.float32)
    value = m.node("Conv", x, m.weights(w, w_scale), **attributes)
    return value, lambda q, real: requantize(conv_sums(q, real.zero, w.astype(np.int64), {}), real, w_scale, y)


def test_clip_behind_a_convolution_is_a_clamp() -> None:
    x, x_real, y_real = bytes_of((1, 8, 5, 5), U8), Real(0.02, 128), Real(0.05, 10)
    m = Model()
    value, compute = small_conv(m, m.dequantize(m.bytes_input("x", x.shape, U8), x_real), 8, 6, y_real)
    clipped = m.node("Clip", value, m.constant(np.float32(0)), m.constant(np.float32(6)))
    model = m.bytes([m.quantize(clipped, y_real)])
    assert operators(model) == ["linnet.QLinearConv"]
    bounds = y_real.quantize(np.float32([0, 6]))
    same(model, {"x": x}, np.clip(compute(x, x_real), bounds[0], bounds[1]))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


@pytest.mark.parametrize("dtype", [U8, S8])
def test_silu_behind_a_convolution_is_its_table(dtype: Any) -> None:
    zero = 100 if dtype == U8 else -20
    x, x_real, c = bytes_of((1, 8, 5, 5), dtype), Real(0.02, zero, dtype), Real(0.05, zero, dtype)
    s, y_real = Real(1 / 256, 0 if dtype == U8 else -128, dtype), Real(0.04, zero, dtype)
    m = Model()
    value, compute = small_conv(m, m.dequantize(m.bytes_input("x", x.shape, dtype), x_real), 8, 6, c)
    real = m.pair(value, c)
    gate = m.pair(m.node("Sigmoid", real), s)
    model = m.bytes([m.quantize(m.node("Mul", real, gate), y_real)])
    assert operators(model) == ["linnet.QLinearConv"]
    real_c = c.dequantize(compute(x, x_real))
    want = y_real.quantize(real_c * s.dequantize(s.quantize(sigmoid(real_c))))
    got = run(model, {"x": x})[0].astype(int)
    assert np.abs(got - want.astype(int)).max() <= 1 and np.mean(got != want) < 0.01
    same(model, {"x": x}, got.astype(dtype))


@pytest.mark.parametrize(
    "op,attributes", [("LeakyRelu", {"alpha": 0.1}), ("HardSwish", {}), ("Tanh", {}), ("Relu", {})]
)
def test_table(op: str, attributes: dict[str, Any]) -> None:
    x, x_real, y_real = np.arange(256, dtype=U8).reshape(1, 256), Real(0.03, 120), Real(0.02, 90, S8)
    m = Model()
    real = m.dequantize(m.bytes_input("x", ("n", 256), U8), x_real)
    model = m.bytes([m.quantize(m.node(op, real, **attributes), y_real)])
    assert operators(model) == ["linnet.ByteTable"]
    m = Model()  # the float operator by itself
    real = m.dequantize(m.bytes_input("x", (1, 256), U8), x_real)
    value = run(m.bytes([m.node(op, real, **attributes)]), {"x": x})[0]
    same(model, {"x": x}, y_real.quantize(value))


def test_requantization_is_a_table_and_an_equal_pair_is_nothing() -> None:
    x, a, b = bytes_of((3, 50), U8), Real(0.03, 120), Real(0.05, 100)
    m = Model()
    value = m.pair(m.dequantize(m.bytes_input("x", x.shape, U8), a), a)
    model = m.bytes([m.quantize(value, b)])
    assert operators(model) == ["linnet.ByteTable"]
    same(model, {"x": x}, b.quantize(a.dequantize(x)))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("b_shape", [(2, 20, 6, 7), (2, 20, 1, 1), (1, 20, 1, 1), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("dtypes", [(U8, U8, U8), (S8, S8, S8), (U8, S8, U8)], ids=str)
def test_binary(op: str, b_shape: tuple[int, ...], dtypes: Any) -> None:
    reals = [Real(0.02 * (i + 1), 5 + 100 * (d == U8), d) for i, d in enumerate(dtypes)]
    a, b, y = reals
    if op == "Mul":
        y.scale = 0.15
    qa, qb = bytes_of((2, 20, 6, 7), a.dtype), bytes_of(b_shape, b.dtype, 5)
    m = Model()
    left = m.dequantize(m.bytes_input("a", qa.shape, a.dtype), a)
    right = m.dequantize(m.bytes_input("b", qb.shape, b.dtype), b)
    model = m.bytes([m.quantize(m.node("Relu", m.node(op, left, right)), y)])
    assert operators(model) == ["linnet.QLinearMul" if op == "Mul" else "linnet.QLinearAdd"]
    if op == "Mul":
        want = multiply(qa, a, qb, b, y)
    else:
        sign = Real(-b.scale if op == "Sub" else b.scale, b.zero, b.dtype)
        want = add(qa, a, qb, sign, y)
    same(model, {"a": qa, "b": qb}, np.maximum(want, y.zero).astype(y.dtype))


def test_residual_is_added_by_the_convolution() -> None:
    x, x_real, c, y = bytes_of((2, 16, 6, 5), U8), Real(0.02, 110), Real(0.06, 130), Real(0.05, 60)
    m = Model()
    real = m.dequantize(m.bytes_input("x", ("n", 16, 6, 5), U8), x_real)
    value, compute = small_conv(m, real, 16, 16, c)
    model = m.bytes([m.quantize(m.node("Relu", m.node("Add", m.pair(value, c), real)), y)])
    assert operators(model) == ["linnet.QLinearConv"]
    same(model, {"x": x}, np.maximum(add(compute(x, x_real), c, x, x_real, y), y.zero).astype(U8))


@pytest.mark.parametrize("kinds", [(U8, S8), (S8, U8)], ids=str)
@pytest.mark.parametrize("residual", [False, True])
def test_bytes_behind_a_convolution_may_change_their_kind(kinds: Any, residual: bool) -> None:
    own, other = (Real(0.06, 100 * (d == U8) + 10, d) for d in kinds)
    x, x_real, y = bytes_of((2, 16, 6, 5), other.dtype), Real(0.02, 3, other.dtype), Real(0.11, 20, other.dtype)
    m = Model()
    real = m.dequantize(m.bytes_input("x", ("n", 16, 6, 5), other.dtype), x_real)
    value, compute = small_conv(m, real, 16, 16, own)
    value = m.pair(m.pair(value, own), other)
    want = other.quantize(own.dequantize(compute(x, x_real)))
    if residual:
        model = m.bytes([m.quantize(m.node("Add", value, real), y)])
        return same(model, {"x": x}, add(want, other, x, x_real, y))
    model = m.bytes([m.quantize(m.node("MaxPool", value, kernel_shape=[1, 1]), other)])
    assert operators(model)[0] == "linnet.QLinearConv" and "linnet.ByteTable" not in operators(model)
    same(model, {"x": x}, want)


def test_pools() -> None:
    x, x_real, y = bytes_of((2, 20, 9, 7), U8), Real(0.02, 110), Real(0.03, 60)
    m = Model()
    real = m.dequantize(m.bytes_input("x", x.shape, U8), x_real)
    model = m.bytes([m.quantize(m.node("GlobalAveragePool", real), y)])
    assert operators(model) == ["linnet.QLinearGlobalAveragePool"]
    same(model, {"x": x}, average(x, x_real, y, (2, 3)))

    m = Model()
    real = m.dequantize(m.bytes_input("x", x.shape, U8), x_real)
    pool = m.node("AveragePool", real, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
    model = m.bytes([m.quantize(pool, y)])
    assert operators(model) == ["linnet.QLinearAveragePool"]
    padded = np.pad(x.astype(np.int64) - x_real.zero, ((0, 0), (0, 0), (1, 1), (1, 1)))
    sums = sum(padded[:, :, i : i + 9 : 2, j : j + 7 : 2] for i in range(3) for j in range(3))
    scale = np.float32(np.float32(x_real.scale) / np.float32(y.scale)) / np.float32(9)
    same(model, {"x": x}, y.from_steps(sums.astype(np.float32) * scale))

    m = Model()
    real = m.dequantize(m.bytes_input("x", x.shape, U8), x_real)
    model = m.bytes([m.quantize(m.node("MaxPool", real, kernel_shape=[2, 2], strides=[1, 1]), x_real)])
    assert operators(model) == ["linnet.MaxPool"]
    parts = [x[:, :, i : i + 8, j : j + 6] for i in range(2) for j in range(2)]
    same(model, {"x": x}, np.maximum.reduce(parts))


def movements() -> dict[str, Any]:
    ints = lambda *v: np.asarray(v, np.int64)  # noqa: E731
    return {
        "Reshape": (lambda m, v: m.node("Reshape", v, m.constant(ints(2, -1))), lambda x: x.reshape(2, -1)),
        "Transpose": (lambda m, v: m.node("Transpose", v, perm=[0, 2, 3, 1]), lambda x: x.transpose(0, 2, 3, 1)),
        "Slice": (
            lambda m, v: m.node("Slice", v, m.constant(ints(1)), m.constant(ints(5)), m.constant(ints(2))),
            lambda x: x[:, :, 1:5],
        ),
        "Squeeze": (lambda m, v: m.node("Unsqueeze", v, m.constant(ints(0))), lambda x: x[None]),
        "Gather": (lambda m, v: m.node("Gather", v, m.constant(ints(2, 0)), axis=1), lambda x: x[:, [2, 0]]),
        "Expand": (
            lambda m, v: m.node("Expand", v, m.constant(ints(3, 2, 4, 6, 6))),
            lambda x: np.broadcast_to(x, (3, *x.shape)),
        ),
        "Tile": (lambda m, v: m.node("Tile", v, m.constant(ints(1, 2, 1, 1))), lambda x: np.tile(x, (1, 2, 1, 1))),
        "DepthToSpace": (
            lambda m, v: m.node("DepthToSpace", v, blocksize=2),
            lambda x: x.reshape(2, 2, 2, 1, 6, 6).transpose(0, 3, 4, 1, 5, 2).reshape(2, 1, 12, 12),
        ),
        "ReduceMax": (
            lambda m, v: m.node("ReduceMax", v, m.constant(ints(2, 3)), keepdims=0),
            lambda x: x.max(axis=(2, 3)),
        ),
        "Resize": (
            lambda m, v: m.node(
                "Resize",
                v,
                "",
                m.constant(np.float32([1, 1, 2, 2])),
                mode="nearest",
                nearest_mode="floor",
                coordinate_transformation_mode="asymmetric",
            ),
            lambda x: x.repeat(2, axis=2).repeat(2, axis=3),
        ),
        "Pad": (
            lambda m, v: m.node("Pad", v, m.constant(ints(0, 0, 1, 1, 0, 0, 1, 2))),
            lambda x: np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 2)), constant_values=77),
        ),
    }


@pytest.mark.parametrize("dtype", [U8, S8])
@pytest.mark.parametrize("name", list(movements()))
def test_movement(name: str, dtype: Any) -> None:
    make, expected = movements()[name]
    x, real = bytes_of((2, 4, 6, 6), dtype), Real(0.02, 77, dtype)
    for other in (real, Real(0.03, 50, dtype)):
        m = Model()
        value = make(m, m.dequantize(m.bytes_input("x", x.shape, dtype), real))
        model = m.bytes([m.quantize(value, other)], opset=20)
        assert not [n for n in operators(model) if "Linear" in n]
        want = expected(x)
        same(model, {"x": x}, want if other is real else other.quantize(real.dequantize(want)))


RESIZES: list[tuple[tuple[int, ...], list[float], dict[str, Any]]] = [
    ((2, 5, 6, 7), [1, 1, 2, 2], {"mode": "linear"}),
    ((2, 70, 6, 7), [1, 1, 2.3, 1.6], {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    ((1, 3, 9, 8), [1, 1, 0.6, 0.7], {"mode": "cubic", "cubic_coeff_a": -0.5}),
    ((1, 3, 9, 8), [1, 1, 0.3, 0.4], {"mode": "cubic", "antialias": 1}),
    ((1, 16, 9, 80), [1, 1, 1.7, 1], {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}),
    ((2, 3, 5, 11), [1, 1, 1, 2.5], {"mode": "cubic", "exclude_outside": 1}),
    ((1, 4, 7), [1, 1, 3], {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}),
    ((1, 4, 3, 5, 4), [1, 1, 2, 2, 1.5], {"mode": "linear"}),
    ((1, 2, 6, 6), [1, 1, 1, 1], {"mode": "linear"}),
    (
        (1, 3, 6, 7),
        [1, 1, 2, 2],
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 1.5},
    ),
]


@pytest.mark.parametrize(("x_dtype", "y_dtype"), [(U8, U8), (S8, S8), (U8, S8)])
@pytest.mark.parametrize("case", RESIZES, ids=str)
def test_resize_between(case: Any, x_dtype: Any, y_dtype: Any) -> None:
    """Bytes in and out, and every bit what the float operator gives for the bytes' values."""
    shape, scales, attributes = case
    x = bytes_of(shape, x_dtype)
    x_real, y_real = Real(0.031, 100 if x_dtype == U8 else -7, x_dtype), Real(0.023, 90, y_dtype)
    crop = attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    roi = np.float32([0, 0, -0.2, 0.1, 1, 1, 0.9, 1.4])

    def resize(m: Model, v: str) -> str:
        return str(m.node("Resize", v, m.constant(roi) if crop else "", m.constant(np.float32(scales)), **attributes))

    for relu in (False, True):
        m = Model()
        y = resize(m, m.dequantize(m.bytes_input("x", shape, x_dtype), x_real))
        model = m.bytes([m.quantize(m.node("Relu", y) if relu else y, y_real)], opset=20)
        assert operators(model) == ["linnet.QLinearResize"]
        f = Model()
        floats = f.bytes([resize(f, f.bytes_input("x", shape, np.float32))], opset=20)
        real = run(floats, {"x": x_real.dequantize(x)})[0]
        same(model, {"x": x}, y_real.quantize(np.maximum(real, 0) if relu else real))


def test_resize_between_convolutions_needs_no_other_layout() -> None:
    r = rng()
    m = Model()
    real, middle = Real(0.02, 120), Real(0.05, 128)
    x = bytes_of((1, 16, 9, 10), U8)
    w = r.integers(-127, 128, (16, 16, 1, 1)).astype(S8)
    first = m.node("Conv", m.dequantize(m.bytes_input("x", x.shape, U8), real), m.weights(w, np.float32(0.003)))
    sized = m.node(
        "Resize", m.pair(first, middle), "", "", m.constant(np.asarray([1, 16, 17, 21], np.int64)), mode="linear"
    )
    last = m.node("Conv", m.pair(sized, middle), m.weights(w, np.float32(0.003)))
    model = m.bytes([m.quantize(last, middle)], opset=20)
    assert operators(model) == ["linnet.QLinearConv", "linnet.QLinearResize", "linnet.QLinearConv"]
    text = _core.Session.from_bytes(model, _core.SessionOptions()).dump("lower")
    assert text.count("= Transpose(") == 2, text
    m2 = run(model, {"x": x})[0]
    options = linnet.SessionOptions()
    options.graph_optimization_level = linnet.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = linnet.InferenceSession(model, options).run(None, {"x": x})[0]
    assert np.abs(m2.astype(int) - plain).max() <= 1


def test_concat_of_differing_scales_and_split() -> None:
    parts = [bytes_of((2, 3 + i, 4, 4), U8, i) for i in range(3)]
    reals, y = [Real(0.02, 100), Real(0.03, 90), Real(0.02, 100)], Real(0.02, 100)
    m = Model()
    values = [m.dequantize(m.bytes_input(f"x{i}", p.shape, U8), reals[i]) for i, p in enumerate(parts)]
    joined = m.pair(m.node("Concat", *values, axis=1), y)
    first, _ = m.node("Split", joined, m.constant(np.asarray([5, 7], np.int64)), outputs=2, axis=1)
    model = m.bytes([m.quantize(first, y)])
    assert [n for n in operators(model) if "Linear" in n] == []
    want = np.concatenate([y.quantize(r.dequantize(p)) for p, r in zip(parts, reals, strict=True)], axis=1)[:, :5]
    same(model, {f"x{i}": p for i, p in enumerate(parts)}, want)


def test_float_bias_of_whole_steps_is_taken_and_another_is_not() -> None:
    for bias, taken in ((np.float32([1.0, -2.0]), True), (np.float32([1.0003, 1e9]), False)):
        m = Model()
        real = m.dequantize(m.bytes_input("x", (1, 4, 3, 3), U8), Real(2.0**-6, 3))
        w = np.full((2, 4, 1, 1), 5, S8)
        conv = m.node("Conv", real, m.weights(w, np.float32([2.0**-7, 2.0**-8])), m.constant(bias))
        model = m.bytes([m.quantize(conv, Real(0.05, 4))])
        assert ("linnet.QLinearConv" in operators(model)) == taken


def test_qlinear_operators_of_other_runtimes_are_integer_steps() -> None:
    scale, zero = np.float32(0.02), np.uint8(100)
    constants = [numpy_helper.from_array(np.asarray(v), n) for n, v in (("s", scale), ("z", zero))]
    domain = "com.microsoft"
    nodes = [
        helper.make_node("QLinearAdd", ["x", "s", "z", "x", "s", "z", "s", "z"], ["a"], domain=domain),
        helper.make_node("QLinearSigmoid", ["a", "s", "z", "s", "z"], ["b"], domain=domain),
        helper.make_node("QLinearGlobalAveragePool", ["x", "s", "z", "s", "z"], ["c"], domain=domain),
        helper.make_node("QLinearMul", ["b", "s", "z", "c", "s", "z", "s", "z"], ["d"], domain=domain),
        helper.make_node("QLinearConcat", ["s", "z", "d", "s", "z", "x", "s", "z"], ["y"], domain=domain, axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 6, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    assert not [n for n in operators(model) if "quantize" in n.lower()]


def float_nodes(model: bytes) -> dict[str, str]:
    session = _core.Session.from_bytes(model, _core.SessionOptions())
    return {node["op"]: node["why"] for node in _core.describe(session, "lower", {"x": [1, 8, 5, 5]})["float_nodes"]}


def test_what_stays_float_says_why() -> None:
    x_real, y = Real(0.02, 128), Real(0.05, 10)

    def source(m: Model) -> str:
        return m.dequantize(m.bytes_input("x", (1, 8, 5, 5), U8), x_real)

    m = Model()
    value, _ = small_conv(m, source(m), 8, 6, y)
    soft = m.node("Softmax", m.pair(value, y), axis=1)
    assert float_nodes(m.bytes([m.quantize(soft, y)])) == {"Softmax": "no integer form of Softmax"}

    m = Model()
    value, _ = small_conv(m, source(m), 8, 6, y)
    assert "output of the model" in float_nodes(m.bytes([value, m.quantize(value, y)]))["Conv"]

    m = Model()
    value, _ = small_conv(m, source(m), 8, 6, y)
    found = float_nodes(m.bytes([m.quantize(m.node("Softmax", value, axis=1), y)]))
    assert found["Conv"].startswith("its result is read as float by Softmax")

    m = Model()
    value, _ = small_conv(m, m.node("Softmax", source(m), axis=1), 8, 6, y)
    assert "its input is not quantized" in float_nodes(m.bytes([m.quantize(value, y)]))["Conv"]

    m = Model()
    weights = m.constant(np.ones((6, 8, 1, 1), np.float32))
    conv = m.node("Conv", source(m), weights)
    assert float_nodes(m.bytes([m.quantize(conv, y)]))["Conv"] == "its weights are not quantized"


def test_a_graph_without_bytes_has_no_float_nodes_to_explain() -> None:
    m = Model()
    m.inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 8, 5, 5)))
    model = m.bytes([m.node("Relu", "x")])
    assert float_nodes(model) == {}


def test_tables_agree() -> None:
    """Every kernel table of this CPU passes the tests above."""
    if os.environ.get("LINNET_ISA"):
        pytest.skip("started by this test")
    for isa in ("generic", "avx2"):
        if isa == "avx2" and "avx2" not in [name for name, runs in _core.kernel_tables() if runs]:
            continue
        environment = {**os.environ, "LINNET_ISA": isa}
        command = [sys.executable, "-m", "pytest", "-q", "-x", __file__]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{isa}:\n{done.stdout[-3000:]}"
