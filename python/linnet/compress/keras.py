"""Pruning while a Keras model trains: a callback for ``fit``::

    pruning = linnet.compress.keras.GradualPruning(sparsity=0.8, structure="4x1", begin=200, end=2000)
    model.fit(x, y, epochs=10, callbacks=[pruning])

Then export the model to ONNX as it is: the zeros are in its weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from linnet.compress import _training
from linnet.compress._select import Layer

try:
    import keras
except ImportError as error:
    raise ImportError(f"linnet.compress.keras needs Keras ({error}): pip install keras tensorflow") from error


class GradualPruning(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Gradual magnitude pruning: from no zeros to ``sparsity`` along a cubic schedule, and fine-tuning with the mask.

    Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression" (2017). The
    kernels of convolutions and dense layers are masked in place. One callback can be given to several ``fit`` in a row,
    and goes on counting.

    Args:
        sparsity: the share of the chosen layers' weights that is zero in the end.
        structure: "unstructured", "4x1" or "n:m" such as "2:4", as for `linnet.compress.prune`.
        scope: "layer" or "global", as for `linnet.compress.prune`.
        begin, end: batches between which weights go; after ``end`` the zeros stay as they are.
        every: batches between two looks at the weights.
        layers, exclude: patterns for paths of layers, or kinds such as "Dense" and "Conv2D 3x3"; by default all but
            grouped convolutions.

    Raises:
        InvalidArgument: an option does not fit; when training begins, if the model has no such layer.
    """

    def __init__(
        self,
        *,
        sparsity: float = 0.8,
        structure: str = "4x1",
        scope: str = "global",
        begin: int = 0,
        end: int,
        every: int = 50,
        layers: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self._options = (sparsity, structure, scope, begin, end, every, layers, tuple(exclude))
        _training.check(sparsity, structure, scope, begin, end, every)
        self._schedule: _training.Schedule | None = None
        self._kernels: dict[str, Any] = {}
        self._masks: dict[str, Any] = {}
        self._steps = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds the layers."""
        found = [(_layer(layer), layer.kernel) for layer in _leaves(self.model)]
        self._schedule = _training.Schedule([layer for layer, _ in found], *self._options)
        self._kernels = {layer.name: kernel for layer, kernel in found}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Cuts what is due, and sets to zero again what was cut before."""
        assert self._schedule is not None
        masks = self._schedule.due(self._steps, lambda: {n: np.asarray(k) for n, k in self._chosen()})
        for name, kernel in self._chosen():
            if masks is not None:
                self._masks[name] = keras.ops.convert_to_tensor(masks[name].astype(np.float32), kernel.dtype)
            if name in self._masks:
                kernel.assign(kernel * self._masks[name])
        self._steps += 1

    def _chosen(self) -> list[tuple[str, Any]]:
        return [(layer.name, self._kernels[layer.name]) for layer in self._schedule.layers] if self._schedule else []

    @property
    def sparsity(self) -> float:
        """The share of zeros in the chosen layers now; 0 before the training."""
        kernels = [np.asarray(kernel) for _, kernel in self._chosen()]
        return 1 - sum(map(np.count_nonzero, kernels)) / sum(k.size for k in kernels) if kernels else 0.0


_LAYERS = keras.layers
_TRANSPOSED = (_LAYERS.Conv1DTranspose, _LAYERS.Conv2DTranspose, _LAYERS.Conv3DTranspose)
_KINDS = (_LAYERS.Dense, _LAYERS.Conv1D, _LAYERS.Conv2D, _LAYERS.Conv3D, *_TRANSPOSED)


def _leaves(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _leaves(layer)
        elif isinstance(layer, _KINDS) and layer.built:
            yield layer


def _layer(layer: Any) -> Layer:
    shape = tuple(layer.kernel.shape)
    kind = " ".join([type(layer).__name__, *(["x".join(map(str, shape[:-2]))] if shape[:-2] else [])])
    rank = len(shape)
    outputs, inputs = (rank - 2, rank - 1) if isinstance(layer, _TRANSPOSED) else (rank - 1, rank - 2)
    groups = getattr(layer, "groups", 1)
    return Layer(layer.path, kind, type(layer).__name__, layer.kernel.path, shape, outputs, inputs, groups)
