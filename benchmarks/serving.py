"""The server's figures: ``python -m benchmarks.serving [FIGURE ...]``.

The servers are processes of their own; this process is their client, with its requests' bytes made beforehand. What is
compared is measured in short turns. Models: the demo's digits, and ResNet-18, ResNet-50 and MobileNetV2 from the folder
LINNET_ZOO (see ``benchmarks.zoo``). ``--mlserver PYTHON`` names the Python of an environment with mlserver and
onnxruntime; without it the comparisons with MLServer are left out.

    echo        digits over gRPC, against a bare grpcio server that returns as many bytes without a model
    image       one client, a 600 kB image for MobileNetV2, against MLServer
    throughput  16 clients, ResNet-18, against MLServer and against batches that are run without a server
    update      digits' p99 while a 100 MB model (ResNet-50) is loaded fifty times
    scrape      digits over gRPC while /metrics and the status page's data are read every second, and while not
    overload    ten times as many calls as it can take, each with 100 ms: what becomes of them
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent import futures
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import numpy as np

import linnet
from benchmarks.models import machine
from linnet.serve import Client
from linnet.serve._client import _request
from linnet.serve._loadtest import random_inputs, run_load

INFER = "/inference.GRPCInferenceService/ModelInfer"
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
DIGITS = Path(linnet.__file__).parent / "demo" / "digits.onnx"
DEADLINE = 0.1


def zoo(name: str) -> Path:
    path = Path(os.environ.get("LINNET_ZOO", "zoo")) / f"{name}.onnx"
    if not path.exists():
        raise SystemExit(f"{path} is not there: set LINNET_ZOO (python -m benchmarks.zoo makes the models)")
    return path


def with_free_rows(model: Path, folder: Path) -> Path:
    """A copy of the model that takes any number of rows."""
    import onnx

    loaded = onnx.load(model)
    del loaded.graph.value_info[:]
    for port in [*loaded.graph.input, *loaded.graph.output]:
        port.type.tensor_type.shape.dim[0].dim_param = "rows"
    path = folder / model.name
    onnx.save(loaded, path)
    return path


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Milliseconds."""
    found = np.percentile(np.array(seconds), [50, 99]) * 1e3
    return {"p50_ms": round(float(found[0]), 4), "p99_ms": round(float(found[1]), 4), "calls": len(seconds)}


# Servers.


@contextlib.contextmanager
def process(command: list[str], pattern: str, where: Path | None = None, **environment: str) -> Iterator[list[str]]:
    """Starts a server; gives what ``pattern`` finds in its output, once for each group."""
    path = os.pathsep.join([str(Path(linnet.__file__).parents[1]), str(Path(__file__).parents[1])])
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=where,
        env=os.environ | {"PYTHONPATH": path} | environment,
    )
    assert server.stdout is not None
    lines: list[str] = []
    found: list[str] = []
    for line in server.stdout:
        lines.append(line)
        if match := re.search(pattern, "".join(lines), re.DOTALL):
            found = list(match.groups())
            break
    if not found:
        raise SystemExit(f"{command[:4]} did not start:\n{''.join(lines)[-2000:]}")
    drain = threading.Thread(target=collections.deque, args=(server.stdout, 0), daemon=True)
    drain.start()
    try:
        yield found
    finally:
        for _ in range(2):
            server.terminate()
            time.sleep(0.3)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def linnet_server(source: Path, *arguments: str) -> contextlib.AbstractContextManager[list[str]]:
    command = [sys.executable, "-m", "linnet", "serve", str(source), "--grpc-port", "0", "--http-port", "none"]
    return process([*command, *arguments], r"gRPC on ([\d.]+:\d+)")


def echo_server(size: int, unix: Path) -> contextlib.AbstractContextManager[list[str]]:
    command = [sys.executable, "-m", "benchmarks.serving", "--echo-server", str(size), "--unix", str(unix)]
    return process(command, r"echo on (\S+)")


