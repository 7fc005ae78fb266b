"""What a compression did: figures before and after, tables and pictures, as one HTML page or JSON.

A tool fills a `Report` from parts that are plain data (`Figures`, `Section`, `Table`, `Bars`, `Points`); how they look
is settled here, once for all tools.
"""

from __future__ import annotations

import html
import json
import math
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from linnet import _core, _errors, _measure
from linnet._info import get_version_string


@dataclass(frozen=True)
class Figures:
    """One model file in numbers; None where something was not measured.

    ``file_bytes`` counts external data, too. ``latency`` is as `linnet._measure.summary` gives it, in seconds.
    ``memory_bytes`` is what opening and running the model adds to a fresh process. ``metric`` is the user's own, higher
    is better.
    """

    name: str
    file_bytes: int
    latency: dict[str, float] | None = None
    memory_bytes: int | None = None
    metric: float | None = None


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head. Columns whose cells are numbers or begin with a digit stand at the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = field(default="table", init=False)


@dataclass(frozen=True)
class Bars:
    """A horizontal bar a row: labels, values and the texts beside them. ``marked`` rows have another colour.

    Bars begin at 0, or at the least value when one is below. Values that are not finite have no bar.
    """

    labels: Sequence[str]
    values: Sequence[float]
    texts: Sequence[str]
    marked: Sequence[bool] = ()
    kind: str = field(default="bars", init=False)


@dataclass(frozen=True)
class Point:
    """A dot of `Points`; those that are ``best`` (a Pareto front, say) are joined by a line."""

    x: float
    y: float
    label: str
    best: bool = False


@dataclass(frozen=True)
class Points:
    """A scatter picture with an axis each way."""

    x_name: str
    y_name: str
    points: Sequence[Point]
    kind: str = field(default="points", init=False)


@dataclass(frozen=True)
class Section:
    """A heading, a sentence or two, and parts below each other."""

    title: str
    text: str = ""
    parts: Sequence[Table | Bars | Points] = ()


@dataclass
class Report:
    """What a tool did to a model.

    ``before`` and ``after`` are the files' `Figures` (see `measure`), ``settings`` the options that made the result,
    ``notes`` sentences the reader must not miss (what was skipped, and why).
    """

    title: str
    before: Figures
    after: Figures
    settings: dict[str, str] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    metric_name: str = "metric"
    machine: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Everything in it, as plain lists and dicts."""
        return {"linnet": get_version_string(), **asdict(self)}

    def to_json(self) -> str:
        """The same as JSON text; what is not finite is null."""
        return json.dumps(_finite(self.to_dict()), indent=2)

    def to_html(self) -> str:
        """One page with everything inside."""
        return _page(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the report: JSON where the name ends in ``.json``, otherwise HTML.

        Raises:
            Fail: the file cannot be written.
        """
        text = self.to_json() if Path(path).suffix == ".json" else self.to_html()
        write_file(path, text.encode())


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file under a temporary name beside its place and then renames it: never half a file.

    Raises:
        Fail: the file cannot be written; the message says why.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name + ".", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise _errors.Fail(f"cannot write {path}: {error.strerror or error}") from error


def file_bytes(path: str | os.PathLike[str]) -> int:
    """Bytes of an ONNX file with the external data that Linnet's and this package's tools put beside it."""
    path = Path(path)
    beside = path.with_name(path.name + ".data")
    return path.stat().st_size + (beside.stat().st_size if beside.is_file() else 0)


def measure(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    feeds: Mapping[str, Any],
    *,
    metrics: tuple[float | None, float | None] = (None, None),
    names: tuple[str, str] = ("before", "after"),
    threads: int = 1,
    seconds: float = 1.0,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Figures, Figures]:
    """Sizes, latency (both models in turns, in this process) and memory (a fresh process each) of two model files.

    Args:
        before, after: the ONNX files.
        feeds: an array for each input.
        metrics: the user's metric of each, when it was measured.
        threads: for each run.
        seconds: how long each is timed, about.
        say: is told what is being done.
    """
    inputs = {name: np.asarray(value) for name, value in feeds.items()}
    files = [Path(before), Path(after)]
    say("timing both models")
    calls = [_measure.runtime("linnet")(path, threads) for path in files]
    rest = _measure.REST if threads > 1 else 0.0
    turns = {str(i): (lambda call=call: call(inputs)) for i, call in enumerate(calls)}
    times = _measure.interleaved(turns, seconds=seconds, rest=rest)
    figures = []
    for i, path in enumerate(files):
        say(f"memory of the model {names[i]}")
        try:
            memory = _measure.memory("linnet", path, inputs, threads)
        except (RuntimeError, ValueError):  # inputs that no file can carry to the other process
            memory = None
        figures.append(Figures(names[i], file_bytes(path), _measure.summary(times[str(i)]), memory, metrics[i]))
    return figures[0], figures[1]


