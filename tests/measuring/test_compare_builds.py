"""``benchmarks.compare``: two builds in turns, their ratio, its interval and the exit code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks import compare

from linnet.demo._data import MODEL

BUILD = """
import time
import numpy as np

class SessionOptions:
    pass

class InferenceSession:
    def __init__(self, path, options, providers):
        pass

    def run(self, names, feeds):
        time.sleep({seconds})
        return [np.full(3, {value}, np.float32)]
"""


def build(folder: Path, seconds: float, value: float = 1.0) -> Path:
    """A folder with a package that answers like Linnet."""
    (folder / "linnet").mkdir(parents=True)
    (folder / "linnet" / "__init__.py").write_text(BUILD.format(seconds=seconds, value=value))
    return folder


def run(*arguments: object) -> int:
    return compare.main([*map(str, arguments), str(MODEL), "--pairs", "1", "--turns", "6"])


def test_a_slower_build_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fast, slow = build(tmp_path / "fast", 0.004), build(tmp_path / "slow", 0.016)
    assert run(fast, slow) == 1
    said = capsys.readouterr()
    assert "SLOWER" in said.out and "digits, 1 thread" in said.err
    assert run(slow, fast) == 0
    assert "faster" in capsys.readouterr().out
    assert run(fast, slow, "--bound", 30) == 0


def test_other_outputs_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = build(tmp_path / "old", 0.004), build(tmp_path / "new" / "python", 0.004, 2.0)
    assert run(old, new.parent, "--bound", 30) == 1
    assert "outputs differ by 1.0e+00" in capsys.readouterr().out


def test_a_build_that_fails_says_why(tmp_path: Path) -> None:
    old, new = build(tmp_path / "old", 0.001), build(tmp_path / "new", 0.001)
    (new / "linnet" / "__init__.py").write_text("raise ImportError('not for this Python')")
    with pytest.raises(RuntimeError, match="not for this Python"):
        run(old, new)


def test_a_folder_without_a_build_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path, tmp_path)
    assert "neither python/linnet nor linnet is in it" in capsys.readouterr().err


def test_interval_holds_the_median_in_95_of_100_cases() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        _, low, high = compare.interval(list(rng.exponential(size=20)))
        held += low <= np.log(2) <= high
    assert 0.93 * 400 <= held <= 0.99 * 400
    assert compare.interval([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)  # too few to leave any out
