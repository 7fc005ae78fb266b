"""Text that reads well: aligned tables, numbers with units, a progress line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Rows under a head, columns two spaces apart; the columns in ``left`` start at the left, the others at the right.

    A column that is empty everywhere is left out.
    """
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    widths = {i: max(len(row[i]) for row in [head, *rows]) for i in kept}
    lines = []
    for row in [head, *rows]:
        cells = [row[i].ljust(widths[i]) if i in left else row[i].rjust(widths[i]) for i in kept]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def count(value: float) -> str:
    """A number with three digits and a unit: ``950``, ``11.7 M``, ``4.12 G``."""
    for scale, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= scale:
            return f"{value / scale:.3g}{unit}" if value < 999.5 * scale else f"{value / scale:.0f}{unit}"
    return f"{value:.0f}"


def shorten(text: str, width: int) -> str:
    """The text, its middle replaced by an ellipsis when it is longer than ``width``."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return text[: width - 1 - end] + "…" + text[len(text) - end :]


def number(value: object) -> str:
    """A scalar as in a list of a tensor's first elements."""
    if isinstance(value, (bool, np.bool_, str, bytes, int, np.integer)):
        return str(value)
    try:
        return f"{float(value):.6g}"  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(value)


def print_json(value: Mapping[str, Any]) -> None:
    """The result of a command, for machines."""
    print(json.dumps(value, indent=2, default=_plain, allow_nan=True))


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


def progress_bar(text: str, share: float) -> None:
    """A bar that is filled to ``share`` (0..1) and what is being done, as `progress` shows it."""
    filled = round(24 * min(max(share, 0.0), 1.0))
    progress(f"{'█' * filled}{'░' * (24 - filled)} {100 * share:3.0f} %  {text}" if text else "")


def progress(text: str) -> None:
    """A line on the terminal that the next one, or an empty text, replaces; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
