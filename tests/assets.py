"""Pretrained models and labelled data: ``$LINNET_TEST_ASSETS``, by default ``../shared/assets`` beside the repository.

``Asset`` is the fixture ``asset`` of conftest.py: ``asset(relative path)`` is a file, or the test is skipped.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

ROOT = Path(__file__).resolve().parents[1]
ASSETS = Path(os.environ.get("LINNET_TEST_ASSETS", ROOT.parent / "shared" / "assets"))
ZOO = Path(os.environ.get("LINNET_ZOO", ROOT / "zoo"))
CAPTCHA = "BoxFactura__sat-captcha-ai-model"
CAPTCHA_MODEL = f"{CAPTCHA}/model/model.onnx"
MNIST = "frej-dahlin__aesia/examples/data/mnist"

Asset = Callable[[str], Path]


def captchas(asset: Asset, count: int) -> tuple[npt.NDArray[np.float32], list[str]]:
    """The first labelled captchas: pictures float32 [count, 60, 160, 3] in 0..255, and their texts."""
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    labels: list[str] = []
    pictures = []
    with tarfile.open(asset(f"{CAPTCHA}/dataset_10117_png.tar.gz")) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(".png") else None
            if file is not None and len(labels) < count:
                labels.append(Path(member.name).stem)
                pictures.append(np.asarray(image.open(io.BytesIO(file.read())).convert("RGB"), np.float32))
    return np.stack(pictures), labels


def captcha_texts(asset: Asset, scores: npt.NDArray[Any]) -> list[str]:
    """Greedy CTC: scores [n, time, classes], the blank last -> n strings."""
    config = asset(f"{CAPTCHA}/model/configs.yaml").read_text()
    (alphabet,) = [line.split()[1] for line in config.splitlines() if line.startswith("vocab:")]
    texts = []
    for best in scores.argmax(-1):
        changes = best[np.insert(best[1:] != best[:-1], 0, True)]
        texts.append("".join(alphabet[c] for c in changes if c < len(alphabet)))
    return texts


def read_captchas(asset: Asset, run: Callable[[dict[str, Any]], list[Any]], pictures: Any) -> list[str]:
    """What the captcha reader ``run`` (feeds -> outputs) makes of the pictures, fifty at a time."""
    parts = [run({"input": pictures[start : start + 50]})[0] for start in range(0, len(pictures), 50)]
    return [text for part in parts for text in captcha_texts(asset, part)]


def mnist_digits(asset: Asset) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """MNIST's test set: images uint8 [10000, 28, 28] and labels uint8 [10000]."""
    images = gzip.decompress(asset(f"{MNIST}/t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress(asset(f"{MNIST}/t10k-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(labels, np.uint8, offset=8)
