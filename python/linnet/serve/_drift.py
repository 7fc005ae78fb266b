"""References for drift: what a model's inputs and outputs look like on data that it is known to work with.

A reference says for each tensor into which bins its elements are sorted, and how many of the sample's fell into each.
The bins are quantiles of the sample, so that each holds about the same share. The server sorts what it sees into the
same bins and compares (cpp/serve/drift.h).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from linnet import _core
from linnet.serve._config import ConfigError

FOLDER_NAME = "drift.json"
"""Of a version folder's reference."""
FILE_SUFFIX = ".drift.json"
"""In place of .onnx, of the reference beside a single model."""
FORMAT = "linnet-drift-1"
BINS = 10
WINDOW = 5000
"""Requests that a comparison covers at least, once there were so many; at most twice that."""
_MOST_BYTES = 64 << 20
_PER_SAMPLE = 4096
_PER_TENSOR = 1 << 20
_MOST_SAMPLES = 1000
_FEW = 32
"""Tensors with at most so many different values get a bin for each."""

Reference = dict[str, Any]
Run = Callable[[dict[str, Any]], Sequence[Any]]
"""Runs a model: inputs by name, outputs in order."""


def place_for(model: Path) -> Path:
    """Where the server looks for a model's reference: ``drift.json`` beside a ``model.onnx`` or in a folder that a
    version's number is the name of, else ``NAME.drift.json`` beside ``NAME.onnx``."""
    if model.name == "model.onnx" or model.resolve().parent.name.isdigit():
        return model.with_name(FOLDER_NAME)
    return model.with_suffix(FILE_SUFFIX)


def record_reference(
    model: str | os.PathLike[str], data: Any, *, bins: int = BINS, window: int = WINDOW, threads: int = 0
) -> Reference:
    """Runs samples through a model and records what its inputs and outputs look like.

    Args:
        model: an ONNX file.
        data: samples, as `linnet.quantize` takes them: an ``.npz`` or ``.npy`` file, a folder of such files, an
            iterable of dicts of arrays.
        bins: for each tensor, of about the same number of elements. More show finer changes and need more requests.
        window: requests that the server compares over; it looks back on one to two windows.

    Returns:
        The reference, to be saved as JSON and named by a model's setting ``drift_reference``, or put beside the model
        (`save_reference`).

    Raises:
        ValueError: there is no sample, or ``bins`` or ``window`` is too small.
        NoSuchFile, InvalidArgument: a sample does not fit the model.
    """
    from linnet.compress._data import Samples

    if bins < 2 or window < 1:
        raise ValueError("a reference needs at least 2 bins and a window of 1")
    options = _core.SessionOptions()
    options.threads = threads
    session = _core.Session(Path(model), options)
    return _record(session, session.run, Samples(data, session.inputs()), bins, window)


def reference(path: Path, session: _core.Session, run: Run) -> Reference:
    """A model's reference from a JSON file, or from samples (``.npz``, ``.npy``, a folder), of which the first 1000
    are run.

    Raises:
        ConfigError: the file cannot be read, is no reference, or is another model's.
        LinnetError: the samples do not fit the model.
    """
    if path.suffix == ".json":
        return _read(path, session)
    from linnet.compress._data import Samples

    try:
        return _record(session, run, Samples(path, session.inputs(), _MOST_SAMPLES), BINS, WINDOW)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _record(session: _core.Session, run: Run, data: Iterable[dict[str, Any]], bins: int, window: int) -> Reference:
    collectors = {
        (port["name"], output): _Collector()
        for output, ports in ((False, session.inputs()), (True, session.outputs()))
        for port in ports
        if port["kind"] == "tensor" and port["dtype"] not in ("string", "complex64", "complex128")
    }
    samples = 0
    for feeds in data:
        results = run(feeds)
        for name, value in feeds.items():
            if (name, False) in collectors:
                collectors[name, False].add(value)
        for port, value in zip(session.outputs(), results, strict=True):
            if (port["name"], True) in collectors:
                collectors[port["name"], True].add(value)
        samples += 1
    if not samples:
        raise ValueError("the data has no sample")
    tensors = [
        {"name": name, "output": output, **collector.sketch(bins)}
        for (name, output), collector in collectors.items()
        if collector.count
    ]
    return {"format": FORMAT, "samples": samples, "window": window, "tensors": tensors}


