"""What is served and how: the settings of a server and of each model, wherever they were read from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20
DEFAULT_MAX_BATCH = 16
"""Rows run together where a model allows it and nothing says otherwise."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
CONTROLS = ("none", "poll", "explicit")


class ConfigError(ValueError):
    """Settings that cannot be used: says the file, the line or key, and what to do."""


def check_name(name: str, where: str) -> str:
    """``name``, when a model may be called so."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: {name!r} cannot be a model's name: use up to 128 letters, digits, '_', '-' and '.', "
            "the first a letter or digit"
        )
    return name


@dataclass(frozen=True)
class VersionPolicy:
    """Which versions of a model are served: the ``latest`` so many, those in ``specific``, or (``latest`` 0) all."""

    latest: int = 1
    specific: tuple[int, ...] = ()

    def choose(self, present: Iterable[int]) -> list[int]:
        """The versions among ``present`` to serve, ascending."""
        versions = sorted(set(present))
        if self.specific:
            return [v for v in versions if v in self.specific]
        return versions[-self.latest :] if self.latest else versions


@dataclass(frozen=True)
class PortConfig:
    """An input or output as a configuration file describes it; checked against the model.

    ``dims`` leaves out the batch when the model's ``max_batch_size`` is above 0; -1 is any size.
    """

    name: str
    dtype: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class WarmupInput:
    """How to make one input of a warm-up request: from a file of raw elements, of random numbers, or of zeros."""

    dtype: str
    dims: tuple[int, ...]
    random: bool = False
    file: Path | None = None


@dataclass(frozen=True)
class Warmup:
    """Requests that a version must answer before it is used: an ``.npz`` of samples, or inputs one by one."""

    samples: Path | None = None
    inputs: Mapping[str, WarmupInput] = field(default_factory=dict)
    batch_size: int = 0
    count: int = 1


@dataclass(frozen=True)
class ModelConfig:
    """One model: where its versions are, which of them are served, and how."""

    name: str
    path: Path
    """An ONNX file (version 1 of itself), or a folder of version folders."""
    layout: str = "file"
    """"file", "triton" or "tensorflow": how `path` is laid out."""
    filename: str = ""
    """Of the model in a version's folder; empty: model.onnx, or the only .onnx file there."""
    source: str = ""
    """Where these settings are from, for messages."""
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict)
    split: Mapping[str, float] = field(default_factory=dict)
    """Shares of the requests that name no version, by version or label."""
    max_batch_size: int | None = None
    """Rows run together; None: `DEFAULT_MAX_BATCH`; 0 and 1: never."""
    batching: bool | None = None
    """Whether requests are run together; None: where rows are found not to influence each other."""
    refuse_larger_batches: bool = False
    """Whether a request of more rows than `max_batch_size` is an error; else it is run alone."""
    instances: int = 0
    """Runs at a time; 0: as many as there are CPUs."""
    queue_delay_us: int = 0
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_requests: int = 1024
    max_queue_bytes: int = 256 * MIB
    priority_levels: int = 0
    default_priority: int = 0
    timeout_us: int = 0
    """How long a request may wait that sets no limit itself; 0: as long as it takes."""
    weight: float = 1.0
    """Its share of the machine beside other models."""
    threads: int = 0
    """Of one run; 0: all CPUs that the process may use."""
    memory_limit_bytes: int = 0
    """Of a version's weights, intermediates and results under way; 0: the memory that the process may use."""
    keep_previous: int = 1
    """Sets of versions kept in memory after an update, to return to at once."""
    inputs: tuple[PortConfig, ...] = ()
    outputs: tuple[PortConfig, ...] = ()
    warmup: tuple[Warmup, ...] = ()
    drift_reference: Path | None = None
    """What inputs and outputs are compared with: samples (``.npz``, a folder), or the JSON file of a reference."""
    parameters: Mapping[str, str] = field(default_factory=dict)

    def loads_like(self, other: ModelConfig) -> bool:
        """Whether a version loaded for ``other`` is one loaded for this: only routing may differ."""
        return all(
            getattr(self, name) == getattr(other, name)
            for name in self.__dataclass_fields__
            if name not in ("policy", "labels", "split", "keep_previous", "source")
        )


@dataclass(frozen=True)
class Tls:
    """Files in PEM format; with ``client_ca``, clients must show a certificate that it signed."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True)
class ServerConfig:
    """What concerns the whole server. A port of 0 is any free one, None is none."""

    host: str = "127.0.0.1"
    grpc_port: int | None = 8001
    http_port: int | None = 8000
    admin_port: int | None = None
    """gRPC, for what changes the server: TF Serving's reload request is answered here only."""
    unix_socket: Path | None = None
    tls: Tls | None = None
    cpus: int = 0
    """Cores that requests run on; 0: all that the process may use."""
    max_message_bytes: int = 64 * MIB
    max_bytes_in_flight: int = 1024 * MIB
    """Of all requests that have come and are not answered yet; more are refused with UNAVAILABLE."""
    drain_seconds: float = 5.0
    """After SIGTERM: how long new requests are still answered while clients see that the server is going."""
    exit_seconds: float = 30.0
    """And then: how long requests under way may take."""
    memory_limit_bytes: int = 0
    """Of all loaded models together; 0: none."""
    control: str = "none"
    """"none": models are loaded at start; "poll": folders are watched; "explicit": on request."""
    poll_seconds: float = 15.0
    settle_seconds: float = 2.0
    """A version without a manifest is loaded when its files have not changed for so long."""
    load: tuple[str, ...] = ()
    """Models to load at start with control "explicit"; "*": all."""
    strict_readiness: bool = True
    """Ready means that every model is; otherwise that loading has ended."""
    allow_labels_for_absent_versions: bool = False
    triton_metrics: bool = False
    """/metrics has Triton's names as well."""
    log_requests: str = ""
    """A file that gets a line of JSON for each request; "-": standard output; empty: none."""
    log_ratio: float = 1.0
    """The share of good requests that are logged; those that failed always are."""
    trace: str = ""
    """Where OpenTelemetry traces go, by OTLP over HTTP: ``http://localhost:4318``; empty: nowhere."""
    trace_ratio: float = 1.0
    """The share of requests that are traced when their caller does not say whether."""


@dataclass(frozen=True)
class Configuration:
    """A server's settings, its models, and folders in Triton's layout that hold more of them."""

    server: ServerConfig = ServerConfig()
    models: tuple[ModelConfig, ...] = ()
    repositories: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    origin: Path | None = None
    """The file or folder it was read from."""
