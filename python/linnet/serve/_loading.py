"""Loading one version of a model: opened, compared with its configuration, tried, warmed up. Nothing is served here."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from linnet import _core, _errors
from linnet.serve import _drift, _feeds, _manifest
from linnet.serve._config import DEFAULT_MAX_BATCH, ConfigError, ModelConfig, PortConfig
from linnet.serve._engine import MakeServed, Served
from linnet.serve._layouts import VersionFiles
from linnet.serve._priority import Quiet
from linnet.serve._snapshot import snapshot

log = logging.getLogger("linnet.serve")

_RUN_LIMIT_MS = 300_000
_WARM_BUDGET = 2.0
"""Seconds that running all batch sizes may take; when it would be more, powers of two are run."""
_MEMORY_FACTOR = 1.2
"""Bytes in memory for each byte of a file, as an estimate."""


@dataclass(frozen=True)
class Loaded:
    """A version that is ready to be served."""

    config: ModelConfig
    files: VersionFiles
    inputs: tuple[_core.Port, ...]
    outputs: tuple[_core.Port, ...]
    served: Served
    max_batch: int
    """Rows that are run together; 1: requests are run one by one."""
    batching: str
    """Why they are, or are not."""
    seconds: float
    """That loading took."""
    time: float
    """When it was done, in seconds since 1970."""

    @property
    def version(self) -> int:
        return self.files.version

    @property
    def bytes(self) -> int:
        """Memory that it takes, about."""
        return estimated_bytes(self.files)


def estimated_bytes(files: VersionFiles) -> int:
    """Memory that a version will take, about."""
    return int(files.bytes * _MEMORY_FACTOR)


class LoadError(Exception):
    """Why a version cannot be served."""


def load(config: ModelConfig, files: VersionFiles, make: MakeServed, terminate: _core.Flag) -> Loaded:
    """Loads a version, tries it and warms it up; the heavy parts give way to what serves.

    Raises:
        LoadError: with the file or key, and what is wrong.
    """
    if files.problem or files.model is None:
        raise LoadError(files.problem or f"{files.folder}: there is no model")
    started = time.monotonic()
    try:
        with Quiet() as quiet:
            session = _open(config, files, quiet)
            trial = Trial(config, session, quiet, terminate)
            trial.verify()
            max_batch, reason = _batching(config, trial)
            trial.warm(max_batch)
            reference = _reference(config, files, session, trial)
    except (ConfigError, _manifest.ManifestError) as error:
        raise LoadError(str(error)) from error
    except (_errors.LinnetError, OSError, MemoryError) as error:
        raise LoadError(f"{files.model}: {error or type(error).__name__}") from error
    served = make(
        session,
        config.name,
        files.version,
        max_batch=max_batch,
        refuse_larger=config.refuse_larger_batches,
        instances=config.instances,
        queue_delay_us=config.queue_delay_us,
        max_queue_requests=config.max_queue_requests,
        max_queue_bytes=config.max_queue_bytes,
        priority_levels=config.priority_levels,
        default_priority=config.default_priority,
        weight=config.weight,
        default_timeout_us=config.timeout_us,
    )
    if reference is not None:
        served.set_reference(reference["tensors"], reference["window"])
    return Loaded(
        config=config,
        files=files,
        inputs=tuple(session.inputs()),
        outputs=tuple(session.outputs()),
        served=served,
        max_batch=max_batch,
        batching=reason,
        seconds=time.monotonic() - started,
        time=time.time(),
    )


def _open(config: ModelConfig, files: VersionFiles, quiet: Quiet) -> _core.Session:
    options = _core.SessionOptions()
    options.threads = config.threads
    options.memory_limit = config.memory_limit_bytes
    options.title = f"{config.name} version {files.version}"  # callers read it: no path
    if files.manifest is not None:
        _manifest.check_digests(files.folder, files.manifest)
    with quiet.idle(), snapshot(files) as path:
        session = _core.Session(path, options)
    check_ports(config, session.inputs(), session.outputs())
    return session


def _reference(
    config: ModelConfig, files: VersionFiles, session: _core.Session, trial: Trial
) -> _drift.Reference | None:
    """What inputs and outputs are compared with: as configured, or what lies beside the model."""
    assert files.model is not None
    place = config.drift_reference
    if place is None:
        place = files.folder / _drift.FOLDER_NAME
        if config.layout == "file":
            place = files.model.with_suffix(_drift.FILE_SUFFIX)
        if not place.exists():
            return None
    return _drift.reference(place, session, trial.run)


def check_ports(config: ModelConfig, inputs: Sequence[_core.Port], outputs: Sequence[_core.Port]) -> None:
    """Compares the model with its configuration.

    Raises:
        ConfigError: with all that differs.
    """
    wrong = []
    for kind, ports in (("input", inputs), ("output", outputs)):
        wrong += [
            f"{kind} {p['name']!r} is a {p['kind']}; only tensors can be sent (scikit-learn models: zipmap=False)"
            for p in ports
            if p["kind"] != "tensor"
        ]
    rows = (config.max_batch_size or 0) > 0
    if rows and (config.layout == "triton" or config.batching):
        wrong += [
            f"max_batch_size is {config.max_batch_size}, but {p['name']!r} {shape_text(p)} has no free first dimension "
            "(set max_batch_size to 0)"
            for p in [*inputs, *outputs]
            if not _free_rows(p)
        ]
    for kind, configured, ports in (("input", config.inputs, inputs), ("output", config.outputs, outputs)):
        known = {p["name"]: p for p in ports}
        for port in configured:
            if port.name not in known:
                names = ", ".join(repr(name) for name in known)
                wrong.append(f"{kind} {port.name!r} is not in the model; it has {names}")
            else:
                wrong += _differences(kind, port, known[port.name], rows)
        named = {port.name for port in configured}
        if kind == "input" and configured:
            wrong += [f"input {n!r} is missing" for n, p in known.items() if n not in named and not p["optional"]]
    if wrong:
        raise ConfigError(f"{config.source}: does not fit the model: " + "; ".join(wrong))


def _differences(kind: str, port: PortConfig, model: _core.Port, rows: bool) -> list[str]:
    wrong = []
    if port.dtype != model["dtype"]:
        wrong.append(f"{kind} {port.name!r} is {port.dtype}, the model's is {model['dtype']}")
    shape = model["shape"]
    if shape is not None and port.dims:
        inner = shape[1:] if rows else shape
        fits = len(inner) == len(port.dims) and all(
            not isinstance(m, int) or m == d for m, d in zip(inner, port.dims, strict=True)
        )
        if not fits:
            after = " after the batch" if rows else ""
            wrong.append(f"{kind} {port.name!r} has dims {list(port.dims)}{after}, the model's is {shape_text(model)}")
    return wrong


def shape_text(port: _core.Port) -> str:
    """``[batch, 3, 224, 224]``."""
    shape = port["shape"]
    return "of any shape" if shape is None else "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"


def _free_rows(port: _core.Port) -> bool:
    shape = port["shape"]
    return shape is not None and len(shape) > 0 and not isinstance(shape[0], int)


def _batching(config: ModelConfig, trial: Trial) -> tuple[int, str]:
    """Rows to run together, and the reason."""
    wanted = DEFAULT_MAX_BATCH if config.max_batch_size is None else config.max_batch_size
    if wanted <= 1 or config.batching is False:
        return 1, "off: max_batch_size" if config.max_batch_size is not None else "off: as configured"
    if not all(_free_rows(p) for p in trial.ports):
        return 1, "off: not every input and output has a free first dimension"
    if config.batching and not trial.verified:
        return wanted, "on: as configured"
    difference = trial.rows_differ()
    if not difference:
        return wanted, "on: rows of a batch do not influence each other"
    if config.batching:
        log.warning("%s: batching is on as configured, but %s", config.name, difference)
        return wanted, f"on: as configured, but {difference}"
    return 1, f"off: {difference}"


class Trial:
    """Runs of a model that is not served yet."""

    def __init__(self, config: ModelConfig, session: _core.Session, quiet: Quiet, terminate: _core.Flag) -> None:
        self._config, self._session, self._quiet, self._terminate = config, session, quiet, terminate
        self._inputs = [p for p in session.inputs() if not p["optional"]]
        self.ports: list[_core.Port] = [*self._inputs, *session.outputs()]
        self.verified = False
        """Whether inputs are known that the model takes."""
        self._size = 1
        self._row_seconds = 0.0
        self._samples = _feeds.samples(config, session.inputs())

    def run(self, feeds: dict[str, Any]) -> list[Any]:
        """One run, on this thread alone: what serves keeps the pool's workers, and none is made that is as nice."""
        with self._quiet.idle():
            return self._session.run(feeds, None, self._terminate, _RUN_LIMIT_MS, None, 1)

    def verify(self) -> None:
        """Runs the samples, or zeros where there are none.

        Raises:
            LinnetError: the model fails on them.
        """
        for feeds, count in self._samples:
            for _ in range(count):
                self.run(feeds)
            self.verified = True
        if self.verified:
            return
        free = _feeds.free_dimensions(self._config, self._inputs)
        for size in _feeds.SIZES if free else _feeds.SIZES[:1]:
            try:
                feeds = _feeds.zeros(self._config, self._inputs, 1, size)
                self.run(feeds)
                started = time.monotonic()
                self.run(feeds)
                self._row_seconds = time.monotonic() - started
            except _errors.Cancelled:
                raise
            except _errors.LinnetError as error:
                if not free:
                    raise
                failure = error
                continue
            self.verified, self._size = True, size
            return
        log.warning(
            "%s: not tried before it is served, for want of sizes for %s (give warm-up samples): %s",
            self._config.name,
            ", ".join([*free[:3], "..."] if len(free) > 3 else free),
            failure,
        )

    def rows_differ(self) -> str:
        """How a batch of random rows differs from its rows alone; empty when it does not."""
        if not self.verified:
            return "the model could not be tried"
        chances, needed = 3, 2  # a class may tip over by rounding alone, but not time and again
        text = ""
        for seed in range(chances):
            try:
                found = self._compare_rows(seed)
            except _errors.Cancelled:
                raise
            except _errors.LinnetError as error:
                return f"a batch of 3 fails: {error}"
            needed -= not found
            if needed == 0:
                return ""
            text = found or text
        return text

    def _compare_rows(self, seed: int) -> str:
        rows = 3
        together = _feeds.random(self._config, self._inputs, rows, self._size, seed)
        batch = self.run(together)
        for row in range(rows):
            alone = self.run({name: value[row : row + 1] for name, value in together.items()})
            for port, many, one in zip(self._session.outputs(), batch, alone, strict=True):
                if many.shape[:1] != (rows,) or one.shape[:1] != (1,):
                    return f"the first dimension of output {port['name']!r} is not that of the inputs"
                if not _close(many[row : row + 1], one):
                    return f"a row of output {port['name']!r} is another one when it is run together with others"
        return ""

    def warm(self, max_batch: int) -> None:
        """Runs the batch sizes that will come, so that no request waits for a plan. Where other dimensions are free,
        too, only samples tell what will come."""
        known = self._samples or not _feeds.free_dimensions(self._config, self._inputs)
        if not self.verified or max_batch <= 1 or not known:
            return
        every = self._row_seconds * max_batch * (max_batch + 1) / 2 < _WARM_BUDGET
        sizes = set(range(2, max_batch + 1)) if every and max_batch <= 24 else {1 << i for i in range(1, 16)}
        sizes |= {max_batch, *self._config.preferred_batch_sizes}
        largest = _feeds.zeros(self._config, self._inputs, max_batch, self._size)
        for sample, _ in self._samples[:1]:
            largest = {name: np.empty((max_batch, *value.shape[1:]), value.dtype) for name, value in sample.items()}
            for name, value in sample.items():
                largest[name][:] = value[:1]
        for size in sorted(s for s in sizes if 1 < s <= max_batch):
            self.run({name: value[:size] for name, value in largest.items()})


def _close(a: Any, b: Any) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype.kind not in "fc" and a.dtype.name not in ("bfloat16",):
        return bool(np.array_equal(a, b))
    x, y = (np.asarray(v, np.complex128 if v.dtype.kind == "c" else np.float64) for v in (a, b))
    scale = float(np.max(np.abs(y[np.isfinite(y)]), initial=0.0))
    return bool(np.allclose(x, y, rtol=1e-3, atol=1e-3 * scale + 1e-30, equal_nan=True))
