"""Operators that pick or add elements at places which other inputs or attributes give, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from linnet import backend
from one_node import check, linnet, ort, reference


def normal(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_col2im(axes: int) -> None:
    rng = np.random.default_rng(axes)
    for _ in range(30):
        image, block = rng.integers(4, 20, axes), rng.integers(1, 4, axes)
        strides, dilations = rng.integers(1, 4, axes), rng.integers(1, 3, axes)
        pads = rng.integers(0, 3, 2 * axes)
        reach = dilations * (block - 1) + 1
        room = image + pads[:axes] + pads[axes:] - reach
        if (room < 0).any():
            continue
        places, taps = int(np.prod(room // strides + 1)), int(np.prod(block))
        x = rng.integers(-9, 9, (2, 3 * taps, places)).astype(np.float32)
        windows = {"strides": strides.tolist(), "dilations": dilations.tolist(), "pads": pads.tolist()}
        # onnxruntime leaves strides out along one and three axes.
        want = (ort if axes == 2 else reference)("Col2Im", x, image, block, **windows)[0]
        for dtype in (np.float32, np.float64, np.float16, np.int32, np.uint8):
            got = linnet("Col2Im", x.astype(dtype), image, block, constants=(1, 2), **windows)[0]
            check(got, want.astype(dtype))
        check(linnet("Col2Im", x, image, block, **windows)[0], want)  # sizes known late


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_max_unpool(dtype: Any) -> None:
    rng = np.random.default_rng(7)
    x = rng.permutation(2 * 3 * 6 * 9).reshape(2, 3, 6, 9).astype(np.float32)
    top, places = ort("MaxPool", x, outputs=2, kernel_shape=[2, 3], strides=[2, 3])
    window = {"kernel_shape": [2, 3], "strides": [2, 3]}
    want = ort("MaxUnpool", top, places, **window)[0]
    check(linnet("MaxUnpool", top.astype(dtype), places, **window)[0], want.astype(dtype))
    # Indices count in the tensor that was pooled: a larger output has zeros behind.
    larger = np.array([2, 3, 8, 10], np.int64)
    got = linnet("MaxUnpool", top.astype(dtype), places, larger, **window)[0]
    check(got, np.pad(want, ((0, 0), (0, 0), (0, 2), (0, 1))).astype(dtype))
    # Of elements for one place the last one stays.
    twice = linnet("MaxUnpool", np.array([[[1, 2]]], dtype), np.zeros((1, 1, 2), np.int64), kernel_shape=[2])[0]
    check(twice, np.array([[[2, 0, 0]]], dtype))


@pytest.mark.parametrize(
    ("groups", "offset_groups", "channels", "filters"), [(1, 1, 3, 5), (1, 2, 8, 64), (2, 1, 34, 6), (3, 3, 48, 33)]
)
@pytest.mark.parametrize("late", [False, True])
def test_deform_conv(groups: int, offset_groups: int, channels: int, filters: int, late: bool) -> None:
    rng = np.random.default_rng(channels)
    for kernel, stride, dilation, pad in (((3, 3), 1, 1, 1), ((1, 2), 2, 1, 0), ((3, 2), 1, 2, 2)):
        x = normal(rng, 2, channels, 9, 13)
        w = normal(rng, filters, channels // groups, *kernel)
        out = [(size + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for size, k in zip((9, 13), kernel, strict=True)]
        taps = kernel[0] * kernel[1] * offset_groups
        offset, mask = 3 * normal(rng, 2, 2 * taps, *out), normal(rng, 2, taps, *out)
        window: dict[str, Any] = {"pads": [pad] * 4, "strides": [stride] * 2, "dilations": [dilation] * 2}
        window |= {"group": groups, "offset_group": offset_groups}
        for bias, weights in ((normal(rng, filters), mask), (None, None)):
            inputs = [x, w, offset, bias, weights][: 5 if weights is not None else 3]
            want = ort("DeformConv", *inputs, **window)[0]
            constants = () if late else (1,)
            check(linnet("DeformConv", *inputs, constants=constants, **window)[0], want, 1e-4, 1e-4)
    halves = [None if v is None else v.astype(np.float16) for v in inputs]
    want = ort("DeformConv", *(None if v is None else v.astype(np.float32) for v in halves), **window)[0]
    check(linnet("DeformConv", *halves, **window)[0], want.astype(np.float16), absolute=5e-3)


@pytest.mark.parametrize("size", [(2, 3, 5, 7), (1, 1, 1, 1), (2, 1, 3, 4, 5), (1, 2, 1, 1, 9)])
@pytest.mark.parametrize("align", [0, 1])
def test_affine_grid(size: tuple[int, ...], align: int) -> None:
    theta = normal(np.random.default_rng(3), size[0], len(size) - 2, len(size) - 1)
    shape = np.array(size, np.int64)
    if min(size[2:]) > 1 or not align:  # onnxruntime divides by zero
        check(
            linnet("AffineGrid", theta, shape, align_corners=align)[0],
            ort("AffineGrid", theta, shape, align_corners=align)[0],
            1e-5,
        )
    else:
        assert np.isfinite(linnet("AffineGrid", theta, shape, align_corners=align)[0]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint8, np.int64, np.bool_])
def test_nearest(dtype: Any) -> None:
    x = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7).astype(dtype)
    for times in ((1, 1, 2, 2), (1, 1, 1, 2), (1, 1, 3, 1), (1, 1, 2, 3), (2, 2, 1, 2)):
        scales = np.array(times, np.float32)
        want = x
        for axis, n in enumerate(times):
            want = want.repeat(n, axis)
        floor = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        check(linnet("Resize", x, None, scales, constants=(2,), mode="nearest", **floor)[0], want)
    smaller = np.array([1, 1, 0.6, 0.5], np.float32)
    want = x[:, :, [0, 1, 3]][..., [0, 2, 4]]
    check(linnet("Resize", x, None, smaller, mode="nearest", **floor)[0], want)


def test_suppression_of_equal_and_odd_scores() -> None:
    boxes = np.array([[[i, i, i + 1, i + 1] for i in range(0, 200, 2)]], np.float32)
    scores = np.zeros((1, 3, 100), np.float32)
    scores[0, 0] = np.random.default_rng(0).integers(-2, 3, 100)
    scores[0, 1, ::2] = -0.0
    scores[0, 2, :50] = np.nan
    got = linnet("NonMaxSuppression", boxes, scores, np.array([60], np.int64), np.array([0.5], np.float32))[0]
    for group in range(2):  # no box overlaps another: a stable order of the scores
        want = np.argsort(-scores[0, group], kind="stable")[:60]
        assert (got[got[:, 1] == group, 2] == want).all()
    assert (got[got[:, 1] == 2, 2] == [*range(50, 100), *range(10)]).all()  # NaN last


def test_grid_sample_of_unknown_rank() -> None:
    rng = np.random.default_rng(5)
    x, grid = normal(rng, 2, 3, 5, 6), rng.uniform(-1.2, 1.2, (2, 4, 3, 2)).astype(np.float32)
    want = ort("GridSample", x, grid, mode="linear")[0]
    check(linnet("GridSample", x, grid, mode="linear")[0], want, 1e-5, 1e-5)
    given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [n]) for n in ("x", "g")]
    given += [helper.make_tensor_value_info(n, TensorProto.INT64, [n]) for n in ("xs", "gs")]
    nodes = [helper.make_node("Reshape", ["x", "xs"], ["a"]), helper.make_node("Reshape", ["g", "gs"], ["b"])]
    nodes.append(helper.make_node("GridSample", ["a", "b"], ["y"], mode="linear"))
    output = helper.make_empty_tensor_value_info("y")
    model = helper.make_model(
        helper.make_graph(nodes, "g", given, [output]), opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    )
    feeds = [x.ravel(), grid.ravel(), np.array(x.shape), np.array(grid.shape)]
    check(backend.prepare(model).run(feeds)[0], want, 1e-5, 1e-5)


@pytest.mark.parametrize("shape", [(17, 16), (16, 17), (33, 70), (2, 41), (41, 2), (5, 3, 41), (1, 64, 50)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.int64])
def test_transpose_tiles(shape: tuple[int, ...], dtype: Any) -> None:
    x = np.random.default_rng(1).integers(0, 255, shape).astype(dtype)
    perm = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    check(linnet("Transpose", x, perm=perm)[0], x.transpose(perm))
    picture = x.reshape(1, *x.shape[:-1], 1, x.shape[-1]) if len(shape) == 2 else x[None]
    for order in ((0, 2, 3, 1), (0, 3, 1, 2)):
        check(linnet("Transpose", picture, perm=list(order))[0], picture.transpose(order))
