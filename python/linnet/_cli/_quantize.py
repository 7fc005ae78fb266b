"""``linnet quantize``: a float model becomes one with integers, and what that changed is shown."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from linnet import _measure
from linnet._cli import _common, _text
from linnet._cli._common import UsageError

_EPILOG = """\
examples:
  linnet quantize model.onnx --data samples.npz                       bytes everywhere, ranges from your samples
  linnet quantize model.onnx --data samples/ --method percentile --report out.html
  linnet quantize model.onnx --data samples.npz --labels labels.npy --max-loss 0.3%
                                                                       as many bytes as 0.3 points of accuracy allow
  linnet quantize bert.onnx --mode dynamic                             no data needed; for transformers
  linnet quantize gpt.onnx --mode weight-only --weight-bits 4          small weights, float arithmetic
  linnet quantize model.onnx --data samples.npz --exclude Softmax --exclude '/head/*'

The data: a .npz file with an array for each input, or a .npy file where there is one input, or a folder of such files;
each array is one sample or a stack of samples along its first axis. Some hundred typical samples are good, prepared as
the model expects them.

When accuracy suffers: try --method percentile or mse; then --equalize and --bias-correction (convolutions) or --smooth
(transformers); then --max-loss, which finds the layers that must stay float.

The result is an ordinary ONNX file (QuantizeLinear/DequantizeLinear pairs) that other runtimes run, too.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "quantize",
        help="make a model smaller and faster with 8-bit or 4-bit integers",
        description="Quantize a float32 model to integers, and show what it gained and lost.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _common.add_model_arguments(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the result (default: MODEL_int8.onnx or MODEL_int4.onnx)"
    )
    parser.add_argument("--data", metavar="FILE_OR_DIR", help="typical inputs: .npz, .npy or a folder of them")
    parser.add_argument("--samples", type=_common.count, metavar="N", help="use the first N samples of the data")
    parser.add_argument(
        "--mode",
        choices=["static", "dynamic", "weight-only"],
        default="static",
        help="static: weights and activations are bytes, ranges come from --data (default); dynamic: products find "
        "the range of their input while they run; weight-only: weights are stored as integers, arithmetic is float",
    )
    how = parser.add_argument_group("how to quantize")
    how.add_argument(
        "--method",
        choices=["minmax", "percentile", "entropy", "mse"],
        default="minmax",
        help="how a range is chosen from what was seen: all of it (default), without the outermost elements, "
        "by least divergence, by least squared error",
    )
    how.add_argument(
        "--percentile", type=float, default=99.99, metavar="P", help="elements that percentile keeps (default: 99.99)"
    )
    how.add_argument("--activation", choices=["uint8", "int8"], default="uint8", help="activations (default: uint8)")
    how.add_argument("--symmetric", action="store_true", help="activations have their zero point in the middle")
    how.add_argument("--per-tensor", action="store_true", help="one scale for all of a layer's weights")
    how.add_argument("--weight-bits", type=int, choices=[8, 4], default=8, help="4: with weight-only (default: 8)")
    how.add_argument("--block-size", type=int, metavar="N", help="weights that share a scale, with weight-only")
    how.add_argument("--asymmetric-weights", action="store_true", help="with a zero point, with weight-only")
    how.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="NAME",
        help="a node, an output or an operator type that stays float; * matches anything; may be given several times",
    )
    better = parser.add_argument_group("to lose less")
    better.add_argument("--bias-correction", action="store_true", help="biases make up for the rounding of weights")
    better.add_argument("--equalize", action="store_true", help="make weight ranges of Conv-Relu-Conv alike first")
    better.add_argument(
        "--smooth", type=float, metavar="A", help="move outlier channels of transformers into weights; 0.5 is usual"
    )
    better.add_argument(
        "--max-loss",
        type=_common.share,
        metavar="LOSS",
        help="of the metric, such as 0.3%% or 0.003: the fewest layers stay float with which this is kept; of sqnr it "
        "is the share of noise in the outputs, where 1%% is 20 dB",
    )
    better.add_argument(
        "--labels", metavar="FILE", help="of the data, .npy or .npz: the metric is the accuracy (top 1)"
    )
    better.add_argument(
        "--metric",
        choices=["accuracy", "agreement", "sqnr"],
        help="accuracy (with --labels), agreement with the float model's top 1, or SQNR of the outputs in dB",
    )
    better.add_argument("--sensitivity", action="store_true", help="measure every layer alone, too")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads that are timed (default: 1)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="a page with tables and pictures (.html or .json)")
    parser.add_argument("--no-measure", action="store_true", help="do not measure latency and memory")
    parser.set_defaults(function=quantize)


