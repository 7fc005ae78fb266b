"""The status page, and the JSON that it draws.

Rates and latencies come from differences of the engine's counts between two moments at which somebody looked, so that
nothing is done while nobody does. What was drawn in the last minutes is kept for the next who opens the page.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from linnet import _core
from linnet._info import get_version_string
from linnet.serve import _process
from linnet.serve._engine import Served
from linnet.serve._json import encode
from linnet.serve._loading import Loaded
from linnet.serve._metrics import Metrics, model_state
from linnet.serve._repository import Repository
from linnet.serve._states import ModelView, State

Answer = tuple[int, str, bytes]
Buckets = Mapping[float, int]
"""Requests by the upper end of their bucket, in microseconds."""

_PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_FILES = {"/": "index.html", **{f"/page/{name}": name for name in ("page.css", "page.js", "chart.js", "format.js")}}
_MOST_OFTEN = 0.9
"""Seconds from one sample to the next, at least."""
_HISTORY = 300.0
_NOW = 10.0
"""Seconds that "now" is."""
_ALL = ""
"""The name under which all models together are kept."""


@dataclass
class _Counts:
    """Of requests, up to one moment or between two."""

    good: int = 0
    bad: int = 0
    rows: int = 0
    runs: int = 0
    latency: dict[float, int] = field(default_factory=dict)

    def __iadd__(self, other: _Counts) -> _Counts:
        self.good += other.good
        self.bad += other.bad
        self.rows += other.rows
        self.runs += other.runs
        for edge, count in other.latency.items():
            self.latency[edge] = self.latency.get(edge, 0) + count
        return self

    def since(self, before: _Counts | None) -> _Counts:
        """What was added to ``before``."""
        if before is None:
            return self
        latency = {edge: n - before.latency.get(edge, 0) for edge, n in self.latency.items()}
        return _Counts(
            self.good - before.good,
            self.bad - before.bad,
            self.rows - before.rows,
            self.runs - before.runs,
            {edge: n for edge, n in latency.items() if n > 0},
        )


Key = tuple[str, int, float]
"""A version as it was loaded: model, number, time. The same version loaded anew counts from 0."""


@dataclass
class _Sample:
    at: float
    cpu: float
    counts: dict[Key, _Counts]


def percentile(latency: Buckets, q: float) -> float | None:
    """The latency in milliseconds that the share ``q`` of requests stays below; None without requests."""
    total = sum(latency.values())
    if not total:
        return None
    left = q * total
    for upper in sorted(latency):
        if left <= latency[upper]:
            octave = 2.0 ** (_octave(upper))
            return (upper - octave / 8 * (1 - left / latency[upper])) / 1000
        left -= latency[upper]
    return max(latency) / 1000


def _octave(upper: float) -> int:
    octave = 0
    while upper > 2.0 ** (octave + 1):
        octave += 1
    return octave


class Status:
    """Answers for the page's addresses.

    Args:
        addresses: of the server, by kind, for those who want to call it; read at every answer.
    """

    def __init__(self, repository: Repository, metrics: Metrics, addresses: Mapping[str, str], cpus: int) -> None:
        self._repository = repository
        self._metrics = metrics
        self._addresses = addresses
        self._cpus = cpus or _core.available_cpus()
        self._lock = threading.Lock()
        self._samples: deque[_Sample] = deque()
        self._points: deque[dict[str, Any]] = deque()

    def answer(self, method: str, path: str) -> Answer | None:
        """The answer; None for a path that is not the page's."""
        address, _, query = path.partition("?")
        if method not in ("GET", "HEAD"):
            return None
        if address == "/api/status":
            since = parse_qs(query).get("since", ["0"])[0]
            try:
                return 200, "application/json", encode(self.status(float(since)))
            except ValueError:
                return 400, "application/json", encode({"error": f"since is {since!r}, which is no number"})
        if address not in _FILES:
            return None
        file = _PAGE / _FILES[address]
        return 200, f"{_TYPES[file.suffix]}; charset=utf-8", file.read_bytes()

    def status(self, since: float = 0.0) -> dict[str, Any]:
        """All that the page shows; of the history what is later than ``since`` (seconds since 1970)."""
        views = self._repository.views
        with self._lock:
            self._sample(views)
            latest, before = self._samples[-1], self._samples[0]
            points = [point for point in self._points if point["t"] > since]
        seconds = latest.at - before.at
        cpu = (latest.cpu - before.cpu) / seconds if seconds > 0 else 0.0
        return {
            "now": time.time(),
            "server": self._server(cpu),
            "models": [_model(view, latest, before) for view in views.values()],
            "points": points,
        }

    def _server(self, cpu: float) -> dict[str, Any]:
        use = _process.usage()
        repository = self._repository
        state = "ready" if repository.ready else "draining" if repository.draining else "not ready"
        return {
            "version": get_version_string(),
            "kernels": _core.isa(),
            "cpus": self._cpus,
            "state": state,
            "uptime": self._metrics.uptime,
            "memory": use.resident_bytes,
            "cpu": cpu,
            "files": use.open_files,
            "threads": use.threads,
            "addresses": {kind: address for kind, address in self._addresses.items() if address},
        }

    def _sample(self, views: Mapping[str, ModelView]) -> None:
        now = time.time()
        last = self._samples[-1] if self._samples else None
        if last is not None and 0 <= now - last.at < _MOST_OFTEN:
            return
        use = _process.usage()
        versions = [(view.name, loaded) for view in views.values() for loaded in view.active.values()]
        sample = _Sample(now, use.cpu_seconds, {_key(n, one): _counts(one.served) for n, one in versions})
        self._samples.append(sample)
        while len(self._samples) > 2 and self._samples[1].at <= now - _NOW:
            self._samples.popleft()
        if last is None or now <= last.at:
            return
        seconds = now - last.at
        changes: dict[str, _Counts] = {_ALL: _Counts()}
        for key, counts in sample.counts.items():
            change = counts.since(last.counts.get(key))
            for name in (key[0], _ALL):
                total = changes.setdefault(name, _Counts())
                total += change
        self._points.append({"t": now, "models": {name: _point(c, seconds) for name, c in changes.items()}})
        while self._points[0]["t"] < now - _HISTORY:
            self._points.popleft()


