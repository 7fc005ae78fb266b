"""Linnet against other runtimes on whole models: ``python -m benchmarks.models [names...] --threads 1,2``.

A name is a zoo model (see ``benchmarks.zoo``) or the path of an ONNX file. All runtimes are measured in one process in
short turns (see ``linnet._measure``); the tables give the medians of all runs, and a ratio below 1 means Linnet is
faster. Outputs are compared before anything is timed: a runtime that is wrong has no speed. Opening, the first run and
the peak of memory are measured in fresh processes; memory is the peak less what Python and numpy hold by themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import report
from benchmarks.peers import PEERS
from benchmarks.zoo import ZOO, Feeds, feeds, folder
from linnet import _measure

Array = npt.NDArray[np.generic]
BOUND = 1e-4
"""How far Linnet may be off; what another runtime is off by more is noted."""
WRONG = 1e-2
"""A runtime that is off by more computes something else."""


def model_path(name: str) -> Path:
    return folder() / ZOO[name].file if name in ZOO else Path(name)


def models_there(names: list[str]) -> list[str]:
    """``names``, or the whole zoo when there are none; empty, and said so, when a file is missing."""
    models = names or [n for n in ZOO if model_path(n).exists()]
    absent = [n for n in models if not model_path(n).exists()]
    if absent or not models:
        print(
            f"not there: {', '.join(absent) or folder()}\nBuild the zoo with  python -m benchmarks.zoo", file=sys.stderr
        )
    return [] if absent else models


def model_feeds(name: str, batch: int = 1) -> Feeds:
    """Inputs for a zoo model, or for any ONNX file: free dimensions are 1, floats normal, integers 0 or 1.

    Raises ValueError where the model does not leave the batch free.
    """
    if name in ZOO:
        return feeds(name, **({} if batch == 1 else {"batch": batch}))
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
        if batch != 1:
            if not shape or tensor.shape.dim[0].dim_value:
                raise ValueError(f"{name}: the first dimension of {info.name} is not free")
            shape[0] = batch
        value = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
        out[info.name] = np.asarray(value, dtype)
    return out


def difference(got: list[Array], want: list[Array]) -> float:
    """The largest |got - want| over all outputs, each relative to the largest |want| of that output.

    Axes of size 1 do not count: converted models may have lost some.
    """
    if len(got) != len(want):
        return float("inf")
    worst = 0.0
    for a, b in zip(got, want, strict=True):
        if a.squeeze().shape != b.squeeze().shape or a.dtype.kind != b.dtype.kind:
            return float("inf")
        if b.size:
            left, right = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
            scale = float(np.abs(right).max()) or 1.0
            gap = float(np.abs(left - right).max()) / scale
            worst = max(worst, gap if np.isfinite(gap) else float("inf"))
    return worst


def measure(name: str, names: list[str], threads: int, seconds: float, fresh: int, batch: int = 1) -> dict[str, Any]:
    """One model at one thread count and batch: per runtime what was measured, or the error that kept it out.

    Times are in seconds, memory is in bytes; ``cold`` is opening and the first run in a fresh process.
    """
    path, inputs = model_path(name), model_feeds(name, batch)
    found: dict[str, dict[str, Any]] = {peer: {} for peer in names}
    starts: dict[str, list[dict[str, float]]] = {peer: [] for peer in names}
    path.read_bytes()  # into the system's cache: the first runtime would pay for the disk
    # Some runtimes crash on some models: that shows in a process of their own.
    others = [peer for peer in names if peer not in ("linnet", "onnxruntime")]
    for peer in names * fresh or others:
        if "error" not in found[peer]:
            try:
                starts[peer].append(_measure.fresh(PEERS[peer].name, path, inputs, threads))
            except RuntimeError as error:  # a runtime that cannot run a model is a result, too
                found[peer]["error"] = str(error).strip().splitlines()[-1][-500:]
    calls, outputs = {}, {}
    for peer in names:
        if "error" not in found[peer]:
            if starts[peer]:
                for key, of in (("open", ["open"]), ("cold", ["open", "first"]), ("memory", ["memory"])):
                    found[peer][key] = float(np.median([sum(s[k] for k in of) for s in starts[peer]]))
            try:
                run = PEERS[peer].open(path, threads)
                outputs[peer] = [np.array(y) for y in run(inputs)]
                calls[peer] = lambda run=run: run(inputs)
            except Exception as error:
                found[peer]["error"] = f"{type(error).__name__}: {error}"[:500]
    reference = next((outputs[p] for p in ("onnxruntime", "linnet") if p in outputs), None)
    for peer in list(calls):
        if reference is not None and outputs[peer] is not reference:
            gap = found[peer]["difference"] = difference(outputs[peer], reference)
            if gap > WRONG:
                found[peer]["error"] = f"wrong: it differs by {gap:.1e} of the largest output"
                del calls[peer]
    if calls:
        rest = _measure.REST if threads > 1 else 0.0
        for peer, times in _measure.interleaved(calls, seconds=seconds, rest=rest).items():
            found[peer].update(_measure.summary(times))
    return {"model": name, "threads": threads, "batch": batch, "peers": found}


def machine() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def native_output_to_stderr() -> None:
    """Runtimes write to the process's stdout: let that go to stderr, and what Python prints to the real stdout."""
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(real, "w", encoding="utf-8")


