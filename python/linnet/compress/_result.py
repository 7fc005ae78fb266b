"""What a tool of this package gives back: the new model, what happened to each layer, and a report on demand."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from linnet import _errors
from linnet._cli import _common
from linnet._options import SessionOptions
from linnet._session import InferenceSession
from linnet.compress import _graph, _layers
from linnet.compress._data import Feeds, Samples
from linnet.compress._data import labels as read_labels
from linnet.compress._metric import Metric, Run, UserMetric, accuracy, agreement, signal_to_noise
from linnet.compress._report import Report, Section, machine, measure
from linnet.compress._unpack import unpack_weights

Progress = Callable[[str, float], None]
"""Is called with what is being done and how much of it is (0..1)."""


def silent(text: str, share: float) -> None:
    """Shows no progress."""


@dataclass
class Result:
    """A compressed model.

    Attributes:
        title: what was done.
        source: the model as it was.
        model: the model as it is now, an ordinary ONNX model.
        settings: the options that made it.
        figures: numbers about it by name, such as ``"sparsity"``.
        kept: for each layer that stayed as it was, why.
        sections: tables and pictures for the report.
        notes: sentences that the reader must not miss.
        samples, metric: the user's, where given.
    """

    title: str
    source: onnx.ModelProto
    model: onnx.ModelProto
    settings: dict[str, str] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    samples: list[Feeds] | None = None
    metric: Metric | None = None

    def save(self, out: str | os.PathLike[str]) -> None:
        """Checks the model and writes it under a temporary name that becomes ``out`` at the end.

        Raises:
            InvalidGraph: the model breaks the ONNX specification.
            Fail: the file cannot be written.
        """
        checked(self.model)
        _graph.save(self.model, out)

    def report(
        self,
        feeds: Feeds | None = None,
        *,
        threads: int = 1,
        seconds: float = 1.0,
        say: Callable[[str], None] = lambda text: None,
    ) -> Report:
        """Measures both models' size, latency and memory, and their metric where there is one.

        Args:
            feeds: what to time them on; the first of the samples when left out, or a random one.
            threads: for each run.
            seconds: how long each model is timed, about.
            say: is told what is being done.
        """
        feeds = feeds or first_feeds(self.source, self.samples)
        metrics: list[float | None] = [None, None]
        if self.metric is not None:
            say(f"measuring the {self.metric.name} of both models")
            metrics = [score(self.metric, runner(model)) for model in (self.source, self.model)]
        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
            _graph.save(self.source, before)
            _graph.save(self.model, after)
            pair = metrics[0], metrics[1]
            figures = measure(before, after, feeds, metrics=pair, threads=threads, seconds=seconds, say=say)
        report = Report(self.title, *figures, dict(self.settings), list(self.sections), list(self.notes))
        report.metric_name = self.metric.name if self.metric is not None else "metric"
        report.machine = machine()
        return report


def opened(model: Any) -> onnx.ModelProto:
    """A copy of the model to change, its constants and the weights that are made of constants all initializers.

    Args:
        model: a path, the bytes of a file, or an ``onnx.ModelProto``.

    Raises:
        NoSuchFile, InvalidProtobuf, InvalidGraph: there is no such file; it is no ONNX model; it has no graph.
    """
    given, name = _graph.read(model)
    if not given.graph.node:
        raise _errors.InvalidGraph(f"{name} has no nodes")
    own = onnx.ModelProto()
    own.CopyFrom(given)
    if own.ir_version < 4:  # such files list their constants among the inputs, and new ones would have to be, too
        known = _layers.initializers(own.graph)
        for value in [value for value in own.graph.input if value.name in known]:
            own.graph.input.remove(value)
        own.ir_version = 4
    _layers.constants_to_initializers(own.graph)
    unpack_weights(own)
    return own


def checked(model: onnx.ModelProto) -> None:
    """Raises InvalidGraph if the model breaks the ONNX specification."""
    if model.ByteSize() < 2**31 - 2**20:  # the checker takes larger ones from files only
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            raise _errors.InvalidGraph(f"the result would break the ONNX specification: {error}") from error


def session_of(model: onnx.ModelProto, threads: int = 0) -> InferenceSession:
    """A session for a model in memory."""
    options = SessionOptions()
    options.intra_op_num_threads = threads
    return InferenceSession(model.SerializeToString(), options)


def runner(model: onnx.ModelProto, threads: int = 0) -> Run:
    """How to run a model in memory."""
    session = session_of(model, threads)
    return lambda feeds: list(session.run(None, feeds))


def metric_of(
    model: onnx.ModelProto, metric: str | Metric | UserMetric | None, labels: Any, samples: list[Feeds] | None
) -> Metric | None:
    """The measure of quality that the user asks for, as `linnet.compress.quantize` takes it.

    Raises:
        InvalidArgument: there is no such measure, or it needs data or labels.
    """
    if metric is None or isinstance(metric, Metric):
        kind = "accuracy" if metric is None and labels is not None else metric
    elif callable(metric):
        return Metric(getattr(metric, "__name__", "metric"), metric)
    else:
        kind = metric
    if kind is None or isinstance(kind, Metric):
        return kind
    if not samples:
        raise _errors.InvalidArgument(f"the metric {kind!r} needs data")
    if kind == "accuracy":
        if labels is None:
            raise _errors.InvalidArgument("the metric 'accuracy' needs labels")
        return accuracy(samples, read_labels(labels))
    if kind == "agreement":
        return agreement(samples, runner(model))
    if kind == "sqnr":
        return signal_to_noise(samples, runner(model))
    raise _errors.InvalidArgument(f"metric is {kind!r}; choose 'accuracy', 'agreement', 'sqnr' or give a function")


def score(metric: Metric, run: Run) -> float:
    """The metric of a model as a finite number; InvalidArgument otherwise."""
    value = float(metric.measure(run))
    if not math.isfinite(value):
        raise _errors.InvalidArgument(f"the {metric.name} is {value}")
    return value


def samples_of(model: onnx.ModelProto, data: Any) -> list[Feeds] | None:
    """The user's samples for a model, at least one; None where no data is given.

    Raises:
        InvalidArgument: there is none, or one does not fit the model.
    """
    if data is None:
        return None
    found = list(Samples(data, session_of(model)._core.inputs()))
    if not found:
        raise _errors.InvalidArgument("the data is empty")
    return found


def first_feeds(model: onnx.ModelProto, samples: list[Feeds] | None = None) -> Feeds:
    """The first sample; random inputs, whose free dimensions are 1, without any."""
    if samples:
        return samples[0]
    session = session_of(model)
    return _common.random_feeds(session, _common.resolve_shapes(session, []), 0, {})
