"""One way for each mode to make a model in which some layers are quantized and the others are float."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from linnet import _core, _errors
from linnet.compress import _graph, _places, _static, _weights
from linnet.compress._data import Feeds
from linnet.compress._graph import Graph
from linnet.compress._numbers import Affine, ByteType

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Options:
    """The options of `quantize` that say what the integers are."""

    mode: str
    weight_bits: int
    block_size: int
    method: str
    percentile: float
    per_channel: bool
    activation: ByteType
    weights_symmetric: bool
    bias_correction: bool
    threads: int


class Builder(Protocol):
    """``layers``: names of those that can be quantized; ``skipped``: why others cannot. Both in the model's order."""

    layers: list[str]
    skipped: dict[str, str]

    def build(self, names: Collection[str]) -> onnx.ModelProto:
        """The model with these layers quantized, and no others."""


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


class Static:
    """QDQ models; `calibrate` comes before `build`."""

    def __init__(
        self, model: onnx.ModelProto, floats: Collection[str], options: Options, left_out: Collection[str]
    ) -> None:
        self._model, self._floats, self._options, self._left_out = model, set(floats), options, set(left_out)
        self._graph = Graph(model)
        names = [n.name for n in model.graph.node if n.op_type in _places.LAYERS and n.name not in self._left_out]
        self._all = _places.find(self._graph, self._floats, names, self._left_out)
        self.skipped = self._all.skipped
        self._recurrent = set()
        for node in model.graph.node:
            if node.op_type in _weights.RECURRENT and node.name not in self._left_out:
                why = _weights.reason(self._graph, node, self._floats)
                if why is None:
                    self._recurrent.add(node.name)
                else:
                    self.skipped[node.name] = why
        layers = {node.name for node in self._all.layers} | self._recurrent
        self.layers = [node.name for node in model.graph.node if node.name in layers]
        self._ranges: dict[str, tuple[float, float]] = {}
        self._means: dict[str, Any] = {}

    def calibrate(self, samples: Iterable[Feeds], say: Callable[[int], None]) -> int:
        """Runs the float model on all samples and settles the ranges; the number of samples."""
        values, options = self._all.values, self._options
        axes: dict[str, int] = {}
        if options.bias_correction:
            for node in self._all.layers:
                if node.op_type != "ConvTranspose":  # whose shift is not known
                    axes.setdefault(node.input[0], 1 if node.op_type == "Conv" else -1)
        session = _graph.open_core(self._model, values, options.threads)
        calibrator = _core.Calibrator(session, values, {name: axis for name, axis in axes.items() if name in values})
        count = 0
        for feeds in samples:
            try:
                calibrator.add(feeds)
            except _errors.InvalidArgument as error:
                raise _errors.InvalidArgument(f"calibrating on sample {count}: {error}") from error
            count += 1
            say(count)
        if not count:
            raise _errors.InvalidArgument("the calibration data has no samples; some hundred typical inputs are good")
        kind = options.activation
        for name in values:
            self._ranges[name] = calibrator.range(name, options.method, kind.levels, kind.symmetric, options.percentile)
        if axes:
            for name, found in calibrator.statistics().items():
                sums = found["channel_sum"]
                if sums.size and found["count"]:
                    self._means[name] = sums * (sums.size / found["count"])
        return count

    def build(self, names: Collection[str]) -> onnx.ModelProto:
        model = _copy(self._model)
        recurrent = self._recurrent.intersection(names)
        if recurrent:
            model = _weights.Writer(model, recurrent).weight_only(8, 0, True, False)
        places = _places.find(Graph(model), self._floats, names, self._left_out)
        ends: dict[str, tuple[float, float]] = {}
        for value, key in places.scale_of.items():
            low, high = self._ranges[value]
            before = ends.get(key, (low, high))
            ends[key] = min(low, before[0]), max(high, before[1])
        for constant, key in places.constants.items():
            found = Graph(model).constant(constant)
            if found is not None and found.size:
                ends[key] = min(ends[key][0], float(found.min())), max(ends[key][1], float(found.max()))
        scales: dict[str, Affine] = {key: self._options.activation.affine(*ends[key]) for key in ends}
        writer = _static.Writer(
            model, places, scales, self._options.activation, per_channel=self._options.per_channel, means=self._means
        )
        return writer.write()

    def ends(self, names: Collection[str]) -> dict[str, str]:
        """For each of the layers, where its float result ends."""
        places = _places.find(self._graph, self._floats, names, self._left_out)
        found = {node.name: places.out.get(node.output[0], node.output[0]) for node in places.layers}
        found |= {n.name: n.output[0] for n in self._model.graph.node if n.name in self._recurrent and n.output[0]}
        return found


class Stored:
    """The modes without calibration: dynamic and weight-only."""

    def __init__(
        self, model: onnx.ModelProto, floats: Collection[str], options: Options, left_out: Collection[str]
    ) -> None:
        self._model, self._options = model, options
        graph = Graph(model)
        self.layers: list[str] = []
        self.skipped: dict[str, str] = {}
        self._outputs: dict[str, str] = {}
        for node in model.graph.node:
            if node.name in left_out or node.op_type not in _weights.PRODUCTS | _weights.RECURRENT:
                if node.op_type in ("Conv", "ConvTranspose") and node.name not in left_out:
                    self.skipped[node.name] = f'convolutions stay float in mode "{options.mode}"'
                continue
            if node.op_type == "MatMul" and not graph.is_constant(node.input[1]):
                continue  # of two computed values: there are no weights to store
            why = _weights.reason(graph, node, floats)
            if why is None:
                self.layers.append(node.name)
                self._outputs[node.name] = next(filter(None, node.output), "")
            else:
                self.skipped[node.name] = why

    def build(self, names: Collection[str]) -> onnx.ModelProto:
        writer, options = _weights.Writer(_copy(self._model), names), self._options
        if options.mode == "dynamic":
            return writer.dynamic(options.per_channel)
        symmetric = options.weights_symmetric
        return writer.weight_only(options.weight_bits, options.block_size, symmetric, options.method == "mse")

    def ends(self, names: Collection[str]) -> dict[str, str]:
        """For each of the layers, its first output."""
        return {name: self._outputs[name] for name in names if self._outputs[name]}


def peaks(
    model: onnx.ModelProto, values: list[str], samples: Iterable[Feeds], threads: int, say: Callable[[int], None]
) -> dict[str, Any]:
    """The greatest magnitudes of values by channel (last axis) over all samples."""
    calibrator = _core.Calibrator(_graph.open_core(model, values, threads), values, dict.fromkeys(values, -1))
    for i, feeds in enumerate(samples):
        calibrator.add(feeds)
        say(i + 1)
    found = calibrator.statistics()
    return {n: np.maximum(np.abs(found[n]["channel_min"]), np.abs(found[n]["channel_max"])) for n in values}
