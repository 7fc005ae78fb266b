"""Fair timing of several runtimes in one process, and peak memory in a process of its own.

``linnet bench``, ``linnet demo`` and the project's own benchmarks all measure with this module, in one way:

* Candidates take turns in short bursts, so that a change of clock speed or a busy neighbour hits all of them.
* Between bursts all rest when there are several threads: a runtime whose workers spin for a while after a run
  (onnxruntime's do, some 50 ms) keeps its own fast path within the burst and takes no core from the next one.
* Memory is the peak of a fresh process less what Python and numpy had before the runtime was imported.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
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
Open = Callable[[Path, int], Call]
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


def runtime(name: str) -> Open:
    """How the runtime ``name`` opens a model.

    ``name`` is a module with onnxruntime's Python API, or ``module:function``: a function without arguments that
    imports a runtime and returns how it opens a model. Either way importing is done when this returns.
    """
    if ":" in name:
        module, function = name.split(":")
        start: Callable[[], Open] = getattr(importlib.import_module(module), function)
        return start()
    api = importlib.import_module(name)

    def open_model(path: Path, threads: int) -> Call:
        options = api.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = api.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda feeds: list(session.run(None, feeds))

    return open_model


def fresh(name: str, path: str | Path, feeds: Feeds, threads: int = 1, runs: int = 3) -> dict[str, float]:
    """What the runtime ``name`` (see ``runtime``) needs in a fresh Python process that has numpy.

    ``open`` and ``first``: seconds for opening the model and for the first run, the runtime being imported already.
    ``memory``: bytes that importing the runtime, opening the model and ``runs`` runs add at the peak.
    Raises RuntimeError with the child's messages when it fails, or the signal that ended it.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs, output = Path(folder) / "feeds.npz", Path(folder) / "result.json"
        arrays: dict[str, Any] = {f"x{i}": value for i, value in enumerate(feeds.values())}
        np.savez(inputs, **arrays)
        # By its path, not as a module of this package: the child must not import Linnet unless it is what is measured.
        command = [sys.executable, str(Path(__file__).resolve()), name, str(path), str(inputs), json.dumps(list(feeds))]
        command += [str(threads), str(runs), str(output)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
        if done.returncode == 0:
            result: dict[str, float] = json.loads(output.read_text())
            return result
    end = f"ended by {signal.Signals(-done.returncode).name}" if done.returncode < 0 else done.stderr.strip()[-2000:]
    raise RuntimeError(f"{name} failed in a process of its own: {end}")


def memory(name: str, path: str | Path, feeds: Feeds, threads: int = 1) -> int:
    """The ``memory`` of ``fresh``."""
    return int(fresh(name, path, feeds, threads)["memory"])


def _child(name: str, path: str, inputs: str, names: str, threads: str, runs: str, output: str) -> None:
    with np.load(inputs) as file:
        feeds = {name: file[f"x{i}"] for i, name in enumerate(json.loads(names))}
    forget_peak()
    before = resident()
    open_model = runtime(name)
    times = [time.perf_counter()]
    call = open_model(Path(path), int(threads))
    times.append(time.perf_counter())
    for _ in range(int(runs)):
        call(feeds)
        times.append(time.perf_counter())
    result = {"open": times[1] - times[0], "first": times[2] - times[1], "memory": peak_resident() - before}
    Path(output).write_text(json.dumps(result))  # not to stdout, where some runtimes write, too


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
    _child(*sys.argv[1:])
