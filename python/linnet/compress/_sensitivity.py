"""How much each layer minds being pruned, one at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from linnet._errors import InvalidArgument
from linnet.compress import _layers
from linnet.compress import _structure as patterns
from linnet.compress._data import Feeds
from linnet.compress._metric import Metric, signal_to_noise
from linnet.compress._report import Bars, Section, Table
from linnet.compress._result import Progress, runner, score
from linnet.compress._select import Layer


def sensitivity(
    model: onnx.ModelProto,
    chosen: Sequence[Layer],
    structure: patterns.Structure,
    levels: Sequence[float],
    samples: Sequence[Feeds] | None,
    metric: Metric | None,
    progress: Progress,
) -> dict[str, list[float]]:
    """For each layer and each sparsity, with that layer alone pruned: the loss of the metric, or the outputs' SQNR.

    Args:
        model: is left as it was.
        chosen: the layers.
        structure: how they are pruned; "channel" zeroes a layer's weakest outputs.
        levels: the sparsities.
        samples: runs, whose outputs are compared when there is no metric.
        metric: how good a model is.
        progress: is called with what is being done and how much of it is (0..1).

    Returns:
        By layer, for each level: metric before less metric after; or decibels, where more is better.
    """
    trial = onnx.ModelProto()
    trial.CopyFrom(model)
    run = runner(trial)
    if metric is None and not samples:
        raise InvalidArgument("a sensitivity scan needs data, or a metric")
    measured = metric or signal_to_noise(samples or [], run)
    before = score(metric, run) if metric is not None else 0.0
    known = _layers.initializers(trial.graph)
    found: dict[str, list[float]] = {}
    for number, layer in enumerate(chosen):
        progress(f"sensitivity of layer {number + 1} of {len(chosen)}", number / len(chosen))
        whole = onnx.TensorProto()
        whole.CopyFrom(known[layer.weight])
        array = _layers.values(whole)
        losses = found[layer.name] = []
        for level in levels:
            mask = _mask(array.astype(np.float32), layer, structure, level)
            _layers.replace(known[layer.weight], np.where(mask, array, 0).astype(array.dtype))
            value = score(measured, runner(trial))
            losses.append(value if metric is None else before - value)
        known[layer.weight].CopyFrom(whole)
    return found


def _mask(array: patterns.Floats, layer: Layer, structure: patterns.Structure, level: float) -> patterns.Mask:
    rows = patterns.rows(array, layer.outputs, layer.inputs)
    if structure.kind == "channel":
        strong = patterns.largest(np.square(rows).mean((1, 2)), len(rows) - round(level * len(rows)))
        mask = np.broadcast_to(strong[:, None, None], rows.shape)
    else:
        mask = patterns.masks({"": rows}, structure, level, "layer")[""]
    return patterns.unrows(mask, array.shape, layer.outputs, layer.inputs)


def scan(
    model: onnx.ModelProto,
    chosen: Sequence[Layer],
    structure: patterns.Structure,
    levels: Sequence[float],
    samples: Sequence[Feeds] | None,
    metric: Metric | None,
    progress: Progress,
) -> Section:
    """The `sensitivity` as a part of a report."""
    if structure.kind == "n:m":
        levels = [1 - structure.n / structure.m]
    found = sensitivity(model, chosen, structure, levels, samples, metric, progress)
    head = ["layer", *(f"{100 * level:.0f} %" for level in levels)]
    table = Table(head, [[name, *(f"{value:.4g}" for value in losses)] for name, losses in found.items()])
    last = {name: losses[-1] for name, losses in found.items()}
    what = "Loss of the metric" if metric is not None else "Signal to noise of the outputs in dB (more is better)"
    texts = [f"{value:.4g}" for value in last.values()]
    bars = Bars(list(last), list(last.values()), texts)
    return Section("Sensitivity", f"{what}, each layer pruned alone. Bars: at {100 * levels[-1]:.0f} %.", [bars, table])
