"""Timing in turns, memory in a child, and how numbers are written."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from linnet import _measure
from linnet.demo import _data


def test_interleaved_times_each_call_in_turns() -> None:
    order: list[str] = []

    def slow() -> None:
        order.append("slow")
        time.sleep(0.004)

    def fast() -> None:
        order.append("fast")
        time.sleep(0.001)

    times = _measure.interleaved({"slow": slow, "fast": fast}, seconds=0.1, burst=0.008)
    assert 0.004 <= float(np.median(times["slow"])) < 0.04
    assert 0.001 <= float(np.median(times["fast"])) < 0.01
    changes = sum(a != b for a, b in itertools.pairwise(order))
    assert changes >= 5  # neither was timed in one go


def test_memory_counts_what_the_runtime_adds() -> None:
    if _measure.resident() == 0:
        pytest.skip("this system does not tell a process its memory")
    feeds: _measure.Feeds = {"image": np.zeros((1, 1, 28, 28), np.float32)}
    added = _measure.memory("linnet", _data.MODEL, feeds)
    assert 0.5e6 < added < 200e6


def test_memory_of_a_missing_runtime_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no_such_runtime"):
        _measure.memory("no_such_runtime", _data.MODEL, {})


def test_memory_child_does_not_import_linnet_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opener = tmp_path / "other_runtime.py"
    opener.write_text(
        "import sys\n"
        "def other():\n"
        "    assert 'linnet' not in sys.modules\n"
        "    def start(path, threads):\n"
        "        block = bytearray(50_000_000)\n"
        "        return lambda feeds: [block]\n"
        "    return start\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    added = _measure.memory("other_runtime:other", _data.MODEL, {"image": np.zeros(3, np.float32)})
    if _measure.resident():
        assert 45e6 < added < 60e6


def test_a_fresh_process_times_opening_and_the_first_run_apart_from_importing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_runtime.py").write_text(
        "import time\n"
        "def slow():\n"
        "    time.sleep(0.5)\n"
        "    def start(path, threads):\n"
        "        print('a runtime that writes to stdout')\n"
        "        time.sleep(0.05)\n"
        "        waits = iter([0.02, 0, 0])\n"
        "        return lambda feeds: [time.sleep(next(waits))]\n"
        "    return start\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = _measure.fresh("slow_runtime:slow", _data.MODEL, {"image": np.zeros(3, np.float32)})
    assert 0.05 <= found["open"] < 0.4
    assert 0.02 <= found["first"] < 0.4


def test_a_runtime_that_crashes_is_named_with_the_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dying_runtime.py").write_text("import os\ndef start():\n    os.kill(os.getpid(), 11)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RuntimeError, match=r"dying_runtime:start failed .* SIGSEGV"):
        _measure.fresh("dying_runtime:start", _data.MODEL, {})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3e-9, "3.00 ns"),
        (842e-6, "842 µs"),
        (20.61e-6, "20.6 µs"),
        (9.996e-3, "10.0 ms"),
        (0.9999, "1.00 s"),
        (2, "2.00 s"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert _measure.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 B"), (607982, "608 kB"), (23.44e6, "23.4 MB"), (161e6, "161 MB"), (1.5e9, "1.50 GB")]
)
def test_sizes_read_well(count: float, text: str) -> None:
    assert _measure.size(count) == text
