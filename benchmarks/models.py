"""Linnet against other runtimes on whole models: ``python -m benchmarks.models [names...] --threads 1,2``.

A name is a zoo model (see ``benchmarks.zoo``) or the path of an ONNX file. All runtimes are measured in one process in
short turns (see ``linnet._measure``); the table gives the median of all runs, and a ratio below 1 means Linnet is
faster. Outputs are compared before anything is timed: a runtime that is wrong has no speed. Memory is the peak
of a child process that loads the model and runs it, less what Python and numpy hold by themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import peers
from benchmarks.zoo import ZOO, Feeds, feeds, folder
from linnet import _measure

Array = npt.NDArray[np.generic]
BOUND = 1e-4
OPENINGS = 3


def model_path(name: str) -> Path:
    return folder() / ZOO[name].file if name in ZOO else Path(name)


def model_feeds(name: str) -> Feeds:
    """Inputs for a zoo model, or for any ONNX file: free dimensions are 1, floats normal, integers 0 or 1."""
    if name in ZOO:
        return feeds(name)
    import onnx

    model = onnx.load(name, load_external_data=False)
    held = {t.name for t in model.graph.initializer}
    rng = np.random.default_rng(0)
    out: Feeds = {}
    for info in model.graph.input:
        if info.name in held:
            continue
        tensor = info.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        shape = [d.dim_value or 1 for d in tensor.shape.dim]
        value = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
        out[info.name] = np.asarray(value, dtype)
    return out


def difference(got: list[Array], want: list[Array]) -> float:
    """The largest |got - want| over all outputs, each relative to the largest |want| of that output."""
    worst = 0.0
    for a, b in zip(got, want, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return float("inf")
        if b.size:
            left, right = a.astype(np.float64), b.astype(np.float64)
            scale = float(np.abs(right).max()) or 1.0
            gap = float(np.abs(left - right).max()) / scale
            worst = max(worst, gap if np.isfinite(gap) else float("inf"))
    return worst


def measure(name: str, names: list[str], threads: int, seconds: float, memory: bool) -> dict[str, Any]:
    """One model at one thread count: per peer the times in seconds, peak memory in bytes, largest difference."""
    path, inputs = model_path(name), model_feeds(name)
    rest = _measure.REST if threads > 1 else 0.0
    row: dict[str, Any] = {"model": name, "threads": threads, "peers": {}}
    calls, outputs = {}, {}
    opened: dict[str, list[float]] = {peer: [] for peer in names}
    for peer in names * OPENINGS:
        start = time.perf_counter()
        try:
            run = peers.PEERS[peer](path, threads)
            opened[peer].append(time.perf_counter() - start)
            if len(opened[peer]) == OPENINGS:
                outputs[peer] = run(inputs)
        except Exception as error:  # a peer that cannot run a model is a result, too
            row["peers"][peer] = {"error": f"{type(error).__name__}: {error}"[:500]}
            continue
        if len(opened[peer]) == OPENINGS:
            row["peers"][peer] = {"open": float(np.median(opened[peer]))}
            calls[peer] = lambda run=run: run(inputs)
    reference = outputs.get("onnxruntime")
    for peer in calls:
        if reference is not None and peer != "onnxruntime":
            row["peers"][peer]["difference"] = difference(outputs[peer], reference)
    if calls:
        for peer, times in _measure.interleaved(calls, seconds=seconds, rest=rest).items():
            row["peers"][peer].update(_measure.summary(times))
    if memory:
        for peer in calls:
            row["peers"][peer]["memory"] = _measure.memory(peers.opener(peer), path, inputs, threads)
    return row


def table(rows: list[dict[str, Any]], names: list[str], markdown: bool) -> str:
    """The results as a table in plain text or in Markdown."""
    others = [n for n in names if n != "linnet"]
    head = ["model", "threads", *(f"{n} p50" for n in names), *(f"linnet/{n}" for n in others)]
    head += ["max diff", *(f"{n} open" for n in names), *(f"{n} memory" for n in names)]
    body = []
    for row in rows:
        by = row["peers"]

        def cell(peer: str, key: str, show: Any, by: dict[str, Any] = by) -> str:
            return show(by[peer][key]) if key in by[peer] else "failed" if key == "p50" else "-"

        line = [Path(row["model"]).stem, str(row["threads"])]
        line += [cell(n, "p50", _measure.duration) for n in names]
        for other in others:
            both = "p50" in by["linnet"] and "p50" in by[other]
            line.append(f"{by['linnet']['p50'] / by[other]['p50']:.2f}" if both else "-")
        gap = by["linnet"].get("difference")
        line.append("-" if gap is None else f"{gap:.1e}" + (" !" if gap > BOUND else ""))
        line += [cell(n, "open", _measure.duration) for n in names]
        line += [cell(n, "memory", _measure.size) for n in names]
        body.append(line)
    widths = [max(len(r[i]) for r in [head, *body]) for i in range(len(head))]
    left, right = ("| ", " |") if markdown else ("", "")
    between = " | " if markdown else "  "

    def render(cells: list[str]) -> str:
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return left + between.join(padded) + right

    rule = "|" + "|".join(":" + "-" * (w + 1) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    plain_rule = "-" * len(render(head))
    return "\n".join([render(head), rule if markdown else plain_rule, *map(render, body)])


def geometric_means(rows: list[dict[str, Any]], names: list[str]) -> list[str]:
    lines = []
    for other in names:
        for threads in sorted({r["threads"] for r in rows}):
            found = [r["peers"] for r in rows if r["threads"] == threads]
            ratios = [p["linnet"]["p50"] / p[other]["p50"] for p in found if "p50" in p["linnet"] and "p50" in p[other]]
            if other != "linnet" and ratios:
                mean = float(np.exp(np.mean(np.log(ratios))))
                lines.append(
                    f"linnet/{other}, {threads} thread{'s' if threads > 1 else ''}: "
                    f"geometric mean {mean:.2f}, worst {max(ratios):.2f}, over {len(ratios)} models"
                )
    return lines


def machine() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="model", help="zoo models or ONNX files (default: the whole zoo)")
    parser.add_argument("--threads", default="1", help="thread counts, such as 1,2 (default: 1)")
    parser.add_argument("--peers", default="linnet,onnxruntime", help=f"of {', '.join(peers.PEERS)}")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each model is measured per runtime")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured to FILE")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--no-memory", action="store_true", help="do not measure peak memory in child processes")
    args = parser.parse_args(argv)
    names = list(dict.fromkeys(["linnet", *args.peers.split(",")]))
    unknown = [n for n in names if n not in peers.PEERS]
    if unknown:
        parser.error(f"no such runtime: {', '.join(unknown)}; there are {', '.join(peers.PEERS)}")
    models = args.names or [n for n in ZOO if model_path(n).exists()]
    absent = [n for n in models if not model_path(n).exists()]
    if absent or not models:
        print(
            f"not there: {', '.join(absent) or folder()}\nBuild the zoo with  python -m benchmarks.zoo", file=sys.stderr
        )
        return 2
    threads = [int(t) for t in args.threads.split(",")]
    about = {"machine": machine(), "python": platform.python_version(), "numpy": np.__version__}
    about |= {n: peers.version(n) for n in names}
    print(", ".join(f"{k} {v}" if k != "machine" else v for k, v in about.items()) + "\n", flush=True)
    rows = []
    for model in models:
        for count in threads:
            print(f"measuring {model} with {count} thread{'s' if count > 1 else ''} ...", file=sys.stderr, flush=True)
            rows.append(measure(model, names, count, args.seconds, not args.no_memory))
            if args.json:
                args.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    print(table(rows, names, args.markdown))
    print("\n" + "\n".join(geometric_means(rows, names)))
    bad = [f"{r['model']}: {p}: {v['error']}" for r in rows for p, v in r["peers"].items() if "error" in v]
    bad += [
        f"{r['model']}: linnet differs by {r['peers']['linnet']['difference']:.2e} of the largest output"
        for r in rows
        if r["peers"]["linnet"].get("difference", 0.0) > BOUND
    ]
    print("\n".join(["", *bad]) if bad else "", end="\n" if bad else "")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
