"""Quantized and pruned models: ``python -m benchmarks.compressed [names...] --threads 1,2``.

Each file (see ``benchmarks.zoo.compressed``) is measured in Linnet and in onnxruntime, and so is the float32 model that
it was made of, all in one process in short turns. ``of float`` is Linnet's time over its own for the float32 model:
below 1 compressing paid. The errors are those of the compressed file's outputs against the float32 model's, root mean
square over root mean square, in either runtime: weights are random, so their size says little, but they must agree.
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

BOUND = 1.2
"""How much larger Linnet's error may be than onnxruntime's: single steps of quantization fall differently."""


def error(got: list[models.Array], want: list[models.Array]) -> float:
    """Root mean square of the difference over that of ``want``, over all outputs."""
    off = sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in zip(got, want, strict=True))
    return float(np.sqrt(off / max(sum(float(np.square(b.astype(np.float64)).sum()) for b in want), 1e-30)))


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
    outputs = {key: [np.array(y) for y in run(inputs)] for key, run in runs.items()}
    errors = {key: error(outputs[key], outputs["float"]) for key in ("linnet", "onnxruntime")}
    calls = {key: lambda run=run: run(inputs) for key, run in runs.items()}
    rest = _measure.REST if threads > 1 else 0.0
    times = _measure.interleaved(calls, seconds=seconds, rest=rest)
    row: dict[str, Any] = {key: _measure.summary(value) for key, value in times.items()}
    sizes = {"bytes": path.stat().st_size, "float_bytes": base.stat().st_size}
    return {"model": name, "threads": threads, "errors": errors, **sizes, **row}


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
                *(f"{row['errors'][key]:.1e}" for key in ("linnet", "onnxruntime")),
            ]
        )
    return report.table([*head, "error", "onnxruntime's"], body, markdown)


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
    bad = [r for r in rows if r["errors"]["linnet"] > BOUND * r["errors"]["onnxruntime"] + 1e-4]
    for row in bad:
        print(f"{row['model']}: linnet's error is larger than onnxruntime's", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
