"""Layers that can be pruned or shared, wherever they live, and the patterns that choose among them."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from linnet._errors import InvalidArgument


@dataclass(frozen=True)
class Layer:
    """A layer and its weight.

    ``kind`` reads like "Conv 1x1", "Conv 3x3 depthwise", "Gemm" or "MatMul"; ``outputs`` and ``inputs`` are the axes of
    the weight (of ``shape``) along which outputs and inputs lie.
    """

    name: str
    kind: str
    op: str
    weight: str
    shape: tuple[int, ...]
    outputs: int
    inputs: int
    groups: int = 1

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def depthwise(self) -> bool:
        """A convolution with one input channel a group: few weights, each of which matters."""
        return self.groups > 1 and self.shape[self.inputs] == 1


def chosen(
    found: Sequence[Layer], wanted: Iterable[str] | None, exclude: Iterable[str]
) -> tuple[list[Layer], dict[str, str]]:
    """The layers that the patterns choose, and for each other layer why not.

    A pattern (``*`` and ``?`` as in file names) is held against a layer's name, its weight's name, its kind and its
    operator. Without ``wanted`` all but depthwise and grouped convolutions are chosen.

    Raises:
        InvalidArgument: a pattern fits nothing.
    """

    def fits(layer: Layer, pattern: str) -> bool:
        return any(fnmatch.fnmatchcase(text, pattern) for text in (layer.name, layer.weight, layer.kind, layer.op))

    for option, patterns in (("layers", wanted), ("exclude", exclude)):
        if isinstance(patterns, str):
            raise InvalidArgument(f"{option}: expected a list of patterns, not the text {patterns!r}")
        for pattern in patterns or ():
            if not any(fits(layer, pattern) for layer in found):
                known = ", ".join(layer.name for layer in found[:6]) + (", ..." if len(found) > 6 else "")
                raise InvalidArgument(f"{option}: no layer fits {pattern!r}; the layers are {known or 'none'}")
    kept: list[Layer] = []
    why: dict[str, str] = {}
    for layer in found:
        if any(fits(layer, p) for p in exclude):
            why[layer.name] = "excluded"
        elif wanted is not None and not any(fits(layer, p) for p in wanted):
            why[layer.name] = "not among the layers asked for"
        elif wanted is None and layer.groups > 1:
            why[layer.name] = "a depthwise convolution" if layer.depthwise else "a grouped convolution"
        else:
            kept.append(layer)
    return kept, why
