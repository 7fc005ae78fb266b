"""Real models on labelled data: bytes lose at most 0.3 points, and onnxruntime gives the same answers."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import linnet
from linnet.compress import quantize
from linnet.demo._data import MODEL, held_out, model_input

ROOT = Path(__file__).resolve().parents[2]
ASSETS = Path(os.environ.get("LINNET_TEST_ASSETS", ROOT.parent / "shared" / "assets"))
ZOO = Path(os.environ.get("LINNET_ZOO", ROOT / "zoo"))
CAPTCHA = "BoxFactura__sat-captcha-ai-model"
MNIST = "frej-dahlin__aesia/examples/data/mnist"

Asset = Callable[[str], Path]


@pytest.fixture
def asset() -> Asset:
    """``asset(relative path)``: that file of the assets; skips the test where it is absent."""

    def find(relative: str) -> Path:
        path = ASSETS / relative
        if not path.exists():
            pytest.skip(f"{relative} is not in {ASSETS} (set LINNET_TEST_ASSETS)")
        return path

    return find


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
    images = np.frombuffer(
        gzip.decompress(asset(f"{MNIST}/t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16
    )
    labels = np.frombuffer(
        gzip.decompress(asset(f"{MNIST}/t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8
    )
    shape = [d if isinstance(d, int) else 1 for d in linnet.InferenceSession(asset(file)).get_inputs()[0].shape]
    pictures = ((images.reshape(-1, 784) / scale - mean) / deviation).astype(np.float32)
    count = 2000
    test = [p.reshape(shape) for p in pictures[:count]]
    train = [p.reshape(shape) for p in pictures[9000:9200]]
    done = quantize(asset(file), train, method=method, labels=labels[:count], evaluation_data=test)
    assert all(layer.quantized for layer in done.layers)
    assert done.metrics[0] is not None
    assert done.metrics[1] is not None
    assert done.metrics[1] >= done.metrics[0] - 0.003


def decode(scores: Any, alphabet: str) -> list[str]:
    """Greedy CTC: scores [n, time, classes], the blank last -> n strings."""
    texts = []
    for best in scores.argmax(-1):
        changes = best[np.insert(best[1:] != best[:-1], 0, True)]
        texts.append("".join(alphabet[c] for c in changes if c < len(alphabet)))
    return texts


def test_captchas_are_read(asset: Asset) -> None:
    """Convolutions, LeakyRelu, an LSTM and CTC; ranges from 100 pictures, tested on 400 others."""
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    path, archive = asset(f"{CAPTCHA}/model/model.onnx"), asset(f"{CAPTCHA}/dataset_10117_png.tar.gz")
    labels, pictures = [], []
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(".png") else None
            if file is not None and len(labels) < 500:
                labels.append(Path(member.name).stem)
                pictures.append(np.asarray(image.open(io.BytesIO(file.read())).convert("RGB"), np.float32))
    config = asset(f"{CAPTCHA}/model/configs.yaml").read_text()
    (alphabet,) = [line.split()[1] for line in config.splitlines() if line.startswith("vocab:")]

    def right(run: Any) -> float:
        total = 0
        for start in range(100, 500, 50):
            scores = run({"input": np.stack(pictures[start : start + 50])})[0]
            total += sum(a == b for a, b in zip(decode(scores, alphabet), labels[start : start + 50], strict=True))
        return total / 400

    done = quantize(path, [p[None] for p in pictures[:100]], method="percentile", metric=right)
    assert all(layer.quantized for layer in done.layers)
    assert done.metrics[0] is not None
    assert done.metrics[1] is not None
    assert done.metrics[0] >= 0.98
    assert done.metrics[1] >= done.metrics[0] - 0.003
    theirs = other(done.model)
    assert abs(right(lambda feeds: theirs.run(None, feeds)) - done.metrics[1]) <= 0.005


@pytest.mark.parametrize(
    ("name", "least"), [("resnet18", 25.0), ("mobilenetv2", 10.0), ("resnet50", 15.0), ("vit_small", 20.0)]
)
def test_zoo_models_keep_their_outputs(name: str, least: float) -> None:
    path = ZOO / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is absent (set LINNET_ZOO)")
    rng = np.random.default_rng(0)
    (given,) = linnet.InferenceSession(path).get_inputs()
    shape = [d if isinstance(d, int) else 1 for d in given.shape]
    data = [rng.standard_normal(shape).astype(np.float32) for _ in range(4)]
    done = quantize(path, data, metric="sqnr")
    assert all(layer.quantized for layer in done.layers)
    assert done.metrics[1] is not None
    assert done.metrics[1] > least
    own, theirs = linnet.InferenceSession(done.model.SerializeToString()), other(done.model)
    for x in data[:2]:
        a, b = (s.run(None, {given.name: x})[0] for s in (own, theirs))
        assert np.abs(a - b).max() < 0.1 * np.abs(b).max()
