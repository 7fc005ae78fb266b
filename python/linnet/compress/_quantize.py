"""`quantize`: a float ONNX model becomes one with integers in it."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from linnet import _core, _errors
from linnet.compress import _adjust, _build, _graph, _metric, _search
from linnet.compress._data import Feeds, Samples
from linnet.compress._data import labels as read_labels
from linnet.compress._metric import Metric, Run, UserMetric
from linnet.compress._numbers import ByteType
from linnet.compress._quantized import Layer, Quantized

if TYPE_CHECKING:
    import onnx

METHODS = ("minmax", "percentile", "entropy", "mse")
MODES = ("static", "dynamic", "weight-only")
NOISE_SAMPLES = 16
"""How many samples the figures of single layers are measured on."""
SENSITIVITY_SAMPLES = 4
"""So many of them tell which of two layers is the more sensitive one: both are measured on the same."""
MOST_AT_ONCE = 4
"""Models that are open at the same time, at most."""

_INTEGER_OPS = (
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinear*",
    "MatMulNBits", "DynamicQuantize*", "QGemm", "QAttention", "MatMulIntegerToFloat",
)  # fmt: skip

Progress = Callable[[str, float], None]


def quantize(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    calibration_data: Any = None,
    output: str | os.PathLike[str] | None = None,
    *,
    mode: str = "static",
    method: str = "minmax",
    percentile: float = 99.99,
    activation: str = "uint8",
    symmetric: bool = False,
    per_channel: bool = True,
    weight_bits: int = 8,
    block_size: int | None = None,
    weights_symmetric: bool = True,
    exclude: Sequence[str] = (),
    bias_correction: bool = False,
    equalize: bool = False,
    smooth: float | None = None,
    metric: str | UserMetric | None = None,
    labels: Any = None,
    evaluation_data: Any = None,
    allowed_loss: float | None = None,
    sensitivity: bool = False,
    samples: int | None = None,
    threads: int = 0,
    progress: Progress = lambda text, share: None,
) -> Quantized:
    """Quantizes a model's layers to integers; the result is a standard ONNX file that other runtimes run, too.

    Args:
        model: a float32 model: a path, bytes or an onnx.ModelProto.
        calibration_data: typical inputs, for ``mode="static"`` and for whatever is measured: an iterable of samples
            (each a dict of arrays by input name, or an array where the model has one input), an ``.npz`` or ``.npy``
            file, or a folder of them, with one sample or a stack of samples each. Some hundred are good.
        output: where to write the file. It is written under a temporary name that is then renamed.
        mode: ``"static"``: weights are signed bytes, activations bytes whose ranges were found by calibration, as QDQ
            pairs (opset 13); fastest. ``"dynamic"``: MatMul and Gemm measure their input's range while they run;
            without data, good for transformers. ``"weight-only"``: weights of MatMul and Gemm are stored as integers
            (opset 21 with blocks), arithmetic stays float; for models that are limited by memory. LSTM, GRU and RNN
            weights are stored as bytes in all modes.
        method: how static mode chooses a range: ``"minmax"``, all that was seen; ``"percentile"``, all but the
            outermost (100 - ``percentile``) % of the elements; ``"entropy"``, least Kullback-Leibler divergence;
            ``"mse"``, least squared error (in weight-only mode: of the weights' blocks).
        activation: ``"uint8"`` or ``"int8"``; ``symmetric``: with the zero point in the middle.
        per_channel: weights have a scale for each output channel.
        weight_bits: 8, or 4 in weight-only mode; ``weights_symmetric``: signed without a zero point.
        block_size: weights along the inputs that share a scale in weight-only mode, a power of two from 16 on; by
            default 32 for 4 bits and whole columns (0) for 8.
        exclude: names of nodes or outputs, or operator types, that stay float; ``*`` matches anything.
        bias_correction: takes what rounding the weights adds to the mean of a layer's output out of its bias (static).
        equalize: makes the weight ranges of Conv-Relu-Conv chains alike first.
        smooth: 0..1 (0.5 is usual): moves outlier channels of transformers' activations into the weights first.
        metric: the user's measure of quality, higher is better: a function that is given ``run(feeds) -> outputs`` and
            returns a number; or ``"accuracy"`` (top 1 of the first output, needs ``labels``), ``"agreement"`` (with the
            float model's top 1), ``"sqnr"`` (of the outputs, in dB). By default accuracy where there are labels, and
            agreement where ``allowed_loss`` is given.
        labels: for accuracy: an array, an ``.npy`` file, or an ``.npz`` file with ``labels``.
        evaluation_data: what a built-in metric runs on; by default the calibration data.
        allowed_loss: how much of the metric may be lost (0.003: 0.3 points of accuracy; of "sqnr", the noise's share of
            the outputs' power, 0.01: 20 dB). Layers are measured one by one, and the fewest stay float with which the
            loss is kept.
        sensitivity: measure the layers one by one also without ``allowed_loss``.
        samples: of the data used at most.
        threads: for running the model; 0: all CPUs.
        progress: is called with what is being done and how much of it is (0..1).

    Returns:
        What was made, with the errors of every layer where there was data; ``report()`` makes pages of it.

    Raises:
        InvalidArgument: options or data that do not fit; a model that is quantized already or has nothing to quantize.
        NoSuchFile, InvalidProtobuf, InvalidGraph, NotImplementedOp: the model cannot be read.
        Fail: ``allowed_loss`` cannot be kept, or the file cannot be written.
        ImportError: the onnx package is absent.
    """
    options = _options(
        mode, weight_bits, block_size, method, percentile, per_channel, activation, symmetric, weights_symmetric,
        bias_correction, threads,
    )  # fmt: skip
    if mode == "static" and calibration_data is None:
        raise _errors.InvalidArgument("static quantization needs calibration_data: some hundred typical inputs")
    if smooth is not None and (not 0 <= smooth <= 1 or calibration_data is None):
        raise _errors.InvalidArgument(f"smooth is {smooth}; expected 0..1, and calibration_data")
    progress("reading the model", 0.0)
    _refuse_integers(model)
    simple, name = _graph.simplified(model)
    least_opset = 21 if options.mode == "weight-only" and (options.block_size or options.weight_bits == 4) else 13
    simple = _graph.with_opset(simple, least_opset, name)
    left_out = _excluded(simple, exclude)
    notes: list[str] = []
    ports = _graph.open_core(simple, fuse=False).inputs()
    data = Samples(calibration_data, ports, samples) if calibration_data is not None else None
    reference = _runner(simple, threads)
    float_model = simple
    if equalize or smooth is not None:
        float_model = type(simple).FromString(simple.SerializeToString())
        if equalize:
            pairs = _adjust.equalize(float_model)
            nothing = "There was nothing to equalise: no two convolutions with only a Relu between them."
            notes.append(f"Equalised the weights of {pairs} pairs of convolutions." if pairs else nothing)
        if smooth is not None and data is not None:
            notes.append(_smooth(float_model, smooth, data, options.threads, progress))
    floats = _graph.float_values(float_model)
    builder: _build.Static | _build.Stored
    if options.mode == "static":
        builder = _build.Static(float_model, floats, options, left_out)
    else:
        builder = _build.Stored(float_model, floats, options, left_out)
    if not builder.layers:
        raise _errors.InvalidArgument(_nothing(name, options.mode, simple, builder.skipped, left_out))
    if isinstance(builder, _build.Static) and data is not None:
        count = builder.calibrate(data, _counter(progress, "calibrating", data))
        notes.append(f"Calibrated on {count} samples.")
    elif data is not None and next(iter(data), None) is None:
        raise _errors.InvalidArgument("the data has no samples")

    evaluation = Samples(evaluation_data, ports, samples) if evaluation_data is not None else data
    measured = _metric_of(metric, labels, evaluation, allowed_loss, reference)
    few = list(_first(data, NOISE_SAMPLES)) if data is not None else []
    alone: dict[str, float] = {}
    if allowed_loss is not None or sensitivity:
        if not few:
            raise _errors.InvalidArgument("allowed_loss and sensitivity need data to measure on")
        alone = _sensitivities(builder, few, reference, threads, progress)
    chosen, kept, tried = builder.layers, [], []
    if measured is not None and allowed_loss is not None:
        choice = _choose(builder, measured, allowed_loss, alone, reference, threads, progress)
        kept, tried = choice.kept, choice.tried
        chosen = [layer for layer in builder.layers if layer not in kept]
    progress("writing the integers", 0.9)
    result = builder.build(chosen)
    _check(result, name)
    metrics: tuple[float | None, float | None] = (None, None)
    if measured is not None:
        progress(f"measuring the {measured.name}", 0.93)
        metrics = measured.measure(reference), measured.measure(_runner(result, threads))
    noise = _noise(float_model, result, builder.ends(chosen), few, threads, progress) if few else {}
    reasons = {**builder.skipped, **{n: "excluded" for n in left_out if _is_layer(simple, n)}}
    reasons |= {n: f"sensitive: alone it leaves {alone[n]:.1f} dB of the outputs" for n in kept}
    layers = [
        Layer(n.name, n.op_type, n.name in chosen, reasons.get(n.name, ""), noise.get(n.name), alone.get(n.name))
        for n in simple.graph.node
        if n.name in reasons or n.name in chosen
    ]
    quantized = Quantized(
        result, model, layers, _settings(options, exclude, equalize, smooth, allowed_loss), notes,
        measured.name if measured else "metric", metrics, tried, few[0] if few else None,
    )  # fmt: skip
    if output is not None:
        quantized.save(output)
    progress("", 1.0)
    return quantized


def _options(
    mode: str,
    weight_bits: int,
    block_size: int | None,
    method: str,
    percentile: float,
    per_channel: bool,
    activation: str,
    symmetric: bool,
    weights_symmetric: bool,
    bias_correction: bool,
    threads: int,
) -> _build.Options:
    def one_of(name: str, value: object, values: Sequence[object]) -> None:
        if value not in values:
            raise _errors.InvalidArgument(f"{name} is {value!r}; choose {', '.join(repr(v) for v in values)}")

    one_of("mode", mode, MODES)
    one_of("method", method, METHODS)
    one_of("activation", activation, ("uint8", "int8"))
    one_of("weight_bits", weight_bits, (8, 4) if mode == "weight-only" else (8,))
    if not 50 < percentile <= 100:
        raise _errors.InvalidArgument(f"percentile is {percentile}; expected a number above 50 and up to 100")
    block = block_size if block_size is not None else 32 if weight_bits == 4 else 0
    if block and (mode != "weight-only" or block < 16 or block & (block - 1)):
        raise _errors.InvalidArgument(
            f"block_size is {block} in mode {mode!r}; in weight-only mode expected a power of two from 16 on, or 0"
        )
    kind = ByteType(activation, symmetric)
    return _build.Options(
        mode, weight_bits, block, method, percentile, per_channel, kind, weights_symmetric, bias_correction, threads
    )


def _settings(
    options: _build.Options, exclude: Sequence[str], equalize: bool, smooth: float | None, allowed_loss: float | None
) -> dict[str, str]:
    settings = {"mode": options.mode, "weights": f"{options.weight_bits} bits"}
    if options.mode == "static":
        kind = options.activation
        settings["activations"] = kind.name + (", symmetric" if kind.symmetric else "")
        settings["calibration"] = options.method + (
            f" {options.percentile} %" if options.method == "percentile" else ""
        )
        settings["bias correction"] = "yes" if options.bias_correction else "no"
    if options.mode == "weight-only":
        settings["block"] = str(options.block_size) if options.block_size else "a column"
    else:
        settings["weight scales"] = "per channel" if options.per_channel else "per tensor"
    if exclude:
        settings["excluded"] = ", ".join(exclude)
    if equalize:
        settings["equalised"] = "yes"
    if smooth is not None:
        settings["smoothed"] = f"{smooth:g}"
    if allowed_loss is not None:
        settings["allowed loss"] = f"{allowed_loss:g}"
    return settings


def _refuse_integers(model: Any) -> None:
    proto, name = _graph.read(model, weights=False)
    for node in proto.graph.node:
        if any(fnmatch.fnmatch(node.op_type, pattern) for pattern in _INTEGER_OPS):
            raise _errors.InvalidArgument(
                f"{name} is quantized already (node '{node.name}' is a {node.op_type}); give the float model"
            )


def _is_layer(model: onnx.ModelProto, name: str) -> bool:
    kinds = {"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"}
    return any(node.name == name and node.op_type in kinds for node in model.graph.node)


def _nothing(name: str, mode: str, model: onnx.ModelProto, skipped: dict[str, str], left_out: Collection[str]) -> str:
    if skipped:
        node, why = next(iter(skipped.items()))
        return f"{name} has no layer that mode \"{mode}\" quantizes: {len(skipped)} are skipped, '{node}' because {why}"
    if any(_is_layer(model, node) for node in left_out):
        return f"{name}: all layers are excluded"
    return f"{name} has no layers with weights (Conv, Gemm, MatMul, LSTM, GRU ...): there is nothing to quantize"


def _excluded(model: onnx.ModelProto, patterns: Sequence[str]) -> set[str]:
    if isinstance(patterns, str):
        raise _errors.InvalidArgument("exclude is a list of names, not one name")
    found: set[str] = set()
    for pattern in patterns:
        matches = {
            node.name
            for node in model.graph.node
            if any(fnmatch.fnmatchcase(text, pattern) for text in (node.name, node.op_type, *node.output))
        }
        if not matches:
            names = [text for node in model.graph.node for text in (node.name, node.op_type)]
            near = difflib.get_close_matches(pattern, names, 3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise _errors.InvalidArgument(f"exclude: no node, output or operator is called '{pattern}'{hint}")
        found |= matches
    return found


def _counter(progress: Progress, text: str, data: Samples) -> Callable[[int], None]:
    count = len(data)
    return lambda done: progress(
        f"{text}, sample {done}" + (f" of {count}" if count else ""), done / count if count else 0
    )


def _smooth(model: onnx.ModelProto, alpha: float, data: Samples, threads: int, progress: Progress) -> str:
    smoothing = _adjust.Smoothing(model, _graph.float_values(model))
    if not smoothing.values:
        return "There was nothing to smooth: no normalisation whose result only products with constant weights use."
    found = _build.peaks(model, smoothing.values, data, threads, _counter(progress, "looking for outliers", data))
    smoothing.apply(found, alpha)
    return f"Smoothed the inputs of {len(smoothing.values)} groups of products."


def _runner(model: onnx.ModelProto, threads: int) -> Run:
    """Runs the model; it is opened when it is first run."""

    @functools.cache
    def session() -> _core.Session:
        return _graph.open_core(model, threads=threads)

    return lambda feeds: session().run(dict(feeds))


def _first(data: Iterable[Feeds], most: int) -> Iterable[Feeds]:
    for i, feeds in enumerate(data):
        if i == most:
            return
        yield feeds


def _metric_of(
    metric: str | UserMetric | None, labels: Any, data: Samples | None, allowed_loss: float | None, reference: Run
) -> Metric | None:
    if callable(metric):
        return Metric(getattr(metric, "__name__", "metric"), metric)
    if metric is None and labels is None and allowed_loss is None:
        return None
    kind = metric or ("accuracy" if labels is not None else "agreement")
    if data is None:
        raise _errors.InvalidArgument(f"the metric '{kind}' needs data: evaluation_data or calibration_data")
    if kind == "accuracy":
        if labels is None:
            raise _errors.InvalidArgument("the metric 'accuracy' needs labels")
        return _metric.accuracy(data, read_labels(labels))
    if kind == "agreement":
        return _metric.agreement(data, reference)
    if kind == "sqnr":
        return _metric.signal_to_noise(data, reference)
    raise _errors.InvalidArgument(f"metric is {kind!r}; choose 'accuracy', 'agreement', 'sqnr' or give a function")


def _sensitivities(
    builder: _build.Builder, few: list[Feeds], reference: Run, threads: int, progress: Progress
) -> dict[str, float]:
    """SQNR of the model's outputs with each layer alone quantized."""
    noise = _metric.signal_to_noise(few[:: -(-len(few) // SENSITIVITY_SAMPLES)], reference)
    layers, cores = builder.layers, threads or _core.available_cpus()
    workers = min(cores, MOST_AT_ONCE, len(layers))

    def measure(name: str) -> float:
        return noise.measure(_runner(builder.build([name]), max(1, cores // workers)))

    alone = {}
    pool = ThreadPoolExecutor(workers)
    try:
        for i, (name, value) in enumerate(zip(layers, pool.map(measure, layers), strict=True)):
            progress(f"sensitivity of layer {i + 1} of {len(layers)}", i / len(layers))
            alone[name] = value
    finally:
        pool.shutdown(cancel_futures=True)
    return alone


def _choose(
    builder: _build.Builder,
    metric: Metric,
    allowed_loss: float,
    alone: dict[str, float],
    reference: Run,
    threads: int,
    progress: Progress,
) -> _search.Choice:
    if not allowed_loss >= 0:
        raise _errors.InvalidArgument(f"allowed_loss is {allowed_loss}; expected 0 or more")
    progress(f"measuring the {metric.name} of the float model", 0.0)
    float_metric = metric.measure(reference)
    order = sorted(builder.layers, key=lambda name: alone[name])
    choice = _search.fewest_kept(
        order,
        lambda names: metric.measure(_runner(builder.build(names), threads)),
        metric.least(float_metric, allowed_loss),
        say=lambda text: progress(text, 0.5),
    )
    if choice is None:
        raise _errors.Fail(
            f"even with one layer quantized ('{order[-1]}', the least sensitive) more than {allowed_loss:g} of the "
            f"{metric.name} is lost ({float_metric:.6g} in float); allow more, or calibrate with another method"
        )
    return choice


def _check(model: onnx.ModelProto, name: str) -> None:
    """A file that breaks the specification is never given out."""
    import onnx

    if model.ByteSize() >= 2**31 - 2**20:  # the checker takes no more from memory
        return
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise _errors.Fail(f"{name}: the quantized model is not valid, which is a bug in Linnet: {error}") from error


def _noise(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    ends: dict[str, str],
    few: list[Feeds],
    threads: int,
    progress: Progress,
) -> dict[str, float]:
    """SQNR of each layer's output in the quantized model."""
    values = sorted(set(ends.values()))
    meter = _core.NoiseMeter(
        _graph.open_core(before, values, threads), _graph.open_core(after, values, threads), values
    )
    for i, feeds in enumerate(few):
        progress("measuring the error of each layer", i / len(few))
        meter.add(feeds)
    found = meter.noise()
    return {layer: _metric.decibels(*found[value]) for layer, value in ends.items()}
