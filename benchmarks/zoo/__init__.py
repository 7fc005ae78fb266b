"""The model zoo: fifteen well-known architectures with random weights, built by one command.

``python -m benchmarks.zoo`` exports them from PyTorch, transformers and Keras with a fixed seed and caches
the files in ``zoo/`` (or ``--out DIR``, or ``$LINNET_ZOO``). Only their shapes and graphs are real: weights are random,
but scaled and with batch-norm statistics taken from data, so activations stay in the range of a trained net.
This module needs numpy alone; the frameworks are imported only by the builders.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Feeds = dict[str, Array]
Make = Callable[[np.random.Generator, dict[str, int]], Feeds]

ROOT = Path(__file__).resolve().parents[2]
SEED = 20


@dataclass(frozen=True)
class Entry:
    """One zoo model.

    ``sizes`` holds the dimensions that its inputs leave free, with the values that are measured;
    ``variants`` are other values that tests run. A model with fixed shapes has neither.
    """

    name: str
    family: str  # "cnn", "transformer" or "rnn"
    source: str  # "pytorch" or "keras"
    make: Make
    sizes: dict[str, int]
    variants: tuple[dict[str, int], ...] = ()

    @property
    def file(self) -> str:
        return f"{self.name}.onnx"


def image(rng: np.random.Generator, shape: tuple[int, ...], channel_axis: int = 1) -> npt.NDArray[np.float32]:
    """Random float32 pictures of ``shape``: smooth blobs plus grain, about zero mean and unit deviation.

    White noise would leave deep layers with nearly constant activations; natural images have most of
    their energy in low frequencies, and so have these.
    """
    batch, channels = shape[0], shape[channel_axis]
    height, width = [s for axis, s in enumerate(shape) if axis not in (0, channel_axis)]
    out = 0.15 * rng.standard_normal((batch, channels, height, width))
    for cells in (2, 5, 11, 23):
        rows = np.linspace(0, cells - 1e-3, height)
        cols = np.linspace(0, cells - 1e-3, width)
        grid = rng.standard_normal((batch, channels, cells + 1, cells + 1)) + rng.standard_normal(
            (batch, 1, cells + 1, cells + 1)
        )
        r, c = rows.astype(int), cols.astype(int)
        fr, fc = (rows - r)[:, None], (cols - c)[None, :]
        top = grid[:, :, r][:, :, :, c] * (1 - fc) + grid[:, :, r][:, :, :, c + 1] * fc
        low = grid[:, :, r + 1][:, :, :, c] * (1 - fc) + grid[:, :, r + 1][:, :, :, c + 1] * fc
        out += (top * (1 - fr) + low * fr) / np.sqrt(cells)
    out /= out.std()
    return np.ascontiguousarray(np.moveaxis(out, 1, channel_axis)).astype(np.float32)


def nchw_image(rng: np.random.Generator, sizes: dict[str, int]) -> Feeds:
    """``input``: float32 [1, 3, 224, 224]."""
    return {"input": image(rng, (sizes.get("batch", 1), 3, 224, 224))}


def _keras_pixels(rng: np.random.Generator, sizes: dict[str, int]) -> npt.NDArray[np.float32]:
    x = image(rng, (sizes["batch"], 224, 224, 3), channel_axis=3)
    pixels: npt.NDArray[np.float32] = np.clip(127.5 + 60 * x, 0, 255).astype(np.float32)
    return pixels


def nhwc_image(rng: np.random.Generator, sizes: dict[str, int]) -> Feeds:
    """``input``: float32 [batch, 224, 224, 3] in 0..255, as Keras applications take it."""
    return {"input": _keras_pixels(rng, sizes)}


def nhwc_scaled_image(rng: np.random.Generator, sizes: dict[str, int]) -> Feeds:
    """``input``: float32 [batch, 224, 224, 3] in -1..1, as Keras' MobileNetV2 takes it."""
    return {"input": (_keras_pixels(rng, sizes) / 127.5 - 1).astype(np.float32)}


def digit_image(rng: np.random.Generator, sizes: dict[str, int]) -> Feeds:
    """``input``: float32 [batch, 28, 28, 1] in 0..1."""
    x = image(rng, (sizes["batch"], 28, 28, 1), channel_axis=3)
    return {"input": np.clip(0.5 + 0.4 * x, 0, 1).astype(np.float32)}


