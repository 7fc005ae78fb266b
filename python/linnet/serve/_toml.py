"""A server's settings from a TOML file. Every key is checked; a wrong one is named with what it should be."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from linnet.serve._config import (
    CONTROLS,
    ConfigError,
    Configuration,
    ModelConfig,
    ServerConfig,
    Tls,
    VersionPolicy,
    Warmup,
    check_name,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")
_NO_PATHS: tuple[Path, ...] = ()
_NO_NUMBERS: tuple[int, ...] = ()
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]?)(i?)B?", re.IGNORECASE)


class _Table:
    """A table of the file: keys are taken one by one, and what is left at the end is an error."""

    def __init__(self, values: Mapping[str, Any], file: Path, name: str) -> None:
        self._values, self._file, self._name = values, file, name
        self._known: set[str] = set()

    def place(self, key: str = "") -> str:
        path = ".".join(part for part in (self._name, key) if part)
        return f"{self._file}: {path}" if path else str(self._file)

    def refuse(self, key: str, text: str) -> NoReturn:
        raise ConfigError(f"{self.place(key)}: {text}")

    def has(self, key: str) -> bool:
        return key in self._values

    def take(self, key: str, default: T, read: Callable[[str, Any], T]) -> T:
        self._known.add(key)
        return read(key, self._values[key]) if key in self._values else default

    def done(self) -> None:
        for key in self._values:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, 1)
                known = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(self._known))}"
                self.refuse(key, f"there is no such key; {known}")

    def integer(self, low: int = 0, high: int = 2**63 - 1) -> Callable[[str, Any], int]:
        def read(key: str, value: Any) -> int:
            if type(value) is not int or not low <= value <= high:
                self.refuse(
                    key, f"{value!r} is no whole number from {low} on" + (f" to {high}" if high < 2**62 else "")
                )
            return value

        return read

    def port(self, key: str, value: Any) -> int | None:
        return None if value is False else self.integer(0, 65535)(key, value)

    def number(self, key: str, value: Any) -> float:
        if type(value) not in (int, float) or not 0 <= value < 1e15:
            self.refuse(key, f"{value!r} is no number from 0 on")
        return float(value)

    def text(self, key: str, value: Any) -> str:
        if not isinstance(value, str):
            self.refuse(key, f"{value!r} is no text")
        return value

    def flag(self, key: str, value: Any) -> bool:
        if not isinstance(value, bool):
            self.refuse(key, f"{value!r} is neither true nor false")
        return value

    def size(self, key: str, value: Any) -> int:
        if type(value) is int and value >= 0:
            return value
        match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            self.refuse(key, f"{value!r} is no size: give bytes, or a text such as '64 MiB'")
        power = " KMG".index(match[2].upper() or " ")
        base = 1024 if match[3] else 1000
        return int(float(match[1]) * (base**power))

    def path(self, key: str, value: Any) -> Path:
        """A path; a relative one starts from the file's folder."""
        text = self.text(key, value)
        if not text:
            self.refuse(key, "is empty")
        return self._file.parent / Path(text).expanduser()

    def file(self, key: str, value: Any) -> str:
        """A path, or "-"."""
        return "-" if value == "-" else str(self.path(key, value))

    def share(self, key: str, value: Any) -> float:
        share = self.number(key, value)
        if share > 1:
            self.refuse(key, f"{value!r} is no share from 0 to 1")
        return share

    def paths(self, key: str, value: Any) -> tuple[Path, ...]:
        values = value if isinstance(value, list) else [value]
        return tuple(self.path(key, one) for one in values)

    def texts(self, key: str, value: Any) -> tuple[str, ...]:
        values = value if isinstance(value, list) else [value]
        return tuple(self.text(key, one) for one in values)

    def integers(self, key: str, value: Any) -> tuple[int, ...]:
        values = value if isinstance(value, list) else [value]
        return tuple(self.integer(1)(key, one) for one in values)

    def table(self, key: str, value: Any) -> _Table:
        if not isinstance(value, dict):
            self.refuse(key, f"is a table: [{self._name + '.' if self._name else ''}{key}]")
        return _Table(value, self._file, ".".join(part for part in (self._name, key) if part))

    def tables(self) -> dict[str, _Table]:
        """All keys as tables."""
        return {key: self.table(key, value) for key, value in self._values.items()}

    def items(self) -> Mapping[str, Any]:
        return self._values


