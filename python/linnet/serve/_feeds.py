"""Inputs for the runs that try a model and warm it up: recorded samples, zeros, random numbers."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

from linnet import _core, _dimensions, _values
from linnet.serve._config import ConfigError, ModelConfig, Warmup

Feeds = dict[str, Any]
SIZES = (1, 8, 32, 224)
"""Sizes to try for dimensions that are free and no batch."""
MOST_SAMPLES = 32
_LARGE = 1 << 16


def free_dimensions(config: ModelConfig, ports: Sequence[_core.Port]) -> list[str]:
    """Names of inputs with dimensions, other than rows, that neither the model nor its configuration gives a size."""
    return [p["name"] for p in ports if -1 in _dims(config, p)[1:] or p["shape"] is None]


def _dims(config: ModelConfig, port: _core.Port) -> list[int]:
    """The input's shape, -1 where it is free."""
    dims = [d if isinstance(d, int) else -1 for d in port["shape"] or ()]
    for configured in config.inputs:
        if configured.name == port["name"]:
            ahead = len(dims) - len(configured.dims)
            dims = dims[:ahead] + [d if d >= 0 else c for d, c in zip(dims[ahead:], configured.dims, strict=True)]
    return dims


def _shape(config: ModelConfig, port: _core.Port, rows: int, size: int) -> tuple[int, ...]:
    shape = list(_dims(config, port))
    for axis, (number, dim) in enumerate(zip(shape, port["shape"] or (), strict=True)):
        if number < 0 and axis == 0:
            shape[axis] = rows
        elif number < 0:
            shape[axis] = (
                size if dim is None else _dimensions.size(str(dim), dict.fromkeys(_dimensions.names(str(dim)), size))
            )
    return tuple(shape)


def zeros(config: ModelConfig, ports: Sequence[_core.Port], rows: int, size: int) -> Feeds:
    """Zeros (empty texts) for every input; ``size`` for free dimensions, ``rows`` for a free first one."""
    return {p["name"]: _zeros(p["dtype"], _shape(config, p, rows, size)) for p in ports}


def _zeros(dtype: str, shape: tuple[int, ...]) -> Any:
    if dtype == "str":
        return np.full(shape, "", dtype=object)
    kind = _values.dtype_named(dtype)
    size = kind.itemsize * math.prod(shape)
    if size < _LARGE:
        return np.zeros(shape, kind)
    # Zeros from the system: np.zeros may write those that the C library has at hand, and keeps the GIL meanwhile.
    return np.frombuffer(mmap.mmap(-1, size), np.uint8).view(kind).reshape(shape)


def random(config: ModelConfig, ports: Sequence[_core.Port], rows: int, size: int, seed: int) -> Feeds:
    """Random values for every input."""
    rng = np.random.default_rng(seed)
    return {p["name"]: _random(rng, p["dtype"], _shape(config, p, rows, size)) for p in ports}


def _random(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Any:
    """Normal floats, any bytes, other integers 0 or 1: they are often indices or masks."""
    if dtype == "str":
        return rng.choice(np.array(["a", "b"], dtype=object), size=shape)
    kind = _values.dtype_named(dtype)
    if kind.kind == "c":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(kind)
    if kind.name in ("uint8", "int8"):
        return rng.integers(0, 256, shape, dtype=np.uint8).view(kind)
    if kind.kind in "iub":
        return rng.integers(0, 2, shape).astype(kind)
    return rng.standard_normal(shape, dtype=np.float32).astype(kind, copy=False)


def samples(config: ModelConfig, ports: Sequence[_core.Port]) -> list[tuple[Feeds, int]]:
    """The configured warm-up requests, and how often each is run.

    Raises:
        ConfigError: a file cannot be read or does not fit.
    """
    found: list[tuple[Feeds, int]] = []
    for warmup in config.warmup:
        if warmup.samples is not None:
            from linnet.compress._data import Samples

            found += [(feeds, warmup.count) for feeds in Samples(warmup.samples, ports, MOST_SAMPLES)]
        else:
            found.append((_described(config, warmup), warmup.count))
    return found


def _described(config: ModelConfig, warmup: Warmup) -> Feeds:
    feeds: Feeds = {}
    rows = (max(1, warmup.batch_size),) if config.max_batch_size else ()
    for name, one in warmup.inputs.items():
        shape = (*rows, *one.dims)
        if one.file is not None:
            feeds[name] = _from_file(config, one.file, one.dtype, one.dims, rows)
        elif one.random:
            feeds[name] = _random(np.random.default_rng(0), one.dtype, shape)
        else:
            feeds[name] = _zeros(one.dtype, shape)
    return feeds


def _from_file(config: ModelConfig, file: Any, dtype: str, dims: tuple[int, ...], rows: tuple[int, ...]) -> Any:
    """Raw elements of one row (repeated) or of all rows."""
    if dtype == "str":
        raise ConfigError(f"{config.source}: model_warmup: {file}: texts from a file are not supported")
    try:
        values = np.fromfile(file, _values.dtype_named(dtype))
    except OSError as error:
        raise ConfigError(f"{config.source}: model_warmup: {file}: cannot be read: {error}") from None
    row = int(np.prod(dims, dtype=np.int64))
    shape = (*rows, *dims)
    if values.size == row and rows:
        return np.broadcast_to(values.reshape(dims), shape).copy()
    if values.size != int(np.prod(shape, dtype=np.int64)):
        raise ConfigError(f"{config.source}: model_warmup: {file}: has {values.size} elements, not those of {shape}")
    return values.reshape(shape)
