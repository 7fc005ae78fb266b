"""Smaller and faster models: every tool here writes an ordinary ONNX file and a report of what it cost."""

from linnet.compress._quantize import quantize
from linnet.compress._quantized import Layer, Quantized
from linnet.compress._report import Bars, Figures, Point, Points, Report, Section, Table, measure

__all__ = [
    "Bars",
    "Figures",
    "Layer",
    "Point",
    "Points",
    "Quantized",
    "Report",
    "Section",
    "Table",
    "measure",
    "quantize",
]
