"""``linnet profile``: where the time of a run goes, step by step."""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linnet import _core, _measure
from linnet._cli import _common, _text
from linnet._session import InferenceSession

_EPILOG = """\
examples:
  linnet profile model.onnx                            the slowest steps, and totals by operator
  linnet profile model.onnx --all                      every step, in the order they run
  linnet profile model.onnx --threads 1 --trace t.json   then open t.json at https://ui.perfetto.dev

Times are medians over the runs. "of peak" compares a step's multiply-adds with what this machine reaches in registers
on as many threads; steps without multiply-adds are limited by memory, which GB/s (bytes read and written) shows.
"""


@dataclass
class Step:
    """One step: times in microseconds; ``depth`` above 0 is a step inside the one before it."""

    op: str
    name: str
    shapes: str
    microseconds: float
    macs: int
    bytes: int
    depth: int = 0
    calls: int = 1


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "profile",
        help="a step-by-step table of times, and a trace",
        description="Show where the time of a run goes, step by step.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _common.add_model_arguments(parser)
    _common.add_seed(parser)
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="threads (default: all CPUs)")
    parser.add_argument("--seconds", type=_common.positive, default=2.0, metavar="S", help="how long (default: 2)")
    parser.add_argument("--top", type=int, default=25, metavar="N", help="show the N slowest steps (default: 25)")
    parser.add_argument("--all", action="store_true", help="show all steps, in the order they run")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write a trace for Perfetto (the last three runs)")
    parser.set_defaults(function=profile)


def measure(session: InferenceSession, feeds: dict[str, Any], seconds: float) -> tuple[list[Step], list[float]]:
    """The steps with their median times, and the durations of whole runs in seconds."""
    for _ in range(3):
        session.run(None, feeds)
    skipped = len(session.profile())
    runs: list[float] = []
    started = time.perf_counter()
    while len(runs) < 5 or (time.perf_counter() - started < seconds and len(runs) < 1000):
        before = time.perf_counter()
        session.run(None, feeds)
        runs.append(time.perf_counter() - before)
        _text.progress(f"run {len(runs)} ...")
    _text.progress("")
    return summarise(session.profile()[skipped:]), runs