def read_toml(file: Path) -> Configuration:
    """The settings in a TOML file; the keys are those of `ServerConfig` and `ModelConfig`, see docs/serve.md.

    Raises:
        ConfigError: with file and line or key.
    """
    try:
        with file.open("rb") as stream:
            values = tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from None
    top = _Table(values, file, "")
    nothing = _Table({}, file, "")
    server = _server(top.take("server", _Table({}, file, "server"), top.table))
    repositories = top.take("repositories", _NO_PATHS, top.paths)
    models = [_model(key, table, file) for key, table in top.take("models", nothing, top.table).tables().items()]
    top.done()
    if not models and not repositories:
        raise ConfigError(f'{file}: has no models: add a table [models.NAME] with a path, or repositories = ["FOLDER"]')
    return Configuration(server, tuple(models), repositories, origin=file)


def _server(table: _Table) -> ServerConfig:
    plain = ServerConfig()
    tls = table.take("tls", None, table.table)
    config = ServerConfig(
        host=table.take("host", plain.host, table.text),
        grpc_port=table.take("grpc_port", plain.grpc_port, table.port),
        http_port=table.take("http_port", plain.http_port, table.port),
        admin_port=table.take("admin_port", plain.admin_port, table.port),
        unix_socket=table.take("unix_socket", None, table.path),
        tls=None if tls is None else _tls(tls),
        cpus=table.take("cpus", plain.cpus, table.integer(0, 4096)),
        max_message_bytes=table.take("max_message_bytes", plain.max_message_bytes, table.size),
        max_bytes_in_flight=table.take("max_bytes_in_flight", plain.max_bytes_in_flight, table.size),
        drain_seconds=table.take("drain_seconds", plain.drain_seconds, table.number),
        exit_seconds=table.take("exit_seconds", plain.exit_seconds, table.number),
        memory_limit_bytes=table.take("memory_limit_bytes", plain.memory_limit_bytes, table.size),
        control=table.take("control", plain.control, table.text),
        poll_seconds=table.take("poll_seconds", plain.poll_seconds, table.number),
        settle_seconds=table.take("settle_seconds", plain.settle_seconds, table.number),
        load=table.take("load", plain.load, table.texts),
        strict_readiness=table.take("strict_readiness", plain.strict_readiness, table.flag),
        allow_labels_for_absent_versions=table.take(
            "allow_labels_for_absent_versions", plain.allow_labels_for_absent_versions, table.flag
        ),
        triton_metrics=table.take("triton_metrics", plain.triton_metrics, table.flag),
        log_requests=table.take("log_requests", plain.log_requests, table.file),
        log_ratio=table.take("log_ratio", plain.log_ratio, table.share),
        trace=table.take("trace", plain.trace, table.text),
        trace_ratio=table.take("trace_ratio", plain.trace_ratio, table.share),
    )
    table.done()
    if config.control not in CONTROLS:
        table.refuse("control", f"{config.control!r} is none of {', '.join(CONTROLS)}")
    return config


def _tls(table: _Table) -> Tls:
    for key in ("certificate", "key"):
        if not table.has(key):
            table.refuse(key, "is missing: the path of a PEM file")
    tls = Tls(
        table.take("certificate", Path(), table.path),
        table.take("key", Path(), table.path),
        table.take("client_ca", None, table.path),
    )
    table.done()
    return tls