def machine() -> str:
    """The processor's name, the number of CPUs this process may use and the kernel table in use."""
    name = ""
    try:
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        pass
    return f"{name or platform.processor() or platform.machine()}, {_core.available_cpus()} CPUs, {_core.isa()}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


_STYLE = """
:root { --page:#f6f5f1; --card:#fff; --ink:#1d2329; --soft:#69727c; --line:#e3e1da; --own:#0b7a75; --other:#b9b4a7;
  --bad:#c8402f; --code:#eef1ef }
@media (prefers-color-scheme: dark) { :root { --page:#14181b; --card:#1d2327; --ink:#e8e6e1; --soft:#98a2ab;
  --line:#30383d; --own:#3fc1b8; --other:#6d7478; --bad:#ff7a66; --code:#161b1e } }
* { box-sizing:border-box }
body { margin:0; background:var(--page); color:var(--ink); font:16px/1.55 system-ui,-apple-system,sans-serif }
main { max-width:980px; margin:0 auto; padding:48px 24px 80px }
h1 { font-size:34px; line-height:1.15; letter-spacing:-.02em; margin:0 0 8px } h2 { font-size:20px; margin:0 0 4px }
p { margin:0 0 16px } .soft { color:var(--soft) } .small { font-size:14px }
section { background:var(--card); border:1px solid var(--line); border-radius:14px; padding:24px; margin-top:20px;
  overflow-x:auto }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(200px,1fr)); gap:14px; margin-top:28px }
.tile { background:var(--card); border:1px solid var(--line); border-radius:14px; padding:18px 20px }
.tile b { display:block; font-size:29px; letter-spacing:-.02em; line-height:1.2; font-variant-numeric:tabular-nums }
.tile span { font-size:13px; color:var(--soft) }
.tile .what { text-transform:uppercase; letter-spacing:.06em; font-size:12px }
table { border-collapse:collapse; font-size:14px; font-variant-numeric:tabular-nums; margin-top:12px; width:100% }
th { text-align:left; font-weight:600; color:var(--soft) } td,th { padding:4px 14px 4px 0; vertical-align:top;
  border-bottom:1px solid var(--line) } .right { text-align:right }
.rows { display:grid; grid-template-columns:minmax(90px,max-content) 1fr max-content; gap:6px 14px; align-items:center;
  margin-top:14px; font-size:14px; font-variant-numeric:tabular-nums }
.rows .label { overflow-wrap:anywhere } .rows .text { text-align:right }
.track { background:var(--code); border-radius:5px; height:16px } .track i { display:block; height:16px; min-width:2px;
  border-radius:5px; background:var(--own) } .track i.marked { background:var(--bad) }
svg text { font:12px system-ui,sans-serif; fill:var(--soft) }
"""


def _times(before: float, after: float) -> str:
    """How many times less ``after`` is."""
    if before <= 0 or after <= 0:
        return ""
    return f"{before / after:.2f}× less" if before >= after else f"{after / before:.2f}× more"


def _tile(what: str, value: str, *notes: str) -> str:
    lines = "<br>".join(f"<span>{html.escape(n)}</span>" for n in notes if n)
    return f'<div class="tile"><span class="what">{what}</span><b>{html.escape(value)}</b>{lines}</div>'


def _tiles(report: Report) -> str:
    a, b = report.before, report.after
    tiles = [_tile("file", _measure.size(b.file_bytes), f"{a.name}: {_measure.size(a.file_bytes)}",
                   _times(a.file_bytes, b.file_bytes))]  # fmt: skip
    if a.latency and b.latency:
        x, y = a.latency["p50"], b.latency["p50"]
        tiles.append(_tile("one run takes", _measure.duration(y), f"{a.name}: {_measure.duration(x)}", _times(x, y)))
    if a.memory_bytes and b.memory_bytes:
        sizes = _measure.size(b.memory_bytes), f"{a.name}: {_measure.size(a.memory_bytes)}"
        tiles.append(_tile("memory added", *sizes, _times(a.memory_bytes, b.memory_bytes)))
    if a.metric is not None and b.metric is not None:
        change = f"change {b.metric - a.metric:+.4g}"
        tiles.append(_tile(html.escape(report.metric_name), f"{b.metric:.4g}", f"{a.name}: {a.metric:.4g}", change))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _table(part: Table) -> str:
    right = [bool(part.rows) and all(_numeric(row[i]) for row in part.rows) for i in range(len(part.head))]

    def line(tag: str, cells: Sequence[str]) -> str:
        pairs = zip(cells, right, strict=True)
        return "".join(f"<{tag}{' class=right' if r else ''}>{html.escape(c)}</{tag}>" for c, r in pairs)

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in part.rows)
    return f"<table><thead><tr>{line('th', part.head)}</tr></thead><tbody>{body}</tbody></table>"


