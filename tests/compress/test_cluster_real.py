"""Real models on labelled data: 16 shared values cost at most half a point, 256 next to nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from assets import CAPTCHA_MODEL, ZOO, Asset, captchas, mnist_digits, read_captchas

import linnet
from graphs import run_both, weights
from linnet.compress import cluster


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
    images, labels = mnist_digits(asset)
    pixels, wanted = images[:2000].reshape(-1, 784), labels[:2000]
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


def test_captchas_are_read(asset: Asset) -> None:
    """Convolutions and an LSTM; all characters of 400 captchas must be right."""
    path = asset(CAPTCHA_MODEL)
    pictures, labels = captchas(asset, 400)

    def right(run: Any) -> float:
        texts = read_captchas(asset, run, pictures)
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