def _model(name: str, table: _Table, file: Path) -> ModelConfig:
    check_name(name, str(file))
    if not table.has("path"):
        table.refuse("path", "is missing: an ONNX file, or a folder of versions")
    path = table.take("path", Path(), table.path)
    plain = ModelConfig(name, path)
    sizes = table.take("warmup_batch_sizes", _NO_NUMBERS, table.integers)
    samples = table.take("warmup", _NO_PATHS, table.paths)
    config = ModelConfig(
        name,
        path,
        layout="file" if path.suffix == ".onnx" else "tensorflow",
        filename=table.take("filename", "", table.text),
        source=table.place(),
        policy=_policy(table),
        labels=_labels(table),
        split=_split(table),
        max_batch_size=table.take("max_batch_size", None, table.integer(0, 65536)),
        batching=table.take("batching", True if table.has("max_batch_size") else None, table.flag),
        refuse_larger_batches=table.take("refuse_larger_batches", False, table.flag),
        instances=table.take("instances", 0, table.integer(0, 4096)),
        queue_delay_us=table.take("queue_delay_us", plain.queue_delay_us, table.integer(0, 10**9)),
        preferred_batch_sizes=sizes,
        max_queue_requests=table.take("max_queue_requests", plain.max_queue_requests, table.integer(1, 10**9)),
        max_queue_bytes=table.take("max_queue_bytes", plain.max_queue_bytes, table.size),
        priority_levels=table.take("priority_levels", plain.priority_levels, table.integer(0, 1024)),
        default_priority=table.take("default_priority", plain.default_priority, table.integer(0, 1024)),
        timeout_us=table.take("timeout_us", plain.timeout_us, table.integer()),
        weight=table.take("weight", plain.weight, table.number),
        threads=table.take("threads", plain.threads, table.integer(0, 1024)),
        memory_limit_bytes=table.take("memory_limit_bytes", plain.memory_limit_bytes, table.size),
        keep_previous=table.take("keep_previous", plain.keep_previous, table.integer(0, 16)),
        warmup=tuple(Warmup(samples=one) for one in samples),
        drift_reference=table.take("drift_reference", None, table.path),
    )
    table.done()
    if not config.weight > 0:
        table.refuse("weight", "must be above 0")
    if config.default_priority > config.priority_levels:
        table.refuse("default_priority", f"{config.default_priority} of {config.priority_levels} priority_levels")
    if "/" in config.filename or config.filename.startswith("."):
        table.refuse("filename", f"{config.filename!r} is not the plain name of a file in the version's folder")
    return config


def _policy(table: _Table) -> VersionPolicy:
    def read(key: str, value: Any) -> VersionPolicy:
        if value == "latest":
            return VersionPolicy()
        if value == "all":
            return VersionPolicy(latest=0)
        if isinstance(value, dict) and list(value) == ["latest"]:
            return VersionPolicy(latest=table.integer(1, 10**6)(f"{key}.latest", value["latest"]))
        if isinstance(value, list) and value:
            return VersionPolicy(specific=tuple(sorted(table.integers(key, value))))
        table.refuse(key, f'{value!r} is none of "latest", "all", {{ latest = 2 }} and a list such as [3, 5]')

    return table.take("versions", VersionPolicy(), read)


def _labels(table: _Table) -> dict[str, int]:
    none = _Table({}, Path(), "")
    labels = table.take("labels", none, table.table)
    for label in labels.items():
        if not label or label.isdigit():
            labels.refuse(label, "is no label: it would read as a version")
    return {label: labels.integer(0)(label, version) for label, version in labels.items().items()}


def _split(table: _Table) -> dict[str, float]:
    none = _Table({}, Path(), "")
    split = table.take("split", none, table.table)
    shares = {key: split.number(key, share) for key, share in split.items().items()}
    if shares and not sum(shares.values()) > 0:
        table.refuse("split", "its shares add up to 0")
    return shares
