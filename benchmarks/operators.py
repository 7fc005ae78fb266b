"""Every operator alone, Linnet against onnxruntime: ``python -m benchmarks.operators``.

Each case is a model of one node at the sizes of real models (see ``benchmarks.operator_cases``), run by both runtimes
in turns on the same threads; outputs are compared before anything is timed. A ratio is Linnet's median over
onnxruntime's, so below 1 Linnet is faster. Both times hold what a call from Python costs, some microseconds.

Names choose cases by what they begin with: ``python -m benchmarks.operators Conv Resize``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import linnet
from benchmarks import operator_cases
from benchmarks.operator_cases import Case
from benchmarks.report import table
from linnet import _core, _measure

Result = dict[str, Any]
PEER = "onnxruntime"


def difference(case: Case, own: list[Any], other: list[Any]) -> float:
    """The largest difference, relative to the largest finite value of an output and in units of the tolerance."""
    largest = 0.0
    for a, b in zip(own, other, strict=True):
        if a.shape != b.shape:
            return math.inf
        x, y = a.astype(np.float64), b.astype(np.float64)
        if not np.array_equal(np.isfinite(x), np.isfinite(y)):
            return math.inf
        finite = np.isfinite(x)
        if not finite.any():
            continue
        # Quantized outputs may be off by steps: their tolerance is a number of them.
        unit = 1.0 if case.tolerance >= 1 else max(1e-30, float(np.abs(y[finite]).max()))
        largest = max(largest, float(np.abs(x[finite] - y[finite]).max()) / unit)
    return largest / case.tolerance


def measured(case: Case, threads: int, seconds: float, rounds: int) -> Result:
    """Medians of both runtimes in seconds, or why onnxruntime has none."""
    result: Result = {"case": case.name, "op": case.op, "threads": threads}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(case.model().SerializeToString())
        try:
            own = _measure.runtime("linnet")(path, threads)
        except linnet.LinnetError as error:
            return {**result, "failed": f"wrong: {error}".splitlines()[0]}
        try:
            other = _measure.runtime(PEER)(path, threads)
            expected = other(case.feeds)
        except Exception as error:  # a peer that lacks the operator is a result
            return {**result, "failed": str(error).splitlines()[0]}
    feeds = case.feeds
    off = difference(case, own(feeds), expected)
    if off > 1:
        return {**result, "failed": f"wrong: the outputs differ by {off:.1f} times the tolerance of {case.tolerance:g}"}
    calls = {"linnet": lambda: own(feeds), PEER: lambda: other(feeds)}
    rest = _measure.REST if threads > 1 else 0.0
    # The better of several medians for each: a neighbour's burst lasts longer than a round.
    for _ in range(rounds):
        for name, times in _measure.interleaved(calls, seconds=seconds, burst=seconds / 5, rest=rest).items():
            result[name] = min(result.get(name, math.inf), float(np.median(times)))
    result["ratio"] = result["linnet"] / result[PEER]
    return result


def report(results: list[Result], slowest: int, markdown: bool) -> str:
    """The slowest cases, the geometric mean and how many are slower, and what could not be compared."""
    lines = []
    for threads in dict.fromkeys(r["threads"] for r in results):
        rows = sorted(
            (r for r in results if "ratio" in r and r["threads"] == threads), key=lambda r: -float(r["ratio"])
        )
        if not rows:
            continue
        shown = rows[:slowest] if slowest else rows
        cells = [
            [r["case"], _measure.duration(r["linnet"]), _measure.duration(r[PEER]), f"{r['ratio']:.2f}"] for r in shown
        ]
        head = ["case", "linnet", PEER, f"linnet/{PEER}"]
        ratios = np.array([r["ratio"] for r in rows])
        lines += [
            f"{len(rows)} cases of {len({r['op'] for r in rows})} operators, threads: {threads}. Ratio: geometric mean "
            f"{np.exp(np.log(ratios).mean()):.2f}, median {np.median(ratios):.2f}; slower than {PEER} in "
            f"{int((ratios > 1).sum())}, more than 1.5 times in {int((ratios > 1.5).sum())}.",
            f"The {len(shown)} slowest:\n" if slowest else "",
            table(head, cells, markdown),
            "",
        ]
    failed = {r["case"]: r["failed"] for r in results if "failed" in r}
    if failed:
        lines.append("Not compared:")
        lines += [f"  {case}: {why[:150]}" for case, why in failed.items()]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.operators", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="cases whose names begin so (default: all)")
    parser.add_argument("--threads", default="1", help="thread counts, such as 1,2 (default: %(default)s)")
    parser.add_argument("--slowest", type=int, default=10, help="how many rows to show, 0: all (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.1, help="of each round and runtime (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="the best median of so many counts (default: %(default)s)"
    )
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured to FILE")
    args = parser.parse_args(argv)
    chosen = [c for c in operator_cases.cases() if not args.names or c.name.startswith(tuple(args.names))]
    if not chosen:
        parser.error(f"no case begins with {' or '.join(args.names)}")
    versions = ", ".join([f"linnet {linnet.__version__} ({_core.isa()})", f"{PEER} {importlib.metadata.version(PEER)}"])
    results: list[Result] = []
    start = time.monotonic()
    for threads in map(int, args.threads.split(",")):
        for i, case in enumerate(chosen):
            if sys.stderr.isatty():
                print(f"\r\033[K{i + 1}/{len(chosen)} {case.name}", end="", file=sys.stderr, flush=True)
            results.append(measured(case, threads, args.seconds, args.rounds))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(f"{versions}; {time.monotonic() - start:.0f} s\n\n{report(results, args.slowest, args.markdown)}")
    if args.json:
        args.json.write_text(json.dumps({"versions": versions, "results": results}, indent=1) + "\n")
    wrong = [r for r in results if r.get("failed", "").startswith("wrong")]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