def sequence(rng: np.random.Generator, sizes: dict[str, int]) -> Feeds:
    """``input``: float32 [1, 100, 128], a smooth random walk in time like acoustic features."""
    x = np.cumsum(rng.standard_normal((1, 100, 128)), axis=1)
    return {"input": ((x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)).astype(np.float32)}


def bert_tokens(rng: np.random.Generator, sizes: dict[str, int]) -> Feeds:
    """Three int64 [batch, sequence] inputs; rows after the first are padded by a quarter of the sequence more each."""
    batch, length = sizes["batch"], sizes["sequence"]
    mask = np.ones((batch, length), np.int64)
    for row in range(1, batch):
        mask[row, max(1, length - row * length // 4) :] = 0
    return {
        "input_ids": rng.integers(0, 30522, (batch, length)) * mask,
        "attention_mask": mask,
        "token_type_ids": np.zeros((batch, length), np.int64),
    }


GPT2_LAYERS, GPT2_HEADS, GPT2_HEAD_SIZE = 12, 12, 64


def gpt2_step(rng: np.random.Generator, sizes: dict[str, int]) -> Feeds:
    """One step of GPT-2: new token ids [batch, sequence], int64, and the cache of ``past`` earlier tokens.

    Cache tensors are float32 [batch, 12, past, 64]; ``past`` may be 0.
    """
    batch, length, past = sizes["batch"], sizes["sequence"], sizes["past"]
    feeds: Feeds = {
        "input_ids": rng.integers(0, 50257, (batch, length)),
        "attention_mask": np.ones((batch, past + length), np.int64),
        "position_ids": np.tile(np.arange(past, past + length, dtype=np.int64), (batch, 1)),
    }
    for layer in range(GPT2_LAYERS):
        for part in ("key", "value"):
            cache = rng.standard_normal((batch, GPT2_HEADS, past, GPT2_HEAD_SIZE), np.float32)
            feeds[f"past_key_values.{layer}.{part}"] = cache
    return feeds


def _entries() -> dict[str, Entry]:
    rows = [
        Entry(name, "cnn", "pytorch", nchw_image, {})
        for name in ("resnet18", "resnet50", "mobilenetv2", "efficientnet_b0", "convnext_tiny")
    ]
    rows += [
        Entry("vit_small", "transformer", "pytorch", nchw_image, {}),
        Entry(
            "minilm",
            "transformer",
            "pytorch",
            bert_tokens,
            {"batch": 1, "sequence": 128},
            ({"batch": 3, "sequence": 17}, {"batch": 2, "sequence": 64}, {"batch": 1, "sequence": 1}),
        ),
        Entry(
            "gpt2",
            "transformer",
            "pytorch",
            gpt2_step,
            {"batch": 1, "sequence": 1, "past": 128},
            (
                {"batch": 1, "sequence": 32, "past": 0},
                {"batch": 2, "sequence": 5, "past": 7},
            ),
        ),
        Entry("lstm", "rnn", "pytorch", sequence, {}),
        Entry("gru", "rnn", "pytorch", sequence, {}),
    ]
    one, two = {"batch": 1}, ({"batch": 2},)
    rows += [
        Entry("keras_mobilenetv2", "cnn", "keras", nhwc_scaled_image, one, two),
        Entry("keras_mobilenetv3_small", "cnn", "keras", nhwc_image, one, two),
        Entry("keras_resnet50", "cnn", "keras", nhwc_image, one, two),
        Entry("keras_efficientnet_b0", "cnn", "keras", nhwc_image, one, two),
        Entry("keras_small_cnn", "cnn", "keras", digit_image, one, ({"batch": 3}, {"batch": 64})),
    ]
    return {row.name: row for row in rows}


ZOO: dict[str, Entry] = _entries()


def folder() -> Path:
    """Where the zoo's files are: ``$LINNET_ZOO``, else ``zoo/`` in the repository."""
    return Path(os.environ.get("LINNET_ZOO", ROOT / "zoo"))


def feeds(name: str, rng: np.random.Generator | None = None, **sizes: int) -> Feeds:
    """Realistic inputs for the zoo model ``name``; ``sizes`` overrides the free dimensions it is measured with.

    Without ``rng`` the same name and sizes always give the same arrays.
    """
    entry = ZOO[name]
    unknown = set(sizes) - set(entry.sizes)
    if unknown:
        raise ValueError(f"{name} has no free dimension {sorted(unknown)}; it has {sorted(entry.sizes)}")
    rng = rng or np.random.default_rng(zlib.crc32(name.encode()))
    return entry.make(rng, {**entry.sizes, **sizes})
