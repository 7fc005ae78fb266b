"""Operators that draw random numbers, compared in distribution: mean, variance, Kolmogorov and Smirnov's distance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from linnet import _core

COUNT = 100_000  # draws: five standard errors of a mean are 1.6 % of a deviation
DTYPES = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
}


def draw(op: str, *inputs: Any, threads: int = 2, outputs: int = 1, opset: int = 22, **attributes: Any) -> list[Any]:
    names = [f"x{i}" for i in range(len(inputs))]
    results = [f"y{i}" for i in range(outputs)]
    given = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in zip(names, inputs, strict=True)
    ]
    out = [helper.make_empty_tensor_value_info(r) for r in results]
    for o in out:
        o.ClearField("type")
    graph = helper.make_graph([helper.make_node(op, names, results, **attributes)], "g", given, out)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    options = _core.SessionOptions()
    options.threads = threads
    return list(_core.Session.from_bytes(model.SerializeToString(), options).run(dict(zip(names, inputs, strict=True))))


def distance(values: Any, cdf: Callable[[Any], Any]) -> float:
    """Kolmogorov and Smirnov's: the largest difference of the empirical from the true distribution function."""
    values = np.sort(values.astype(np.float64))
    want = cdf(values)
    steps = np.arange(1, values.size + 1) / values.size
    return float(max(np.max(steps - want), np.max(want - (steps - 1 / values.size))))


def limit(n: int) -> float:
    """What the distance passes once in about 1e6 times."""
    return math.sqrt(-0.5 * math.log(0.5e-6) / n)


def uniform_cdf(low: float, high: float) -> Callable[[Any], Any]:
    return lambda v: np.clip((v - low) / (high - low), 0, 1)


