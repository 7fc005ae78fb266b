"""Smaller and faster models: every tool here writes an ordinary ONNX file and a report of what it cost."""

import importlib
from typing import TYPE_CHECKING

from linnet.compress._report import Bars, Figures, Point, Points, Report, Section, Table, measure

if TYPE_CHECKING:
    from linnet.compress._cluster import cluster
    from linnet.compress._prune import prune
    from linnet.compress._result import Result

_EDITORS = {"Result": "_result", "cluster": "_cluster", "prune": "_prune"}


def __getattr__(name: str) -> object:
    """What edits ONNX files, and so needs the onnx package, is imported when it is first asked for."""
    if name not in _EDITORS:
        raise AttributeError(f"module 'linnet.compress' has no attribute {name!r}")
    from linnet.compress._graph import need_onnx

    need_onnx()
    return getattr(importlib.import_module(f"linnet.compress.{_EDITORS[name]}"), name)


__all__ = ["Bars", "Figures", "Point", "Points", "Report", "Result", "Section", "Table", "cluster", "measure", "prune"]
