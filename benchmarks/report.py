"""How the results of ``benchmarks.models`` are written: tables in plain text or Markdown, means and notes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from linnet import _measure

Row = dict[str, Any]


def plural(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


def table(head: list[str], body: list[list[str]], markdown: bool) -> str:
    """Columns in line, the first to the left and the others to the right."""
    widths = [max(len(r[i]) for r in [head, *body]) for i in range(len(head))]
    left, between, right = ("| ", " | ", " |") if markdown else ("", "  ", "")

    def render(cells: list[str]) -> str:
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return left + between.join(padded) + right

    rule = "|" + "|".join(":" + "-" * (w + 1) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([render(head), rule if markdown else "-" * len(render(head)), *map(render, body)])


def ratio(row: Row, other: str, key: str = "p50") -> float | None:
    """Linnet's figure over the other runtime's."""
    own, theirs = row["peers"]["linnet"], row["peers"].get(other, {})
    return own[key] / theirs[key] if key in own and key in theirs else None


def best(row: Row, names: list[str]) -> tuple[str, float] | None:
    """The fastest runtime besides Linnet, and Linnet's median over its."""
    found = [(n, r) for n in names if n != "linnet" and (r := ratio(row, n)) is not None]
    return max(found, key=lambda pair: pair[1]) if found else None


def tables(rows: list[Row], names: list[str], markdown: bool) -> str:
    """Latency, its tail, and start and memory, each with a row per model, thread count and batch."""
    others = [n for n in names if n != "linnet"]
    batched = any(row["batch"] != 1 for row in rows)
    lead = ["model", "threads", *(["batch"] if batched else [])]

    def leading(row: Row) -> list[str]:
        return [Path(row["model"]).stem, str(row["threads"]), *([str(row["batch"])] if batched else [])]

    def cells(row: Row, key: str, show: Callable[[float], str]) -> list[str]:
        return [show(row["peers"][n][key]) if key in row["peers"][n] else "-" for n in names]

    def text(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    latency, tail, start, memory = [], [], [], []
    for row in rows:
        fastest = best(row, others)
        gap = row["peers"]["linnet"].get("difference")
        latency.append(
            [
                *leading(row),
                *cells(row, "p50", _measure.duration),
                *(text(ratio(row, n)) for n in others[:1]),
                *([f"{fastest[1]:.2f} {fastest[0]}" if fastest else "-"] if len(others) > 1 else []),
                "-" if gap is None else f"{gap:.1e}",
            ]
        )
        tail.append([*leading(row), *cells(row, "p99", _measure.duration)])
        start.append(
            [*leading(row), *cells(row, "cold", _measure.duration), *(text(ratio(row, n, "cold")) for n in others[:1])]
        )
        memory.append(
            [*leading(row), *cells(row, "memory", _measure.size), *(text(ratio(row, n, "memory")) for n in others[:1])]
        )
    first = [f"linnet/{n}" for n in others[:1]]
    to_best = ["linnet/best"] if len(others) > 1 else []
    parts = [
        ("Latency, median", [*lead, *names, *first, *to_best, "max diff"], latency),
        ("Latency, 99th percentile", [*lead, *names], tail),
    ]
    if any("cold" in p for row in rows for p in row["peers"].values()):
        parts.append(("Opening and first run in a fresh process", [*lead, *names, *first], start))
        parts.append(("Peak memory of a fresh process", [*lead, *names, *first], memory))
    bold = "**" if markdown else ""
    return "\n\n".join(f"{bold}{title}{bold}\n\n{table(head, body, markdown)}" for title, head, body in parts)


def geometric_means(rows: list[Row], names: list[str]) -> list[str]:
    """Linnet's ratio to every other runtime over all models, by thread count."""
    lines = []
    for other in names:
        for threads in sorted({r["threads"] for r in rows}):
            found = [r for row in rows if row["threads"] == threads and (r := ratio(row, other)) is not None]
            if other != "linnet" and found:
                mean = float(np.exp(np.mean(np.log(found))))
                lines.append(
                    f"linnet/{other}, {plural(threads, 'thread')}: geometric mean {mean:.2f}, worst {max(found):.2f}, "
                    f"over {plural(len(found), 'model')}"
                )
    return lines


def batches(rows: list[Row], names: list[str]) -> list[str]:
    """How throughput grows with the batch: items a second, over those at the smallest batch. 1 is linear in work."""
    lines = []
    for row in rows:
        same = [r for r in rows if (r["model"], r["threads"]) == (row["model"], row["threads"])]
        base = min(same, key=lambda r: r["batch"])
        if row is base:
            continue
        gains = []
        for name in names:
            if "p50" in row["peers"][name] and "p50" in base["peers"][name]:
                per_item = row["peers"][name]["p50"] / row["batch"]
                gains.append(f"{name} {base['peers'][name]['p50'] / base['batch'] / per_item:.2f}")
        lines.append(
            f"{Path(row['model']).stem}, {plural(row['threads'], 'thread')}: throughput at batch {row['batch']} over "
            f"batch {base['batch']}: {', '.join(gains)}"
        )
    return lines


def notes(rows: list[Row], bound: float) -> list[str]:
    """Why a cell is empty, and which runtimes are off by more than ``bound``; each said once for all its rows."""
    errors: dict[str, None] = {}
    gaps: dict[str, float] = {}
    for row in rows:
        for name, result in row["peers"].items():
            label = f"{Path(row['model']).stem}: {name}"
            if "error" in result:
                errors[f"{label}: {result['error']}"] = None
            elif result.get("difference", 0.0) > bound:
                gaps[label] = max(gaps.get(label, 0.0), result["difference"])
    return [*errors, *(f"{label} differs by {gap:.0e} of the largest output" for label, gap in gaps.items())]
