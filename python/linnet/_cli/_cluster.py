"""``linnet cluster``: weights share few values, and the file shrinks."""

from __future__ import annotations

import argparse
from typing import Any

from linnet._cli import _common, _compressed, _text

_EPILOG = """\
examples:
  linnet cluster model.onnx                                16 values a tensor: a file of about an eighth
  linnet cluster model.onnx --codes 256                    256 values: about a quarter, and hardly an error
  linnet cluster model.onnx --per channel                  a codebook for each output: less error, a larger file
  linnet cluster model.onnx --exclude '* depthwise'        small, sensitive tensors stay as they are
  linnet cluster model.onnx --data d.npz --labels l.npy    and what that does to the accuracy

The values are chosen by k-means for each tensor. The file holds them and 4 or 8 bits for each weight, and standard ONNX
operators that put the tensor together: every runtime runs it. Linnet does that once while it loads the model, so a run
takes as long as before. Zeros stay zeros.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = _compressed.add_parser(
        commands,
        "cluster",
        "let weights share few values: a file 4 or 8 times smaller",
        "Let the weights of a model share few values, and show what it gained and lost.",
        _EPILOG,
    )
    parser.add_argument("model", metavar="MODEL", help="an ONNX file")
    parser.add_argument(
        "--codes", type=_common.count, default=16, metavar="N", help="values in a codebook, 2 to 256 (default: 16)"
    )
    parser.add_argument(
        "--per", choices=["tensor", "channel"], default="tensor", help="what has a codebook (default: tensor)"
    )
    _compressed.add_choice_arguments(parser, "code")
    _compressed.add_data_arguments(parser, "for the metric and the timing")
    _compressed.add_result_arguments(parser, "clustered")
    parser.set_defaults(function=cluster)


def cluster(args: argparse.Namespace) -> int:
    """Does it."""
    from linnet.compress import cluster as do

    output = _compressed.output_of(args, args.model, "clustered")
    result = do(
        args.model,
        output,
        codes=args.codes,
        per=args.per,
        layers=args.layer,
        exclude=args.exclude or [],
        data=args.data,
        metric=args.metric,
        labels=args.labels,
        progress=_text.progress_bar,
    )
    return _compressed.show(args, args.model, output, result)
