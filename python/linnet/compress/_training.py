"""Gradual pruning, whatever the training framework: which step cuts what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from linnet._errors import InvalidArgument
from linnet.compress import _select
from linnet.compress import _structure as patterns


def check(sparsity: float, structure: str, scope: str, begin: int, end: int, every: int) -> patterns.Structure:
    """The structure; InvalidArgument where an option does not fit."""
    parsed = patterns.Structure.parse(structure)
    patterns.check_sparsity(sparsity)
    if parsed.kind == "channel":
        raise InvalidArgument("channels cannot go while a model trains: train, then prune the exported ONNX file")
    if scope not in ("global", "layer"):
        raise InvalidArgument(f"scope {scope!r}: expected global or layer")
    if not 0 <= begin < end or every < 1:
        raise InvalidArgument(f"begin {begin}, end {end}, every {every}: expected 0 <= begin < end and every >= 1")
    return parsed


class Schedule:
    """Says at each step what is to be zero.

    Args:
        found: the model's layers, of which ``wanted`` and ``exclude`` choose.
        sparsity, structure, scope, begin, end, every: see `linnet.compress.torch.Pruner`.
    """

    def __init__(
        self,
        found: Sequence[_select.Layer],
        sparsity: float,
        structure: str,
        scope: str,
        begin: int,
        end: int,
        every: int,
        wanted: Iterable[str] | None,
        exclude: Iterable[str],
    ) -> None:
        self._structure = check(sparsity, structure, scope, begin, end, every)
        self._final, self._scope, self._begin, self._end, self._every = sparsity, scope, begin, end, every
        self.layers, why = _select.chosen(found, wanted, exclude)
        if not self.layers:
            raise InvalidArgument(f"the model has no layer to prune ({why or 'no dense layer, no convolution'})")

    def due(
        self, step: int, weights: Callable[[], Mapping[str, npt.NDArray[Any]]]
    ) -> dict[str, npt.NDArray[np.bool_]] | None:
        """The masks that hold from this step on, by layer, in the shapes of the weights; None when none are due.

        Args:
            step: of the optimizer, from 0 on.
            weights: gives the weights by layer as they are now; called when they are needed.
        """
        if not self._begin <= step <= self._end or (step != self._end and (step - self._begin) % self._every):
            return None
        now = weights()
        views = {
            layer.name: patterns.rows(now[layer.name].astype(np.float32), layer.outputs, layer.inputs)
            for layer in self.layers
        }
        sparsity = patterns.scheduled(step, self._begin, self._end, self._final)
        masks = patterns.masks(views, self._structure, sparsity, self._scope)
        return {
            layer.name: patterns.unrows(masks[layer.name], now[layer.name].shape, layer.outputs, layer.inputs)
            for layer in self.layers
        }
