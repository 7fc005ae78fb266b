"""``linnet bench``: how fast a model is, beside onnxruntime when that is installed."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from linnet import _core, _measure
from linnet._cli import _common, _text
from linnet._cli._compare import Comparison, compare
from linnet._info import get_version_string

_EPILOG = """\
examples:
  linnet bench model.onnx                          one thread and all threads, beside onnxruntime
  linnet bench model.onnx --threads 1,2,4 --seconds 5
  linnet bench model.onnx --shape batch=8 --against none

The runtimes take turns in short bursts, so that a change of clock speed hits both, on the same random inputs. "ratio"
is Linnet's median over the other's: below 1 Linnet is faster. Memory is what opening the model and running it add to a
fresh process.
"""


@dataclass
class Row:
    """One runtime at one number of threads; seconds and bytes."""

    runtime: str
    threads: int
    load: float
    first: float
    times: _measure.Seconds = field(default_factory=lambda: np.zeros(0))
    memory: int | None = None


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "bench",
        help="latency by number of threads, beside onnxruntime",
        description="Measure how fast a model is, beside onnxruntime when that is installed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _common.add_model_arguments(parser)
    _common.add_seed(parser)
    parser.add_argument(
        "--threads", type=_common.thread_counts, metavar="1,2", help="numbers of threads (default: 1 and all CPUs)"
    )
    parser.add_argument(
        "--seconds", type=_common.positive, default=2.0, metavar="S", help="for each measurement (default: 2)"
    )
    parser.add_argument(
        "--against",
        choices=["auto", "onnxruntime", "none"],
        default="auto",
        help="what to compare with (default: onnxruntime if it is installed)",
    )
    parser.add_argument("--no-memory", action="store_true", help="do not measure the memory")
    parser.set_defaults(function=bench)


def bench(args: argparse.Namespace) -> int:
    """Does it; 1 when the outputs differ."""
    installed = importlib.util.find_spec("onnxruntime") is not None
    if args.against == "onnxruntime" and not installed:
        raise _common.UsageError("onnxruntime is not installed: pip install onnxruntime")
    runtimes = ["linnet"] + (["onnxruntime"] if installed and args.against != "none" else [])
    threads = args.threads or sorted({1, _core.available_cpus()})
    session = _common.open_model(args.model, 1)
    shapes = _common.resolve_shapes(session, args.shape)
    feeds = _common.random_feeds(session, shapes, args.seed, {})
    names = [o.name for o in session.get_outputs()]
    del session

    rows: list[Row] = []
    checks: dict[str, Comparison] = {}
    failed: dict[str, str] = {}
    for count in threads:
        outputs: dict[str, list[Any]] = {}
        calls = {}
        turn: list[Row] = []
        for runtime in runtimes:
            if runtime in failed:
                continue
            _text.progress(f"opening with {runtime}, {count} threads ...")
            try:
                row, run = _open(runtime, args.model, count, feeds)
                outputs[runtime] = run()
            except Exception as error:
                if runtime == "linnet":
                    raise
                failed[runtime] = str(error).strip().splitlines()[0][:200]
                continue
            calls[runtime] = run
            turn.append(row)
        if len(outputs) == 2 and not checks:
            pairs = zip(names, *outputs.values(), strict=True)
            checks = {name: compare(own, other, 1e-4) for name, own, other in pairs}
        _text.progress(f"timing on {count} threads, about {args.seconds * len(turn):.0f} s ...")
        times = _measure.interleaved(calls, seconds=args.seconds, rest=_measure.REST if count > 1 else 0.0)
        for row in turn:
            row.times = times[row.runtime]
            if not args.no_memory:
                _text.progress(f"memory of {row.runtime} ...")
                row.memory = _memory(row.runtime, args.model, feeds, count)
        rows += turn
    _text.progress("")
    same = all(check.passed for check in checks.values())
    versions = {name: _version(name) for name in runtimes}
    if args.json:
        _text.print_json(
            {
                "model": args.model,
                "versions": versions,
                "kernel_table": _core.isa(),
                "shapes": shapes.by_input,
                "assumed_free_dimensions": shapes.assumed,
                "rows": [
                    {
                        "runtime": r.runtime,
                        "threads": r.threads,
                        "load_seconds": r.load,
                        "first_run_seconds": r.first,
                        "latency_seconds": _measure.summary(r.times),
                        "memory_bytes": r.memory,
                        "ratio": _ratio(r, rows),
                    }
                    for r in rows
                ],
                "outputs": {name: vars(check) for name, check in checks.items()},
                "failed": failed,
                "same_outputs": same,
            }
        )
        return 0 if same else 1
    print(f"{args.model}: {' against '.join(f'{n} {v}' for n, v in versions.items())}, kernels {_core.isa()}")
    if _common.assumption_text(shapes):
        print(_common.assumption_text(shapes))
    print()
    head = ["runtime", "threads", "p50", "p90", "p99", "ratio", "runs", "load", "first run", "memory"]
    table = []
    for row in rows:
        summary = _measure.summary(row.times)
        ratio = _ratio(row, rows)
        table.append(
            [
                row.runtime,
                str(row.threads),
                *(_measure.duration(summary[p]) for p in ("p50", "p90", "p99")),
                f"{ratio:.2f}" if ratio else "",
                str(int(summary["runs"])),
                _measure.duration(row.load),
                _measure.duration(row.first),
                _measure.size(row.memory) if row.memory is not None else "",
            ]
        )
    print(_text.table(head, table))
    for runtime, message in failed.items():
        print(f"\n{runtime} does not run this model: {message}")
    if checks:
        print("\nOutputs agree" if same else "\nOutputs DIFFER")
        for name, check in checks.items():
            print(f"  {name}: {check.text}")
    elif len(runtimes) == 1 and args.against == "auto":
        print("\nTo see onnxruntime beside it: pip install onnxruntime")
    return 0 if same else 1


def _open(runtime: str, path: str, threads: int, feeds: dict[str, Any]) -> tuple[Row, Any]:
    open_model = _measure.runtime(runtime)
    started = time.perf_counter()
    call = open_model(Path(path), threads)
    load = time.perf_counter() - started
    started = time.perf_counter()
    call(feeds)
    return Row(runtime, threads, load, time.perf_counter() - started), lambda: call(feeds)


def _ratio(row: Row, rows: list[Row]) -> float | None:
    """Linnet's median over the other runtime's at as many threads."""
    other = [r for r in rows if r.threads == row.threads and r.runtime != row.runtime]
    if row.runtime != "linnet" or not other:
        return None
    return float(np.median(row.times) / np.median(other[0].times))


def _memory(runtime: str, path: str, feeds: dict[str, Any], threads: int) -> int | None:
    try:
        return _measure.memory(runtime, path, feeds, threads)
    except (RuntimeError, ValueError):  # inputs that no file can carry to the other process, such as sequences
        return None


def _version(runtime: str) -> str:
    if runtime == "linnet":
        return get_version_string()
    return str(importlib.import_module(runtime).__version__)
