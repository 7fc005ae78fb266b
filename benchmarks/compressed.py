"""Quantized and pruned models: ``python -m benchmarks.compressed [names...] --threads 1,2``.

Each file (see ``benchmarks.zoo.compressed``) is measured in Linnet and in onnxruntime, and so is the float32 model that
it was made of, all in one process in short turns. ``of float`` is Linnet's time over its own for the float32 model:
below 1 compressing paid. ``max diff`` is Linnet's largest difference to onnxruntime on the same file, relative to the
largest output: quantized results may be a step apart where two runtimes round a sum of floats differently.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import models, report
from benchmarks.peers import PEERS
from benchmarks.zoo import feeds
from benchmarks.zoo.compressed import FORMS, form_path
from linnet import _measure

BOUND = 0.1
"""Of the largest output: more than single steps of quantization add up to."""


def measure(name: str, threads: int, seconds: float) -> dict[str, Any]:
    """Medians in seconds: ``linnet``, ``onnxruntime`` (the same file), ``float`` (Linnet, the float32 model)."""
    form = FORMS[name]
    inputs = feeds(form.base)
    path, base = form_path(name), models.model_path(form.base)
    runs = {
        "linnet": PEERS["linnet"].open(path, threads),
        "onnxruntime": PEERS["onnxruntime"].open(path, threads),
        "float": PEERS["linnet"].open(base, threads),
    }
    got, want = runs["linnet"](inputs), runs["onnxruntime"](inputs)
    calls = {key: lambda run=run: run(inputs) for key, run in runs.items()}
    rest = _measure.REST if threads > 1 else 0.0
    times = _measure.interleaved(calls, seconds=seconds, rest=rest)
    row: dict[str, Any] = {key: _measure.summary(value) for key, value in times.items()}
    sizes = {"bytes": path.stat().st_size, "float_bytes": base.stat().st_size}
    return {"model": name, "threads": threads, "difference": models.difference(got, want), **sizes, **row}


def table(rows: list[dict[str, Any]], markdown: bool) -> str:
    head = ["model", "threads", "linnet", "onnxruntime", "linnet/onnxruntime", "linnet float32", "of float", "size"]
    body = []
    for row in rows:
        own, peer, real = (row[key]["p50"] for key in ("linnet", "onnxruntime", "float"))
        body.append(
            [
                row["model"],
                str(row["threads"]),
                _measure.duration(own),
                _measure.duration(peer),
                f"{own / peer:.2f}",
                _measure.duration(real),
                f"{own / real:.2f}",
                f"{row['bytes'] / row['float_bytes']:.2f}",
                f"{row['difference']:.1e}",
            ]
        )
    return report.table([*head, "max diff"], body, markdown)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compressed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="model", help=f"default: those there of {', '.join(FORMS)}")
    parser.add_argument("--threads", type=models.counts, default=[1], help="thread counts, such as 1,2 (default: 1)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each candidate is measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured to FILE")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    args = parser.parse_args(argv)
    unknown = [n for n in args.names if n not in FORMS]
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(FORMS)}")
    names = args.names or [n for n in FORMS if form_path(n).exists()]
    absent = [n for n in names if not form_path(n).exists()]
    if absent or not names:
        print(
            f"not there: {', '.join(absent) or 'any'}\nMake them with  python -m benchmarks.zoo.compressed",
            file=sys.stderr,
        )
        return 2
    from linnet import _core

    about = {"machine": models.machine(), "python": platform.python_version(), "numpy": np.__version__}
    about |= {"kernels": _core.isa(), **{n: PEERS[n].version for n in ("linnet", "onnxruntime")}}
    print(", ".join(f"{k} {v}" if k != "machine" else v for k, v in about.items()) + "\n", flush=True)
    rows = []
    for name in names:
        for count in args.threads:
            print(f"measuring {name}, {report.plural(count, 'thread')} ...", file=sys.stderr, flush=True)
            rows.append(measure(name, count, args.seconds))
            if args.json:
                args.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    print(table(rows, args.markdown))
    bad = [r for r in rows if r["difference"] > BOUND]
    for row in bad:
        print(f"{row['model']}: linnet differs by {row['difference']:.1e} of the largest output", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
