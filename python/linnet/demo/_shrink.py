"""The demo's second job: the same reader pruned, with shared weights and in integers, and what each costs and saves."""

from __future__ import annotations

import importlib.util
import itertools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from linnet import _measure
from linnet.demo._data import MODEL, PRUNED, Digits, model_input

CALIBRATION = 100
"""How many of the held-out digits, the first ones, say which range the activations have."""


@dataclass(frozen=True)
class Shrunk:
    """One form of the model: ``size`` of the file in bytes, median ``seconds`` for one digit, digits read ``right``."""

    name: str
    how: str
    size: int
    seconds: float
    right: int


def can_shrink() -> bool:
    """Whether the onnx package, with which models are edited, is there."""
    return importlib.util.find_spec("onnx") is not None


def shrink(digits: Digits, seconds: float, say: Callable[[str], None]) -> list[Shrunk]:
    """Compress the model in every way and measure: one thread, single digits, all forms in turns."""
    from linnet.compress import cluster, compress, quantize

    pictures = model_input(digits.images)
    typical = [{"image": picture[None]} for picture in pictures[:CALIBRATION]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say("quantizing the model to integers")
        quantize(MODEL, typical, folder / "int8.onnx")
        say("letting its weights share 16 values")
        cluster(MODEL, folder / "codes.onnx", codes=16)
        say("quantizing the pruned model")
        compress(PRUNED, typical, folder / "all.onnx", codes=16, mode="static")
        forms = [
            ("float", "as it was trained", MODEL),
            ("int8", "weights and activations are bytes", folder / "int8.onnx"),
            ("16 values", "every tensor has 16 different weights, stored in 4 bits each", folder / "codes.onnx"),
            ("pruned", "80 % of the weights are zero, in blocks of four outputs; 16 values", PRUNED),
            ("pruned, int8", "and all of it in integers", folder / "all.onnx"),
        ]
        runs = [_measure.runtime("linnet")(path, 1) for _, _, path in forms]
        say("timing them in turns")
        singles: list[_measure.Feeds] = [{"image": picture[None]} for picture in pictures]
        calls = {form[0]: _reader(run, singles) for form, run in zip(forms, runs, strict=True)}
        times = _measure.interleaved(calls, seconds=seconds)
        return [
            Shrunk(
                label,
                how,
                path.stat().st_size,
                float(np.median(times[label])),
                int(np.sum(np.asarray(run({"image": pictures})[0]).argmax(1) == digits.labels)),
            )
            for (label, how, path), run in zip(forms, runs, strict=True)
        ]


def _reader(run: _measure.Call, singles: list[_measure.Feeds]) -> Callable[[], object]:
    digit = itertools.cycle(singles)
    return lambda: run(next(digit))
