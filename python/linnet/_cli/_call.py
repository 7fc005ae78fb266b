"""``linnet call``: one request to a server."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from linnet._cli import _common

_EPILOG = """\
examples:
  linnet call digits                               random inputs that fit, to see that it answers
  linnet call digits --data samples.npz            arrays by input name
  linnet call digits --data image=image.npy --top 3
  linnet call digits --version stable --address unix:/run/linnet.sock --save answer.npz
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "call",
        help="send one request to a server",
        description="Send one request to a server that speaks the Open Inference Protocol over gRPC.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_target_arguments(parser)
    parser.add_argument("--save", type=Path, metavar="FILE.npz", help="where to write the outputs")
    parser.add_argument(
        "--top", type=_common.count, metavar="N", help="show the N largest elements of each output's rows"
    )
    parser.add_argument("--timeout", type=_common.positive, default=60.0, metavar="S", help="(default: 60)")
    _common.add_output_arguments(parser)
    parser.set_defaults(function=run)


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, where it is served, and what it is sent."""
    parser.add_argument("model", metavar="MODEL", help="its name on the server")
    parser.add_argument("--version", default="", metavar="V", help="a version's number or label")
    parser.add_argument("--address", default="127.0.0.1:8001", metavar="HOST:PORT", help="(default: 127.0.0.1:8001)")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="FILE | NAME=FILE",
        help="an .npz with an array for each input, or an .npy for one; random inputs when left out",
    )
    parser.add_argument(
        "--rows", type=_common.count, default=1, metavar="N", help="size of free dimensions (default: 1)"
    )
    parser.add_argument("--root-certificates", type=Path, metavar="PEM", help="speak TLS; whom to trust")


def connect(args: argparse.Namespace, timeout: float | None = 60.0) -> Any:
    """A client for the arguments."""
    from linnet.serve import Client

    roots = args.root_certificates.read_bytes() if args.root_certificates else None
    return Client(args.address, timeout=timeout, root_certificates=roots)


def inputs_of(args: argparse.Namespace, client: Any) -> dict[str, Any]:
    """The arrays to send."""
    from linnet.serve._loadtest import random_inputs

    if not args.data:
        return random_inputs(client, args.model, args.version, args.rows)
    arrays: dict[str, Any] = {}
    for text in args.data:
        name, equals, file = text.rpartition("=")
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if not equals:
                ports = client.model(args.model, args.version).inputs
                if len(ports) != 1:
                    raise _common.UsageError(f"--data {file}: which input? Write NAME={file}")
                name = ports[0].name
            arrays[name] = loaded
        else:
            arrays |= {key: loaded[key] for key in loaded.files}
    return arrays


def run(args: argparse.Namespace) -> int:
    """Runs it."""
    with connect(args, args.timeout) as client:
        inputs = inputs_of(args, client)
        start = time.perf_counter()
        outputs = client.infer(args.model, inputs, version=args.version)
        seconds = time.perf_counter() - start
    if args.save:
        np.savez(args.save, **outputs)
    if args.json:
        rows = {name: {"dtype": str(a.dtype), "shape": list(a.shape), "data": _plain(a)} for name, a in outputs.items()}
        print(json.dumps({"milliseconds": round(seconds * 1e3, 3), "outputs": rows}))
        return 0
    for name, array in outputs.items():
        print(f"{name}  {array.dtype} {list(array.shape)}")
        if args.top and array.ndim and array.dtype.kind in "fiu":
            for row in array.reshape(-1, array.shape[-1])[:16]:
                best = np.argsort(-row)[: args.top]
                print("  " + "  ".join(f"{index}: {row[index]:.4g}" for index in best))
        else:
            print(np.array2string(array, threshold=20, precision=4, prefix="  "))
    print(f"{seconds * 1e3:.2f} ms")
    return 0


def _plain(array: Any) -> Any:
    if array.dtype == object:
        return [item.decode(errors="replace") for item in array.ravel().tolist()]
    return array.ravel().tolist()
