"""``linnet prune``: weights that matter least become zero, or whole channels go."""

from __future__ import annotations

import argparse
import re
from typing import Any

from linnet._cli import _common, _compressed, _text
from linnet._cli._common import UsageError

_EPILOG = """\
examples:
  linnet prune model.onnx --sparsity 0.5                              half of all weights, in blocks of four outputs
  linnet prune model.onnx --sparsity 0.8 --layer 'Conv 1x1'           only the 1x1 convolutions
  linnet prune model.onnx --structure 2:4                             two of four neighbouring inputs
  linnet prune model.onnx --structure channel --sparsity 0.3          a smaller dense model
  linnet prune model.onnx --target-latency 5ms --structure channel    as few zeros as reach 5 ms
  linnet prune model.onnx --data d.npz --labels l.npy --scan          which layers mind, and how much

The structures: "4x1" (blocks of four neighbouring outputs at one input) runs fastest at the same number of zeros;
"unstructured" loses least accuracy; "channel" helps every runtime, as nothing but a smaller dense model is left.

A model that is not trained afterwards stands little: watch the metric (--data with --labels). Pruning while it trains
keeps the accuracy at 80 % zeros and more: linnet.compress.torch.Pruner and linnet.compress.keras.GradualPruning.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = _compressed.add_parser(
        commands,
        "prune",
        "set the weights that matter least to zero, or cut whole channels",
        "Prune a model by the magnitude of its weights, and show what it gained and lost.",
        _EPILOG,
    )
    parser.add_argument("model", metavar="MODEL", help="an ONNX file of floats")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--sparsity", type=_common.share, metavar="S", help="share of weights or channels that goes (default: 0.8)"
    )
    how.add_argument(
        "--target-latency", type=seconds, metavar="TIME", help="such as 5ms: the least sparsity that reaches it"
    )
    parser.add_argument(
        "--structure", default="4x1", metavar="S", help="unstructured, 4x1 (default), n:m such as 2:4, or channel"
    )
    parser.add_argument(
        "--scope",
        choices=["global", "layer"],
        default="global",
        help="global: more where it matters less (default); layer: the same share of every layer",
    )
    _compressed.add_choice_arguments(parser, "prune")
    parser.add_argument("--scan", action="store_true", help="measure how much each layer minds; needs --data")
    _compressed.add_data_arguments(parser, "for the metric, the scan and the timing")
    _compressed.add_result_arguments(parser, "pruned")
    parser.set_defaults(function=prune)


def seconds(text: str) -> float:
    """``"5ms"``, ``"800us"`` or ``"0.2s"`` in seconds, for argparse."""
    found = re.fullmatch(r"([0-9.]+) ?(s|ms|us|µs)", text.strip())
    try:
        value = float(found[1]) * {"s": 1.0, "ms": 1e-3}.get(found[2], 1e-6) if found else 0.0
    except ValueError:
        value = 0.0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 5ms, 800us or 0.2s")
    return value


def prune(args: argparse.Namespace) -> int:
    """Does it."""
    from linnet.compress import prune as do

    output = _compressed.output_of(args, args.model, "pruned")
    if args.scan and args.data is None:
        raise UsageError("--scan measures on samples: give --data")
    result = do(
        args.model,
        output,
        sparsity=args.sparsity,
        target_latency=args.target_latency,
        structure=args.structure,
        scope=args.scope,
        layers=args.layer,
        exclude=args.exclude or [],
        data=args.data,
        metric=args.metric,
        labels=args.labels,
        levels=[0.5, 0.7, 0.8, 0.9] if args.scan else [],
        threads=args.threads,
        progress=_text.progress_bar,
    )
    return _compressed.show(args, args.model, output, result)
