"""How good a model is on the user's data: one number, higher is better."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from linnet import _errors
from linnet.compress._data import Feeds

Run = Callable[[Feeds], list[Any]]
"""Runs a model: feeds to a list of outputs."""

UserMetric = Callable[[Run], float]


@dataclass(frozen=True)
class Metric:
    """A name and a function of a model; ``decibels``: it is a signal to noise ratio."""

    name: str
    measure: UserMetric
    decibels: bool = False

    def least(self, before: float, loss: float) -> float:
        """What must be left of ``before`` when ``loss`` may be lost; in decibels that is the noise's share of power."""
        if self.decibels:
            return decibels(1.0, loss)
        return before - loss


def accuracy(samples: Iterable[Feeds], labels: Any, output: int = 0) -> Metric:
    """Share of rows whose largest output is at the label's place (top 1).

    Args:
        samples: feeds; row i of all their outputs, one after the other, belongs to label i.
        labels: integers, or rows of scores (one-hot) whose largest counts.
        output: index of the output that holds scores [rows, ..., classes].
    """
    expected = np.asarray(labels)

    def measure(run: Run) -> float:
        guesses = np.concatenate([_best(run(feeds)[output]) for feeds in samples])
        wanted = expected.argmax(-1) if expected.ndim == guesses.ndim + 1 else expected
        if wanted.shape[:1] > guesses.shape[:1]:
            wanted = wanted[: len(guesses)]
        if wanted.shape != guesses.shape:
            raise _errors.InvalidArgument(
                f"the labels have the shape {list(expected.shape)}, the model's answers {list(guesses.shape)}: "
                "expected one label for each"
            )
        return float(np.mean(guesses == wanted))

    return Metric("accuracy", measure)


def agreement(samples: Iterable[Feeds], reference: Run, output: int = 0) -> Metric:
    """Share of rows whose largest output is where the reference model's is (1 for the reference itself)."""
    expected = [_best(reference(feeds)[output]) for feeds in samples]

    def measure(run: Run) -> float:
        return float(np.mean(np.concatenate([
            (_best(run(feeds)[output]) == e).ravel() for feeds, e in zip(samples, expected, strict=True)
        ])))  # fmt: skip

    return Metric("agreement", measure)


def signal_to_noise(samples: Iterable[Feeds], reference: Run) -> Metric:
    """Signal to quantization noise ratio of all float outputs against the reference model's, in dB (at most 200)."""
    expected = [_floats(reference(feeds)) for feeds in samples]

    def measure(run: Run) -> float:
        signal = noise = 0.0
        for feeds, wanted in zip(samples, expected, strict=True):
            for x, y in zip(wanted, _floats(run(feeds)), strict=True):
                signal += float(np.square(x, dtype=np.float64).sum())
                noise += float(np.square(np.subtract(y, x, dtype=np.float64)).sum())
        return decibels(signal, noise)

    return Metric("SQNR", measure, decibels=True)


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise), between -200 and 200."""
    if noise <= 0 or signal <= 0:
        return 200.0 if noise <= 0 else -200.0
    return float(np.clip(10 * np.log10(signal / noise), -200, 200))


def _best(scores: Any) -> Any:
    scores = np.asarray(scores)
    if scores.ndim < 2:
        scores = scores.reshape(1, -1)
    return scores.argmax(-1)


def _floats(outputs: list[Any]) -> list[Any]:
    return [x for x in outputs if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
