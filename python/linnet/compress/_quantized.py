"""What `quantize` gives back: the model, what became of each layer, and the report."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnet.compress import _graph, _report
from linnet.compress._data import Feeds
from linnet.compress._report import Bars, Point, Points, Report, Section, Table

if TYPE_CHECKING:
    import onnx


@dataclass
class Layer:
    """What became of one layer; signal to noise ratios in dB, None where they were not measured.

    ``sqnr``: of the layer's output in the quantized model against the float model, all layers before it included.
    ``alone``: of the model's outputs when only this layer is quantized: low means sensitive. ``reason``: why it is not
    quantized.
    """

    name: str
    op: str
    quantized: bool
    reason: str = ""
    sqnr: float | None = None
    alone: float | None = None


@dataclass
class Quantized:
    """A quantized model.

    ``model`` is the ModelProto, ``layers`` all layers in the model's order, ``settings`` the options that made it,
    ``notes`` what was skipped and why. ``metrics`` are the metric (of the name ``metric_name``) of the float model and
    of this one, None where there is none; ``tried`` how many layers stayed float, and the metric then.
    """

    model: onnx.ModelProto
    source: Any
    layers: list[Layer]
    settings: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    metric_name: str = "metric"
    metrics: tuple[float | None, float | None] = (None, None)
    tried: list[tuple[int, float]] = field(default_factory=list)
    feeds: Feeds | None = None

    @property
    def kept_float(self) -> list[Layer]:
        """Layers that are not quantized."""
        return [layer for layer in self.layers if not layer.quantized]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the ONNX file, under a temporary name that is then renamed.

        Raises:
            Fail: it cannot be written.
        """
        _graph.save(self.model, path)

    def report(
        self, feeds: Feeds | None = None, *, threads: int = 1, seconds: float = 1.0, say: Callable[[str], None] = print
    ) -> Report:
        """Measures both models (size, latency, memory) and puts together what is known.

        Args:
            feeds: what to time them on; the first calibration sample when left out.
            threads: for each run.
            seconds: how long each model is timed, about.
            say: is told what is being done.
        """
        feeds = self.feeds if feeds is None else feeds
        if feeds is None:
            raise ValueError("feeds is needed where no data was given to quantize()")
        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "float.onnx", Path(folder) / "quantized.onnx"
            if isinstance(self.source, (str, os.PathLike)):
                before = Path(self.source)
            else:
                _graph.save(_graph.read(self.source)[0], before)
            self.save(after)
            figures = _report.measure(
                before, after, feeds, metrics=self.metrics, names=("float", "quantized"), threads=threads,
                seconds=seconds, say=say,
            )  # fmt: skip
        name = Path(self.source).name if isinstance(self.source, (str, os.PathLike)) else "a model"
        return Report(
            f"{name}, quantized", *figures, settings=dict(self.settings), sections=self._sections(),
            notes=list(self.notes), metric_name=self.metric_name, machine=_report.machine(),
        )  # fmt: skip

    def _sections(self) -> list[Section]:
        sections = []
        measured = [layer for layer in self.layers if layer.sqnr is not None and layer.quantized]
        if measured:
            bars = _decibel_bars([(x.name, x.sqnr or 0.0, False) for x in measured])
            text = (
                "Signal to noise ratio of each layer's output against the float model, in the model's order: what all "
                "layers up to there add up to. 6 dB more halve the error."
            )
            sections.append(Section("Error layer by layer", text, [bars]))
        alone = sorted((x for x in self.layers if x.alone is not None), key=lambda x: x.alone or 0.0)
        if alone:
            bars = _decibel_bars([(x.name, x.alone or 0.0, not x.quantized) for x in alone])
            text = (
                "Signal to noise ratio of the model's outputs when only this layer is quantized, the most sensitive "
                "first; red: kept float."
            )
            sections.append(Section("Sensitivity", text, [bars]))
        if len(self.tried) > 1:
            best = {kept: metric for kept, metric in self.tried}
            chosen = len([x for x in self.layers if x.alone is not None and not x.quantized])
            points = [Point(kept, metric, f"{kept} in float", kept == chosen) for kept, metric in best.items()]
            picture = Points("layers in float", self.metric_name, points)
            sections.append(Section("What more float layers buy", "", [picture]))
        if self.kept_float:
            rows = [[x.name, x.op, x.reason] for x in self.kept_float]
            sections.append(Section("Kept float", parts=[Table(["layer", "operator", "why"], rows)]))
        head = ["layer", "operator", "quantized", "SQNR", *(["alone"] if alone else [])]
        rows = [[x.name, x.op, "yes" if x.quantized else "no", _db(x.sqnr), _db(x.alone)] for x in self.layers]
        rows = [row[: len(head)] for row in rows]
        sections.append(Section("Layers", parts=[Table(head, rows)]))
        return sections


def _db(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} dB"


def _decibel_bars(rows: list[tuple[str, float, bool]]) -> Bars:
    names, values, marked = zip(*rows, strict=True)
    return Bars(names, values, [_db(value) for value in values], marked)