def normal_cdf(mean: float, scale: float) -> Callable[[Any], Any]:
    return lambda v: 0.5 * (1 + np.array([math.erf(x) for x in (v - mean) / (scale * math.sqrt(2))]))


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("like", [False, True])
def test_uniform_and_normal(dtype: int, like: bool) -> None:
    shape = (100, COUNT // 100)
    where: dict[str, Any] = {} if like else {"shape": shape}
    inputs = [np.zeros(shape, np.float32)] if like else []
    coarse = dtype in (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    suffix = "Like" if like else ""
    for name, attributes, mean, deviation, cdf in [
        ("RandomUniform", {}, 0.5, math.sqrt(1 / 12), uniform_cdf(0, 1)),
        ("RandomUniform", {"low": -2.0, "high": 6.0}, 2, 8 * math.sqrt(1 / 12), uniform_cdf(-2, 6)),
        ("RandomNormal", {}, 0, 1, normal_cdf(0, 1)),
        ("RandomNormal", {"mean": 3.0, "scale": 0.5}, 3, 0.5, normal_cdf(3, 0.5)),
    ]:
        y = draw(name + suffix, *inputs, dtype=dtype, seed=7.0, **where, **attributes)[0]
        assert y.dtype == DTYPES[dtype] and y.shape == shape
        v = y.astype(np.float64).ravel()
        assert abs(v.mean() - mean) < 5 * deviation / math.sqrt(COUNT) + (0.01 * deviation if coarse else 0)
        assert abs(v.std() / deviation - 1) < 0.02
        if not coarse:  # rounding to few digits moves steps of the distribution
            assert distance(v, cdf) < limit(COUNT)
            assert abs(np.corrcoef(v[1:], v[:-1])[0, 1]) < 5 / math.sqrt(COUNT)
        if name == "RandomUniform":
            low, high = attributes.get("low", 0), attributes.get("high", 1)
            assert v.min() >= low and (v.max() < high or coarse)


SEEDED = [
    ("RandomUniform", [], {"shape": [5000]}),
    ("RandomNormal", [], {"shape": [5000]}),
    ("RandomUniformLike", [np.zeros(5000, np.float32)], {}),
    ("RandomNormalLike", [np.zeros(5000, np.float32)], {}),
    ("Bernoulli", [np.full(5000, 0.4, np.float32)], {}),
    ("Multinomial", [np.zeros((5, 30), np.float32)], {"sample_size": 1000}),
]


@pytest.mark.parametrize(("op", "inputs", "attributes"), SEEDED, ids=[s[0] for s in SEEDED])
def test_seeds(op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    """One seed: the same numbers, with any number of threads; another, or none: others."""
    first = draw(op, *inputs, threads=1, seed=3.0, **attributes)[0]
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(draw(op, *inputs, threads=threads, seed=3.0, **attributes)[0], first)
    assert np.any(draw(op, *inputs, seed=4.0, **attributes)[0] != first)
    free = [draw(op, *inputs, **attributes)[0] for _ in range(2)]
    assert np.any(free[0] != free[1])


@pytest.mark.parametrize("dtype", [None, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.BOOL])
@pytest.mark.parametrize("given", [np.float32, np.float64, np.float16])
def test_bernoulli(dtype: int | None, given: Any) -> None:
    """Each probability by itself: 0 and 1 are certain."""
    p = np.repeat(np.array([0, 0.1, 0.5, 0.9, 1], given)[:, None], COUNT // 5, 1)
    more = {} if dtype is None else {"dtype": dtype}
    y = draw("Bernoulli", p, seed=1.0, **more)[0]
    assert y.shape == p.shape
    assert y.dtype == (given if dtype is None else helper.tensor_dtype_to_np_dtype(dtype))
    v = y.astype(np.float64)
    assert set(np.unique(v)) <= {0.0, 1.0}
    for row, q in zip(v, p[:, 0].astype(np.float64), strict=True):
        assert abs(row.mean() - q) <= 5 * math.sqrt(q * (1 - q) / row.size)


def test_bernoulli_as_the_suite_asks() -> None:
    """The suite's own inputs, many times over: the mean of the draws is the probability at each place."""
    p = np.random.default_rng(0).uniform(0, 1, 10)
    draws = np.stack([draw("Bernoulli", p, opset=15)[0] for _ in range(400)])
    assert draws.dtype == np.float64
    assert np.all(np.abs(draws.mean(0) - p) <= 5 * np.sqrt(p * (1 - p) / 400))


@pytest.mark.parametrize("dtype", [TensorProto.INT32, TensorProto.INT64])
def test_multinomial(dtype: int) -> None:
    """Pearson's statistic of the counts of each row; logarithms need not be normalized, -inf is never drawn."""
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((3, 7)).astype(np.float32) * 2 + 5
    logits[1, 2] = -np.inf
    y = draw("Multinomial", logits, sample_size=COUNT // 2, dtype=dtype, seed=5.0)[0]
    assert y.dtype == helper.tensor_dtype_to_np_dtype(dtype) and y.shape == (3, COUNT // 2)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(1, keepdims=True)
    for row, q in zip(y, p, strict=True):
        counts = np.bincount(row, minlength=7)
        assert np.all(counts[q == 0] == 0)
        want = q[q > 0] * row.size
        chi = float(np.sum((counts[q > 0] - want) ** 2 / want))
        assert chi < 40  # 6 degrees of freedom: once in 2e6 times


@pytest.mark.parametrize("given", [np.float32, np.float64, np.float16])
def test_dropout_in_training_mode(given: Any) -> None:
    x = np.ones(COUNT, given)
    for ratio in (0.1, 0.75):
        for seed in ({"seed": 3}, {}):
            y, mask = draw("Dropout", x, np.array(ratio, np.float32), np.array(True), outputs=2, opset=13, **seed)
            assert y.dtype == given and mask.dtype == np.bool_
            assert abs(mask.mean() - (1 - ratio)) < 5 * math.sqrt(ratio * (1 - ratio) / COUNT)
            np.testing.assert_allclose(y.astype(np.float64), mask / (1 - ratio), rtol=1e-3)
            assert abs(np.corrcoef(mask[1:], mask[:-1])[0, 1]) < 5 / math.sqrt(COUNT)
    runs = [
        draw("Dropout", x, np.array(0.5, np.float32), np.array(True), opset=13, threads=t, **seed)[0]
        for seed in ({"seed": 3}, {})
        for t in (1, 3)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.any(runs[2] != runs[3])
