"""The digits that the demo model was never shown, and how a scanned digit becomes the model's input."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).resolve().parent
MODEL = HERE / "digits.onnx"
PRUNED = HERE / "digits_pruned.onnx"
HELD_OUT = HERE / "held_out.npz"

SIDE = 28
"""Side of the model's input picture in pixels."""


class Digits(NamedTuple):
    """Scanned digits: ``images`` uint8 [n, 8, 8] with ink from 0 to 16, ``labels`` uint8 [n]."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]


def held_out() -> Digits:
    """The held-out digits: a fixed quarter of scikit-learn's 1,797, none of them used in training."""
    with np.load(HELD_OUT) as file:
        return Digits(file["images"], file["labels"])


def model_input(images: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Enlarge [n, 8, 8] scans (ink 0..16) to float32 [n, 1, 28, 28] in 0..1, linearly, half-pixel centres."""
    side = images.shape[-1]
    position = np.clip((np.arange(SIDE) + 0.5) * side / SIDE - 0.5, 0, side - 1)
    weights = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(side)[None, :]))
    enlarged = weights @ (images.astype(np.float64) / 16.0) @ weights.T
    return np.ascontiguousarray(enlarged[:, None], dtype=np.float32)
