"""Normalisations: against formulas in float64 and onnxruntime."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper

from linnet import InferenceSession
from one_node import check, linnet, ort, reference

FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
LOOSE = {np.float32: 3e-6, np.float64: 1e-9, np.float16: 2e-3, ml_dtypes.bfloat16: 2e-2}


def normal(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> Any:
    return (np.random.default_rng(seed).normal(size=shape) * 2 + 3).astype(dtype)


def standardise(x: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    x = x.astype(np.float64)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "shape,axis",
    [((4, 10), -1), ((2, 3, 768), 2), ((2, 3, 4, 5), 1), ((2, 3, 4), 0), ((7,), 0), ((0, 4), 1), ((3, 1), 1)],
)
def test_layer_norm(dtype: Any, shape: tuple[int, ...], axis: int) -> None:
    x, scale, bias = normal(shape, dtype), normal(shape[axis:], dtype, 1), normal(shape[axis:], dtype, 2)
    axes = tuple(range(axis % len(shape), len(shape)))
    plain = standardise(x, axes, 1e-5)
    want = (plain * scale.astype(np.float64) + bias.astype(np.float64)).astype(dtype)
    got = linnet("LayerNormalization", x, scale, bias, opset=17, axis=axis, outputs=3)
    check(got[0], want, LOOSE[dtype], absolute=LOOSE[dtype])
    check(got[1], x.astype(np.float64).mean(axes, keepdims=True).astype(np.float32), 1e-5)
    check(got[2], (1 / np.sqrt(x.astype(np.float64).var(axes, keepdims=True) + 1e-5)).astype(np.float32), 1e-5)
    got = linnet("LayerNormalization", x, scale, opset=17, axis=axis, epsilon=0.1)[0]
    want = (standardise(x, axes, np.float32(0.1)) * scale.astype(np.float64)).astype(dtype)
    check(got, want, LOOSE[dtype], absolute=LOOSE[dtype])


@pytest.mark.parametrize("scale", [(1,), (5,), (4, 1), (4, 5), (3, 4, 5), (3, 1, 1), (2, 1, 1, 5), ()])
def test_broadcast_parameters(scale: tuple[int, ...]) -> None:
    x, s, b = normal((2, 3, 4, 5)), normal(scale, seed=1), normal(scale, seed=2)
    want = (standardise(x, (2, 3), 1e-5) * s + b).astype(np.float32)
    check(linnet("LayerNormalization", x, s, b, opset=17, axis=2)[0], want, 3e-6, 3e-6)
    power = np.sqrt((x.astype(np.float64) ** 2).mean((2, 3), keepdims=True) + 1e-5)
    check(linnet("RMSNormalization", x, s, opset=23, axis=2)[0], (x / power * s).astype(np.float32), 3e-6, 3e-6)


def test_layer_norm_far_from_zero() -> None:
    x = normal((3, 4096)) + np.float32(10000)
    want = standardise(x, (1,), 1e-5).astype(np.float32)
    check(linnet("LayerNormalization", x, np.ones(4096, np.float32), opset=17)[0], want, 1e-3, 2e-3)


def test_layer_norm_refuses() -> None:
    with pytest.raises(Exception, match="broadcast"):
        linnet("LayerNormalization", normal((2, 3)), normal((4,)), opset=17)
    with pytest.raises(Exception, match="axis"):
        linnet("LayerNormalization", normal((2, 3)), normal((3,)), opset=17, axis=2)


@pytest.mark.parametrize("dtype", FLOATS)
def test_rms_norm(dtype: Any) -> None:
    x, scale = normal((3, 4, 100), dtype), normal((100,), dtype, 1)
    wide = x.astype(np.float64)
    want = (wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5) * scale.astype(np.float64)).astype(dtype)
    check(linnet("RMSNormalization", x, scale, opset=23)[0], want, LOOSE[dtype], absolute=LOOSE[dtype])
    if dtype == np.float32:
        got = linnet("SimplifiedLayerNormalization", x, scale, opset=17, epsilon=1e-5, outputs=2)
        check(got[0], want, 3e-6)
        check(got[1], (1 / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5)).astype(np.float32), 3e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "shape,groups", [((2, 6, 5, 7), 3), ((1, 64, 40, 41), 32), ((3, 4, 9), 1), ((2, 4), 2), ((2, 0, 3), 2)]
)
def test_group_norm(dtype: Any, shape: tuple[int, ...], groups: int) -> None:
    x = normal(shape, dtype)
    wide = x.astype(np.float64)
    split = wide.reshape(shape[0], groups, -1)
    plain = standardise(split, (2,), 1e-5).reshape(shape) if x.size else wide
    ones = (1,) * (len(shape) - 2)
    for opset, count in ((21, shape[1]), (18, groups)):
        scale, bias = normal((count,), dtype, 1), normal((count,), dtype, 2)
        each = [
            np.repeat(p.astype(np.float64), shape[1] // count if count else 1).reshape(-1, *ones) for p in (scale, bias)
        ]
        want = (plain * each[0] + each[1]).astype(dtype)
        got = linnet("GroupNormalization", x, scale, bias, opset=opset, num_groups=groups)[0]
        check(got, want, LOOSE[dtype], absolute=LOOSE[dtype] * 4)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 20, 50, 50), (2, 3, 9), (2, 3, 2, 2, 2)])
def test_instance_norm(dtype: Any, shape: tuple[int, ...]) -> None:
    x, scale, bias = normal(shape, dtype), normal(shape[1:2], dtype, 1), normal(shape[1:2], dtype, 2)
    ones = (1,) * (len(shape) - 2)
    want = (
        standardise(x, tuple(range(2, len(shape))), 1e-5) * scale.astype(np.float64).reshape(-1, *ones)
        + bias.astype(np.float64).reshape(-1, *ones)
    ).astype(dtype)
    for opset in (6, 22):
        got = linnet("InstanceNormalization", x, scale, bias, opset=opset)[0]
        check(got, want, LOOSE[dtype], absolute=LOOSE[dtype] * 4)


def batch_norm_inputs(shape: tuple[int, ...], dtype: Any, parameter: tuple[int, ...]) -> list[Any]:
    return [
        normal(shape, dtype),
        *(normal(parameter, dtype, i) for i in (1, 2, 3)),
        np.abs(normal(parameter, dtype, 4)) + dtype(0.5),
    ]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 20, 50, 50), (2, 3), (2, 3, 9), (2, 3, 2, 2, 2), (0, 3, 4)])
def test_batch_norm(dtype: Any, shape: tuple[int, ...]) -> None:
    inputs = batch_norm_inputs(shape, dtype, shape[1:2])
    x, scale, bias, mean, var = (a.astype(np.float64) for a in inputs)
    ones = (-1, *(1,) * (len(shape) - 2))
    want = (x - mean.reshape(ones)) / np.sqrt(var.reshape(ones) + 1e-5) * scale.reshape(ones) + bias.reshape(ones)
    for opset in (7, 9, 14, 15):
        for constants in ((), (1, 2, 3, 4)):
            got = linnet("BatchNormalization", *inputs, opset=opset, constants=constants)[0]
            check(got, want.astype(dtype), LOOSE[dtype], absolute=LOOSE[dtype] * 10)
    got = linnet("BatchNormalization", *inputs, opset=6, is_test=1)[0]
    check(got, want.astype(dtype), LOOSE[dtype], absolute=LOOSE[dtype] * 10)


def test_batch_norm_per_element() -> None:
    inputs = batch_norm_inputs((4, 3, 5), np.float32, (3, 5))
    x, scale, bias, mean, var = inputs
    want = (x - mean) / np.sqrt(var + np.float32(1e-5)) * scale + bias
    check(linnet("BatchNormalization", *inputs, opset=7, spatial=0)[0], want, 1e-5, 1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4, 3, 5, 7), (8, 3)])
def test_batch_norm_training(dtype: Any, shape: tuple[int, ...]) -> None:
    inputs = batch_norm_inputs(shape, dtype, (3,))
    want = reference("BatchNormalization", *inputs, opset=15, outputs=3, training_mode=1, momentum=0.8)
    got = linnet("BatchNormalization", *inputs, opset=15, outputs=3, training_mode=1, momentum=0.8)
    for g, w in zip(got, want, strict=True):
        check(g, w.astype(dtype), 1e-5, 1e-5)
    old = linnet("BatchNormalization", *inputs, opset=9, outputs=5, momentum=0.8)
    axes = (0, *range(2, len(shape)))
    for g, w in zip(old, [*want, inputs[0].mean(axes), inputs[0].var(axes)], strict=True):
        check(g, w.astype(dtype), 1e-5, 1e-5)


@pytest.mark.parametrize("size,beta", [(1, 0.75), (3, 0.75), (5, 0.5), (4, 0.75), (2, 1.1), (40, 0.75)])
@pytest.mark.parametrize("shape", [(2, 7, 5, 6), (1, 30, 40, 40), (1, 2100, 2)])
def test_lrn(size: int, beta: float, shape: tuple[int, ...]) -> None:
    for dtype in (np.float32, np.float64):
        x = normal(shape, dtype)
        squares = np.zeros(shape)
        for c in range(shape[1]):
            low, high = max(0, c - (size - 1) // 2), min(shape[1], c + size // 2 + 1)
            squares[:, c] = (x[:, low:high].astype(np.float64) ** 2).sum(1)
        want = x / (1.5 + np.float32(0.02) / size * squares) ** np.float32(beta)
        got = linnet("LRN", x, size=size, alpha=0.02, beta=beta, bias=1.5)[0]
        check(got, want.astype(dtype), 5e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_lp_norm(dtype: Any) -> None:
    x = normal((3, 70, 5), dtype)
    x[0] = 0
    for p in (1, 2):
        for axis in (-1, 0, 1):
            wide = x.astype(np.float64)
            norm = np.abs(wide).sum(axis, keepdims=True) if p == 1 else np.sqrt((wide**2).sum(axis, keepdims=True))
            want = (wide / np.where(norm == 0, 1, norm)).astype(dtype)
            check(linnet("LpNormalization", x, p=p, axis=axis)[0], want, 3e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_mean_variance(dtype: Any) -> None:
    x = normal((2, 3, 4, 5), dtype)
    for axes in ([0, 2, 3], [1], [-1, 0]):
        wide = x.astype(np.float64)
        want = (wide - wide.mean(tuple(axes), keepdims=True)) / (wide.std(tuple(axes), keepdims=True) + 1e-9)
        check(linnet("MeanVarianceNormalization", x, axes=axes)[0], want.astype(dtype), 1e-5, LOOSE[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 7), (2, 3, 2, 3, 4), (2, 3)])
def test_global_pools(dtype: Any, shape: tuple[int, ...]) -> None:
    x = normal(shape, dtype)
    axes = tuple(range(2, len(shape)))
    wide = x.astype(np.float64)
    check(linnet("GlobalAveragePool", x)[0], wide.mean(axes, keepdims=True).astype(dtype))
    check(linnet("GlobalMaxPool", x)[0], wide.max(axes, keepdims=True).astype(dtype))
    for p in (1, 2, 3):
        want = (np.abs(wide) ** p).sum(axes, keepdims=True) ** (1 / p)
        check(linnet("GlobalLpPool", x, p=p)[0], want.astype(dtype))


def test_skip_layer_norm() -> None:
    x, skip = normal((2, 3, 16)), normal((2, 3, 16), seed=1)
    gamma, beta, bias = (normal((16,), seed=i) for i in (2, 3, 4))
    for inputs in ([x, skip, gamma, beta, bias], [x, skip, gamma], [x, skip, gamma, None, bias]):
        want = ort("SkipLayerNormalization", *inputs, domain="com.microsoft", epsilon=1e-3, outputs=1)
        got = linnet("SkipLayerNormalization", *inputs, domain="com.microsoft", epsilon=1e-3, outputs=4)
        check(got[0], want[0], 1e-5, 1e-5)
        total = x + skip + (bias if len(inputs) == 5 else 0)
        check(got[3], total, 1e-6)
    for inputs in ([x, skip, gamma], [x, skip, gamma, bias]):
        want = ort("SkipSimplifiedLayerNormalization", *inputs, domain="com.microsoft", epsilon=1e-3)
        got = linnet("SkipSimplifiedLayerNormalization", *inputs, domain="com.microsoft", epsilon=1e-3)
        check(got[0], want[0], 1e-5, 1e-5)


def test_embed_layer_norm() -> None:
    rng = np.random.default_rng(0)
    ids, segments = rng.integers(0, 20, (2, 5)).astype(np.int32), rng.integers(0, 2, (2, 5)).astype(np.int32)
    tables = [normal((n, 8), seed=i) for i, n in enumerate((20, 10, 2))]
    gamma, beta = normal((8,), seed=5), normal((8,), seed=6)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    inputs = [ids, segments, *tables, gamma, beta, mask]
    want = ort("EmbedLayerNormalization", *inputs, domain="com.microsoft", outputs=2)
    got = linnet("EmbedLayerNormalization", *inputs, domain="com.microsoft", outputs=2)
    check(got[0], want[0], 1e-5, 1e-5)
    check(got[1], want[1])


def pattern_model(nodes: list[Any], constants: dict[str, Any], opset: int) -> onnx.ModelProto:
    made = [helper.make_node(op, inputs, [output], **more) for op, inputs, output, more in nodes]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 7, 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


AXES = {"axes": [-1], "keepdims": 1}
START = [
    ("ReduceMean", ["x"], "m", AXES),
    ("Sub", ["x", "m"], "d", {}),
    ("Pow", ["d", "two"], "q", {}),
    ("ReduceMean", ["q"], "v", AXES),
    ("Add", ["v", "eps"], "e", {}),
    ("Sqrt", ["e"], "s", {}),
]
POWER = [
    ("Mul", ["x", "x"], "q", {}),
    ("ReduceMean", ["q"], "v", AXES),
    ("Add", ["eps", "v"], "e", {}),
    ("Sqrt", ["e"], "s", {}),
]
PATTERNS = {
    "plain": [*START, ("Div", ["d", "s"], "n", {}), ("Mul", ["n", "gamma"], "g", {}), ("Add", ["g", "beta"], "y", {})],
    "no_bias": [*START, ("Div", ["d", "s"], "n", {}), ("Mul", ["gamma", "n"], "y", {})],
    "bare": [*START, ("Div", ["d", "s"], "y", {})],
    "reciprocal": [
        *START,
        ("Reciprocal", ["s"], "r", {}),
        ("Mul", ["r", "d"], "n", {}),
        ("Mul", ["n", "gamma"], "g", {}),
        ("Add", ["beta", "g"], "y", {}),
    ],
    "two_subs": [
        *START,
        ("Sub", ["x", "m"], "d2", {}),
        ("Div", ["d2", "s"], "n", {}),
        ("Mul", ["n", "gamma"], "g", {}),
        ("Add", ["beta", "g"], "y", {}),
    ],
    "folded": [
        *START,
        ("Reciprocal", ["s"], "r", {}),
        ("Mul", ["r", "gamma"], "f", {}),
        ("Mul", ["x", "f"], "a", {}),
        ("Mul", ["m", "f"], "b", {}),
        ("Sub", ["beta", "b"], "c", {}),
        ("Add", ["a", "c"], "y", {}),
    ],
    "rms": [*POWER, ("Div", ["x", "s"], "n", {}), ("Mul", ["gamma", "n"], "y", {})],
    "rms_reciprocal": [
        *POWER,
        ("Reciprocal", ["s"], "r", {}),
        ("Mul", ["x", "r"], "n", {}),
        ("Mul", ["gamma", "n"], "y", {}),
    ],
    "wide_gamma": [*START, ("Div", ["d", "s"], "n", {}), ("Mul", ["n", "wide"], "y", {})],
    "softmax": [
        ("ReduceMax", ["x"], "m", AXES),
        ("Sub", ["x", "m"], "d", {}),
        ("Exp", ["d"], "e", {}),
        ("ReduceSum", ["e", "last"], "s", {}),
        ("Div", ["e", "s"], "y", {}),
    ],
}


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_keep_their_meaning(name: str) -> None:
    constants = {
        "two": np.float32(2),
        "eps": np.float32(1e-3),
        "gamma": normal((24,), seed=1),
        "beta": normal((24,), seed=2),
        "wide": normal((7, 24), seed=3),
        "last": np.array([-1], np.int64),
    }
    model = pattern_model(PATTERNS[name], constants, 17)
    x = normal((3, 7, 24))
    want = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})[0]
    session = InferenceSession(model.SerializeToString())
    check(session.run(None, {"x": x})[0], want, 1e-5, 1e-5)
    wanted = "Softmax(" if name == "softmax" else "RMSNormalization(" if "rms" in name else "LayerNormalization("
    assert wanted in session.dump() and "Reduce" not in session.dump()
