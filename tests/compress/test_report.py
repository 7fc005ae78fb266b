"""The report shows what it is given, as a page that needs nothing else, and as JSON."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import linnet
from linnet.compress import Bars, Figures, Point, Points, Report, Section, Table, measure, quantize
from linnet.demo._data import MODEL, held_out, model_input


class Tags(HTMLParser):
    """Collects what a page opens, and fails on a tag that is closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [v for k, v in attrs if k in ("src", "href") and v]
        self.seen.append(tag)
        if tag not in ("meta", "br", "line", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "br", "line", "polyline"):
            assert self.open.pop() == tag


def report() -> Report:
    latency = {"p50": 2e-3, "p90": 3e-3, "p99": 4e-3, "min": 1e-3, "runs": 10.0}
    before = Figures("before", 4_000_000, latency, 9_000_000, 0.99)
    after = Figures("after", 1_000_000, latency | {"p50": 1e-3}, None, 0.985)
    points = [
        Point(1, 0.9, "one", True),
        Point(2, 0.95, "two <b>", True),
        Point(3, 0.8, "three"),
        Point(4, math.nan, "x"),
    ]
    parts = [
        Table(["name", "size"], [["a <i>", "3"], ["b", "44"]]),
        Bars(["p", "q"], [1.0, math.inf], ["1", "inf"], [True]),
    ]
    sections = [
        Section("Parts & pieces", "text <u>", parts),
        Section("Front", "", [Points("time", "accuracy", points)]),
    ]
    return Report("A <model>", before, after, {"mode": "static"}, sections, ["mind <this>"], "accuracy", "a machine")


def test_page_is_well_formed_and_alone() -> None:
    text = report().to_html()
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.outside == []
    for part in ("A &lt;model&gt;", "mind &lt;this&gt;", "a &lt;i&gt;", "two &lt;b&gt;", "4.00× less", "2.00× less"):
        assert part in text
    assert "change -0.005" in text
    assert tags.seen.count("circle") == 3  # what is not finite is not drawn
    assert tags.seen.count("table") == 2  # the settings are one


def test_json_holds_everything(tmp_path: Path) -> None:
    report().save(tmp_path / "r.json")
    read = json.loads((tmp_path / "r.json").read_text())
    assert read["after"]["metric"] == 0.985
    assert read["sections"][0]["parts"][1]["values"] == [1.0, None]
    assert read["sections"][1]["parts"][0]["points"][1]["label"] == "two <b>"
    report().save(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == report().to_html()
    (tmp_path / "file").write_text("")
    with pytest.raises(linnet.Fail, match="cannot write"):
        report().save(tmp_path / "file" / "r.html")


def test_points_without_spread_are_drawn() -> None:
    for points in ([Point(1, 1, "only")], [Point(1, 0, "a"), Point(1, 0, "b")], []):
        section = Section("s", "", [Points("x", "y", points)])
        page = Report("t", Figures("a", 1), Figures("b", 1), sections=[section]).to_html()
        assert page.count("<circle") == len(points)


def test_models_are_measured(tmp_path: Path) -> None:
    picture = np.zeros((1, 1, 28, 28), np.float32)
    before, after = measure(MODEL, MODEL, {"image": picture}, metrics=(0.9, 0.8), seconds=0.05)
    assert before.file_bytes == MODEL.stat().st_size
    assert before.metric == 0.9
    assert after.metric == 0.8
    assert before.latency is not None
    assert after.latency is not None
    assert 0.3 < before.latency["p50"] / after.latency["p50"] < 3
    assert before.memory_bytes is not None
    assert before.memory_bytes > 100_000


def test_quantizing_is_reported() -> None:
    digits = held_out()
    pictures = model_input(digits.images)[:40]
    done = quantize(MODEL, pictures, labels=digits.labels[:40], sensitivity=True)
    said: list[str] = []
    made = done.report(seconds=0.05, say=said.append)
    assert said
    assert made.metric_name == "accuracy"
    assert made.before.file_bytes > 3 * made.after.file_bytes
    assert [s.title for s in made.sections] == ["Error layer by layer", "Sensitivity", "Layers"]
    text = made.to_html()
    for name in ("node_conv2d", "node_linear", "Calibrated on 40 samples", "digits.onnx, quantized"):
        assert name in text
    json.loads(made.to_json())
