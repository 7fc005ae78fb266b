"""``linnet compress``: prune, share and quantize in one go, or search for the best settings."""

from __future__ import annotations

import argparse
from typing import Any

from linnet._cli import _common, _compressed, _text
from linnet._cli._common import UsageError

_EPILOG = """\
examples:
  linnet compress search model.onnx --data d.npz --labels l.npy --max-loss 0.5% --report out.html
                                       try settings of all tools; the best within half a point of accuracy
  linnet compress search model.onnx --data d.npz --goal size --trials 60
                                       the smallest file that still agrees with the model in 99.5 of 100 samples
  linnet compress model.onnx --cluster 16 --quantize dynamic
  linnet compress model.onnx --prune 0.5 --cluster 16 --quantize static --data d.npz --labels l.npy

The steps follow each other: pruning, then sharing, then quantizing, and each keeps what the one before it made: zeros
are one of the shared values and quantize to zero, and quantized weights are stored as codes again. See also: linnet
prune, cluster and quantize, which have more options.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = _compressed.add_parser(
        commands,
        "compress",
        "prune, share and quantize in one go, or search for the best settings",
        "Several steps of compression in one go; or, after the word search, the settings that serve best.",
        _EPILOG,
    )
    parser.add_argument("words", nargs="+", metavar="[search] MODEL", help="an ONNX file of floats")
    steps = parser.add_argument_group("steps")
    steps.add_argument("--prune", type=_common.share, metavar="S", help="share of weights that becomes zero")
    steps.add_argument("--structure", default="4x1", metavar="S", help="unstructured, 4x1 (default) or channel")
    steps.add_argument("--cluster", type=_common.count, metavar="N", help="values that weights share, 2 to 256")
    steps.add_argument("--quantize", choices=["static", "dynamic", "weight-only"], help="integers for floats")
    steps.add_argument("--exclude", action="append", metavar="PATTERN", help="layers that no step touches")
    search = parser.add_argument_group("search")
    search.add_argument(
        "--max-loss", type=_common.share, default=0.005, metavar="LOSS", help="of the metric (default: 0.5%%)"
    )
    search.add_argument("--trials", type=_common.count, default=30, metavar="N", help="settings tried (default: 30)")
    search.add_argument(
        "--goal", choices=["size", "latency", "both"], default="both", help="what is to be small (default: both)"
    )
    _common.add_seed(parser)
    _compressed.add_data_arguments(parser, "to calibrate and to measure")
    _compressed.add_result_arguments(parser, "small")
    parser.set_defaults(function=compress)


def compress(args: argparse.Namespace) -> int:
    """Does it."""
    *first, model = args.words
    if first not in ([], ["search"]):
        raise UsageError(f"expected MODEL or search MODEL, not {' '.join(args.words)}")
    output = _compressed.output_of(args, model, "small")
    if first:
        if args.data is None:
            raise UsageError("a search measures on samples: give --data")
        given = [name for name in ("prune", "cluster", "quantize", "exclude") if getattr(args, name) is not None]
        if given:
            raise UsageError(f"a search chooses --{given[0]} by itself")
        from linnet.compress import search

        result = search(
            model,
            args.data,
            output,
            max_loss=args.max_loss,
            metric=args.metric,
            labels=args.labels,
            trials=args.trials,
            goal=args.goal,
            structure=args.structure,
            threads=args.threads,
            seed=args.seed,
            progress=_text.progress_bar,
        )
    else:
        from linnet.compress import compress as do

        if args.prune is None and args.cluster is None and args.quantize is None:
            raise UsageError("say what to do: --prune, --cluster, --quantize, or search")
        result = do(
            model,
            args.data,
            output,
            sparsity=args.prune,
            structure=args.structure,
            codes=args.cluster,
            mode=args.quantize,
            exclude=args.exclude or [],
            metric=args.metric,
            labels=args.labels,
            progress=_text.progress_bar,
        )
    return _compressed.show(args, model, output, result)
