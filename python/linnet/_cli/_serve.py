"""``linnet serve``: models over gRPC and HTTP."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from pathlib import Path
from typing import Any

from linnet._cli import _common

_EPILOG = """\
examples:
  linnet serve digits.onnx                       one model, called 'digits'; ports 8001 (gRPC) and 8000 (HTTP)
  linnet serve repository/                       Triton's layout: repository/MODEL/VERSION/model.onnx, config.pbtxt
  linnet serve models/digits/                    TF Serving's layout: models/digits/VERSION/
  linnet serve models.config                     TF Serving's model config
  linnet serve server.toml                       everything in one file
  linnet serve repository/ --watch 5             take up new versions, without an outage
  linnet serve digits.onnx --log-requests requests.jsonl --trace http://localhost:4318
  linnet serve digits.onnx --unix /run/linnet.sock --grpc-port none --http-port none

then:
  linnet call digits --data samples.npz
  curl localhost:8000/v2/models/digits
  a browser on http://localhost:8000/

Clients of Triton (tritonclient), of TensorFlow Serving and of KServe work as they are. It listens on this machine only
unless --host says otherwise. SIGTERM ends it in order: not ready, --drain seconds more of answers, then the rest.
"""


def _port(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0: any free one; 'none': do not listen)")
    return int(text)


def _ratio(text: str) -> float:
    ratio = _common.share(text)
    if ratio > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1")
    return ratio


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "serve",
        help="answer requests over gRPC and HTTP",
        description="Serve models to clients of Triton's protocol and of TensorFlow Serving's.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", metavar="MODEL.onnx | FOLDER | FILE", help="what to serve; see the examples")
    add("--host", metavar="ADDRESS", help="to listen on (default: 127.0.0.1; 0.0.0.0: every address)")
    add("--grpc-port", type=_port, default=..., metavar="N", help="for gRPC (default: 8001; 0: any; none)")
    add("--http-port", type=_port, default=..., metavar="N", help="for HTTP (default: 8000; 0: any; none)")
    add("--admin-port", type=_port, default=..., metavar="N", help="gRPC for changing what is served (default: none)")
    add("--unix", type=Path, metavar="PATH", help="a Unix socket for gRPC as well")
    add("--watch", type=_common.positive, metavar="S", help="look for new versions every S seconds")
    add("--explicit", action="store_true", help="load and unload models when clients ask for it")
    add("--cpus", type=_common.count, metavar="N", help="cores for running models (default: all)")
    add("--drain", type=float, metavar="S", help="seconds of answering after SIGTERM (default: 5)")
    add("--tls", nargs=2, type=Path, metavar=("CERT", "KEY"), help="PEM files; read again when they change")
    add("--client-ca", type=Path, metavar="PEM", help="with --tls: clients must show a certificate it signed")
    add("--triton-metrics", action="store_true", help="Triton's names on /metrics as well as ours")
    add("--log-requests", metavar="FILE", help="a line of JSON for each request, without payloads (-: standard output)")
    add("--log-ratio", type=_ratio, metavar="R", help="share of good requests to log (default: 1)")
    add("--trace", metavar="URL", help="OpenTelemetry collector (OTLP over HTTP): http://localhost:4318")
    add(
        "--trace-ratio",
        type=_ratio,
        metavar="R",
        help="share of requests to trace whose caller does not say (default: 1)",
    )
    add("-v", "--verbose", action="store_true", help="log more")
    add("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(function=run)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    from linnet.serve import Tls

    settings: dict[str, Any] = {}
    for name in ("grpc_port", "http_port", "admin_port"):
        if getattr(args, name) is not ...:
            settings[name] = getattr(args, name)
    plain = {"host": args.host, "unix_socket": args.unix, "cpus": args.cpus, "drain_seconds": args.drain}
    plain |= {name: getattr(args, name) for name in ("log_requests", "log_ratio", "trace", "trace_ratio")}
    settings |= {name: value for name, value in plain.items() if value is not None}
    if args.watch is not None and args.explicit:
        raise _common.UsageError("--watch and --explicit exclude each other")
    if args.watch is not None:
        settings |= {"control": "poll", "poll_seconds": args.watch}
    if args.explicit:
        settings["control"] = "explicit"
    if args.client_ca and not args.tls:
        raise _common.UsageError("--client-ca needs --tls")
    if args.tls:
        settings["tls"] = Tls(args.tls[0], args.tls[1], args.client_ca)
    if args.triton_metrics:
        settings["triton_metrics"] = True
    return settings


def run(args: argparse.Namespace) -> int:
    """Runs it."""
    from linnet.serve import ConfigError, Server

    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    try:
        server = Server(args.source, **_settings(args))
    except ConfigError as error:
        raise _common.UsageError(str(error)) from error
    _allow_connections()
    with server:
        for line in banner(server):
            print(line, flush=True)
        server.run()
    return 0


def _allow_connections() -> None:
    """Each connection takes a file descriptor; shells allow 1024 unless one asks."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def banner(server: Any) -> list[str]:
    """Start-up lines: what is served, and where a client finds it."""
    lines = []
    for name, view in server.repository.views.items():
        if view.active:
            versions = ", ".join(map(str, sorted(view.active)))
            loaded = view.active[max(view.active)]
            lines.append(f"model {name}, version {versions}: {_signature(loaded)}")
        else:
            problem = view.problem or "; ".join(s.error for s in view.statuses.values() if s.error) or "not loaded"
            lines.append(f"model {name}: {problem}")
    if not lines:
        lines.append("no model yet")
    if server.grpc_address:
        lines.append(f"gRPC on {server.grpc_address}   tritonclient.grpc, TensorFlow Serving clients, linnet call")
    if server.config.unix_socket:
        lines.append(f"gRPC on unix:{server.config.unix_socket}")
    if server.admin_address:
        lines.append(f"administration (gRPC) on {server.admin_address}")
    if server.http_address:
        lines.append(f"HTTP on {server.http_address}   REST v2 and v1, /metrics, a status page at /")
    if server.config.log_requests:
        lines.append(
            f"request log: {'standard output' if server.config.log_requests == '-' else server.config.log_requests}"
        )
    if server.config.trace:
        lines.append(f"traces to {server.config.trace}")
    return lines


def _signature(loaded: Any) -> str:
    def ports(rows: Any) -> str:
        return ", ".join(
            f"{row['name']} {row['dtype']}[{', '.join('?' if d is None else str(d) for d in row['shape'] or [])}]"
            for row in rows
        )

    return f"{ports(loaded.inputs)} -> {ports(loaded.outputs)}"
