"""``linnet loadtest``: how a server does under load."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from linnet._cli import _call, _common

_EPILOG = """\
examples:
  linnet loadtest digits                              one client after the other: the latency of an idle server
  linnet loadtest digits --clients 16                 sixteen at a time: what it can do
  linnet loadtest digits --rate 500 --clients 8       500 requests a second, whatever becomes of them
  linnet loadtest digits --rate 500 --picture load.png

With --rate a request's latency counts from when it should have left, so that waiting behind a slow one is not hidden.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "loadtest",
        help="latency and throughput of a server under load",
        description="Load a server that speaks the Open Inference Protocol over gRPC, and measure its answers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _call.add_target_arguments(parser)
    add = parser.add_argument
    add("--clients", type=_common.count, default=1, metavar="N", help="connections (default: 1)")
    add("--rate", type=_common.positive, metavar="R", help="requests a second (default: each client after its answer)")
    add("--seconds", type=_common.positive, default=10.0, metavar="S", help="to measure (default: 10)")
    add("--timeout", type=_common.positive, metavar="S", help="deadline of each request (default: none)")
    add("--processes", type=_common.count, default=1, metavar="N", help="that make the load (default: 1)")
    add("--picture", type=Path, metavar="FILE.png", help="latency by percentile and over time (needs matplotlib)")
    _common.add_output_arguments(parser)
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Runs it."""
    from linnet.serve import _loadtest

    with _call.connect(args) as client:
        inputs = _call.inputs_of(args, client)
    show = sys.stderr.isatty() and not args.json

    def progress(done: float) -> None:
        print(f"\r  {round(done * 100):3d} %", end="", file=sys.stderr, flush=True)

    result = _loadtest.run_load(
        args.address,
        args.model,
        inputs,
        version=args.version,
        clients=args.clients,
        rate=args.rate,
        seconds=args.seconds,
        timeout=args.timeout,
        processes=args.processes,
        progress=progress if show else None,
    )
    if show:
        print("\r       \r", end="", file=sys.stderr)
    if args.picture:
        _loadtest.draw(result, args.picture, f"{args.model}, {_load_text(args)}")
    if args.json:
        print(_loadtest.to_json(result))
    else:
        print(f"{args.model} on {args.address}, {_load_text(args)}, {args.seconds:g} s")
        print(f"  {len(result.latencies)} answers, {result.throughput:.1f} a second")
        if len(result.latencies):
            texts = [f"p{q:g} {result.percentile(q) * 1e3:.3f} ms" for q in _loadtest.PERCENTILES]
            print("  " + "   ".join([*texts, f"max {result.percentile(100) * 1e3:.3f} ms"]))
        for code, count in result.errors.most_common():
            print(f"  {count} failed: {code}")
    return 0 if len(result.latencies) else 1


def _load_text(args: argparse.Namespace) -> str:
    clients = f"{args.clients} client{'s' if args.clients > 1 else ''}"
    return f"{args.rate:g} requests a second over {clients}" if args.rate else f"{clients}, one request each at a time"
