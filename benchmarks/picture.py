"""Pictures of results, as SVG that reads on light and on dark pages. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

from benchmarks.report import plural, ratio

GREY = "#808080"
COLOURS = ["#3b82c4", "#d9822b", "#3fa06b", "#b35fb0", "#c8514f"]
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "linnet",  # the same results give the same file
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": GREY,
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def save(figure: Any, file: Path) -> None:
    figure.savefig(file, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def ratios(rows: list[dict[str, Any]], names: list[str], machine: str, file: Path) -> None:
    """Bars of Linnet's median over each other runtime's, a panel for each thread count (at the smallest batch)."""
    others = [n for n in names if n != "linnet"]
    smallest = min(row["batch"] for row in rows)
    rows = [row for row in rows if row["batch"] == smallest]
    threads = sorted({row["threads"] for row in rows})
    models = list(dict.fromkeys(row["model"] for row in rows))
    high = 0.8 / max(1, len(others))
    with matplotlib.rc_context(STYLE):
        size = (4.2 * len(threads) + 1.2, (0.17 * len(others) + 0.2) * len(models) + 1.2)
        figure, panels = pyplot.subplots(1, len(threads), figsize=size, sharey=True, sharex=True, squeeze=False)
        for panel, count in zip(panels[0], threads, strict=True):
            for place, (other, colour) in enumerate(zip(others, COLOURS * 2, strict=False)):
                found = [
                    (models.index(row["model"]) + (place - (len(others) - 1) / 2) * high, value)
                    for row in rows
                    if row["threads"] == count and (value := ratio(row, other)) is not None
                ]
                panel.barh([y for y, _ in found], [v for _, v in found], height=high * 0.9, color=colour, label=other)
            panel.axvline(1, color=GREY, linewidth=1)
            panel.set_title(plural(count, "thread"), color=GREY)
            panel.set_xlabel("Linnet's time over the other's: below 1, Linnet is faster")
            panel.set_yticks(range(len(models)), [Path(m).stem for m in models])
            panel.set_ylim(len(models) - 0.5, -0.5)
            panel.tick_params(left=False)
        figure.legend(*panels[0][0].get_legend_handles_labels(), loc="upper center", ncols=len(others))
        figure.text(0.5, -0.01, machine, ha="center", va="top", fontsize=8)
        figure.tight_layout(rect=(0, 0, 1, 0.96))
        save(figure, file)


def roofline(results: list[dict[str, Any]], file: Path) -> None:
    """A panel for each instruction set: rate by arithmetic intensity, under the peak and what the caches deliver."""
    isas = list(dict.fromkeys(r["isa"] for r in results))
    groups = [g for g in dict.fromkeys(r["group"] for r in results) if g not in ("map", "gemm int8")]
    with matplotlib.rc_context(STYLE):
        figure, panels = pyplot.subplots(1, len(isas), figsize=(4.6 * len(isas), 4.2), sharey=True, squeeze=False)
        for panel, isa in zip(panels[0], isas, strict=True):
            own = [r for r in results if r["isa"] == isa]
            points = [r for r in own if "share" in r and r["group"] in groups]
            peak = max(r["peak"] for r in points) * 1e-9
            left = min(r["flops"] / r["bytes"] for r in points) / 2
            right = max(r["flops"] / r["bytes"] for r in points) * 2
            reads = [r for r in own if r["group"] == "read"]
            for result, above in ((reads[0], True), (reads[-1], False)):
                rate = result["bytes_per_second"] * 1e-9
                panel.plot([left, peak / rate], [left * rate, peak], color=GREY, linewidth=0.8)
                panel.annotate(
                    f"{result['shape']} kB",
                    (left * 1.1, left * 1.1 * rate),
                    (-2, 6) if above else (6, -6),
                    textcoords="offset points",
                    fontsize=7,
                )
            panel.axhline(peak, color=GREY, linewidth=0.8)
            for group, colour in zip(groups, COLOURS * 3, strict=False):
                members = [r for r in points if r["group"] == group]
                intensity = [r["flops"] / r["bytes"] for r in members]
                marker = "o" if groups.index(group) < len(COLOURS) else "^"
                panel.scatter(intensity, [r["rate"] * 1e-9 for r in members], 14, colour, marker, label=group)
            panel.set_xscale("log", base=2)
            panel.set_yscale("log", base=2)
            panel.set_xlim(left, right)
            panel.set_title(f"{isa}: {peak:.0f} GFLOP/s", color=GREY)
            panel.set_xlabel("FLOP per byte that must move at least")
        panels[0][0].set_ylabel("GFLOP/s on one core")
        handles, labels = panels[0][0].get_legend_handles_labels()
        shown = [(h, g) for h, g in zip(handles, labels, strict=True) if len(h.get_offsets())]
        figure.legend(*zip(*shown, strict=True), loc="upper center", ncols=5, fontsize=8)
        figure.tight_layout(rect=(0, 0, 1, 0.9))
        save(figure, file)
