"""Pruning, sharing and quantizing one after the other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import onnx

from linnet import _errors
from linnet.compress import _cluster
from linnet.compress._metric import Metric, UserMetric
from linnet.compress._prune import prune
from linnet.compress._quantize import quantize
from linnet.compress._result import Progress, Result, metric_of, opened, samples_of, silent


def compress(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    data: Any = None,
    output: str | os.PathLike[str] | None = None,
    *,
    sparsity: float | None = None,
    structure: str = "4x1",
    scope: str = "global",
    codes: int | None = None,
    per: str = "tensor",
    mode: str | None = None,
    exclude: Sequence[str] = (),
    metric: str | Metric | UserMetric | None = None,
    labels: Any = None,
    progress: Progress = silent,
    **quantizing: Any,
) -> Result:
    """Prunes, then shares weights, then quantizes: whichever of the three are asked for.

    Each step keeps what the one before it made. Zeros are one of the codes, and quantize to zero. After quantization
    the weights, which have no more different values than there are codes, are stored as codes again.

    Args:
        model: a float model: a path, the bytes of a file, or an ``onnx.ModelProto``.
        data: samples, for static quantization and for the metric, as for `linnet.compress.quantize`.
        output: where the model is written, if at all: under a temporary name that is then renamed.
        sparsity, structure, scope: as for `linnet.compress.prune`; pruned if ``sparsity`` is given, or ``structure`` is
            n:m.
        codes, per: as for `linnet.compress.cluster`; shared if ``codes`` is given.
        mode: "static", "dynamic" or "weight-only"; quantized if it is given.
        exclude: patterns of layers that no step touches.
        metric, labels: as for `linnet.compress.quantize`.
        progress: is called with what is being done and how much of it is (0..1).
        **quantizing: further options of `linnet.compress.quantize`.

    Raises:
        InvalidArgument: no step is asked for; or as the steps say.
        LinnetError: as the steps say.
    """
    pruned = sparsity is not None or ":" in structure
    if not pruned and codes is None and mode is None:
        raise _errors.InvalidArgument("nothing to do: give a sparsity, a number of codes or a mode of quantization")
    source = opened(model)
    samples = samples_of(source, data)
    result = Result("", source, source, samples=samples, metric=metric_of(source, metric, labels, samples))
    titles = []
    if pruned:
        step = prune(source, sparsity=sparsity, structure=structure, scope=scope, exclude=exclude, progress=progress)
        titles.append(step.title)
        _take(result, step, "Pruning")
    if codes is not None:
        step = _cluster.cluster(result.model, codes=codes, per=per, exclude=exclude, progress=progress)
        titles.append(step.title)
        _take(result, step, "Sharing")
    if mode is not None:
        titles.append(f"quantized ({mode})")
        _quantize(result, mode, exclude, progress, quantizing)
        if codes is not None:
            _cluster.pack(result.model, codes)
    result.title = "; ".join([titles[0], *(title[0].lower() + title[1:] for title in titles[1:])])
    if output is not None:
        result.save(output)
    return result


def _take(result: Result, step: Result, name: str) -> None:
    """The step's model and what it has to say."""
    result.model = step.model
    result.settings |= step.settings
    result.figures |= step.figures
    result.notes += step.notes
    result.kept |= {f"{name.lower()} {layer}": why for layer, why in step.kept.items()}
    result.sections += [replace(section, title=f"{name}: {section.title.lower()}") for section in step.sections]


def _quantize(result: Result, mode: str, exclude: Sequence[str], progress: Progress, options: dict[str, Any]) -> None:
    made = quantize(result.model, result.samples, mode=mode, exclude=exclude, progress=progress, **options)
    result.model = made.model
    result.settings |= made.settings
    result.notes += made.notes
    kept = {layer.name: layer.reason for layer in made.kept_float}
    result.kept |= {f"quantizing {name}": why for name, why in kept.items()}
    result.sections += [replace(s, title=f"Quantizing: {s.title.lower()}") for s in made._sections()]
