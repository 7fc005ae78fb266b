"""``linnet publish``: a new version for servers that watch the folder, whole or not at all."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from linnet.serve._manifest import publish

_EPILOG = """\
examples:
  linnet publish model.onnx repository/digits               the next version of the model 'digits'
  linnet publish model.onnx repository/digits --version 7   with a number of your choice

The model and the files it refers to are copied into a folder whose name begins with a dot, together with a manifest of
their sizes and SHA-256 digests; the folder is brought to disk and renamed. A server that polls the repository sees the
whole version or none of it, and loads, tries and warms it up before it answers with it.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "publish",
        help="add a version of a model to a repository, whole or not at all",
        description="Add a version of a model to a repository, whole or not at all.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="an ONNX file")
    parser.add_argument("destination", metavar="REPOSITORY/NAME", type=Path, help="the model's folder")
    parser.add_argument("--version", type=_version, metavar="N", help="its number (default: the next one)")
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a further file to take along; those beside the model that it mentions are taken anyway",
    )
    parser.add_argument("--no-check", action="store_true", help="do not load the copy before it is published")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Does it."""
    folder = publish(args.model, args.destination, args.version, args.data, verify=not args.no_check)
    if args.json:
        print(json.dumps({"version": int(folder.name), "folder": str(folder)}))
    else:
        print(f"{args.model} is version {folder.name} of {args.destination.name}: {folder}")
    return 0


def _version(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) < 10**18:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)