def save_reference(reference: Reference, path: str | os.PathLike[str]) -> None:
    """Writes a reference; another one at that place is replaced as a whole."""
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        part.write_text(json.dumps(reference, indent=1) + "\n", encoding="utf-8")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path, session: _core.Session) -> Reference:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"{path}: is larger than any drift reference")
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is not a drift reference: {error}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ConfigError(f"{path}: is not a drift reference; `linnet drift MODEL --data SAMPLES` makes one")
    try:
        window = found["window"]
        if type(window) is not int or not 0 < window < 2**62:
            raise ValueError(f"the window is {window!r}")
        tensors: list[dict[str, Any]] = [
            {
                "name": str(t["name"]),
                "output": bool(t["output"]),
                "edges": [float(x) for x in t["edges"]],
                "bins": [float(x) for x in t["bins"]],
            }
            for t in found["tensors"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: is not a whole drift reference: {error}") from None
    for tensor in tensors:
        edges, shares = np.array(tensor["edges"]), np.array(tensor["bins"])
        ascending = np.isfinite(edges).all() and (np.diff(edges) > 0).all()
        if not ascending or shares.size != edges.size + 1 or not (shares >= 0).all() or not 0 < shares.sum() < np.inf:
            raise ConfigError(f"{path}: {tensor['name']!r} needs ascending edges and one more bin than edges")
        output = bool(tensor["output"])
        if tensor["name"] not in [port["name"] for port in (session.outputs() if output else session.inputs())]:
            kind = "output" if output else "input"
            raise ConfigError(f"{path}: is another model's: this one has no {kind} {tensor['name']!r}")
    return {**found, "tensors": tensors}


class _Collector:
    """Elements of one tensor over all samples; of large ones a random part."""

    def __init__(self) -> None:
        self.count = 0
        self._nans = 0
        self._parts: list[Any] = []
        self._random = np.random.default_rng(0)

    def add(self, value: Any) -> None:
        """The tensor of one sample."""
        flat = np.asarray(value).reshape(-1)
        if self.count >= _PER_TENSOR or not flat.size:
            return
        if flat.size > _PER_SAMPLE:
            flat = flat[self._random.integers(0, flat.size, _PER_SAMPLE)]
        numbers = flat.astype(np.float64)
        self._nans += int(np.isnan(numbers).sum())
        numbers = numbers[~np.isnan(numbers)]
        if numbers.size:
            self._parts.append(numbers)
            self.count += numbers.size

    def sketch(self, bins: int) -> dict[str, Any]:
        """The bins' inner edges, and how many elements each bin holds."""
        values = np.concatenate(self._parts)
        edges = _edges(values, bins)
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=edges.size + 1)
        nans = self._nans / (self._nans + self.count)
        return {"elements": self.count, "nans": nans, "edges": edges.tolist(), "bins": counts.tolist()}


def _edges(values: Any, bins: int) -> Any:
    """Quantiles; a value that fills a bin by itself (the zeros of an image, a class) gets one of its own."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(1)
    distinct, counts = np.unique(finite, return_counts=True)
    if distinct.size <= _FEW:
        heavy = distinct
        quantiles = distinct[:0]
    else:
        heavy = distinct[counts > finite.size / bins]
        light = finite[~np.isin(finite, heavy)]
        share = light.size / finite.size
        inner = max(1, round(bins * share))
        quantiles = np.quantile(light, np.arange(1, inner) / inner) if light.size else distinct[:0]
    edges = np.concatenate([heavy, np.nextafter(heavy, np.inf), quantiles])
    return np.unique(edges)
