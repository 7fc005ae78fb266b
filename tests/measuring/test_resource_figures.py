"""``benchmarks.resources``: each figure is taken, and a limit that is exceeded fails the command."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks import resources

from linnet import _measure
from linnet.demo._data import MODEL


def test_busy_processes_take_the_cores_and_end() -> None:
    with resources.busy(2):
        children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
        inside = {pid for file in children for pid in file.read_text().split()}
        assert len(inside) >= 2
    left = {pid for file in Path(f"/proc/{os.getpid()}/task").glob("*/children") for pid in file.read_text().split()}
    assert len(inside & left) == len(inside) - 2


def test_idle_counts_what_other_threads_take(monkeypatch: pytest.MonkeyPatch) -> None:
    def spinning(runtime: str, path: Path, threads: int) -> object:
        import threading

        def spin() -> None:
            end = time.perf_counter() + 2
            while time.perf_counter() < end:
                sum(range(1000))

        threading.Thread(target=spin, daemon=True).start()
        return lambda feeds: None

    resources.model_feeds(str(MODEL))  # the first call imports onnx, which may take longer than the thread spins
    monkeypatch.setattr(resources, "opened", spinning)
    assert resources.idle(str(MODEL), 1) > 10 * resources.IDLE_SECONDS


def test_memory_that_grows_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    if _measure.resident() == 0:
        pytest.skip("this system does not tell a process its memory")
    kept = []

    def keep(feeds: object) -> None:
        kept.append(mmap.mmap(-1, 800_000))  # new pages: the heap may still hold what earlier tests freed
        kept[-1].write(bytes(800_000))

    monkeypatch.setattr(resources, "opened", lambda *_: keep)
    found = resources.shapes(str(MODEL), 1, 100)
    assert found["late"] - found["early"] > 50e6
    assert found["peak"] >= found["late"]


def test_crowded_compares_two_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    crowds: list[int] = []
    crowd = [2e-3]

    @contextlib.contextmanager
    def busy(count: int) -> Iterator[None]:
        crowds.append(count)
        crowd[0] = 30e-3
        yield
        crowd[0] = 2e-3

    monkeypatch.setattr(resources, "CROWDS", 1)
    monkeypatch.setattr(resources, "busy", busy)
    monkeypatch.setattr(resources, "opened", lambda *_: lambda feeds: time.sleep(crowd[0]))
    found = resources.crowded(str(MODEL), 1, 0.1)["linnet"]
    assert found["crowded"] > 2 * found["alone"]  # of 15, on a machine that runs other tests, too
    assert crowds == [2 * (os.cpu_count() or 1)]


def test_the_library_is_stripped(tmp_path: Path) -> None:
    if not shutil.which("strip") or not shutil.which("g++"):
        pytest.skip("strip and g++ are needed")
    library = tmp_path / "libexample.so"
    (tmp_path / "example.cpp").write_text(
        "#include <map>\nstd::map<int, int> table; int f(int x) { return table[x]; }\n"
    )
    subprocess.run(["g++", "-shared", "-fPIC", "-g", "-o", library, tmp_path / "example.cpp"], check=True)
    assert 0 < resources.library(library) < library.stat().st_size / 2


def test_a_function_runs_in_a_process_of_its_own() -> None:
    assert resources.apart(resources.shapes, str(MODEL), 1, 50)["peak"] > 0


def test_a_limit_exceeded_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"idle": 6e-3, "crowded": {"linnet": {"alone": 1.0, "crowded": 2.0}}, "shapes": None}
    figures["shapes"] = {"early": 0, "late": 1000, "peak": 1000}
    monkeypatch.setattr(resources, "apart", lambda function, *_: figures[function.__name__])
    absent = ["--library", str(tmp_path / "absent")]
    assert resources.main(absent) == 1
    figures["idle"] = 4e-3
    assert resources.main(absent) == 0
