"""Smaller and faster models: every tool here writes an ordinary ONNX file and a report of what it cost."""

import importlib
from typing import TYPE_CHECKING

from linnet.compress._metric import Metric, accuracy, agreement, signal_to_noise
from linnet.compress._quantize import quantize
from linnet.compress._quantized import Layer, Quantized
from linnet.compress._report import Bars, Figures, Point, Points, Report, Section, Table, measure

if TYPE_CHECKING:
    from linnet.compress._cluster import cluster
    from linnet.compress._pipeline import compress
    from linnet.compress._prune import prune
    from linnet.compress._result import Result
    from linnet.compress._trials import search

_EDITORS = {
    "Result": "_result",
    "cluster": "_cluster",
    "compress": "_pipeline",
    "prune": "_prune",
    "search": "_trials",
}


def __getattr__(name: str) -> object:
    """What imports the onnx package at its top is itself imported when it is first asked for."""
    if name not in _EDITORS:
        raise AttributeError(f"module 'linnet.compress' has no attribute {name!r}")
    from linnet.compress._graph import need_onnx

    need_onnx()
    return getattr(importlib.import_module(f"linnet.compress.{_EDITORS[name]}"), name)


__all__ = [
    "Bars",
    "Figures",
    "Layer",
    "Metric",
    "Point",
    "Points",
    "Quantized",
    "Report",
    "Result",
    "Section",
    "Table",
    "accuracy",
    "agreement",
    "cluster",
    "compress",
    "measure",
    "prune",
    "quantize",
    "search",
    "signal_to_noise",
]
