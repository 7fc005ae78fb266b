"""``python -m linnet.demo``: read handwritten digits, print how well and how fast, write a report to look at."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import webbrowser
from pathlib import Path

import numpy as np

from linnet import _measure
from linnet.demo._data import MODEL, held_out
from linnet.demo._job import Result, available, read_digits, step_times
from linnet.demo._report import page
from linnet.demo._served import Called, can_serve, serve_digits
from linnet.demo._shrink import Shrunk, can_shrink, shrink


def machine() -> str:
    """The processor's name and the number of cores this process may use."""
    name = ""
    try:
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name or platform.processor() or platform.machine()}, {cores} cores"


def table(results: list[Result], labels: int, right: list[int]) -> str:
    """What was measured, one row a runtime."""
    head = ["", "accuracy", "p50", "p99", "memory added"]
    rows = [
        [
            f"{r.runtime} {r.version}",
            f"{100 * n / labels:.2f} %",
            _measure.duration(float(np.percentile(r.times, 50))),
            _measure.duration(float(np.percentile(r.times, 99))),
            _measure.size(r.memory),
        ]
        for r, n in zip(results, right, strict=True)
    ]
    return _aligned(head, rows)


MISSING = "  (to see the model compressed:  pip install onnx)\n"
NO_SERVER = "  (to see the model served:  pip install 'linnet[serve]' 'tritonclient[grpc]')\n"


def forms_table(forms: list[Shrunk], labels: int) -> str:
    """The compressed forms, one row each."""
    head = ["", "accuracy", "p50", "file", ""]
    return _aligned(
        head,
        [
            [
                form.name,
                f"{100 * form.right / labels:.2f} %",
                _measure.duration(form.seconds),
                _measure.size(form.size),
                f"{forms[0].size / form.size:.1f}×",
            ]
            for form in forms
        ],
    )


def called_table(called: list[Called], labels: int) -> str:
    """The clients of the served model, one row each."""
    head = ["", "accuracy", "p50", "p99", "same bits as without a server"]
    rows = [
        [
            c.client,
            f"{100 * c.right / labels:.2f} %",
            _measure.duration(float(np.percentile(c.times, 50))),
            _measure.duration(float(np.percentile(c.times, 99))),
            "yes" if c.equal else "NO",
        ]
        for c in called
    ]
    return _aligned(head, rows)


def _aligned(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for row in [head, *rows]:
        lines.append(
            "  " + "   ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="linnet demo", description="Read handwritten digits and write a report.")
    parser.add_argument(
        "--out", type=Path, default=Path("report/digits.html"), help="the report (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each runtime is timed")
    parser.add_argument("--open", action="store_true", help="show the report in the browser")
    args = parser.parse_args(argv)

    def say(text: str) -> None:
        print(f"- {text} ...", file=sys.stderr, flush=True)

    digits = held_out()
    size = _measure.size(MODEL.stat().st_size)
    print(
        f"A small CNN ({size}) reads {len(digits.labels)} handwritten digits that it was not trained on.\n", flush=True
    )
    results = read_digits(available(), digits, args.seconds, say)
    say("profiling the steps")
    steps = step_times(digits)
    forms = shrink(digits, args.seconds, say) if can_shrink() else []
    called = serve_digits(digits, results[0].chances, args.seconds / 2, say) if can_serve() else []
    right = [r.right(digits) for r in results]
    print("\n" + table(results, len(digits.labels), right) + "\n")
    if len(results) == 1:
        print("  (to see onnxruntime beside it:  pip install onnxruntime)\n")
    print("The same reader, smaller:\n\n" + forms_table(forms, len(digits.labels)) + "\n" if forms else MISSING)
    served = called_table(called, len(digits.labels))
    print("Served over gRPC by a process of its own, called from Python:\n\n" + served + "\n" if called else NO_SERVER)
    out: Path = args.out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(digits, results, steps, machine(), forms, called), encoding="utf-8")
    print(f"The digits, the mistakes and where the time goes:  {out}\n")
    print("Now try your own model:\n  linnet run MODEL.onnx\n  linnet bench MODEL.onnx")
    print("  linnet compress search MODEL.onnx --data SAMPLES.npz")
    print("  linnet serve MODEL.onnx")
    if args.open:
        webbrowser.open(out.as_uri())
    return 0


if __name__ == "__main__":
    sys.exit(main())
