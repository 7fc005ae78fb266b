"""``linnet drift``: what a model's inputs and outputs look like, for the server to compare with."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from linnet._cli import _common

_EPILOG = """\
examples:
  linnet drift digits.onnx --data validation.npz          writes digits.drift.json beside the model
  linnet drift models/digits/3/model.onnx --data v.npz    writes models/digits/3/drift.json
  linnet drift digits.onnx --data v.npz --bins 20 -o reference.json

`linnet serve` takes the file up by itself where it lies beside the model (else: drift_reference in the model's
settings), compares the tensors of requests with it, and shows on /metrics and its page how far they have moved.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "drift",
        help="record what inputs and outputs look like, to be told when they change",
        description="Run samples through a model and record how the elements of its inputs and outputs are spread.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="an ONNX file")
    add("--data", required=True, metavar="FILE_OR_DIR", help="samples, .npz, .npy or a folder of them")
    add("-o", "--output", type=Path, metavar="FILE", help="the reference (default: where the server looks for it)")
    add("--bins", type=_common.count, default=10, metavar="N", help="for each tensor, about equally full (default: 10)")
    add("--window", type=_common.count, default=5000, metavar="N", help="requests to compare over (default: 5000)")
    _common.add_output_arguments(parser)
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Runs it."""
    from linnet.serve import _drift

    reference = _drift.record_reference(args.model, args.data, bins=args.bins, window=args.window)
    output = args.output or _drift.place_for(args.model)
    _drift.save_reference(reference, output)
    if args.json:
        print(json.dumps({"output": str(output), **reference}))
        return 0
    print(f"{args.model}, {reference['samples']} samples")
    for tensor in reference["tensors"]:
        kind = "output" if tensor["output"] else "input"
        ends = f"{tensor['edges'][0]:.4g} to {tensor['edges'][-1]:.4g}"
        print(f"  {kind:6} {tensor['name']}: {tensor['elements']} elements in {len(tensor['bins'])} bins, edges {ends}")
    print(f"written: {output}")
    return 0
