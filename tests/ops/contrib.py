"""Comparison of com.microsoft operators with onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np

from one_node import check, linnet, ort

DOMAIN = "com.microsoft"


def normal(rng: np.random.Generator, *shape: int, dtype: Any = np.float32) -> Any:
    return rng.standard_normal(shape).astype(dtype)


def i32(values: Any) -> Any:
    return np.array(values, np.int32)


def compare(
    op: str,
    *inputs: Any,
    tolerance: float = 1e-5,
    absolute: float | None = 1e-5,
    valid: dict[int, Any] | None = None,
    symbolic: bool = True,
    off_by_one: float = 0,
    **more: Any,
) -> list[Any]:
    """Linnet's outputs, which are onnxruntime's, also where Linnet is not told the sizes (`symbolic`).

    `valid` indexes the part of an output that is specified. Of outputs of integers the share `off_by_one` may differ
    by 1: where the scaled value lies on a rounding boundary.
    """
    want = ort(op, *inputs, domain=DOMAIN, **more)
    for sizes in (False, True) if symbolic else (False,):
        got = linnet(op, *inputs, domain=DOMAIN, symbolic=sizes, **more)
        assert len(got) == len(want)
        for i, (one, other) in enumerate(zip(got, want, strict=True)):
            if valid and i in valid:
                assert one.shape == other.shape
                one, other = one[valid[i]], other[valid[i]]
            if other.dtype.kind in "iu" and off_by_one:
                assert one.shape == other.shape and one.dtype == other.dtype
                apart = np.abs(one.astype(np.int64) - other.astype(np.int64))
                assert apart.max(initial=0) <= 1 and apart.sum() <= max(2, off_by_one * apart.size), apart
            else:
                check(one, other, tolerance, 5e-3 if other.dtype == np.float16 else absolute)
    return got
