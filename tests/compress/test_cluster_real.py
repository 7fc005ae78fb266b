"""Real models on labelled data: 16 shared values cost at most half a point, 256 next to nothing."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import linnet
from graphs import run_both, weights
from linnet.compress import cluster

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


@pytest.mark.parametrize(
    ("file", "scale", "mean", "deviation", "per"),
    [
        ("xboot__libonnx/tests/model/mnist_8/model.onnx", 1.0, 0.0, 1.0, "channel"),
        ("kraiskil__onnx2c/test/mnist/pytorch.onnx", 255.0, 0.0, 1.0, "tensor"),
        ("onnxruntime__onnxruntime-qnn/java/testdata/cnn_mnist_pytorch.onnx", 255.0, 0.1307, 0.3081, "tensor"),
    ],
    ids=["mnist_8", "dense", "cnn"],
)
@pytest.mark.parametrize("codes", [16, 256])
def test_mnist_digits_are_read(
    file: str, scale: float, mean: float, deviation: float, per: str, codes: int, asset: Asset
) -> None:
    images = gzip.decompress(asset(f"{MNIST}/t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress(asset(f"{MNIST}/t10k-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784)[:2000]
    wanted = np.frombuffer(labels, np.uint8, offset=8)[:2000]
    given = linnet.InferenceSession(asset(file)).get_inputs()[0]
    pictures = ((pixels / scale - mean) / deviation).astype(np.float32)
    samples = [p.reshape([d if isinstance(d, int) else 1 for d in given.shape]) for p in pictures]
    done = cluster(asset(file), codes=codes, per=per if codes == 16 else "tensor", data=samples, labels=wanted)
    before, after = (done.metric.measure(_run(m)) for m in (done.source, done.model))
    print(file, codes, before, after, asset(file).stat().st_size / done.model.ByteSize())
    assert before - after <= (0.005 if codes == 16 else 0.001) + 1e-9
    run_both(done.model, {given.name: samples[0]})


def _run(model: Any) -> Any:
    session = linnet.InferenceSession(model.SerializeToString())
    return lambda feeds: session.run(None, feeds)


def decode(scores: Any, alphabet: str) -> list[str]:
    """Greedy CTC: scores [n, time, classes], the blank last -> n strings."""
    texts = []
    for best in scores.argmax(-1):
        changes = best[np.insert(best[1:] != best[:-1], 0, True)]
        texts.append("".join(alphabet[c] for c in changes if c < len(alphabet)))
    return texts


def test_captchas_are_read(asset: Asset) -> None:
    """Convolutions and an LSTM; all characters of 400 captchas must be right."""
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    path, archive = asset(f"{CAPTCHA}/model/model.onnx"), asset(f"{CAPTCHA}/dataset_10117_png.tar.gz")
    labels: list[str] = []
    pictures = []
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(".png") else None
            if file is not None and len(labels) < 400:
                labels.append(Path(member.name).stem)
                pictures.append(np.asarray(image.open(io.BytesIO(file.read())).convert("RGB"), np.float32))
    config = asset(f"{CAPTCHA}/model/configs.yaml").read_text()
    (alphabet,) = [line.split()[1] for line in config.splitlines() if line.startswith("vocab:")]

    def right(run: Any) -> float:
        stacks = [np.stack(pictures[i : i + 50]) for i in range(0, 400, 50)]
        texts = [text for stack in stacks for text in decode(run({"input": stack})[0], alphabet)]
        return sum(text == label for text, label in zip(texts, labels, strict=True)) / 400

    source = linnet.InferenceSession(path)
    before = right(lambda feeds: source.run(None, feeds))
    assert before >= 0.98
    for codes, most, times in ((16, 0.005, 7.0), (256, 0.0, 3.5)):
        done = cluster(path, codes=codes)
        after = right(_run(done.model))
        print("captcha", codes, before, after, path.stat().st_size / done.model.ByteSize())
        assert before - after <= most + 1e-9
        assert path.stat().st_size / done.model.ByteSize() > times
        assert not any(name in weights(done.model) for name in ("W", "R"))


@pytest.mark.parametrize(
    ("name", "codes", "times"), [("mobilenetv2", 16, 7.0), ("mobilenetv2", 256, 3.5), ("minilm", 16, 7.0)]
)
def test_zoo_models_shrink(name: str, codes: int, times: float) -> None:
    path = ZOO / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is absent (set LINNET_ZOO)")
    done = cluster(path, codes=codes)
    assert path.stat().st_size / done.model.ByteSize() >= times
    assert "Gather" not in linnet.InferenceSession(done.model.SerializeToString()).dump("lower") or name == "minilm"
