"""Load on a server, and how long its answers take.

Closed loop: a number of clients, each of which sends its next request when the last one is answered. Open loop:
requests leave at a rate whatever becomes of those before, and their latency counts from when they should have left, so
that a server which stalls cannot hide it (what Gil Tene calls coordinated omission).
"""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from linnet.serve import _dtypes
from linnet.serve._client import Client, _request

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for every channel
)
PERCENTILES = (50.0, 90.0, 99.0, 99.9)


@dataclass
class LoadResult:
    """What a load test measured.

    ``latencies``: seconds of each answer that came well, in the order of their ends; ``ends``: when, in seconds from
    the start; ``errors``: how many calls failed, by status code.
    """

    latencies: NDArray[np.float64]
    ends: NDArray[np.float64]
    seconds: float
    errors: Counter[str] = field(default_factory=Counter)
    rate: float | None = None

    @property
    def throughput(self) -> float:
        """Good answers per second."""
        return len(self.latencies) / self.seconds if self.seconds > 0 else 0.0

    def percentile(self, q: float) -> float:
        """Seconds within which ``q`` percent were answered; NaN when none was."""
        return float(np.percentile(self.latencies, q)) if len(self.latencies) else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """For JSON: milliseconds, counts."""
        return {
            "requests": len(self.latencies),
            "seconds": round(self.seconds, 3),
            "throughput_per_s": round(self.throughput, 2),
            "offered_per_s": self.rate,
            "latency_ms": {f"p{q:g}": round(self.percentile(q) * 1e3, 4) for q in PERCENTILES}
            | {"max": round(self.percentile(100) * 1e3, 4)},
            "errors": dict(self.errors),
        }


def random_inputs(client: Client, model: str, version: str = "", rows: int = 1) -> dict[str, NDArray[Any]]:
    """Inputs that fit what the server says of the model: uniform numbers, zeros for integers; free dimensions are
    ``rows``."""
    generator = np.random.default_rng(0)
    inputs: dict[str, NDArray[Any]] = {}
    for port in client.model(model, version).inputs:
        shape = tuple(rows if size < 0 else size for size in port.shape)
        if port.datatype == "BYTES":
            inputs[port.name] = np.full(shape, b"text", object)
        elif port.datatype.startswith("FP"):
            inputs[port.name] = generator.random(shape).astype(_dtypes.from_oip(port.datatype))
        else:
            inputs[port.name] = np.zeros(shape, _dtypes.from_oip(port.datatype) or "float32")
    return inputs


