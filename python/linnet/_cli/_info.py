"""``linnet info``: what is installed, and what this machine can do."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Any

import numpy as np

from linnet import _core
from linnet._cli import _common, _text
from linnet._info import get_version_string

_EPILOG = """\
examples:
  linnet info
  linnet info --json
  LINNET_ISA=generic linnet info      with another kernel table

The peak is what independent multiply-adds reach in registers; the bandwidth what reading a large buffer reaches. Both
are measured now, so other work on the machine lowers them.
"""

BUFFER = 192 << 20
"""Bytes swept to measure the memory: more than the last cache of most machines."""


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "info",
        help="version, CPU, kernel tables, threads, measured peak",
        description="Show what is installed and what this machine can do.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _common.add_output_arguments(parser)
    parser.set_defaults(function=info)


def cpu_name() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def caches() -> list[dict[str, Any]]:
    """The first CPU's caches, where the system tells: level, type and bytes."""
    found = []
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, text = ((folder / n).read_text().strip() for n in ("level", "type", "size"))
        except OSError:
            continue
        scale = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:], 1)
        found.append({"level": int(level), "type": kind, "bytes": int(text.rstrip("KM")) * scale})
    return found


def info(args: argparse.Namespace) -> int:
    """Does it."""
    threads = _core.available_cpus()
    counts = sorted({1, threads})
    _text.progress("measuring what this machine reaches ...")
    peak = {n: _core.measure_peak(n) for n in counts}
    bandwidth = {n: _core.measure_bandwidth(n, BUFFER) for n in counts}
    _text.progress("")
    tables = _core.kernel_tables()
    if args.json:
        _text.print_json(
            {
                "version": get_version_string(),
                "python": platform.python_version(),
                "numpy": np.__version__,
                "system": platform.platform(),
                "machine": platform.machine(),
                "cpu": cpu_name(),
                "threads": threads,
                "kernel_tables": {name: runs for name, runs in tables},
                "kernel_table_in_use": _core.isa(),
                "caches": caches(),
                "peak_gflops": peak,
                "bandwidth_gbs": bandwidth,
            }
        )
        return 0
    of_threads = {n: "1 thread" if n == 1 else f"{n} threads" for n in counts}
    usable = [name for name, runs in tables if runs]
    lines = [
        ("linnet", f"{get_version_string()}, Python {platform.python_version()}, numpy {np.__version__}"),
        ("system", platform.platform()),
        ("CPU", cpu_name()),
        ("threads", f"{threads} (CPUs that this process may use)"),
        ("kernels", f"{_core.isa()} in use; this CPU runs {', '.join(usable)} (LINNET_ISA picks one)"),
        ("caches", ", ".join(f"L{c['level']}{_letter(c['type'])} {_binary(c['bytes'])}" for c in caches())),
        ("peak", ", ".join(f"{peak[n]:.0f} GFLOP/s on {of_threads[n]}" for n in counts)),
        ("memory", ", ".join(f"{bandwidth[n]:.1f} GB/s on {of_threads[n]}" for n in counts)),
    ]
    width = max(len(label) for label, _ in lines)
    for label, text in lines:
        if text:
            print(f"{label.ljust(width)}  {text}")
    return 0


def _letter(kind: str) -> str:
    return {"Data": "d", "Instruction": "i"}.get(kind, "")


def _binary(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 and count % (1 << 20) == 0 else f"{count >> 10} KiB"
