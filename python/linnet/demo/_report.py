"""The demo's report: one HTML page with everything inside, made of plain strings."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from linnet import _measure
from linnet.demo._data import SIDE, Digits, model_input
from linnet.demo._job import Result, Step
from linnet.demo._served import Called
from linnet.demo._shrink import CALIBRATION, Shrunk

WALL_COLUMNS = 30

STYLE = """
:root { --page:#f6f5f1; --card:#fff; --ink:#1d2329; --soft:#69727c; --line:#e3e1da; --own:#0b7a75; --other:#b9b4a7;
  --bad:#c8402f; --good:#0b7a75; --code:#eef1ef }
@media (prefers-color-scheme: dark) { :root { --page:#14181b; --card:#1d2327; --ink:#e8e6e1; --soft:#98a2ab;
  --line:#30383d; --own:#3fc1b8; --other:#6d7478; --bad:#ff7a66; --good:#3fc1b8; --code:#161b1e } }
* { box-sizing:border-box }
body { margin:0; background:var(--page); color:var(--ink); font:16px/1.55 system-ui,-apple-system,sans-serif }
main { max-width:980px; margin:0 auto; padding:48px 24px 80px }
h1 { font-size:34px; line-height:1.15; letter-spacing:-.02em; margin:0 0 8px } h2 { font-size:20px; margin:0 0 4px }
p { margin:0 0 16px } .soft { color:var(--soft) } .small { font-size:14px }
section { background:var(--card); border:1px solid var(--line); border-radius:14px; padding:24px; margin-top:20px }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(200px,1fr)); gap:14px; margin-top:28px }
.tile { background:var(--card); border:1px solid var(--line); border-radius:14px; padding:18px 20px }
.tile b { display:block; font-size:29px; letter-spacing:-.02em; line-height:1.2; font-variant-numeric:tabular-nums }
.tile span { font-size:13px; color:var(--soft) }
.tile .what { text-transform:uppercase; letter-spacing:.06em; font-size:12px }
.d { display:inline-block; width:28px; height:28px; background-image:var(--sheet); border-radius:3px }
.wall { display:grid; grid-template-columns:repeat(30,1fr); gap:2px }
.wall .d { width:100%; aspect-ratio:1; height:auto;
  background-size:3000% auto } .wall .bad { outline:2.5px solid var(--bad); outline-offset:0; z-index:1 }
.misses { display:grid; grid-template-columns:repeat(auto-fill,minmax(205px,1fr)); gap:18px; margin-top:14px }
.miss { display:flex; gap:14px; align-items:center } .miss .d { width:84px; height:84px; flex:none; border-radius:8px;
  background-size:3000% auto }
.bars { flex:1; font-size:13px; font-variant-numeric:tabular-nums }
.bar { display:grid; grid-template-columns:14px 1fr 36px; gap:6px; align-items:center; line-height:1.5 }
.bar i { display:block; height:8px; border-radius:4px; background:var(--other) } .bar.said i { background:var(--bad) }
.bar.true i { background:var(--good) } .bar em { font-style:normal; color:var(--soft); text-align:right }
.steps { display:grid; grid-template-columns:max-content 1fr max-content;
  gap:7px 14px; align-items:center; margin-top:14px;
  font-size:14px; font-variant-numeric:tabular-nums }
.forms { display:grid; grid-template-columns:minmax(150px,max-content) 1fr max-content 1fr max-content max-content;
  gap:10px 14px; align-items:center; margin-top:14px; font-size:14px; font-variant-numeric:tabular-nums }
.forms .op { font-weight:600 } .forms .op small { display:block; font-weight:400; color:var(--soft); max-width:230px }
.steps .op { font-weight:600 } .steps .op small { font-weight:400; color:var(--soft); margin-left:8px }
.steps .track,.forms .track { background:var(--code); border-radius:5px; height:18px }
.steps .track i,.forms .track i { display:block; height:18px; min-width:2px; border-radius:5px; background:var(--own) }
.steps .t,.forms .t { text-align:right }
.key { display:inline-flex; gap:7px; align-items:center; margin-right:18px }
.key i { width:12px; height:12px; border-radius:3px }
svg text { font:12px system-ui,sans-serif; fill:var(--soft) }
pre { background:var(--code); border-radius:10px;
  padding:14px 18px; overflow:auto; margin:12px 0 0; font-size:14px; line-height:1.7 }
"""


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode a grey picture [height, width] as PNG (the format: RFC 2083)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape
    rows = np.insert(pixels, 0, 0, axis=1).tobytes()  # each row begins with its filter: none
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def sheet(digits: Digits) -> tuple[str, int]:
    """All digits as the model sees them on one picture, as a data URI, and the number of its rows."""
    rows = -(-len(digits.labels) // WALL_COLUMNS)
    pixels = np.zeros((rows * WALL_COLUMNS, SIDE, SIDE), np.uint8)
    pixels[: len(digits.labels)] = np.round(model_input(digits.images)[:, 0] * 255)
    page = pixels.reshape(rows, WALL_COLUMNS, SIDE, SIDE).swapaxes(1, 2).reshape(rows * SIDE, WALL_COLUMNS * SIDE)
    return "data:image/png;base64," + base64.b64encode(png(page)).decode(), rows


def _picture(index: int, rows: int, title: str, wrong: bool = False) -> str:
    row, column = divmod(index, WALL_COLUMNS)
    x, y = 100 * column / (WALL_COLUMNS - 1), 100 * row / max(1, rows - 1)
    kind = "d bad" if wrong else "d"
    return f'<i class="{kind}" style="background-position:{x:.4g}% {y:.4g}%" title="{html.escape(title)}"></i>'


def _tiles(digits: Digits, results: Sequence[Result]) -> str:
    own, others = results[0], results[1:]

    def tile(what: str, value: str, *notes: str) -> str:
        lines = "".join(f"<br><span>{html.escape(n)}</span>" for n in notes if n)
        return f'<div class="tile"><span class="what">{what}</span><b>{html.escape(value)}</b>{lines[4:]}</div>'

    def beside(show: object, *values: str) -> str:
        return ", ".join(f"{r.runtime} {v}" for r, v in zip(others, values, strict=True))

    count, right = len(digits.labels), own.right(digits)
    middle, late = (np.percentile(own.times, q) for q in (50, 99))
    return (
        '<div class="tiles">'
        + "".join(
            [
                tile(
                    "read right",
                    f"{100 * right / count:.1f} %",
                    f"{right} of {count} digits",
                    beside(None, *(f"{100 * r.right(digits) / count:.1f} %" for r in others)),
                ),
                tile(
                    "one digit takes",
                    _measure.duration(float(middle)),
                    "median, one thread",
                    beside(None, *(_measure.duration(float(np.median(r.times))) for r in others)),
                ),
                tile(
                    "99 of 100 take at most",
                    _measure.duration(float(late)),
                    "99th percentile",
                    beside(None, *(_measure.duration(float(np.percentile(r.times, 99))) for r in others)),
                ),
                tile(
                    "memory added",
                    _measure.size(own.memory),
                    "runtime, model and working space",
                    beside(None, *(_measure.size(r.memory) for r in others)),
                ),
            ]
        )
        + "</div>"
    )


def _misses(digits: Digits, own: Result, rows: int) -> str:
    guesses = own.chances.argmax(1)
    cards = []
    for index in np.flatnonzero(guesses != digits.labels):
        label, said = int(digits.labels[index]), int(guesses[index])
        bars = []
        for digit in np.argsort(-own.chances[index], kind="stable")[:3].tolist():
            share = float(own.chances[index, digit])
            kind = " true" if digit == label else " said" if digit == said else ""
            bars.append(
                f'<div class="bar{kind}"><span>{digit}</span><i style="width:{max(2.0, 100 * share):.0f}%"></i>'
                f"<em>{100 * share:.0f} %</em></div>"
            )
        caption = f'<div class="small soft">a {label}, read as {said}</div>'
        cards.append(
            f'<div class="miss">{_picture(int(index), rows, "")}<div class="bars">{caption}{"".join(bars)}</div></div>'
        )
    if not cards:
        return ""
    return (
        f'<section><h2>The {len(cards)} it got wrong</h2><p class="soft small">With its three best guesses; '
        f'the right digit in green where it is among them.</p><div class="misses">{"".join(cards)}</div></section>'
    )


def _wall(digits: Digits, own: Result, rows: int) -> str:
    guesses, cells = own.chances.argmax(1), []
    for index in np.argsort(digits.labels, kind="stable").tolist():
        label, said = int(digits.labels[index]), int(guesses[index])
        title = f"{label}, read as {said} ({100 * float(own.chances[index, said]):.1f} %)"
        cells.append(_picture(index, rows, title, said != label))
    return (
        f"<section><h2>All {len(cells)} digits</h2><p class='soft small'>None of them was used in training. "
        f"Those read wrong are framed; point at one to see what it was taken for.</p>"
        f'<div class="wall">{"".join(cells)}</div></section>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round values between ``low`` and ``high`` that read well on a logarithmic axis."""
    decades = [10.0**e for e in range(-9, 2)]
    if high / low > 5:
        return [v * d for d in decades for v in (1, 2, 5) if low <= v * d <= high]
    step = next(v * d for d in decades for v in (1, 2, 5) if (high - low) / (v * d) <= 9)
    return [k * step for k in range(int(low / step) + 1, int(high / step) + 1)]


def _latencies(results: Sequence[Result]) -> str:
    """Histograms of the single durations, one colour a runtime, over a logarithmic axis."""
    width, height, floor = 930, 170, 140
    low = min(float(np.percentile(r.times, 0.5)) for r in results) * 0.9
    high = max(max(float(np.percentile(r.times, 97)) for r in results) * 1.1, low * 2)
    edges = np.geomspace(low, high, 160)
    counts = [np.histogram(r.times, edges)[0] / len(r.times) for r in results]
    top = max(float(c.max()) for c in counts)

    def x(value: float) -> float:
        return 10 + (width - 20) * float(np.log(value / low) / np.log(high / low))

    shapes = []
    for number in range(len(results))[::-1]:
        colour = "var(--own)" if number == 0 else "var(--other)"
        bars = "".join(
            f"M{x(edges[i]):.1f} {floor}V{floor - 120 * c / top:.1f}H{x(edges[i + 1]) - 0.6:.1f}V{floor}Z"
            for i, c in enumerate(counts[number])
            if c > 0
        )
        shapes.append(f'<path d="{bars}" fill="{colour}" fill-opacity=".78"/>')
    ticks = _ticks(low, high)
    axis = "".join(
        f'<line x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{floor}" y2="{floor + 5}" stroke="var(--soft)"/>'
        f'<text x="{x(t):.1f}" y="{floor + 20}" text-anchor="middle">{_measure.duration(t)}</text>'
        for t in ticks
    )
    keys = "".join(
        f'<span class="key"><i style="background:{"var(--own)" if i == 0 else "var(--other)"}"></i>'
        f"{html.escape(r.runtime)} {html.escape(r.version)}</span>"
        for i, r in enumerate(results)
    )
    runs = ", ".join(f"{len(r.times):,}" for r in results)
    return (
        f'<section><h2>How long one digit takes</h2><p class="soft small">{runs} single runs on one thread, '
        f"the runtimes in turns in one process; the slowest 3 % lie to the right of the picture.</p>"
        f'<p class="small">{keys}</p>'
        f'<svg viewBox="0 0 {width} {height}" width="100%" role="img" aria-label="histogram of latencies">'
        f'<line x1="10" x2="{width - 10}" y1="{floor}" y2="{floor}" stroke="var(--line)"/>{"".join(shapes)}{axis}'
        f"</svg></section>"
    )


def _steps(steps: Sequence[Step]) -> str:
    if not steps:
        return ""
    longest = max(s.microseconds for s in steps) or 1.0
    total = sum(s.microseconds for s in steps) or 1.0
    rows = "".join(
        f'<div class="op">{html.escape(s.op)}<small>{html.escape(s.name[:40])}</small></div>'
        f'<div class="track"><i style="width:{100 * s.microseconds / longest:.1f}%"></i></div>'
        f'<div class="t">{_measure.duration(s.microseconds * 1e-6)} '
        f'<span class="soft">{100 * s.microseconds / total:.0f} %</span></div>'
        for s in steps
    )
    return (
        '<section><h2>Where the time goes</h2><p class="soft small">The steps of the plan that Linnet made of the '
        f"model, in their order. Measuring a step adds a little to it.</p><div class='steps'>{rows}</div></section>"
    )


def _forms(forms: Sequence[Shrunk], count: int) -> str:
    """The compressed forms of the model beside each other: file, time, digits read right."""
    if not forms:
        return ""
    largest, slowest = max(f.size for f in forms), max(f.seconds for f in forms)
    rows = []
    for form in forms:
        bars = "".join(
            f'<div class="track"><i style="width:{100 * share:.1f}%"></i></div><div class="t">{text}</div>'
            for share, text in (
                (form.size / largest, _measure.size(form.size)),
                (form.seconds / slowest, _measure.duration(form.seconds)),
            )
        )
        right = f"{100 * form.right / count:.1f} %"
        rows.append(
            f'<div class="op">{html.escape(form.name)}<small>{html.escape(form.how)}</small></div>{bars}'
            f'<div class="t">{right}</div>'
        )
    return (
        '<section><h2>The same reader, smaller</h2><p class="soft small">Made by <code>linnet.compress</code>, run by '
        f"Linnet. File, one digit on one thread (all forms in turns), and how many of the {count} digits are read "
        f"right. The pruned one was trained on while its weights went; the integers' ranges come from the first "
        f"{CALIBRATION} digits.</p>"
        '<div class="forms"><div></div><div class="soft small">file</div><div></div><div class="soft small">one digit'
        f'</div><div></div><div class="t soft small">right</div>{"".join(rows)}</div></section>'
    )


def _called(called: Sequence[Called], count: int) -> str:
    """The clients of the served model: times and digits read right."""
    if not called:
        return ""
    slowest = max(float(np.percentile(c.times, 99)) for c in called)
    rows = ""
    for c in called:
        rows += f'<div class="op">{html.escape(c.client)}</div>'
        for q in (50, 99):
            time = float(np.percentile(c.times, q))
            rows += f'<div class="track"><i style="width:{100 * time / slowest:.1f}%"></i></div>'
            rows += f'<div class="t">{_measure.duration(time)}</div>'
        rows += f'<div class="t">{100 * c.right / count:.2f} %</div>'
    equal = all(c.equal for c in called)
    bits = "to the last bit those of a run without a server" if equal else "NOT those of a run without a server"
    return (
        "<section><h2>The same reader, served</h2><p class='soft'><code>linnet serve digits.onnx</code> in a process "
        f"of its own, one digit a call over gRPC, clients in Python. The answers are {bits}.</p>"
        '<div class="forms"><div></div><div class="soft small">median</div><div></div><div class="soft small">99th '
        f'percentile</div><div></div><div class="soft small">right</div>{rows}</div></section>'
    )


def page(
    digits: Digits,
    results: Sequence[Result],
    steps: Sequence[Step],
    machine: str,
    forms: Sequence[Shrunk] = (),
    called: Sequence[Called] = (),
) -> str:
    """The report as HTML. ``results`` begins with Linnet's; ``forms`` are the model's compressed forms, ``called`` what
    clients of the served model got."""
    own = results[0]
    uri, rows = sheet(digits)
    versions = " beside ".join(f"{r.runtime} {r.version}" for r in results)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Linnet reads handwritten digits</title><style>{STYLE}:root {{ --sheet:url({uri}) }}</style></head><body><main>
<h1>Linnet reads handwritten digits</h1>
<p class="soft">A small convolutional net, trained on scanned digits and run on {len(digits.labels)} that it has never
seen. {html.escape(versions)}, on {html.escape(machine)}.</p>
{_tiles(digits, results)}
{_misses(digits, own, rows)}
{_wall(digits, own, rows)}
{_steps(steps)}
{_latencies(results)}
{_forms(forms, len(digits.labels))}
{_called(called, len(digits.labels))}
<section><h2>Now your own model</h2><p>Any ONNX file will do.</p>
<pre>linnet inspect MODEL.onnx      # what is in it, and what Linnet makes of it
linnet run MODEL.onnx          # run it
linnet bench MODEL.onnx        # how fast it is, beside onnxruntime when that is installed
linnet compress search MODEL.onnx --data samples.npz        # how small it can be
linnet serve MODEL.onnx        # over gRPC and HTTP</pre>
<pre>import linnet
model = linnet.load("MODEL.onnx")
y = model(x)                   # numpy arrays in, numpy arrays out</pre></section>
</main></body></html>
"""
