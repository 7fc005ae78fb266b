"""k-means in one dimension, for codebooks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

ROUNDS = 100


def codebook(values: npt.NDArray[np.generic], codes: int) -> Doubles:
    """At most ``codes`` numbers, ascending, that lie near all of the values: a local least of the squared distances.

    Deterministic. Where no more than ``codes`` different values exist they are the codes. If a value is exactly zero,
    a code is, so that zeros stay zeros. Lloyd's algorithm on the sorted values, whose sums over any stretch come from
    one running sum: a round costs a few searches, however many values there are. It begins with codes as dense as the
    cube root of the values' density, which is where the best codes lie when there are many (Panter and Dite, 1951).

    Args:
        values: finite numbers of any shape, at least one.
        codes: at least 2.
    """
    ordered = np.sort(values.ravel().astype(np.float64))
    different = np.unique(ordered)
    if len(different) <= codes:
        return different
    if not np.any(ordered == 0):
        return _lloyd(ordered, _start(ordered, codes))
    rest = ordered[ordered != 0]
    return np.sort(np.append(_lloyd(rest, _start(rest, codes - 1)), 0.0))


def nearest(codes: Doubles, values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """The index of the nearest code for each value."""
    return np.searchsorted((codes[1:] + codes[:-1]) / 2, values.astype(np.float64)).astype(np.uint8)


def _start(ordered: Doubles, codes: int) -> Doubles:
    counts, edges = np.histogram(ordered, bins=1024)
    density = np.cbrt(counts.astype(np.float64))
    total = np.concatenate([[0.0], np.cumsum(density)])
    start: Doubles = np.interp((np.arange(codes) + 0.5) / codes * total[-1], total, edges)
    return start


def _lloyd(ordered: Doubles, centres: Doubles) -> Doubles:
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    ends = np.zeros(0, np.intp)
    for _ in range(ROUNDS):
        before, ends = ends, np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        if np.array_equal(before, ends):
            break
        bounds = np.concatenate([[0], ends, [len(ordered)]])
        counts = np.diff(bounds)
        means = np.diff(sums[bounds]) / np.maximum(counts, 1)
        centres = np.sort(np.where(counts > 0, means, centres))
    return centres