def run_load(
    address: str,
    model: str,
    inputs: Mapping[str, NDArray[Any]],
    *,
    version: str = "",
    clients: int = 1,
    rate: float | None = None,
    seconds: float = 10.0,
    warmup: float = 1.0,
    timeout: float | None = None,
    processes: int = 1,
    progress: Callable[[float], None] | None = None,
) -> LoadResult:
    """Loads a server and measures.

    Args:
        address: the server's gRPC address.
        clients: connections; in a closed loop each has one request under way.
        rate: requests per second of an open loop (evenly spaced); None is a closed loop.
        seconds: how long to measure, after ``warmup`` seconds that do not count.
        timeout: each call's deadline in seconds.
        processes: that make the load. One can send a few thousand small requests a second.
        progress: called with the share done, twice a second.
    """
    message = _request(model, inputs, (), version, 0, "")
    job = _Job(address, message, timeout, warmup, seconds)
    shares = [clients // processes + (i < clients % processes) for i in range(processes)]
    shares = [share for share in shares if share > 0]
    rates = [None if rate is None else rate * share / clients for share in shares]
    if len(shares) == 1:
        return _work(job, shares[0], rates[0], progress)
    context = multiprocessing.get_context("spawn")
    with context.Pool(len(shares)) as pool:
        pending = pool.starmap_async(_work, [(job, share, r) for share, r in zip(shares, rates, strict=True)])
        start = time.perf_counter()
        while not pending.ready():
            pending.wait(0.5)
            if progress:
                progress(min(1.0, (time.perf_counter() - start) / (warmup + seconds)))
        parts = pending.get()
    order = np.argsort(np.concatenate([part.ends for part in parts]))
    errors: Counter[str] = sum((part.errors for part in parts), Counter())
    return LoadResult(
        np.concatenate([part.latencies for part in parts])[order],
        np.concatenate([part.ends for part in parts])[order],
        max(part.seconds for part in parts),
        errors,
        rate,
    )


@dataclass(frozen=True)
class _Job:
    address: str
    message: bytes
    timeout: float | None
    warmup: float
    seconds: float


def _work(job: _Job, clients: int, rate: float | None, progress: Callable[[float], None] | None = None) -> LoadResult:
    """One process's share."""
    channels = [grpc.insecure_channel(job.address, options=_OPTIONS) for _ in range(clients)]
    for channel in channels:
        grpc.channel_ready_future(channel).result(timeout=30)
    records: list[tuple[float, float]] = []  # (end, latency)
    errors: Counter[str] = Counter()
    begin = time.perf_counter() + job.warmup
    end = begin + job.seconds
    if rate is None:
        workers = [
            threading.Thread(target=_closed, args=(job, channel, begin, end, records, errors)) for channel in channels
        ]
    else:
        workers = [threading.Thread(target=_open, args=(job, channels, rate, begin, end, records, errors))]
    for worker in workers:
        worker.start()
    for worker in workers:
        while worker.is_alive():
            worker.join(0.5)
            if progress:
                progress(min(1.0, max(0.0, (time.perf_counter() - begin + job.warmup) / (job.warmup + job.seconds))))
    for channel in channels:
        channel.close()
    records.sort()
    ends, latencies = (np.array(column) for column in zip(*records, strict=True)) if records else (np.empty(0),) * 2
    return LoadResult(latencies, ends - begin, job.seconds, errors, rate)


def _closed(
    job: _Job,
    channel: grpc.Channel,
    begin: float,
    end: float,
    records: list[tuple[float, float]],
    errors: Counter[str],
) -> None:
    call = channel.unary_unary(_METHOD)
    while True:
        start = time.perf_counter()
        if start >= end:
            return
        try:
            call(job.message, timeout=job.timeout)
            now = time.perf_counter()
            if begin <= now < end:
                records.append((now, now - start))
        except grpc.RpcError as error:
            if start >= begin:
                errors[error.code().name] += 1


def _open(
    job: _Job,
    channels: list[grpc.Channel],
    rate: float,
    begin: float,
    end: float,
    records: list[tuple[float, float]],
    errors: Counter[str],
) -> None:
    calls = [channel.unary_unary(_METHOD) for channel in channels]
    left = threading.Semaphore(0)

    def finished(future: Any, due: float) -> None:
        now = time.perf_counter()
        if due >= begin:
            code = future.code()
            if code is grpc.StatusCode.OK:
                records.append((now, now - due))
            else:
                errors[code.name] += 1
        left.release()

    start = time.perf_counter()
    sent = 0
    while True:
        due = start + sent / rate
        if due >= end:
            break
        wait = due - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        future = calls[sent % len(calls)].future(job.message, timeout=job.timeout)
        future.add_done_callback(lambda f, due=due: finished(f, due))
        sent += 1
    for _ in range(sent):
        left.acquire(timeout=(job.timeout or 60) + 5)


def draw(result: LoadResult, path: Path, title: str) -> None:
    """A picture: latency by percentile, and over time. Needs matplotlib (``pip install linnet[bench]``)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (by_percentile, over_time) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    milliseconds = np.sort(result.latencies) * 1e3
    behind = 1 - (np.arange(len(milliseconds)) + 0.5) / max(1, len(milliseconds))
    by_percentile.plot(1 / behind, milliseconds)
    ticks = [1, 2, 10, 100, 1000, 10000]
    ticks = [t for t in ticks if t <= 2 * max(2, len(milliseconds))]
    by_percentile.set_xscale("log")
    by_percentile.set_xticks(ticks, [f"{100 - 100 / t:g} %" for t in ticks])
    by_percentile.set_xlabel("share of the answers")
    by_percentile.set_ylabel("latency, ms")
    by_percentile.set_ylim(bottom=0)
    by_percentile.grid(alpha=0.3)
    over_time.plot(result.ends, result.latencies * 1e3, ".", markersize=2)
    over_time.set_xlabel("time, s")
    over_time.set_ylabel("latency, ms")
    over_time.set_ylim(bottom=0)
    over_time.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def to_json(result: LoadResult) -> str:
    return json.dumps(result.to_dict(), indent=1)
