"""Float operators against float64: the bounds of docs/accuracy.md, for every kernel table that this CPU runs."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks import accuracy

from linnet import _core

TABLES = [name for name, runs in _core.kernel_tables() if runs]


@pytest.mark.parametrize("table", TABLES)
def test_errors_are_within_their_bounds(table: str) -> None:
    results = accuracy.measure_in(table, 40_000)
    assert len(results) == len(accuracy.CASES)
    problems = [
        f"{case.name}: {result}"
        for case, result in zip(accuracy.CASES, results, strict=True)
        if result["wrong"] or not result["worst"] <= case.bound
    ]
    assert problems == []


def test_an_error_is_found() -> None:
    exp = next(case for case in accuracy.CASES if case.op == "Exp")
    off = accuracy.Case("Exp", lambda x: np.exp(x) * (1 + 2e-6), exp.bound, low=exp.low, high=exp.high)
    assert accuracy.measure(off, 2000)["worst"] > exp.bound
    nan = accuracy.Case("Exp", lambda x: np.where(x == 1, np.nan, np.exp(x)), exp.bound)
    assert accuracy.measure(nan, 2000)["wrong"][0]["inputs"] == [1.0]


@pytest.mark.parametrize("case", accuracy.CASES, ids=lambda case: case.name)
def test_empty_tensors(case: accuracy.Case) -> None:
    full = accuracy.inputs_of(case, 64)
    empty = [full[0][:0], *(x[:0] if case.kind == "binary" else x for x in full[1:])]
    y = accuracy.run(case, empty)
    assert y.dtype == np.float32
    assert y.size == 0


def test_every_case_is_on_the_page() -> None:
    page = (accuracy.Path(accuracy.__file__).parents[1] / "docs" / "accuracy.md").read_text(encoding="utf-8")
    for case in accuracy.CASES:
        assert f"| {case.name} | {case.unit} |" in page
        assert f"| {case.bound:g} |\n" in page
