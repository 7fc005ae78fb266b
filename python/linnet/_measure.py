"""Fair timing of several runtimes in one process, and peak memory in a process of its own.

``linnet bench``, ``linnet demo`` and the project's own benchmarks all measure with this module, in one way:

* Candidates take turns in short bursts, so that a change of clock speed or a busy neighbour hits all of them.
* Between bursts all rest when there are several threads: a runtime whose workers spin for a while after a run
  (onnxruntime's do, some 50 ms) keeps its own fast path within the burst and takes no core from the next one.
* Memory is the peak of a fresh process less what Python and numpy had before the runtime was imported.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

REST = 0.08
"""Seconds of rest after a burst when more than one thread is used."""

Array = npt.NDArray[np.generic]
Feeds = dict[str, Array]
Call = Callable[[Feeds], list[Array]]
Seconds = npt.NDArray[np.float64]


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 2.0,
    burst: float = 0.05,
    min_rounds: int = 5,
    rest: float = 0.0,
) -> dict[str, Seconds]:
    """Time each of ``calls`` again and again in turns; return every single duration in seconds.

    ``seconds`` is about how long to measure each call, ``burst`` how long one turn lasts (at least one call),
    ``rest`` the pause after a turn. Each call is first run three times unmeasured.
    """
    estimate: dict[str, float] = {}
    for name, call in calls.items():
        for _ in range(3):
            start = time.perf_counter()
            call()
            estimate[name] = time.perf_counter() - start
        time.sleep(rest)
    counts = {name: max(1, int(burst / max(one, 1e-7))) for name, one in estimate.items()}
    longest = max(counts[name] * one for name, one in estimate.items())
    rounds = max(min_rounds, int(seconds / longest))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else names[::-1]:
            call, out = calls[name], taken[name]
            for _ in range(counts[name]):
                start = time.perf_counter()
                call()
                out.append(time.perf_counter() - start)
            if rest:
                time.sleep(rest)
    return {name: np.array(values) for name, values in taken.items()}


def resident() -> int:
    """Bytes of physical memory that this process holds now (0 where the system does not say)."""
    return _status("VmRSS:")


def peak_resident() -> int:
    """The most bytes of physical memory that this process has held so far."""
    peak = _status("VmHWM:")
    if peak:
        return peak
    try:
        import resource
    except ImportError:  # Windows
        return 0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _status(field: str) -> int:
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(field):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def forget_peak() -> None:
    """Let the peak start anew from what is held now, where the system can do that."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def open_session(runtime: str, path: str | Path, threads: int) -> Call:
    """Open ``path`` in ``runtime``, a module with onnxruntime's Python API; return a function from feeds to outputs."""
    module = importlib.import_module(runtime)
    options = module.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = module.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda feeds: list(session.run(None, feeds))


def memory(opener: str, path: str | Path, feeds: Feeds, threads: int = 1, runs: int = 3) -> int:
    """Bytes that opening the model and running it add at the peak to a fresh Python process that has numpy.

    ``opener`` is a runtime for ``open_session``, or ``module:function`` with a function (path, threads) -> call.
    Raises RuntimeError with the child's messages when it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "feeds.npz"
        arrays: dict[str, Any] = {f"x{i}": value for i, value in enumerate(feeds.values())}
        np.savez(inputs, **arrays)
        # By its path, not as a module of this package: the child must not import Linnet unless it is what is measured.
        command = [
            sys.executable,
            str(Path(__file__).resolve()),
            opener,
            str(path),
            str(inputs),
            json.dumps(list(feeds)),
        ]
        command += [str(threads), str(runs)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"measuring the memory of {opener} failed:\n{done.stderr.strip()[-2000:]}")
    return int(done.stdout.strip().splitlines()[-1])


def _memory_child(opener: str, path: str, inputs: str, names: str, threads: str, runs: str) -> int:
    with np.load(inputs) as file:
        feeds = {name: file[f"x{i}"] for i, name in enumerate(json.loads(names))}
    if ":" in opener:
        module, function = opener.split(":")
        start: Callable[[str, int], Call] = getattr(importlib.import_module(module), function)
    else:
        start = functools.partial(open_session, opener)
    forget_peak()
    before = resident()
    call = start(path, int(threads))
    for _ in range(int(runs)):
        call(feeds)
    return peak_resident() - before


def summary(times: Seconds) -> dict[str, float]:
    """Median, 90th and 99th percentile and minimum in seconds, and the number of runs."""
    p50, p90, p99 = (float(v) for v in np.percentile(times, [50, 90, 99]))
    return {"p50": p50, "p90": p90, "p99": p99, "min": float(times.min()), "runs": len(times)}


def duration(seconds: float) -> str:
    """A duration with three significant digits and a unit that reads well: ``842 µs``, ``3.14 ms``, ``2.00 s``."""
    for unit, scale in (("ns", 1e9), ("µs", 1e6), ("ms", 1e3)):
        value = seconds * scale
        if value < 999.5:
            decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{decimals}f} {unit}"
    return f"{seconds:.2f} s"


def size(count: float) -> str:
    """A number of bytes with a unit that reads well: ``608 kB``, ``23.4 MB``."""
    for unit, scale in (("B", 1.0), ("kB", 1e3), ("MB", 1e6)):
        value = count / scale
        if value < 999.5:
            return f"{value:.1f} {unit}" if value < 99.95 and unit != "B" else f"{value:.0f} {unit}"
    return f"{count / 1e9:.2f} GB"


if __name__ == "__main__":
    del sys.path[0]  # this package's own folder, put there because the script is run by its path
    print(_memory_child(*sys.argv[1:]))
