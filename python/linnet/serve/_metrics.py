"""What `/metrics` tells besides the requests: the process, the repository, the log and the traces."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

from linnet import _core
from linnet._info import get_version_string
from linnet.serve import _process
from linnet.serve._repository import Repository
from linnet.serve._states import ModelView, State

Labels = Mapping[str, object]

MODEL_STATES = ("ready", "loading", "failed", "unloaded")


class Source(Protocol):
    """Counts of what happens beside the requests' path: name without prefix and ``_total``, help, value."""

    def counts(self) -> Iterable[tuple[str, str, int]]:
        """All of them, every time."""


def model_state(view: ModelView) -> str:
    """In a word: one of `MODEL_STATES`."""
    if view.active:
        return "ready"
    if any(status.state in (State.START, State.LOADING) for status in view.statuses.values()):
        return "loading"
    return "failed" if view.wanted else "unloaded"


class Metrics:
    """Renders them in Prometheus' text format (version 0.0.4)."""

    def __init__(self, repository: Repository, sources: Iterable[Source] = (), triton_names: bool = False) -> None:
        self._repository = repository
        self._sources = tuple(sources)
        self._machine = _process.Machine() if triton_names else None
        self._started = time.monotonic()

    @property
    def uptime(self) -> float:
        """Seconds since the server was made."""
        return time.monotonic() - self._started

    def render(self) -> str:
        """The text, to be put after the engine's."""
        text = _Text()
        self._usage(text)
        self._server(text)
        self._models(text)
        for source in self._sources:
            for name, about, value in source.counts():
                text.add(f"linnet_{name}_total", "counter", about, value)
        if self._machine is not None:
            self._triton(text, self._machine)
        return text.text()

    def _usage(self, text: _Text) -> None:
        use = _process.usage()
        text.add("process_cpu_seconds_total", "counter", "CPU time used, of all threads.", use.cpu_seconds)
        gauges = (
            ("process_resident_memory_bytes", "Memory in use.", use.resident_bytes),
            ("process_virtual_memory_bytes", "Address space in use.", use.virtual_bytes),
            ("process_open_fds", "Open files and connections.", use.open_files),
            ("process_max_fds", "How many may be open.", use.most_files),
            ("process_threads", "Threads.", use.threads),
            ("process_start_time_seconds", "When the process began, in seconds since 1970.", use.started),
        )
        for name, about, value in gauges:
            if value is not None:
                text.add(name, "gauge", about, value)

    def _server(self, text: _Text) -> None:
        info = {"version": get_version_string(), "kernels": _core.isa(), "cpus": _core.available_cpus()}
        text.add("linnet_server_info", "gauge", "Always 1; the labels tell what is running.", 1, info)
        text.add("linnet_server_uptime_seconds", "gauge", "Since the server was started.", self.uptime)
        text.add("linnet_server_ready", "gauge", "Whether requests should be sent here.", int(self._repository.ready))
        text.add("linnet_server_draining", "gauge", "Whether it is going away.", int(self._repository.draining))

    def _models(self, text: _Text) -> None:
        views = self._repository.views
        states = Counter(model_state(view) for view in views.values())
        text.rows(
            "linnet_models", "gauge", "Models by state.", (({"state": s}, states.get(s, 0)) for s in MODEL_STATES)
        )
        text.rows(
            "linnet_model_ready",
            "gauge",
            "Whether a version answers requests.",
            (({"model": name}, int(bool(view.active))) for name, view in views.items()),
        )
        text.rows(
            "linnet_model_up_to_date",
            "gauge",
            "0: the newest files or settings are not in use (they are bad); what served before goes on serving.",
            (({"model": name}, int(not view.problem)) for name, view in views.items()),
        )
        loads = {name: self._repository.load_counts(name) for name in views}
        text.rows(
            "linnet_model_loads_total",
            "counter",
            "Versions loaded, and versions that could not be.",
            (
                ({"model": name, "result": result}, count)
                for name, counts in loads.items()
                for result, count in (("ok", counts.good), ("failed", counts.bad))
            ),
        )
        text.rows(
            "linnet_model_last_load_ok",
            "gauge",
            "Whether the last try to load a version went well.",
            (({"model": name}, int(counts.last_good)) for name, counts in loads.items() if counts.good + counts.bad),
        )
        versions = [
            ({"model": name, "version": number}, loaded)
            for name, view in views.items()
            for number, loaded in view.active.items()
        ]
        text.rows(
            "linnet_model_load_seconds",
            "gauge",
            "How long loading took, with verifying and warming up.",
            ((labels, loaded.seconds) for labels, loaded in versions),
        )
        text.rows(
            "linnet_model_loaded_time_seconds",
            "gauge",
            "When it was loaded, in seconds since 1970.",
            ((labels, loaded.time) for labels, loaded in versions),
        )
        text.rows(
            "linnet_model_memory_bytes",
            "gauge",
            "Memory of a version, estimated from its files.",
            ((labels, loaded.bytes) for labels, loaded in versions),
        )

    def _triton(self, text: _Text, machine: _process.Machine) -> None:
        total, used = machine.memory()
        text.add("nv_cpu_utilization", "gauge", "Share of all CPUs used since the last scrape.", machine.cpu_share())
        text.add("nv_cpu_memory_total_bytes", "gauge", "Memory of the machine.", total)
        text.add("nv_cpu_memory_used_bytes", "gauge", "Memory of the machine in use.", used)
        text.rows(
            "nv_model_load_duration_secs",
            "gauge",
            "How long loading took.",
            (
                ({"model": name, "version": number}, loaded.seconds)
                for name, view in self._repository.views.items()
                for number, loaded in view.active.items()
            ),
        )


class _Text:
    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, name: str, kind: str, about: str, value: float, labels: Labels | None = None) -> None:
        """A metric of one series."""
        self.rows(name, kind, about, [(labels or {}, value)])

    def rows(self, name: str, kind: str, about: str, rows: Iterable[tuple[Labels, float]]) -> None:
        """A metric of a series for each set of labels."""
        self._lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
        for labels, value in rows:
            inside = ",".join(f'{key}="{_escaped(str(text))}"' for key, text in labels.items())
            number = value if isinstance(value, int) else f"{value:.9g}" if abs(value) < 1e6 else f"{value:.3f}"
            self._lines.append(f"{name}{{{inside}}} {number}" if inside else f"{name} {number}")

    def text(self) -> str:
        """All of it."""
        return "\n".join(self._lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
