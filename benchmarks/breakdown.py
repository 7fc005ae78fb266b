"""Where each model's time goes, and how far it is from the machine's limit: ``python -m benchmarks.breakdown``.

"At peak" is the time that the model's multiply-adds take at the rate this machine reaches in registers, as if nothing
had to be fetched or activated; Winograd needs fewer multiply-adds than are counted, so its share may exceed 100 %.
The last column names the kinds of steps that take 3 % and more: their part of the time, and their share of the peak.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict

import numpy as np

import linnet
from benchmarks.models import machine, model_feeds, model_path, models_there
from linnet import _core, _measure
from linnet._cli import _profile

KINDS = {"GEMM": "1×1", "indirect": "conv", "Winograd": "Winograd", "depthwise": "depthwise", "bands": "1×1+depthwise"}
LEAST = 0.03


def breakdown(name: str, threads: int, seconds: float, peak: float) -> list[str]:
    """One row of the table: model, milliseconds, at peak, share, kinds of steps."""
    options = linnet.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    session = linnet.InferenceSession(str(model_path(name)), options)
    feeds = model_feeds(name)
    steps, runs = _profile.measure(session, feeds, seconds)
    steps = [s for s in steps if s.depth == 0]
    plan = _core.plan(session._core, {k: list(v.shape) for k, v in feeds.items()})
    nodes = [n for n in plan["nodes"] if n["step"] != "view" and "/" not in n["op"]]
    time: dict[str, float] = defaultdict(float)
    work: dict[str, int] = defaultdict(int)
    for step, node in zip(steps, nodes, strict=True):
        kind = KINDS.get(node["algorithm"].split(" ")[0].rstrip(","), step.op)
        time[kind] += step.microseconds
        work[kind] += step.macs
    total, macs, run = sum(time.values()), sum(work.values()), float(np.median(runs))
    ideal = 2e-9 * macs / peak
    parts = []
    for kind in sorted(time, key=lambda k: -time[k]):
        if time[kind] >= LEAST * total:
            share = 2e-3 * work[kind] / time[kind] / peak
            parts.append(
                f"{kind} {100 * time[kind] / total:.0f} %" + (f" at {100 * share:.0f} %" if share > 0.01 else "")
            )
    return [
        name,
        _measure.duration(run),
        _measure.duration(ideal),
        f"{100 * ideal / run:.0f} %",
        ", ".join(parts),
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.breakdown", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="model", help="zoo models or ONNX files (default: the whole zoo)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: 1)")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each model is measured")
    args = parser.parse_args(argv)
    models = models_there(args.names)
    if not models:
        return 2
    peak = _core.measure_peak(args.threads)
    print(f"{machine()}, kernels {_core.isa()}, {args.threads} used, peak {peak:.0f} GFLOP/s\n")
    print("| model | run | at peak | share | kinds of steps: part of the time, share of the peak |")
    print("|:--|--:|--:|--:|:--|")
    for name in models:
        print("| " + " | ".join(breakdown(name, args.threads, args.seconds, peak)) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