def _numeric(cell: str) -> bool:
    return not cell or cell.lstrip("+-<>≤≥ ")[:1].isdigit() or cell in ("inf", "nan", "-")


def _bars(part: Bars) -> str:
    finite = [v for v in part.values if math.isfinite(v)]
    low = min([0.0, *finite])
    span = max([0.0, *finite]) - low or 1.0
    rows = []
    for i, (label, value, text) in enumerate(zip(part.labels, part.values, part.texts, strict=True)):
        share = 100 * (value - low) / span if math.isfinite(value) else 0.0
        kind = ' class="marked"' if i < len(part.marked) and part.marked[i] else ""
        rows.append(
            f'<div class="label">{html.escape(label)}</div><div class="track"><i{kind} style="width:{share:.1f}%"></i>'
            f'</div><div class="text">{html.escape(text)}</div>'
        )
    return f'<div class="rows">{"".join(rows)}</div>'


def _points(part: Points) -> str:
    points = [p for p in part.points if math.isfinite(p.x) and math.isfinite(p.y)]
    if not points:
        return ""
    width, height, left, top, right, bottom = 930, 360, 70, 16, 24, 46

    def scale(values: list[float]) -> tuple[float, float]:
        low, high = min(values), max(values)
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        return low - margin, high + margin

    (x0, x1), (y0, y1) = scale([p.x for p in points]), scale([p.y for p in points])

    def at(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
        return left + across * (width - left - right), height - bottom - up * (height - top - bottom)

    shapes = []
    for value in _ticks(x0, x1):
        x, _ = at(value, y0)
        shapes.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - bottom}" stroke="var(--line)"/>')
        shapes.append(f'<text x="{x:.1f}" y="{height - bottom + 17}" text-anchor="middle">{value:.4g}</text>')
    for value in _ticks(y0, y1):
        _, y = at(x0, value)
        shapes.append(f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>')
        shapes.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    front = sorted((at(p.x, p.y) for p in points if p.best), key=lambda xy: xy[0])
    if len(front) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in front)
        shapes.append(f'<polyline points="{path}" fill="none" stroke="var(--own)" stroke-width="2"/>')
    for p in points:
        x, y = at(p.x, p.y)
        colour = "var(--own)" if p.best else "var(--other)"
        shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"><title>{html.escape(p.label)}</title>')
        shapes.append("</circle>")
        if p.best:
            shapes.append(f'<text x="{x + 9:.1f}" y="{y + 4:.1f}">{html.escape(p.label)}</text>')
    names = (
        f'<text x="{(left + width - right) / 2:.0f}" y="{height - 8}" text-anchor="middle">{html.escape(part.x_name)}'
        f'</text><text transform="translate(14 {(top + height - bottom) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(part.y_name)}</text>"
    )
    label = html.escape(f"{part.y_name} by {part.x_name}")
    picture = f'<svg viewBox="0 0 {width} {height}" width="100%" role="img" aria-label="{label}">'
    return f"{picture}{''.join(shapes)}{names}</svg>"


def _ticks(low: float, high: float) -> list[float]:
    """Round values between ``low`` and ``high``, some five of them."""
    size = 10.0 ** math.floor(math.log10((high - low) / 5))
    step = next(size * factor for factor in (1, 2, 5, 10) if (high - low) / (size * factor) <= 6)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _section(section: Section) -> str:
    draw: dict[str, Callable[[Any], str]] = {"table": _table, "bars": _bars, "points": _points}
    parts = "".join(draw[part.kind](part) for part in section.parts)
    text = f'<p class="soft small">{html.escape(section.text)}</p>' if section.text else ""
    return f"<section><h2>{html.escape(section.title)}</h2>{text}{parts}</section>"


def _page(report: Report) -> str:
    sections = list(report.sections)
    if report.settings:
        rows = [[name, value] for name, value in report.settings.items()]
        sections.append(Section("Settings", parts=[Table(["setting", "value"], rows)]))
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in report.notes)
    where = f", on {report.machine}" if report.machine else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{html.escape(report.title)}</title><style>{_STYLE}</style></head><body><main>
<h1>{html.escape(report.title)}</h1>
<p class="soft">Linnet {html.escape(get_version_string())}{html.escape(where)}.</p>
{notes}
{_tiles(report)}
{"".join(_section(section) for section in sections)}
</main></body></html>
"""
