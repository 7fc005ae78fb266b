"""MaxRoiPool and RoiAlign: boxes of an image, against onnxruntime and formulas."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from linnet import InferenceSession, InvalidArgument, RuntimeException
from one_node import check, linnet, model_of, ort


def some_rois(source: np.random.Generator, count: int, images: int, size: float) -> np.ndarray:
    """Batch index, x1, y1, x2, y2: partly outside of the image, some turned around."""
    corners = source.uniform(-size / 3, size * 1.3, (count, 4))
    return np.concatenate([source.integers(0, images, (count, 1)), corners], 1).astype(np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_max_roi_pool(seed: int) -> None:
    source = np.random.default_rng(seed)
    x = source.standard_normal((3, 2, int(source.integers(1, 14)), int(source.integers(1, 14)))).astype(np.float32)
    rois = some_rois(source, 7, 3, 14)
    options: dict[str, Any] = {"pooled_shape": source.integers(1, 7, 2).tolist()}
    if seed % 3:
        options["spatial_scale"] = float(source.choice([0.25, 0.5, 1.7]))
    want = ort("MaxRoiPool", x, rois, opset=21, **options)[0]
    for opset in (6, 21, 22):
        check(linnet("MaxRoiPool", x, rois, opset=opset, symbolic=seed % 2 == 0, **options)[0], want)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_max_roi_pool_types(dtype: Any) -> None:
    source = np.random.default_rng(1)
    x = source.standard_normal((2, 3, 9, 8)).astype(dtype)
    rois = np.array([[0, 1, 2, 6, 5], [1, -4, 0, 20, 3]], dtype)
    got = linnet("MaxRoiPool", x, rois, opset=22, pooled_shape=[2, 3])[0]
    wide = ort("MaxRoiPool", x.astype(np.float32), rois.astype(np.float32), opset=21, pooled_shape=[2, 3])[0]
    check(got.astype(np.float32), wide.astype(dtype).astype(np.float32), 1e-7)
    assert got.dtype == dtype
    assert np.isin(got, [*x.ravel(), 0]).all()  # elements of x, without rounding


def test_max_roi_pool_bins_outside_are_zero() -> None:
    x = np.full((1, 1, 4, 4), -2, np.float32)
    rois = np.array([[0, 10, 10, 12, 12], [0, -9, -9, -5, -5], [0, 0, 0, 3, 3], [0, 3, 3, 0, 0]], np.float32)
    y = linnet("MaxRoiPool", x, rois, pooled_shape=[2, 2])[0]
    assert (y[:2] == 0).all()
    assert (y[2] == -2).all()
    assert (y[3] == -2).all()  # a region turned around is one pixel
    empty = linnet("MaxRoiPool", x[:, :, :0], rois, pooled_shape=[2, 2])[0]
    assert empty.shape == (4, 1, 2, 2) and (empty == 0).all()
    none = linnet("MaxRoiPool", x, rois[:0], pooled_shape=[3, 2])[0]
    assert none.shape == (0, 1, 3, 2)


def test_max_roi_pool_keeps_nan() -> None:
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 0, 0] = np.nan
    y = linnet("MaxRoiPool", x, np.array([[0, 0, 0, 3, 3]], np.float32), pooled_shape=[2, 2])[0]
    np.testing.assert_array_equal(np.isnan(y[0, 0]), [[True, False], [False, False]])


def test_max_roi_pool_huge_region() -> None:
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    y = linnet("MaxRoiPool", x, np.array([[0, 0, 0, 1e30, 1e30]], np.float32), pooled_shape=[2, 2])[0]
    np.testing.assert_array_equal(y[0, 0], [[15, 0], [0, 0]])
    y = linnet("MaxRoiPool", x, np.array([[0, -1e30, -1e30, 1e30, 1e30]], np.float32), pooled_shape=[1, 1])[0]
    np.testing.assert_array_equal(y[0, 0], [[15]])


@pytest.mark.parametrize(
    ("roi", "text"),
    [
        ([2, 0, 0, 1, 1], "roi 1 is of image 2, there are 2"),
        ([-1, 0, 0, 1, 1], "image -1"),
        ([1e20, 0, 0, 1, 1], "image 1e\\+20"),
        ([np.nan, 0, 0, 1, 1], "image -?nan"),
        ([0, np.nan, 0, 1, 1], "a region from -?nan to 1"),
        ([0, 0, 0, np.inf, 1], "a region from 0 to inf"),
        ([0, 0, -3e38, 1, 3e38], "a region from -3e\\+38"),
    ],
)
def test_max_roi_pool_bad_regions(roi: list[float], text: str) -> None:
    x = np.ones((2, 3, 4, 4), np.float32)
    rois = np.array([[0, 0, 0, 1, 1], roi], np.float32)
    session = InferenceSession(model_of("MaxRoiPool", [x, rois], pooled_shape=[2, 2]).SerializeToString())
    with pytest.raises((InvalidArgument, RuntimeException), match=text):
        session.run(None, {"x0": x, "x1": rois})
    session.run(None, {"x0": x, "x1": rois[[0, 0]]})


@pytest.mark.parametrize(
    ("options", "shape", "text"),
    [
        ({}, (1, 5), "pooled_shape has 0 sizes"),
        ({"pooled_shape": [2]}, (1, 5), "pooled_shape has 1 sizes"),
        ({"pooled_shape": [0, 2]}, (1, 5), "pooled_shape has a size of 0"),
        ({"pooled_shape": [2, 2**40]}, (1, 5), "pooled_shape has a size of"),
        ({"pooled_shape": [2, 2]}, (1, 4), "N x 5"),
        ({"pooled_shape": [2, 2]}, (5,), "N x 5"),
    ],
)
def test_max_roi_pool_bad_models(options: dict[str, Any], shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(Exception, match=text):
        linnet("MaxRoiPool", np.ones((1, 1, 2, 2), np.float32), np.ones(shape, np.float32), **options)