def summarise(events: list[dict[str, Any]]) -> list[Step]:
    """Events of several runs to steps: medians over runs; the calls of a loop's body are added up within a run."""
    # A step is known by its place: the how-many-th of this depth, operator and name within the top step that holds it.
    times: dict[tuple[Any, ...], dict[int, float]] = defaultdict(lambda: defaultdict(float))
    calls: dict[tuple[Any, ...], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    sample: dict[tuple[Any, ...], dict[str, Any]] = {}
    by_run: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        by_run[event["run"]].append(event)
    order: dict[tuple[Any, ...], None] = {}
    for run, steps in by_run.items():
        place = 0
        inner: list[tuple[Any, ...]] = []
        for event in steps:  # a body's steps end, and are recorded, before the step that holds them
            if event["depth"]:
                key: tuple[Any, ...] = (place, event["depth"], event["op"], event["name"])
                inner.append(key)
            else:
                key = (place, 0, event["op"], event["name"])
                order.setdefault(key)
                for other in inner:
                    order.setdefault(other)
                inner = []
                place += 1
            times[key][run] += event["duration_us"]
            calls[key][run] += 1
            sample.setdefault(key, event)
    return [
        Step(
            op=key[2],
            name=key[3],
            shapes=sample[key]["shapes"],
            microseconds=float(np.median(list(times[key].values()))),
            macs=sample[key]["macs"],
            bytes=sample[key]["bytes"],
            depth=key[1],
            calls=int(np.median(list(calls[key].values()))),
        )
        for key in order
    ]


def by_operator(steps: list[Step]) -> list[tuple[str, int, float, int]]:
    """(operator, steps, microseconds, multiply-adds), slowest first; steps inside others are not counted again."""
    found: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        if step.depth == 0:
            found[step.op].append(step)
    rows = [(op, len(s), sum(x.microseconds for x in s), sum(x.macs for x in s)) for op, s in found.items()]
    return sorted(rows, key=lambda row: -row[2])


def profile(args: argparse.Namespace) -> int:
    """Does it."""
    if args.threads < 0 or args.top < 1:
        raise _common.UsageError("--threads and --top start at 1")
    threads = args.threads or _core.available_cpus()
    session = _common.open_model(args.model, threads, profile=True)
    shapes = _common.resolve_shapes(session, args.shape)
    feeds = _common.random_feeds(session, shapes, args.seed, {})
    peak = _core.measure_peak(threads)
    steps, runs = measure(session, feeds, args.seconds)
    total = sum(step.microseconds for step in steps if step.depth == 0)
    if args.trace:
        write_trace(session, args.trace)
    if args.json:
        _text.print_json(
            {
                "model": args.model,
                "threads": threads,
                "kernel_table": _core.isa(),
                "peak_gflops": peak,
                "shapes": shapes.by_input,
                "runs": len(runs),
                "run_seconds": float(np.median(runs)),
                "steps_microseconds": total,
                "steps": [{**vars(s), "gflops": _rate(s.macs, s.microseconds)} for s in steps],
                "operators": [
                    {"op": op, "steps": n, "microseconds": us, "macs": macs} for op, n, us, macs in by_operator(steps)
                ],
            }
        )
        return 0
    print(
        f"{args.model}: {_measure.duration(float(np.median(runs)))} a run on {threads} thread{'s'[: threads > 1]}, "
        f"{_measure.duration(total * 1e-6)} of it in {sum(s.depth == 0 for s in steps)} steps, the rest mostly in "
        f"recording them (medians of {len(runs)} runs, kernels {_core.isa()}, peak {peak:.0f} GFLOP/s)"
    )
    if _common.assumption_text(shapes):
        print(_common.assumption_text(shapes))
    shown = steps if args.all else sorted(steps, key=lambda s: -s.microseconds)[: args.top]
    print("\nSteps" if args.all or len(steps) <= args.top else f"\nThe {args.top} slowest of {len(steps)} steps")
    rows = [
        [
            "  " * s.depth + s.op,
            _text.shorten(s.name, 32),
            _text.shorten(s.shapes, 52),
            f"×{s.calls}" if s.calls > 1 else "",
            f"{s.microseconds:.1f}",
            f"{100 * s.microseconds / total:.1f}" if total else "",
            *_rates(s.macs * s.calls, s.microseconds, peak),
            f"{s.bytes * s.calls / s.microseconds / 1e3:.1f}" if s.microseconds else "",
        ]
        for s in shown
    ]
    head = ["op", "name", "shapes", "calls", "µs", "%", "GFLOP/s", "of peak", "GB/s"]
    print(_text.table(head, rows, left=(0, 1, 2)))
    print("\nBy operator")
    rows = [
        [op, str(n), f"{us:.1f}", f"{100 * us / total:.1f}" if total else "", *_rates(macs, us, peak)]
        for op, n, us, macs in by_operator(steps)
    ]
    print(_text.table(["op", "steps", "µs", "%", "GFLOP/s", "of peak"], rows))
    if args.trace:
        print(f"\nTrace written to {args.trace}: open it at https://ui.perfetto.dev")
    return 0


def _rate(macs: int, microseconds: float) -> float:
    return 2e-3 * macs / microseconds if microseconds else 0.0


def _rates(macs: int, microseconds: float, peak: float) -> list[str]:
    rate = _rate(macs, microseconds)
    return [f"{rate:.1f}", f"{100 * rate / peak:.0f} %"] if rate else ["", ""]


def write_trace(session: InferenceSession, path: Path, runs: int = 3) -> None:
    """Writes the last runs in Chrome's trace format."""
    events = json.loads(session._core.trace_json())
    last = max((e["args"]["run"] for e in events), default=0)
    path.write_text(json.dumps([e for e in events if e["args"]["run"] > last - runs]), encoding="utf-8")
