"""The backend suite of the onnx package (2,033 tests), all of it, against `linnet.backend`.

`onnx_suite_missing.txt` names the tests that do not pass yet, one a line; a test that passes although it is listed
there fails, so that the list only ever shrinks.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
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


# Tests that cannot pass, whatever a backend computes (docs/conformance.md says why): the same models, compared fairly.


def _suite_case(op: str, name: str) -> tuple[Any, list[Any], list[Any]]:
    """The model, inputs and outputs of a test of the suite."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = importlib.import_module("onnx.backend.test.case.node").collect_testcases(op)
    (case,) = [c for c in cases if c.name == name]
    ((inputs, outputs),) = case.data_sets
    return case.model, list(inputs), list(outputs)


@pytest.mark.parametrize("name", ["test_dft_inverse", "test_dft_inverse_opset19"])
def test_inverse_transform_in_float64(name: str) -> None:
    """The transform of the same input in float64: the suite expects the rounding errors of one in float32."""
    model, (x, *more), (suite,) = _suite_case("DFT", name)
    axis = int(model.graph.node[0].attribute[0].i) if not more else int(more[-1])
    (got,) = linnet.backend.prepare(model).run([x, *more])
    want = np.fft.ifft(x[..., 0].astype(np.float64), axis=axis)
    np.testing.assert_allclose(got, np.stack([want.real, want.imag], -1), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(got, suite, rtol=1e-3, atol=1e-6)


def test_loop_with_an_optional_sequence() -> None:
    """Tensors of rank 0 in a sequence, which the suite's runner cannot compare."""
    model, inputs, (want,) = _suite_case("Loop", "test_loop16_seq_none")
    (got,) = linnet.backend.prepare(model).run(inputs)
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == w.dtype
        np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("name", sorted(n for n in _CASES if n.startswith("test_bernoulli")))
def test_bernoulli_in_distribution(name: str) -> None:
    """Ones as often as the inputs say; with a seed always at the same places."""
    model, (p,), (suite,) = _suite_case("Bernoulli", name)
    session = linnet.backend.prepare(model)
    draws = np.stack([session.run([p])[0] for _ in range(400)])
    assert draws.dtype == suite.dtype and set(np.unique(draws)) <= {0.0, 1.0}
    if "seed" in name:
        assert np.all(draws == draws[0])
    else:
        # Written out, the operator is "a uniform number is greater than p": the other way round.
        want = 1 - p if "expanded" in name else p
        assert np.all(np.abs(draws.mean(0) - want) <= 5 * np.sqrt(p * (1 - p) / 400))
