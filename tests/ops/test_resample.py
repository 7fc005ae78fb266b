"""Resize, GridSample and RoiAlign with random options, against onnxruntime and the ONNX reference evaluator.

Either may lack or misread an option: a result must be that of one that answers, and so of both where they agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from one_node import linnet, ort, reference

Options = dict[str, Any]


def answer(run: Callable[..., list[Any]], op: str, inputs: list[Any], **more: Any) -> Any:
    try:
        return np.asarray(run(op, *inputs, **more)[0])
    except Exception:  # an option that this runtime does not have
        return None


def same(a: Any, b: Any) -> bool:
    return a is not None and a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True)


def agrees(op: str, inputs: list[Any], judges: tuple[Callable[..., list[Any]], ...], **more: Any) -> None:
    got = linnet(op, *inputs, **more)[0]
    answers = [answer(judge, op, inputs, **more) for judge in judges]
    assert any(a is not None for a in answers), (op, more)
    shown = [got.shape, *(None if a is None else a.shape for a in answers)]
    assert any(same(a, got) for a in answers), (op, [getattr(x, "shape", None) for x in inputs], more, shown)


@pytest.mark.parametrize("seed", range(40))
def test_grid_sample(seed: int) -> None:
    source = np.random.default_rng(seed)
    spatial = 3 if seed % 3 == 0 else 2
    opset = int(source.choice([20, 22])) if spatial == 3 else int(source.choice([16, 20, 22]))
    modes = ["bilinear", "nearest", "bicubic"] if opset == 16 else ["linear", "nearest", "cubic"]
    options: Options = {
        "mode": str(source.choice(modes[:2] if spatial == 3 else modes)),
        "padding_mode": str(source.choice(["zeros", "border", "reflection"])),
        "align_corners": int(source.integers(0, 2)),
    }
    size, out = source.integers(1, 8, spatial).tolist(), source.integers(1, 5, spatial).tolist()
    x = source.standard_normal((2, 3, *size)).astype(np.float32)
    grid = source.uniform(-2.5, 2.5, (2, *out, spatial)).astype(np.float32)
    if seed % 5 == 0:
        grid = np.round(grid * 2) / 2  # on the edges
    agrees("GridSample", [x, grid], (ort, reference), opset=opset, **options)


@pytest.mark.parametrize("seed", range(40))
def test_roi_align(seed: int) -> None:
    source = np.random.default_rng(seed)
    size = source.integers(1, 12, 2).tolist()
    x = source.standard_normal((2, 3, *size)).astype(np.float32)
    corner = source.uniform(-3, 9, (5, 2))
    rois = np.concatenate([corner, corner + source.uniform(-1, 9, (5, 2))], 1).astype(np.float32)
    opset = int(source.choice([10, 16, 22]))
    options: Options = {
        "mode": ["avg", "max"][seed % 2],
        "output_height": int(source.integers(1, 5)),
        "output_width": int(source.integers(1, 5)),
        "sampling_ratio": int(source.integers(0, 4)),
        "spatial_scale": float(source.choice([1, 0.5, 1.3])),
    }
    if opset >= 16 and seed % 5:
        options["coordinate_transformation_mode"] = str(source.choice(["half_pixel", "output_half_pixel"]))
    agrees("RoiAlign", [x, rois, source.integers(0, 2, 5)], (ort, reference), opset=opset, **options)


def resize_case(seed: int) -> tuple[list[Any], Options]:
    """Inputs and options, opset among them. Linear and cubic resizing is of two axes, all that onnxruntime has."""
    source = np.random.default_rng(seed)
    opset = int(source.choice([10, 11, 13, 18, 19]))
    mode = str(source.choice(["nearest", "linear"] if opset == 10 else ["nearest", "linear", "cubic"]))
    rank = 4 if opset == 10 or mode == "cubic" else int(source.choice([2, 3, 4]))
    shape = source.integers(1, 8, rank).tolist()
    x = source.standard_normal(shape).astype(np.float32)
    scales = source.choice([0.3, 0.5, 0.8, 1, 1.3, 2, 2.5, 3.1], rank).astype(np.float32)
    if mode != "nearest":
        scales[:-2] = 1
    if opset == 10:
        return [x, scales], {"opset": opset, "mode": mode}
    options: Options = {"opset": opset, "mode": mode}
    ways = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize"]
    ways += ["tf_half_pixel_for_nn"] * (opset == 11) + ["half_pixel_symmetric"] * (opset >= 19)
    way = options["coordinate_transformation_mode"] = str(source.choice(ways))
    if mode == "nearest":
        options["nearest_mode"] = str(source.choice(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]))
    if mode == "cubic":
        options["cubic_coeff_a"] = float(source.choice([-0.5, -0.75]))
        options["exclude_outside"] = int(source.integers(0, 2))
    if opset >= 18 and mode != "nearest":
        options["antialias"] = int(source.integers(0, 2))
        # onnxruntime's antialias copies an axis whose size stays, whatever its scale.
        scales = np.where(np.isin(scales, np.array([0.8, 1.3], np.float32)), np.float32(2.5), scales)
    axes = list(range(rank))
    if opset >= 18 and source.random() < 0.5:
        axes = axes[-2:]
        options["axes"] = [a - rank for a in axes] if source.random() < 0.3 else axes
    roi = np.zeros(0, np.float32) if opset == 11 else None
    sizes = np.array([shape[a] if mode != "nearest" and a < rank - 2 else int(source.integers(1, 10)) for a in axes])
    if way == "tf_crop_and_resize":
        start = source.uniform(-0.2, 0.4, len(axes))
        end = start + source.uniform(0.3, 0.9, len(axes))
        start[:-2], end[:-2] = 0, 1
        roi = np.concatenate([start, end]).astype(np.float32)
        # onnxruntime does not crop an axis whose size stays.
        sizes = np.where((sizes == np.array(shape)[axes]) & (np.array(axes) >= rank - 2), sizes + 1, sizes)
        options["extrapolation_value"] = float(source.choice([0, 7]))
        return [x, roi, np.zeros(0, np.float32) if opset == 11 else None, sizes], options
    if source.random() < 0.5:
        return [x, roi, scales[axes]], options
    if opset >= 18 and max(shape) > 1 and source.random() < 0.5:
        options["keep_aspect_ratio_policy"] = str(source.choice(["stretch", "not_larger", "not_smaller"]))
    return [x, roi, np.zeros(0, np.float32) if opset == 11 else None, sizes], options


@pytest.mark.parametrize("seed", range(300))
def test_resize(seed: int) -> None:
    inputs, options = resize_case(seed)
    agrees("Resize", inputs, (ort, reference), **options)


def test_scales_are_of_the_whole_axis_when_it_is_cropped() -> None:
    x = np.arange(10, dtype=np.float32).reshape(1, 1, 2, 5)
    roi = np.array([0, 0, 0, 0.25, 1, 1, 1, 0.75], np.float32)
    scales = np.array([1, 1, 1, 0.8], np.float32)
    options: Options = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "opset": 13}
    got = linnet("Resize", x, roi, scales, **options)[0]
    want = np.linspace(1, 3, 4)
    np.testing.assert_allclose(got[0, 0], [want, want + 5], rtol=1e-6)
    assert reference("Resize", x, roi, scales, **options)[0].shape == got.shape