def quantize(args: argparse.Namespace) -> int:
    """Does it."""
    from linnet.compress import quantize as do

    source = Path(args.model)
    bits = 4 if args.weight_bits == 4 else 8
    output: Path = args.output or source.with_name(f"{source.stem}_int{bits}.onnx")
    if args.mode == "static" and args.data is None:
        raise UsageError("static quantization needs --data; without data there are --mode dynamic and weight-only")
    if output.exists() and source.exists() and output.samefile(source):
        raise UsageError(f"{output} is the model itself; choose another --output")
    if args.report and args.no_measure:
        raise UsageError("--report shows what is measured: leave --no-measure out")
    done = do(
        source,
        args.data,
        output,
        mode=args.mode,
        method=args.method,
        percentile=args.percentile,
        activation=args.activation,
        symmetric=args.symmetric,
        per_channel=not args.per_tensor,
        weight_bits=args.weight_bits,
        block_size=args.block_size,
        weights_symmetric=not args.asymmetric_weights,
        exclude=args.exclude,
        bias_correction=args.bias_correction,
        equalize=args.equalize,
        smooth=args.smooth,
        metric=args.metric,
        labels=args.labels,
        allowed_loss=args.max_loss,
        sensitivity=args.sensitivity,
        samples=args.samples,
        progress=_text.progress_bar,
    )
    report = None
    if not args.no_measure:
        feeds = done.feeds
        if feeds is None:
            session = _common.open_model(args.model, 1)
            feeds = _common.random_feeds(session, _common.resolve_shapes(session, args.shape), 0, {})
        report = done.report(feeds, threads=args.threads, say=lambda text: _text.progress(f"{text} ..."))
        if args.report:
            report.save(args.report)
    _text.progress("")
    layers = [vars(layer) for layer in done.layers]
    if args.json:
        _text.print_json(
            {
                "model": args.model,
                "output": str(output),
                "settings": done.settings,
                "metric": {"name": done.metric_name, "float": done.metrics[0], "quantized": done.metrics[1]},
                "layers": layers,
                "notes": done.notes,
                "report": report.to_dict() if report else None,
            }
        )
        return 0
    quantized = [layer for layer in done.layers if layer.quantized]
    print(f"{output}: {len(quantized)} of {len(done.layers)} layers are integers")
    for note in done.notes:
        print(f"  {note}")
    head, rows = ["", "float", "quantized", ""], []
    if report:
        a, b = report.before, report.after
        rows.append(["file", *_compared(a.file_bytes, b.file_bytes, _measure.size)])
        if a.latency and b.latency:
            rows.append(["one run", *_compared(a.latency["p50"], b.latency["p50"], _measure.duration)])
        if a.memory_bytes and b.memory_bytes:
            rows.append(["memory", *_compared(a.memory_bytes, b.memory_bytes, _measure.size)])
    before, after = done.metrics
    if before is not None and after is not None:
        rows.append([done.metric_name, f"{before:.4g}", f"{after:.4g}", f"{after - before:+.4g}"])
    if rows:
        print("\n" + _text.table(head, rows))
    if done.kept_float:
        print("\nKept float")
        print(_text.table(["layer", "operator", "why"], _shortened(done.kept_float), left=(0, 1, 2)))
    worst = sorted((x for x in quantized if x.sqnr is not None), key=lambda x: x.sqnr or 0.0)[:5]
    if worst:
        print("\nLargest errors (signal to noise ratio of the layer's output)")
        print(
            _text.table(["layer", "operator", "SQNR"], [[x.name, x.op, f"{x.sqnr:.1f} dB"] for x in worst], left=(0, 1))
        )
    if args.report:
        print(f"\nTables and pictures:  {args.report}")
    return 0


def _compared(before: float, after: float, show: Any) -> list[str]:
    return [show(before), show(after), f"{before / after:.2f}×" if after else ""]


def _shortened(layers: Any) -> list[list[str]]:
    rows = [[_text.shorten(x.name, 40), x.op, x.reason] for x in layers[:12]]
    return rows + ([[f"... and {len(layers) - 12} more", "", ""]] if len(layers) > 12 else [])
