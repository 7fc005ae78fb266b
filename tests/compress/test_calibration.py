"""Statistics gathered in the core are numpy's; ranges are what their methods promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

import linnet
from float_models import model
from linnet import _core


def calibrator(axes: dict[str, int] | None = None, values: list[str] | None = None) -> _core.Calibrator:
    """Of a model that doubles its input: values ``x`` and ``y``."""
    made = model([helper.make_node("Add", ["x", "x"], ["y"])], {}, {"x": ["n", "c", "w"]}, {"y": ["n", "c", "w"]})
    names = values or ["x", "y"]
    options = _core.SessionOptions()
    options.extra_outputs = names
    return _core.Calibrator(_core.Session.from_bytes(made.SerializeToString(), options), names, axes or {})


def calibrated(*arrays: Any) -> _core.Calibrator:
    made = calibrator()
    for array in arrays:
        made.add({"x": np.asarray(array, np.float32).reshape(1, 1, -1)})
    return made


def test_statistics_are_numpys() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, 3, 50)).astype(np.float32) * 4.0**k for k in range(5)]
    arrays[2][:, 1] = 0
    made = calibrator({"x": 1, "y": -1})
    for array in arrays:
        made.add({"x": array})
    assert made.samples == 5
    x, y = made.statistics()["x"], made.statistics()["y"]
    everything = np.stack(arrays)
    assert x["count"] == everything.size
    assert (x["min"], x["max"]) == (everything.min(), everything.max())
    assert (y["min"], y["max"]) == (2 * everything.min(), 2 * everything.max())
    assert x["zeros"] == np.count_nonzero(everything == 0)
    np.testing.assert_array_equal(x["channel_min"], everything.min((0, 1, 3)))
    np.testing.assert_array_equal(x["channel_max"], everything.max((0, 1, 3)))
    np.testing.assert_allclose(x["channel_sum"], everything.sum((0, 1, 3), dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(y["channel_sum"], 2 * everything.sum((0, 1, 2), dtype=np.float64), rtol=1e-5)
    assert y["channel_sum"].shape == (50,)


def test_histogram_counts_every_element_while_it_grows() -> None:
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(1000) * scale for scale in (0.01, 1, 0.1, 300, 2)]
    x = calibrated(*arrays).statistics()["x"]
    everything = np.concatenate(arrays).astype(np.float32)
    counts = x["histogram"]
    assert counts.shape == (2048,)
    assert counts.sum() + x["zeros"] == everything.size
    assert x["low"] <= everything.min()
    assert x["high"] >= everything.max()
    edges = np.linspace(x["low"], x["high"], 2049)
    width = edges[1] - edges[0]
    for edge in range(0, 2048, 64):  # elements within a rounding error of an edge may lie on either side of it
        near = np.count_nonzero(np.abs(everything - edges[edge]) < 1e-4 * width)
        assert abs(int(counts[:edge].sum()) - np.count_nonzero(everything < edges[edge])) <= near
    # At least half of the bins lie within what was seen.
    assert (x["high"] - x["low"]) < 4 * (everything.max() - everything.min())


def test_range_of_all_that_was_seen() -> None:
    made = calibrated([0.5, 3], [-2, 1])
    assert made.range("x", "minmax") == (-2, 3)
    assert made.range("x", "minmax", symmetric=True) == (-3, 3)
    assert calibrated([2, 5]).range("x", "minmax") == (0, 5)  # a quantizer's range has 0 in it
    assert calibrated([-5, -2]).range("x", "minmax") == (-5, 0)


def test_range_by_percentile() -> None:
    x = np.random.default_rng(2).standard_normal(20000)
    low, high = calibrated(x[:10000], x[10000:]).range("x", "percentile", percentile=99)
    expected = np.percentile(x, [0.5, 99.5])
    assert low == pytest.approx(expected[0], abs=0.02)
    assert high == pytest.approx(expected[1], abs=0.02)
    positive = np.maximum(x, 0)
    low, high = calibrated(positive).range("x", "percentile", percentile=99)
    assert low == 0
    assert high == pytest.approx(np.percentile(positive, 99.5), abs=0.02)
    assert calibrated(x).range("x", "percentile", percentile=100) == calibrated(x).range("x", "minmax")


def rounded(x: Any, low: float, high: float) -> Any:
    scale = (high - low) / 255
    return np.clip(np.rint(x / scale), np.rint(low / scale), np.rint(high / scale)) * scale


@pytest.mark.parametrize("kind", ["normal", "heavy", "rectified"])
def test_range_of_least_squared_error(kind: str) -> None:
    rng = np.random.default_rng(3)
    x = {
        "normal": rng.standard_normal(30000),
        "heavy": rng.standard_t(3, 30000),
        "rectified": np.maximum(rng.standard_t(4, 30000), 0),
    }[kind].astype(np.float32)
    low, high = calibrated(x).range("x", "mse")

    def error(a: float, b: float) -> float:
        return float(np.square(rounded(x, a, b) - x).mean())

    shares = np.linspace(0.02, 1, 50)
    best = min(error(x.min() * a, x.max() * b) for a in shares for b in shares if x.min() * a < x.max() * b)
    assert error(low, high) <= 1.1 * best
    assert error(low, high) <= error(min(0, x.min()), x.max())


def test_range_of_least_divergence_leaves_outliers_out() -> None:
    x = np.append(np.random.default_rng(4).standard_normal(50000), [80.0])
    low, high = calibrated(x).range("x", "entropy")
    assert 2 < high < 40
    assert low >= -5
    plain = np.random.default_rng(5).uniform(-1, 1, 50000)
    low, high = calibrated(plain).range("x", "entropy")
    assert low < -0.9
    assert high > 0.9


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
@pytest.mark.parametrize("value", [0.0, 2.5, -3.0, 1e-30])
def test_constant_values_have_a_range(method: str, value: float) -> None:
    low, high = calibrated(np.full(100, value)).range("x", method)
    assert low <= 0 <= high
    assert low == pytest.approx(min(value, 0.0), rel=0.01)
    assert high == pytest.approx(max(value, 0.0), rel=0.01)


def test_what_is_not_finite_is_refused_and_not_counted() -> None:
    made = calibrated([1, 2])
    for strange in (np.nan, np.inf, -np.inf):
        with pytest.raises(linnet.InvalidArgument, match="'x': 1 of 2 elements are NaN or infinite"):
            made.add({"x": np.array([[[1, strange]]], np.float32)})
    assert made.samples == 1
    assert made.statistics()["x"]["count"] == 2


def test_errors_name_the_value() -> None:
    with pytest.raises(linnet.InvalidArgument, match="no value 'z'"):
        calibrator(values=["z"])
    made = calibrated([1])
    with pytest.raises(linnet.InvalidArgument, match="'z' is not among"):
        made.range("z", "minmax")
    with pytest.raises(linnet.InvalidArgument, match="choose minmax, percentile, entropy or mse"):
        made.range("x", "magic")
    with pytest.raises(linnet.InvalidArgument, match="percentile"):
        made.range("x", "percentile", percentile=30)
    with pytest.raises(linnet.InvalidArgument, match="no axis 5"):
        calibrator({"x": 5}).add({"x": np.ones((1, 1, 2), np.float32)})


def test_noise_is_numpys() -> None:
    def session(factor: float) -> _core.Session:
        nodes = [helper.make_node("Mul", ["x", "k"], ["m"]), helper.make_node("Relu", ["m"], ["y"])]
        made = model(nodes, {"k": np.float32(factor)}, {"x": ["n"]}, {"y": ["n"]})
        options = _core.SessionOptions()
        options.extra_outputs = ["m"]
        return _core.Session.from_bytes(made.SerializeToString(), options)

    meter = _core.NoiseMeter(session(2), session(2.5), ["m", "y"])
    arrays = [np.random.default_rng(k).standard_normal(40).astype(np.float32) for k in range(3)]
    for array in arrays:
        meter.add({"x": array})
    x = np.concatenate(arrays).astype(np.float64)
    signal, noise = meter.noise()["m"]
    assert signal == pytest.approx(np.square(2 * x).sum())
    assert noise == pytest.approx(np.square(0.5 * x).sum())
    assert meter.noise()["y"][0] == pytest.approx(np.square(np.maximum(2 * x, 0)).sum())