def run_echo_server(size: int, unix: Path) -> None:
    """The least that a Python server can be: takes bytes, returns bytes."""
    answer = bytes(size)

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: answer)

    server = grpc.server(futures.ThreadPoolExecutor(256), handlers=(Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.add_insecure_port(f"unix:{unix}")
    server.start()
    print(f"echo on 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def mlserver(python: str, model: Path, folder: Path) -> Iterator[str]:
    """MLServer with onnxruntime in its own process (no pool of workers, as it advises for one model)."""
    ports = {name: _free_port() for name in ("http_port", "grpc_port", "metrics_port")}
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False, "grpc_max_message_length": 64 << 20}
    (folder / "settings.json").write_text(json.dumps(settings | ports))
    (folder / "model-settings.json").write_text(
        json.dumps(
            {
                "name": model.stem,
                "implementation": "mlserver_model.OnnxModel",
                "parameters": {"uri": str(model.resolve())},
            }
        )
    )
    command = [str(Path(python).parent / "mlserver"), "start", str(folder)]
    with process(command, r"(Loaded) model", folder, PYTHONPATH=str(Path(__file__).parent)):
        yield f"127.0.0.1:{ports['grpc_port']}"


# Clients.


def closed(call: Callable[..., bytes], request: bytes, seconds: float, into: list[float]) -> None:
    """Asks again and again."""
    until = time.perf_counter() + seconds
    while (start := time.perf_counter()) < until:
        call(request, timeout=30)
        into.append(time.perf_counter() - start)


def in_turns(addresses: dict[str, str], request: bytes, seconds: float, turn: float) -> dict[str, dict[str, float]]:
    """Latencies of one client that asks each server for a short while, again and again."""
    channels = {name: grpc.insecure_channel(address, options=OPTIONS) for name, address in addresses.items()}
    calls = {name: channel.unary_unary(INFER) for name, channel in channels.items()}
    found: dict[str, list[float]] = {name: [] for name in addresses}
    for call in calls.values():
        closed(call, request, 1.0, [])
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for name, call in calls.items():
            closed(call, request, turn / 10, [])
            closed(call, request, turn, found[name])
    for channel in channels.values():
        channel.close()
    return {name: percentiles(latencies) for name, latencies in found.items()}


def request_of(address: str, model: str) -> bytes:
    with Client(address) as client:
        return _request(model, random_inputs(client, model), (), "", 0, "")


# Figures: each a dict for JSON with ``rows`` to print and ``targets``: (what, found, at most or at least).


def echo(args: argparse.Namespace) -> dict[str, Any]:
    rows, targets = {}, []
    with tempfile.TemporaryDirectory() as folder:
        unix = {name: Path(folder) / f"{name}.sock" for name in ("linnet", "echo")}
        with linnet_server(DIGITS, "--unix", str(unix["linnet"])) as (address,):
            request = request_of(address, "digits")
            with grpc.insecure_channel(address) as channel:
                size = len(channel.unary_unary(INFER)(request))
            with echo_server(size, unix["echo"]) as (bare,):
                for wire, addresses in {
                    "TCP": {"linnet": address, "echo": bare},
                    "Unix socket": {name: f"unix:{path}" for name, path in unix.items()},
                }.items():
                    found = in_turns(addresses, request, args.seconds, 0.25)
                    for name, row in found.items():
                        rows[f"{wire}, {name}"] = row
                    for key, bound in (("p50_ms", 1.15), ("p99_ms", 1.5)):
                        ratio = found["linnet"][key] / found["echo"][key]
                        targets.append((f"{wire} {key[:3]} / bare grpcio's", round(ratio, 3), "at most", bound))
    return {"rows": rows, "targets": targets, "request_bytes": len(request), "answer_bytes": size}


def image(args: argparse.Namespace) -> dict[str, Any]:
    model = zoo("mobilenetv2")
    targets = []
    with tempfile.TemporaryDirectory() as folder, linnet_server(model) as (address,), contextlib.ExitStack() as stack:
        request = request_of(address, model.stem)
        addresses = {"linnet": address}
        if args.mlserver:
            addresses["mlserver"] = stack.enter_context(mlserver(args.mlserver, model, Path(folder)))
        rows = in_turns(addresses, request, args.seconds, 0.5)
        if args.mlserver:
            ratio = rows["linnet"]["p50_ms"] / rows["mlserver"]["p50_ms"]
            targets.append(("p50 / MLServer's", round(ratio, 3), "at most", 0.6))
    return {"rows": rows, "targets": targets, "request_bytes": len(request)}


def throughput(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return _throughput(args, with_free_rows(zoo("resnet18"), Path(folder)))


def _throughput(args: argparse.Namespace, model: Path) -> dict[str, Any]:
    rows: dict[str, dict[str, float]] = {}
    targets = []
    inputs = None
    with linnet_server(model) as (address,):
        with Client(address) as client:
            inputs = random_inputs(client, model.stem)
        served = run_load(address, model.stem, inputs, clients=16, seconds=args.seconds, warmup=2)
        rows["linnet, 16 clients"] = {"per_s": round(served.throughput, 2), **percentiles(list(served.latencies))}
    batch = {name: np.repeat(value, 16, axis=0) for name, value in inputs.items()}
    session = linnet.InferenceSession(model)
    session.run(None, batch)
    start, runs = time.perf_counter(), 0
    while time.perf_counter() - start < args.seconds / 2:
        session.run(None, batch)
        runs += 1
    in_process = 16 * runs / (time.perf_counter() - start)
    rows["linnet, batches of 16 without a server"] = {"per_s": round(in_process, 2)}
    targets.append(
        ("throughput / batches without a server", round(served.throughput / in_process, 3), "at least", 0.75)
    )
    if args.mlserver:
        with tempfile.TemporaryDirectory() as folder, mlserver(args.mlserver, model, Path(folder)) as address:
            other = run_load(address, model.stem, inputs, clients=16, seconds=args.seconds, warmup=2)
        rows["mlserver, 16 clients"] = {"per_s": round(other.throughput, 2), **percentiles(list(other.latencies))}
        targets.append(("throughput / MLServer's", round(served.throughput / other.throughput, 3), "at least", 2.0))
    return {"rows": rows, "targets": targets}


def update(args: argparse.Namespace) -> dict[str, Any]:
    large = zoo("resnet50")
    latencies: dict[str, list[float]] = {"quiet": [], "while it loads": []}
    with tempfile.TemporaryDirectory() as folder:
        for name, file in (("digits", DIGITS), ("large", large)):
            place = Path(folder) / name / "1"
            place.mkdir(parents=True)
            (place / "model.onnx").symlink_to(file.resolve())
        with linnet_server(Path(folder), "--explicit") as (address,), Client(address) as client:
            client.load("digits")
            request = request_of(address, "digits")
            stop = threading.Event()
            loads = 0
            kind = "quiet"

            def ask() -> None:
                with grpc.insecure_channel(address, options=OPTIONS) as channel:
                    call = channel.unary_unary(INFER)
                    while not stop.is_set():
                        closed(call, request, 0.05, latencies[kind])

            asker = threading.Thread(target=ask)
            asker.start()
            time.sleep(1.0)
            latencies["quiet"].clear()
            time.sleep(args.seconds / 2)
            kind = "while it loads"
            until = time.monotonic() + args.budget
            while loads < 50 and time.monotonic() < until:
                client.load("large", timeout=300)
                client.unload("large", timeout=300)
                loads += 1
            stop.set()
            asker.join()
    rows = {name: percentiles(found) for name, found in latencies.items()}
    ratio = rows["while it loads"]["p99_ms"] / rows["quiet"]["p99_ms"]
    return {"rows": rows, "loads": loads, "targets": [("p99 while it loads / quiet", round(ratio, 3), "at most", 1.3)]}


def run_scraper(address: str) -> None:
    """Reads what a Prometheus and an open status page read, until stdin ends; prints how long that took."""
    done = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
    took: dict[str, list[float]] = {"/metrics": [], "/api/status": []}
    while not done.wait(1.0):
        for path, seconds in took.items():
            start = time.perf_counter()
            with urllib.request.urlopen(address + path) as answer:
                answer.read()
            seconds.append(time.perf_counter() - start)
    print(json.dumps({path: percentiles(seconds) for path, seconds in took.items()}))


def scrape(args: argparse.Namespace) -> dict[str, Any]:
    server = [sys.executable, "-m", "linnet", "serve", str(DIGITS), "--grpc-port", "0", "--http-port", "0"]
    pattern = r"gRPC on ([\d.]+:\d+).*HTTP on (http://[\d.]+:\d+)"
    with process(server, pattern) as (address, http), process(server, pattern) as (other, _):
        scraper = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serving", "--scraper", http],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        rows = in_turns(
            {"read every second": address, "left alone": other}, request_of(address, "digits"), args.seconds, 1.0
        )
        rows |= json.loads(scraper.communicate()[0])
    ratios = {key: rows["read every second"][key] / rows["left alone"][key] for key in ("p50_ms", "p99_ms")}
    bounds = {"p50_ms": 1.05, "p99_ms": 1.5}
    return {
        "rows": rows,
        "targets": [
            (f"{key[:3]} / that of one left alone", round(ratio, 3), "at most", bounds[key])
            for key, ratio in ratios.items()
        ],
    }


def overload(args: argparse.Namespace) -> dict[str, Any]:
    model = zoo("minilm")
    ends: list[tuple[str, float]] = []
    left = threading.Semaphore(0)
    with linnet_server(model) as (address,):
        names = ("input_ids", "attention_mask", "token_type_ids")
        inputs = {name: np.ones((1, 128), np.int64) for name in names}  # small to send, ~15 ms to compute
        request = _request(model.stem, inputs, (), "", 0, "")
        able = run_load(address, model.stem, inputs, clients=4, seconds=3, warmup=1).throughput
        with grpc.insecure_channel(address, options=OPTIONS) as channel:
            call = channel.unary_unary(INFER)
            start = time.perf_counter()
            sent = 0

            def done(began: float, future: Any) -> None:
                ends.append((future.code().name, time.perf_counter() - began))
                left.release()

            while (now := time.perf_counter() - start) < args.seconds:
                while sent < 10 * able * now:
                    future = call.future(request, timeout=DEADLINE)
                    future.add_done_callback(functools.partial(done, time.perf_counter()))
                    sent += 1
                time.sleep(5e-4)
            for _ in range(sent):
                left.acquire(timeout=10)
    good = [seconds for code, seconds in ends if code == "OK"]
    refused = [seconds for code, seconds in ends if code != "OK" and seconds < 0.95 * DEADLINE]
    expired = [seconds for code, seconds in ends if code != "OK" and seconds >= 0.95 * DEADLINE]
    rows = {
        "accepted": {"per_s": round(len(good) / args.seconds, 1), **(percentiles(good) if good else {})},
        "refused by the server": percentiles(refused) if refused else {"calls": 0},
        "ended by the client's clock": percentiles(expired) if expired else {"calls": 0},
    }
    late = sum(seconds > DEADLINE for seconds in good)
    targets = [
        ("accepted calls after their deadline", late, "at most", 0),
        (
            "share of refusals that took 10 ms",
            round(sum(s > 0.01 for s in refused) / max(1, len(refused)), 4),
            "at most",
            0.01,
        ),
        ("p99 of refusals, ms", rows["refused by the server"].get("p99_ms", 0.0), "at most", 10.0),
        (
            "share of calls that ran into the client's clock",
            round(len(expired) / max(1, len(ends)), 4),
            "at most",
            0.01,
        ),
    ]
    codes = dict(collections.Counter(code for code, _ in ends))
    return {"rows": rows, "targets": targets, "capacity_per_s": round(able, 1), "sent": sent, "codes": codes}


FIGURES = {one.__name__: one for one in (echo, image, throughput, update, scrape, overload)}


def show(name: str, figure: dict[str, Any]) -> bool:
    more = {key: value for key, value in figure.items() if key not in ("rows", "targets")}
    print(f"\n{name}   {'  '.join(f'{key}: {value}' for key, value in more.items())}")
    for row, values in figure["rows"].items():
        print(f"  {row:44}" + "  ".join(f"{key} {value:g}" for key, value in values.items()))
    met = True
    for what, found, kind, bound in figure["targets"]:
        good = found <= bound if kind == "at most" else found >= bound
        met = met and good
        print(f"  {'met   ' if good else 'MISSED'} {what}: {found:g} ({kind} {bound:g})")
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)} (default: all)")
    parser.add_argument("--seconds", type=float, default=10.0, help="to measure each for (default: 10)")
    parser.add_argument("--budget", type=float, default=120.0, help="most seconds for the fifty loads (default: 120)")
    parser.add_argument("--mlserver", metavar="PYTHON", help="the Python of an environment with MLServer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--echo-server", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--unix", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--scraper", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.echo_server is not None:
        run_echo_server(args.echo_server, args.unix)
        return 0
    if args.scraper is not None:
        run_scraper(args.scraper)
        return 0
    unknown = set(args.figures) - set(FIGURES)
    if unknown:
        parser.error(f"no figure is called {', '.join(sorted(unknown))}: there are {', '.join(FIGURES)}")
    versions = {"linnet": linnet.__version__, "grpcio": version("grpcio"), "python": sys.version.split()[0]}
    if args.mlserver:
        code = "from importlib.metadata import version as v; print(v('mlserver'), v('onnxruntime'), v('grpcio'))"
        done = subprocess.run([args.mlserver, "-c", code], capture_output=True, text=True, check=True)
        versions["mlserver, its onnxruntime and grpcio"] = done.stdout.strip()
    print(machine())
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    found = {}
    met = True
    for name in args.figures or FIGURES:
        found[name] = FIGURES[name](args)
        met = show(name, found[name]) and met
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "versions": versions, "figures": found}, indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
