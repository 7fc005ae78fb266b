"""The ``linnet`` command. One private module a subcommand; what they share is in ``_common`` and ``_text``."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from linnet import _errors
from linnet._cli import (
    _bench,
    _call,
    _cluster,
    _compress,
    _drift,
    _info,
    _inspect,
    _loadtest,
    _profile,
    _prune,
    _publish,
    _quantize,
    _run,
    _serve,
)
from linnet._cli._common import UsageError
from linnet._info import get_version_string

_EPILOG = """\
A first look at a model:
  linnet inspect model.onnx               what is in it, and what Linnet makes of it
  linnet run model.onnx                   run it on random inputs
  linnet bench model.onnx                 how fast it is, beside onnxruntime when that is installed
  linnet profile model.onnx               where the time goes, step by step

Smaller and faster:
  linnet quantize model.onnx --data samples.npz         integers for floats
  linnet prune model.onnx --sparsity 0.5                 zeros that are skipped, or fewer channels
  linnet cluster model.onnx --codes 16                   weights that share few values: a file of an eighth
  linnet compress search model.onnx --data d.npz --labels l.npy --max-loss 0.5%

Served:
  linnet serve model.onnx                                gRPC and HTTP, for clients of Triton and TF Serving
  linnet call model                                      send it a request
  linnet loadtest model --clients 16                     latency and throughput
  linnet drift model.onnx --data samples.npz             what its inputs look like, to be told when they change

Every command takes --json (for machines) and --help (with examples).
Exit codes: 0 all is well, 1 the model failed or a check did not pass, 2 the command line is wrong.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="linnet",
        description="Fast inference of ONNX models on CPUs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"linnet {get_version_string()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for module in (
        _run,
        _bench,
        _inspect,
        _profile,
        _quantize,
        _prune,
        _cluster,
        _compress,
        _publish,
        _serve,
        _call,
        _loadtest,
        _drift,
        _info,
    ):
        module.add_parser(commands)
    # Its options are the demo's own: main() hands them over unread.
    commands.add_parser("demo", help="read handwritten digits, write a report to look at", add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["demo"]:
        from linnet.demo.__main__ import main as demo

        return demo(words[1:])
    parser = _parser()
    args = parser.parse_args(words)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        code: int = args.function(args)
        sys.stdout.flush()
        return code
    except UsageError as error:
        print(f"linnet {args.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (_errors.LinnetError, OSError, ValueError, MemoryError, ImportError) as error:
        if args.debug:
            traceback.print_exc()
        print(f"linnet {args.command}: {error or type(error).__name__}", file=sys.stderr)
        return 1
