"""Pruning an ONNX model: the weakest weights become zero, or whole channels go."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx

from linnet import _errors, _measure
from linnet.compress import _layers, _select
from linnet.compress import _structure as patterns
from linnet.compress._cut import cut_channels
from linnet.compress._data import Feeds
from linnet.compress._metric import Metric, UserMetric
from linnet.compress._report import Bars, Section, Table
from linnet.compress._result import Progress, Result, first_feeds, metric_of, opened, runner, samples_of, silent
from linnet.compress._select import Layer
from linnet.compress._sensitivity import scan
from linnet.compress._structure import Structure

DENSEST, SPARSEST, STEPS = 0.0, 0.98, 6
"""Between which sparsities a target latency is sought, and how often the interval is halved."""


def prune(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    output: str | os.PathLike[str] | None = None,
    *,
    sparsity: float | None = None,
    target_latency: float | None = None,
    structure: str = "4x1",
    scope: str = "global",
    layers: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    data: Any = None,
    metric: str | Metric | UserMetric | None = None,
    labels: Any = None,
    levels: Iterable[float] = (),
    threads: int = 1,
    progress: Progress = silent,
) -> Result:
    """Prunes convolutions and dense layers by magnitude; the result is an ordinary ONNX model.

    Without training afterwards a model stands little of this; see `linnet.compress.torch` and `linnet.compress.keras`
    for pruning while it trains.

    Args:
        model: a path, the bytes of a file, or an ``onnx.ModelProto``.
        output: where the model is written, if at all: under a temporary name that is then renamed.
        sparsity: the share of the chosen layers' weights (with "channel": of the channels that can go) that goes;
            0.8 unless a latency is asked for. Not with "n:m", whose pattern says it.
        target_latency: seconds for one run; the least sparsity whose measured median reaches it is taken.
        structure: "unstructured" (single weights), "4x1" (blocks of four neighbouring outputs, aligned at multiples of
            four, at one input: what sparse kernels like best), "n:m" such as "2:4" (n of m neighbouring inputs stay)
            or "channel" (whole channels go, and the graph stays dense and becomes smaller).
        scope: "layer" takes the same share from every layer, "global" more where it matters less (see
            `_structure.adaptive_scores`).
        layers: patterns such as "Conv 1x1", "Gemm" or "/features/*" for names, weights or kinds of layers to prune;
            by default all but depthwise and grouped convolutions.
        exclude: patterns of layers to leave alone.
        data: samples to run, as ``calibration_data`` of `linnet.compress.quantize`.
        metric, labels: how good a model is, higher is better, as for `linnet.compress.quantize`.
        levels: sparsities of a sensitivity scan, which needs ``data``: it measures the metric, or without one the
            signal to noise ratio of the outputs.
        threads: of the runs that measure latency.
        progress: is called with what is being done and how much of it is (0..1).

    Raises:
        InvalidArgument: an option or the data does not fit; nothing can be pruned; the model is quantized already; the
            latency cannot be reached.
        NoSuchFile, InvalidProtobuf, InvalidGraph, Fail: see `linnet.compress.Result.save` and the message.
    """
    shape = Structure.parse(structure)
    if scope not in ("global", "layer"):
        raise _errors.InvalidArgument(f"scope {scope!r}: expected global or layer")
    if shape.kind == "n:m" and (sparsity is not None or target_latency is not None):
        raise _errors.InvalidArgument(
            f"structure {structure} says by itself how much goes; give no sparsity or latency"
        )
    if sparsity is not None and target_latency is not None:
        raise _errors.InvalidArgument("give a sparsity or a target latency, not both")
    if target_latency is not None and not target_latency > 0:
        raise _errors.InvalidArgument(f"target_latency {target_latency}: expected seconds above 0")
    wanted = patterns.check_sparsity(0.8 if sparsity is None else sparsity)
    source = opened(model)
    _layers.refuse_quantized(source.graph, "prune it")
    found = _layers.layers(source.graph)
    chosen, kept = _select.chosen(found, layers, exclude)
    chosen = [layer for layer in chosen if not _leave(source, layer, kept)]
    if not chosen:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(kept.items())[:5])
        raise _errors.InvalidArgument(
            "nothing can be pruned: " + (reasons or "the model has no convolution or dense layer with constant weights")
        )
    levels = [patterns.check_sparsity(level) for level in levels]
    samples = samples_of(source, data)
    measured = metric_of(source, metric, labels, samples)
    result = Result("Pruned", source, source, kept=kept, samples=samples, metric=measured)
    if levels:
        result.sections.append(scan(source, chosen, shape, levels, samples, measured, progress))
    if target_latency is not None:
        feeds = first_feeds(source, samples)
        wanted = _reach(source, chosen, shape, scope, target_latency, feeds, threads, result, progress)
    progress(f"pruning {len(chosen)} layers", 0.95)
    result.model, rows, why = _pruned(source, chosen, shape, wanted, scope)
    kept.update(why)
    _describe(result, rows, shape, scope)
    if output is not None:
        result.save(output)
    return result


def _leave(model: onnx.ModelProto, layer: Layer, kept: dict[str, str]) -> bool:
    """Whether the layer cannot be pruned: its weights are no finite numbers. Says so in ``kept``."""
    known = _layers.initializers(model.graph)
    finite = bool(np.isfinite(_layers.values(known[layer.weight]).astype(np.float32)).all())
    if not finite:
        kept[layer.name] = "its weights hold NaN or infinity"
    return not finite


def _pruned(
    source: onnx.ModelProto, chosen: list[Layer], structure: Structure, sparsity: float, scope: str
) -> tuple[onnx.ModelProto, list[list[str]], dict[str, str]]:
    """The pruned model, a row of text for each layer, and for layers that stayed why."""
    model = onnx.ModelProto()
    model.CopyFrom(source)
    if structure.kind == "channel":
        sizes, why = cut_channels(model, chosen, sparsity, scope)
        kinds = {layer.name: layer.kind for layer in chosen}
        rows = [_row(name, kinds[name], before, after) for name, (before, after) in sizes.items()]
        return model, rows, why
    known = _layers.initializers(model.graph)
    views = {
        layer.weight: patterns.rows(_layers.values(known[layer.weight]).astype(np.float32), layer.outputs, layer.inputs)
        for layer in chosen
    }
    rows = []
    masks = patterns.masks(views, structure, sparsity, scope)
    for layer in chosen:
        array = _layers.values(known[layer.weight])
        mask = patterns.unrows(masks[layer.weight], array.shape, layer.outputs, layer.inputs)
        zeroed = np.where(mask, array, np.zeros((), array.dtype)).astype(array.dtype)
        _layers.replace(known[layer.weight], zeroed)
        rows.append(_row(layer.name, layer.kind, array.size, int(np.count_nonzero(zeroed))))
    return model, rows, {}


def _row(name: str, kind: str, before: int, after: int) -> list[str]:
    return [name, kind, f"{before}", f"{after}", f"{100 * (1 - after / before):.1f} %"]


def latency(model: onnx.ModelProto, feeds: Feeds, threads: int) -> float:
    """Median seconds of one run."""
    run = runner(model, threads)
    times = _measure.interleaved({"one": lambda: run(feeds)}, seconds=0.3, burst=0.02)["one"]
    return float(np.median(times))


def _reach(
    source: onnx.ModelProto,
    chosen: list[Layer],
    structure: Structure,
    scope: str,
    target: float,
    feeds: Feeds,
    threads: int,
    result: Result,
    progress: Progress,
) -> float:
    """The least sparsity, found by halving an interval, whose measured latency is at most ``target`` seconds."""
    tried: list[tuple[float, float]] = []

    def measured(sparsity: float) -> float:
        model = _pruned(source, chosen, structure, sparsity, scope)[0] if sparsity else source
        seconds = latency(model, feeds, threads)
        tried.append((sparsity, seconds))
        took = f"sparsity {sparsity:.3f} takes {_measure.duration(seconds)}, {_measure.duration(target)} is the target"
        progress(took, len(tried) / (STEPS + 2))
        return seconds

    dense = measured(DENSEST)
    if dense <= target:
        result.notes.append(
            f"The model takes {_measure.duration(dense)} as it is: it reaches {_measure.duration(target)} unpruned."
        )
        return DENSEST
    best = measured(SPARSEST)
    if best > target:
        raise _errors.InvalidArgument(
            f"a latency of {_measure.duration(target)} cannot be reached: the model takes {_measure.duration(dense)} "
            f"as it is and {_measure.duration(best)} with {100 * SPARSEST:.0f} % pruned ({structure})"
        )
    low, high = DENSEST, SPARSEST
    for _ in range(STEPS):
        middle = (low + high) / 2
        if measured(middle) <= target:
            high = middle
        else:
            low = middle
    tried.sort()
    labels, times = [f"{100 * s:.1f} %" for s, _ in tried], [t for _, t in tried]
    bars = Bars(labels, times, [_measure.duration(t) for t in times], [t > target for t in times])
    text = f"One run by sparsity; {_measure.duration(target)} was asked for. Red is too slow."
    result.sections.append(Section("The way to the latency", text, [bars]))
    result.figures["target_latency"] = target
    return high


def _describe(result: Result, rows: list[list[str]], structure: Structure, scope: str) -> None:
    """Fill in what the rows say."""
    before, after = (sum(int(row[i]) for row in rows) for i in (2, 3))
    share = 1 - after / before if before else 0.0
    channels = structure.kind == "channel"
    result.figures["sparsity"] = share
    result.settings |= {"structure": str(structure), "scope": scope}
    what = "channels" if channels else "weights"
    result.title = f"Pruned: {100 * share:.1f} % of the {what} of {len(rows)} layers are gone"
    head = ["layer", "kind", f"{what} before", "after", "gone"]
    result.sections.insert(0, Section("Layers", parts=[Table(head, rows)]))
    if result.kept:
        stayed = Table(["layer", "why"], [[name, why] for name, why in result.kept.items()])
        result.sections.append(Section("What stayed as it was", parts=[stayed]))
    if channels and not rows:
        result.notes.append("No channel could go: see what stayed as it was, and why.")
