"""Every pretrained ONNX model of the assets agrees with onnxruntime on realistic inputs."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from assets import ASSETS

import linnet
from model_checks import assert_quantized_same, assert_same
from model_feeds import Case, cases

CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_agrees_with_onnxruntime(
    case: Case, asset: Callable[[str], Path], open_model: Any, open_reference: Any
) -> None:
    path = asset(case.file)
    feeds = case.make(np.random.default_rng(zlib.crc32(case.id.encode())))
    # Unoptimised, onnxruntime means what a quantized graph says; its optimised int8 kernels may round differently.
    want = open_reference(path, optimised=not case.quantized).run(None, feeds)
    session = open_model(path)
    names = [out.name for out in session.get_outputs()]
    first = session.run(None, feeds)
    if case.quantized:
        assert_quantized_same(first, want, open_reference(path).run(None, feeds))
    else:
        for name, got, due in zip(names, first, want, strict=True):
            assert_same(got, due, name)
    again = session.run(None, feeds)
    for name, got, due in zip(names, again, first, strict=True):
        assert_same(got, due, f"{name}, second run", 0.0)


@pytest.mark.parametrize("case", {case.file: case for case in CASES}.values(), ids=lambda case: case.id)
def test_the_simplified_model_is_onnx_and_computes_the_same(
    case: Case, asset: Callable[[str], Path], open_reference: Any, tmp_path: Path
) -> None:
    path, again = asset(case.file), tmp_path / "again.onnx"
    options = linnet.SessionOptions()
    options.optimized_model_filepath = again
    linnet.InferenceSession(path, options)
    onnx.checker.check_model(again, full_check=True)
    feeds = case.make(np.random.default_rng(zlib.crc32(case.id.encode())))
    want = open_reference(path, optimised=False).run(None, feeds)
    got = open_reference(again, optimised=False).run(None, feeds)
    if case.quantized:
        assert_quantized_same(got, want, open_reference(path).run(None, feeds))
    else:
        for number, (mine, due) in enumerate(zip(got, want, strict=True)):
            assert_same(mine, due, f"output {number}")


def test_every_model_is_covered() -> None:
    """A model added to the assets must get a row in model_feeds.py."""
    if not ASSETS.exists():
        pytest.skip(f"no assets in {ASSETS} (set LINNET_TEST_ASSETS)")
    present = {str(path.relative_to(ASSETS)) for path in ASSETS.rglob("*.onnx")}
    assert present - {case.file for case in CASES} == set()


def test_one_session_runs_every_shape(asset: Callable[[str], Path], open_model: Any) -> None:
    """Free dimensions may change from run to run and back, in one session."""
    by_file: dict[str, list[Case]] = {}
    for case in CASES:
        by_file.setdefault(case.file, []).append(case)
    several = {file: group for file, group in by_file.items() if len(group) > 1}
    assert len(several) > 5
    for file, group in several.items():
        shared, path = open_model(asset(file)), asset(file)
        for case in [*group, *group[::-1]]:
            feeds = case.make(np.random.default_rng(1))
            assert_same(shared.run(None, feeds), open_model(path).run(None, feeds), case.id, 0.0)


@pytest.mark.parametrize("case", [c for c in CASES if not c.classical][::3], ids=lambda case: case.id)
def test_thread_count_does_not_change_a_bit(
    case: Case, asset: Callable[[str], Path], runtime: Any, open_model: Any
) -> None:
    if runtime.__name__ != "linnet":
        pytest.skip("only Linnet promises this")
    path, feeds = asset(case.file), case.make(np.random.default_rng(2))
    one = open_model(path, threads=1).run(None, feeds)
    for threads in (2, 3):
        assert_same(open_model(path, threads=threads).run(None, feeds), one, f"{threads} threads", 0.0)
