"""Are two outputs the same, up to rounding?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """``difference`` is the largest one as a share of the largest expected magnitude; None where it has no meaning."""

    passed: bool
    text: str
    difference: float | None = None


def compare(given: Any, expected: Any, tolerance: float) -> Comparison:
    """Compares an output with what was expected.

    Floats may differ by ``tolerance`` of the largest finite expected magnitude; infinities and NaN must be at the same
    places; integers, booleans and strings must be equal. Sequences and maps are compared item by item.
    """
    if isinstance(expected, dict) and isinstance(given, dict):
        if list(given) != list(expected):
            return Comparison(False, f"keys {list(given)[:8]}, expected {list(expected)[:8]}")
        return compare(list(given.values()), list(expected.values()), tolerance)
    if isinstance(expected, list) and isinstance(given, list):
        if len(given) != len(expected):
            return Comparison(False, f"{len(given)} items, expected {len(expected)}")
        parts = [compare(a, b, tolerance) for a, b in zip(given, expected, strict=True)]
        failed = [part for part in parts if not part.passed]
        largest = max((part.difference for part in parts if part.difference is not None), default=None)
        return failed[0] if failed else Comparison(True, f"{len(parts)} items", largest)
    if given is None or expected is None:
        return Comparison(given is expected, "absent" if given is expected else "only one of them is absent")
    a, b = np.asarray(given), np.asarray(expected)
    if a.dtype.kind in "OUS" or b.dtype.kind in "OUS":
        same = a.shape == b.shape and bool(np.array_equal(a.astype(str), b.astype(str)))
        return Comparison(same, "equal" if same else "the strings differ")
    if a.dtype != b.dtype or a.shape != b.shape:
        return Comparison(False, f"{a.dtype} {a.shape}, expected {b.dtype} {b.shape}")
    if a.dtype.kind in "biu":
        wrong = int(np.count_nonzero(a != b))
        return Comparison(wrong == 0, "equal" if not wrong else f"{wrong} of {a.size} elements differ")
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    x, y = a.astype(wide).ravel(), b.astype(wide).ravel()
    finite = np.isfinite(y)
    strange = ~finite & ~((x == y) | (np.isnan(x) & np.isnan(y))) | (finite & ~np.isfinite(x))
    if strange.any():
        return Comparison(False, f"{int(strange.sum())} of {a.size} elements are infinite or NaN in one of them only")
    if not finite.any():
        return Comparison(True, "equal", 0.0)
    largest = float(np.abs(x[finite] - y[finite]).max())
    scale = float(np.abs(y[finite]).max())
    share = largest / scale if scale else (0.0 if largest == 0 else float("inf"))
    text = f"largest difference {largest:.3g}, {share:.2g} of the largest value {scale:.4g} (allowed {tolerance:g})"
    return Comparison(share <= tolerance, text, share)
