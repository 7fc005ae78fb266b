"""What Linnet takes besides time: ``python -m benchmarks.resources [model]``.

  idle      CPU time of the process over the second after the last run, all threads counted
  crowded   the mean time of a run with twice as many busy processes as cores over that on the idle machine, beside
            onnxruntime, in turns in one process; onnxruntime spins on the idle machine alone, as is best for it
  shapes    resident memory over 10,000 runs with random batch sizes: what the last nine tenths add
  library   the stripped shared library, with the kernels of all instruction sets

Each has a limit; exit code 1 where one is exceeded. Times to the first run and peak memory are in benchmarks.models.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import model_feeds, model_path
from linnet import _measure
from linnet.demo._data import MODEL as DIGITS

ROOT = Path(__file__).resolve().parents[1]
IDLE_SECONDS = 5e-3
CROWDED = 1.1  # over onnxruntime's; two such measurements differ by this much
GROWTH_BYTES = 4e6
LIBRARY_BYTES = 3e6
LARGEST_BATCH = 8
CROWDS = 3


def opened(runtime: str, path: Path, threads: int, spinning: bool = True) -> Callable[[_measure.Feeds], Any]:
    """A run of the model. ``spinning`` is onnxruntime's option; Linnet's workers never spin between runs."""
    api = importlib.import_module(runtime)
    options = api.SessionOptions()
    options.intra_op_num_threads = threads
    if runtime == "onnxruntime" and not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = api.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return functools.partial(session.run, None)


def idle(model: str, threads: int) -> float:
    """Seconds of CPU time that the process takes in the second after some runs."""
    run, feeds = opened("linnet", model_path(model), threads), model_feeds(model)
    end = time.perf_counter() + 0.5
    while time.perf_counter() < end:
        run(feeds)
    before = time.process_time()
    time.sleep(1)
    return time.process_time() - before


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that do nothing but take a core."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.3)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def crowded(model: str, threads: int, seconds: float) -> dict[str, dict[str, float]]:
    """By runtime the mean seconds of a run ``alone`` and ``crowded``."""
    path, feeds = model_path(model), model_feeds(model)
    runtimes = [r for r in ("linnet", "onnxruntime") if importlib.util.find_spec(r)]
    calls = {
        spinning: {r: functools.partial(opened(r, path, threads, spinning), feeds) for r in runtimes}
        for spinning in (True, False)
    }
    alone: dict[str, list[float]] = {r: [] for r in runtimes}
    among: dict[str, list[float]] = {r: [] for r in runtimes}
    for _ in range(CROWDS):
        for name, times in _measure.interleaved(calls[True], seconds=seconds / CROWDS, rest=_measure.REST).items():
            alone[name] += list(times)
        with busy(2 * (os.cpu_count() or 1)):
            for name, times in _measure.interleaved(calls[False], seconds=2 * seconds / CROWDS).items():
                among[name] += list(times)
    return {r: {"alone": float(np.mean(alone[r])), "crowded": float(np.mean(among[r]))} for r in runtimes}


def shapes(model: str, threads: int, runs: int) -> dict[str, float]:
    """Bytes resident after a tenth of the runs and after all, and at the peak."""
    run, rng = opened("linnet", model_path(model), threads), np.random.default_rng(0)
    feeds = [model_feeds(model, batch) for batch in range(1, LARGEST_BATCH + 1)]
    early = 0
    for number in range(runs):
        run(feeds[int(rng.integers(LARGEST_BATCH))])
        if number == runs // 10:
            early = _measure.resident()
    return {"early": early, "late": _measure.resident(), "peak": _measure.peak_resident()}


def library(file: Path) -> int:
    """Bytes of ``file`` when it is stripped."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(file, folder))
        subprocess.run(["strip", "--strip-unneeded", copy.name], cwd=folder, check=True)
        return copy.stat().st_size


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)`` in a process of its own."""
    code = "import json, sys; from benchmarks import resources as r; n, a = json.loads(sys.argv[1]); "
    code += "json.dump(getattr(r, n)(*a), open(sys.argv[2], 'w'))"
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        task = json.dumps([function.__name__, arguments])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *(p for p in sys.path if p)])}
        subprocess.run([sys.executable, "-c", code, task, file.name], env=environment, check=True)
        return json.load(file)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.resources", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    build = Path(os.environ.get("LINNET_BUILD", ROOT / "build"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument(
        "model", nargs="?", default=str(DIGITS), help="zoo model or ONNX file with a free batch (digits)"
    )
    parser.add_argument("--threads", type=int, default=cores, help="default: all cores, %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="how long `crowded` measures each runtime (default: 5)"
    )
    parser.add_argument("--runs", type=int, default=10_000, help="of `shapes` (default: 10000)")
    parser.add_argument("--library", type=Path, default=build / "liblinnet.so", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to FILE")
    args = parser.parse_args(argv)
    if not model_path(args.model).exists():
        parser.error(f"{model_path(args.model)} is not there; build the zoo with  python -m benchmarks.zoo")
    found: dict[str, Any] = {}
    bad = []

    def say(name: str, figure: str, limit: str, kept: bool) -> None:
        print(f"{name:<9} {figure:<58} limit {limit:<20} {'kept' if kept else 'EXCEEDED'}", flush=True)
        bad.extend([] if kept else [name])

    taken = found["idle"] = apart(idle, args.model, args.threads)
    say(
        "idle",
        f"{_measure.duration(taken)} of CPU time in a second",
        _measure.duration(IDLE_SECONDS),
        taken <= IDLE_SECONDS,
    )

    times = found["crowded"] = apart(crowded, args.model, args.threads, args.seconds)
    slower = {name: t["crowded"] / t["alone"] for name, t in times.items()}
    figure = ", ".join(f"{name} {slower[name]:.2f} x {_measure.duration(t['alone'])}" for name, t in times.items())
    limit = CROWDED * slower.get("onnxruntime", float("inf"))
    say("crowded", figure, f"{limit:.2f} x", slower["linnet"] <= limit)

    try:
        model_feeds(args.model, LARGEST_BATCH)
        held = found["shapes"] = apart(shapes, args.model, args.threads, args.runs)
        grown = held["late"] - held["early"]
        figure = f"{_measure.size(max(grown, 0))} more, {_measure.size(held['peak'])} at the peak of {args.runs} runs"
        say("shapes", figure, _measure.size(GROWTH_BYTES), grown <= GROWTH_BYTES)
    except ValueError as error:
        print(f"shapes    not measured: {error}")

    if args.library.exists() and shutil.which("strip"):
        size = found["library"] = library(args.library)
        say(
            "library",
            f"{_measure.size(size)} in {args.library.name}",
            _measure.size(LIBRARY_BYTES),
            size <= LIBRARY_BYTES,
        )
    else:
        print(f"library   not measured: {args.library} or strip is not there")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
