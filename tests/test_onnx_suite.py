"""The backend suite of the onnx package (2,033 tests), all of it, against `linnet.backend`.

`onnx_suite_missing.txt` names the tests that do not pass yet, one a line; a test that passes although it is listed
there fails, so that the list only ever shrinks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the suite computes expected values with overflows and NaN on purpose
    import onnx.backend.test

    import linnet.backend

    _RUNNER = onnx.backend.test.BackendTest(linnet.backend, __name__)

_MISSING_FILE = Path(__file__).with_name("onnx_suite_missing.txt")
_MISSING = {line for line in _MISSING_FILE.read_text(encoding="utf-8").split("\n") if line and line[0] != "#"}


def _cases() -> Iterator[tuple[str, Callable[[Any], None]]]:
    for items in _RUNNER._test_items.values():
        for name, item in items.items():
            if name.endswith("_cpu"):
                yield name.removesuffix("_cpu"), item.func


_CASES = dict(_cases())


def test_the_list_names_tests() -> None:
    """Every name on the list is a test of the suite."""
    assert set(_CASES) >= _MISSING
    assert len(_CASES) > 2000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(_CASES))
def test_suite(name: str) -> None:
    """Outputs as the suite expects, at its own tolerances."""
    try:
        _CASES[name](None)
    except Exception:
        if name in _MISSING:
            pytest.skip("listed in onnx_suite_missing.txt")
        raise
    assert name not in _MISSING, f"{name} passes: take it off onnx_suite_missing.txt"
