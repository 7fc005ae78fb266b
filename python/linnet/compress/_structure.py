"""Which weights go: the patterns of zeros, as masks over a weight seen as [outputs, taps, inputs].

Every face of pruning (files, PyTorch, Keras) brings its weights into that one view and asks here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linnet._errors import InvalidArgument

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

ROWS = 4
"""Rows of a block: that many neighbouring outputs share their zeros, aligned at multiples of it."""


@dataclass(frozen=True)
class Structure:
    """A pattern of zeros: ``kind`` is "unstructured", "4x1", "n:m" or "channel"; n of m inputs stay for "n:m"."""

    kind: str
    n: int = 0
    m: int = 0

    @classmethod
    def parse(cls, text: str) -> Structure:
        """From "unstructured", "4x1", "2:4" (or another n:m) or "channel"; raises InvalidArgument."""
        if text in ("unstructured", "4x1", "channel"):
            return cls(text)
        found = re.fullmatch(r"(\d+):(\d+)", text)
        if found and 0 < int(found[1]) < int(found[2]):
            return cls("n:m", int(found[1]), int(found[2]))
        raise InvalidArgument(f"structure {text!r}: expected unstructured, 4x1, channel, or n:m such as 2:4")

    def __str__(self) -> str:
        return f"{self.n}:{self.m}" if self.kind == "n:m" else self.kind


def check_sparsity(sparsity: float) -> float:
    """``sparsity`` if it is at least 0 and below 1; raises InvalidArgument."""
    if not 0 <= sparsity < 1:
        raise InvalidArgument(f"sparsity {sparsity}: expected a share of at least 0 and below 1, such as 0.8")
    return float(sparsity)


def rows(weight: Floats, outputs: int, inputs: int) -> Floats:
    """A weight as [outputs, taps, inputs], given its axes of outputs and of inputs (as float32, perhaps a view)."""
    moved = np.moveaxis(np.asarray(weight, np.float32), (outputs, inputs), (0, -1))
    return moved.reshape(moved.shape[0], -1, moved.shape[-1])


def unrows(mask: Mask, shape: Sequence[int], outputs: int, inputs: int) -> Mask:
    """A mask over `rows` as one over the weight of ``shape``."""
    order = [outputs, *(i for i in range(len(shape)) if i not in (outputs, inputs)), inputs]
    return np.ascontiguousarray(np.transpose(mask.reshape([shape[i] for i in order]), np.argsort(order)))


def unit_scores(weight: Floats, structure: Structure) -> Floats:
    """Mean square of each unit that is kept or cut whole: a weight, or four outputs' weights at one input.

    A last block of fewer than four outputs counts by its own mean.
    """
    squares = np.square(weight)
    if structure.kind == "unstructured":
        return squares
    starts = np.arange(0, len(weight), ROWS)
    sizes = np.minimum(ROWS, len(weight) - starts).astype(np.float32)
    sums: Floats = np.add.reduceat(squares, starts, axis=0)
    return sums / sizes[:, None, None]


def unit_mask(kept: Mask, weight: Floats, structure: Structure) -> Mask:
    """The mask over the weights for the units kept."""
    return kept if structure.kind == "unstructured" else np.repeat(kept, ROWS, axis=0)[: len(weight)]


def largest(scores: npt.NDArray[np.floating], count: int) -> Mask:
    """True at the ``count`` largest; of equal ones the first."""
    kept = np.zeros(scores.size, np.bool_)
    kept[np.argsort(-scores.ravel(), kind="stable")[:count]] = True
    return kept.reshape(scores.shape)


def n_of_m(weight: Floats, n: int, m: int) -> Mask:
    """The ``n`` largest of each ``m`` neighbouring inputs; a last group of fewer keeps at most ``n``, too."""
    pad = -weight.shape[-1] % m
    size = np.pad(np.abs(weight), ((0, 0), (0, 0), (0, pad)), constant_values=-1.0)
    groups = size.reshape(*size.shape[:2], -1, m)
    rank = np.argsort(np.argsort(-groups, axis=-1, kind="stable"), axis=-1, kind="stable")
    return (rank < n).reshape(size.shape)[..., : weight.shape[-1]]


def adaptive_scores(scores: Floats) -> npt.NDArray[np.float64]:
    """Scores that can be compared between layers: a unit's square over the sum of all that are no smaller.

    The layer-adaptive score of Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning" (2021): the
    largest unit of each layer scores 1, so that no layer is cut off.
    """
    flat = scores.ravel().astype(np.float64)
    order = np.argsort(-flat, kind="stable")
    total = np.cumsum(flat[order])
    out = np.zeros(flat.size)
    out[order] = np.divide(flat[order], total, out=np.zeros(flat.size), where=total > 0)
    return out.reshape(scores.shape)


def masks(weights: Mapping[str, Floats], structure: Structure, sparsity: float, scope: str) -> dict[str, Mask]:
    """What stays of each weight [outputs, taps, inputs] so that about ``sparsity`` of all go, smallest first.

    Args:
        weights: the weights by name.
        structure: any but "channel". With "n:m" the pattern alone says how many stay.
        sparsity: the share of units that go.
        scope: "layer" takes that share from every layer, "global" from all together by `adaptive_scores`.
    """
    if structure.kind == "n:m":
        return {name: n_of_m(w, structure.n, structure.m) for name, w in weights.items()}
    scores = {name: unit_scores(w, structure) for name, w in weights.items()}
    if scope == "layer":
        kept = {name: largest(s, s.size - round(sparsity * s.size)) for name, s in scores.items()}
    else:
        adapted = [adaptive_scores(s).ravel() for s in scores.values()]
        together = np.concatenate(adapted)
        flat = largest(together, together.size - round(sparsity * together.size))
        parts = np.split(flat, np.cumsum([s.size for s in adapted[:-1]]).astype(int))
        kept = {name: part.reshape(s.shape) for (name, s), part in zip(scores.items(), parts, strict=True)}
    return {name: unit_mask(kept[name], w, structure) for name, w in weights.items()}


def scheduled(step: int, begin: int, end: int, final: float, initial: float = 0.0) -> float:
    """The sparsity at a training step: from ``initial`` at ``begin`` to ``final`` at ``end``, fast first.

    The cubic schedule of Zhu and Gupta, "To prune, or not to prune" (2017).
    """
    if step < begin:
        return 0.0
    share = 1.0 if step >= end else (step - begin) / (end - begin)
    return final + (initial - final) * (1.0 - share) ** 3
