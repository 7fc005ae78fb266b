"""How two answers to one question are compared."""

from __future__ import annotations

from typing import Any

import numpy as np

BOUND = 1e-4
"""Largest |difference| allowed between float outputs, relative to the largest |value| of the reference."""

FLOOR = 2e-7
"""Absolute |difference| always allowed: onnxruntime's Sigmoid gives 0 or up to 1e-7 where the true value is smaller."""


def assert_same(got: Any, want: Any, where: str, bound: float = BOUND) -> None:
    """Assert that ``got`` agrees with ``want``: floats within ``bound``, everything else exactly.

    Arrays, and the lists and dictionaries (sequences and maps) that ONNX models return, are compared to the bottom.
    """
    if isinstance(want, dict):
        assert isinstance(got, dict), f"{where}: {type(got).__name__} where a dict is due"
        assert set(got) == set(want), f"{where}: keys {sorted(got)} instead of {sorted(want)}"
        for key in want:
            assert_same(got[key], want[key], f"{where}[{key!r}]", bound)
    elif isinstance(want, (list, tuple)):
        assert len(got) == len(want), f"{where}: {len(got)} items instead of {len(want)}"
        for index, (g, w) in enumerate(zip(got, want, strict=True)):
            assert_same(g, w, f"{where}[{index}]", bound)
    else:
        _assert_same_array(np.asarray(got), np.asarray(want), where, bound)


def _assert_same_array(got: Any, want: Any, where: str, bound: float) -> None:
    assert got.dtype == want.dtype, f"{where}: dtype {got.dtype} instead of {want.dtype}"
    assert got.shape == want.shape, f"{where}: shape {got.shape} instead of {want.shape}"
    if want.dtype.kind != "f":
        different = int(np.count_nonzero(got != want))
        assert different == 0, f"{where}: {different} of {want.size} values differ"
        return
    if want.size == 0:
        return
    assert np.array_equal(np.isnan(got), np.isnan(want)), f"{where}: NaN in different places"
    infinite = np.isinf(want)
    assert np.array_equal(got[infinite], want[infinite]), f"{where}: infinities differ"
    finite = np.isfinite(want)
    left, right = got[finite].astype(np.float64), want[finite].astype(np.float64)
    scale = float(np.abs(right).max(initial=0.0)) or 1.0
    gap = max(float(np.abs(left - right).max(initial=0.0)) - FLOOR, 0.0) / scale
    assert gap <= bound, f"{where}: differs by {gap:.3g} of the largest |value| {scale:.4g}; {bound:g} is allowed"


def distance(got: Any, want: Any) -> float:
    """Root mean square of ``got - want`` over all outputs, relative to that of ``want``."""
    off = sum(float(np.square(g.astype(np.float64) - w).sum()) for g, w in zip(got, want, strict=True))
    all_ = sum(float(np.square(w.astype(np.float64)).sum()) for w in want)
    return float(np.sqrt(off / all_)) if all_ else float(off > 0)


def assert_quantized_same(got: Any, want: Any, other: Any) -> None:
    """Assert that outputs of an int8 model agree with ``want`` as well as ``other``, a second correct answer, does.

    Correct runtimes differ here: where a value falls on the boundary of two steps, the last bit of a float product
    decides, and later layers carry that on. So two answers of one reference, optimised and not, give the yardstick.
    """
    for index, (g, w) in enumerate(zip(got, want, strict=True)):
        assert g.dtype == w.dtype, f"output {index}: dtype {g.dtype} instead of {w.dtype}"
        assert g.shape == w.shape, f"output {index}: shape {g.shape} instead of {w.shape}"
    allowed = max(0.01, 2 * distance(other, want))
    gap = distance(got, want)
    assert gap <= allowed, f"differs by {gap:.3g} of the outputs' size; {allowed:.3g} is allowed"