def counts(text: str) -> list[int]:
    values = [int(part) for part in text.split(",")]
    if min(values) < 1:
        raise ValueError
    return values


def problems(rows: list[dict[str, Any]]) -> list[str]:
    """What went wrong with Linnet, for which the command fails."""
    bad = []
    for row in rows:
        own = row["peers"]["linnet"]
        if "error" in own:
            bad.append(f"{row['model']}: linnet: {own['error']}")
        elif own.get("difference", 0.0) > BOUND:
            bad.append(f"{row['model']}: linnet differs by {own['difference']:.2e} of the largest output")
    return bad


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="model", help="zoo models or ONNX files (default: the whole zoo)")
    parser.add_argument("--threads", type=counts, default=[1], help="thread counts, such as 1,2 (default: 1)")
    parser.add_argument(
        "--batch", type=counts, default=[1], help="batch sizes, such as 1,8, for models that leave it free"
    )
    parser.add_argument("--peers", help=f"of {', '.join(PEERS)} (default: those installed)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each model is measured per runtime")
    parser.add_argument(
        "--fresh", type=int, default=3, metavar="N", help="fresh processes per runtime for the first run and memory (3)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured to FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="also draw the ratios (needs matplotlib)")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    args = parser.parse_args(argv)
    names = [n for n, p in PEERS.items() if p.installed] if args.peers is None else args.peers.split(",")
    names = list(dict.fromkeys(["linnet", *names]))
    unknown = [n for n in names if n not in PEERS]
    if unknown:
        parser.error(f"no such runtime: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    absent = [PEERS[n].package for n in names if not PEERS[n].installed]
    if absent:
        parser.error(f"not installed: pip install {' '.join(absent)}")
    models = models_there(args.names)
    if not models:
        return 2
    native_output_to_stderr()
    about = {"machine": machine(), "python": platform.python_version(), "numpy": np.__version__}
    about |= {n: PEERS[n].version for n in names}
    print(", ".join(f"{k} {v}" if k != "machine" else v for k, v in about.items()) + "\n", flush=True)
    rows: list[dict[str, Any]] = []
    fixed = []
    for model in models:
        for batch in args.batch:
            try:
                model_feeds(model, batch)
            except ValueError:
                fixed.append(model)
                continue
            for count in args.threads:
                label = f"{model}, {report.plural(count, 'thread')}" + (f", batch {batch}" if batch > 1 else "")
                print(f"measuring {label} ...", file=sys.stderr, flush=True)
                rows.append(measure(model, names, count, args.seconds, args.fresh, batch))
                if args.json:
                    args.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    print(report.tables(rows, names, args.markdown))
    print("\n" + "\n".join([*report.geometric_means(rows, names), *report.batches(rows, names)]))
    if fixed:
        print(f"Batch 1 alone, since the model is made for it: {', '.join(dict.fromkeys(fixed))}")
    notes = report.notes(rows, BOUND)
    print("\n".join(["", *notes]) if notes else "", end="\n" if notes else "")
    if args.picture:
        from benchmarks import picture

        picture.ratios(rows, names, about["machine"], args.picture)
    bad = problems(rows)
    print("\n".join(["", *bad]) if bad else "", end="\n" if bad else "", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