def _key(name: str, loaded: Loaded) -> Key:
    return name, loaded.version, loaded.time


def _counts(served: Served) -> _Counts:
    found = served.statistics()
    bad = sum(n for codes in found["requests"].values() for code, n in codes.items() if code)
    return _Counts(
        found["success"]["count"], bad, found["inference_count"], found["execution_count"], dict(found["latency"])
    )


def _point(change: _Counts, seconds: float) -> list[float | None]:
    """Good and failed requests a second, p50 and p99 in milliseconds."""
    return [
        round(change.good / seconds, 2),
        round(change.bad / seconds, 2),
        _rounded(percentile(change.latency, 0.5)),
        _rounded(percentile(change.latency, 0.99)),
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _model(view: ModelView, latest: _Sample, before: _Sample) -> dict[str, Any]:
    return {
        "name": view.name,
        "state": model_state(view),
        "problem": view.problem,
        "default": view.default,
        "labels": dict(view.labels),
        "split": {str(version): share for version, share in view.split.items()},
        "previous": [list(versions) for versions in view.previous],
        "versions": list(_versions(view, latest, before)),
    }


def _versions(view: ModelView, latest: _Sample, before: _Sample) -> Iterable[dict[str, Any]]:
    seconds = latest.at - before.at
    for number in sorted({*view.statuses, *view.active}, reverse=True):
        status, loaded = view.statuses.get(number), view.active.get(number)
        row: dict[str, Any] = {
            "version": number,
            "state": status.state.name if status else State.AVAILABLE.name,
            "error": status.error if status else "",
        }
        if loaded is not None:
            key = _key(view.name, loaded)
            change = latest.counts.get(key, _Counts()).since(before.counts.get(key)) if seconds > 0 else _Counts()
            row |= _activity(change, seconds) | _facts(loaded)
        yield row


def _activity(change: _Counts, seconds: float) -> dict[str, Any]:
    good, bad, p50, p99 = _point(change, seconds) if seconds > 0 else [0.0, 0.0, None, None]
    batch = change.rows / change.runs if change.runs else None
    return {"rate": good, "failures": bad, "p50": p50, "p99": p99, "batch": _rounded(batch)}


def _facts(loaded: Loaded) -> dict[str, Any]:
    counts = loaded.served.statistics()
    return {
        "waiting": counts["queued"],
        "in_flight": counts["in_flight"],
        "requests": counts["success"]["count"],
        "failed": counts["fail"]["count"],
        "memory": loaded.bytes,
        "load_seconds": round(loaded.seconds, 3),
        "loaded": loaded.time,
        "max_batch": loaded.max_batch,
        "batching": loaded.batching,
        "inputs": [_port(port) for port in loaded.inputs],
        "outputs": [_port(port) for port in loaded.outputs],
        "drift": loaded.served.drift(),
    }


def _port(port: _core.Port) -> dict[str, Any]:
    return {"name": port["name"], "dtype": port["dtype"], "shape": port["shape"]}
