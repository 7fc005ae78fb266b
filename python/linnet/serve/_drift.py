"""What a model's inputs and outputs look like when all is well: the reference that drift is measured against."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from linnet import _core
from linnet.serve._config import ConfigError

BINS = 20
MOST_SAMPLES = 1000
_MOST_ELEMENTS = 4096
"""Of one tensor that are looked at, evenly spread."""

Sketch = dict[str, Any]


def reference(path: Path, session: _core.Session, run: Callable[[dict[str, Any]], list[Any]]) -> list[Sketch]:
    """A model's reference: from a JSON file that `write` made, or by running samples (``.npz``, ``.npy``, a folder).

    Returns:
        For each tensor of numbers its name, whether it is an output, ``edges`` (ascending) and the counts in ``bins``
        between them, the first and the last bin being open.

    Raises:
        ConfigError: the file is no reference.
        LinnetError: the samples do not fit the model.
    """
    if path.suffix == ".json":
        return _read(path)
    from linnet.compress._data import Samples

    outputs = session.outputs()
    seen: dict[tuple[str, bool], list[npt.NDArray[Any]]] = {}
    for feeds in Samples(path, session.inputs(), MOST_SAMPLES):
        values = [(name, False, value) for name, value in feeds.items()]
        values += [(port["name"], True, value) for port, value in zip(outputs, run(feeds), strict=True)]
        for name, output, value in values:
            array = np.asarray(value)
            if array.dtype.kind in "fiub" or array.dtype.name == "bfloat16":
                seen.setdefault((name, output), []).append(_spread(array))
    if not seen:
        raise ConfigError(f"{path}: has no samples of the model's inputs")
    sketches = [sketch(name, output, np.concatenate(parts)) for (name, output), parts in seen.items()]
    return [one for one in sketches if sum(one["bins"]) > 0]


def _spread(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    flat = array.reshape(-1)
    step = max(1, -(-flat.size // _MOST_ELEMENTS))
    return flat[::step].astype(np.float64)


def sketch(name: str, output: bool, values: npt.NDArray[np.float64]) -> Sketch:
    """One tensor's part: as many elements in each bin as can be."""
    finite = values[np.isfinite(values)]
    edges = np.unique(np.quantile(finite, np.arange(1, BINS) / BINS)) if finite.size else np.zeros(0)
    bins = np.bincount(np.searchsorted(edges, finite, side="right"), minlength=edges.size + 1)
    return {"name": name, "output": output, "edges": edges.tolist(), "bins": bins.astype(float).tolist()}


def write(path: Path, sketches: Sequence[Sketch]) -> None:
    """Keeps a reference, so that samples need not be kept."""
    path.write_text(json.dumps({"sketches": list(sketches)}, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> list[Sketch]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["sketches"]
        sketches = [
            {
                "name": str(row["name"]),
                "output": bool(row["output"]),
                "edges": [float(edge) for edge in row["edges"]],
                "bins": [float(count) for count in row["bins"]],
            }
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a reference: {error}") from None
    for row in sketches:
        edges, bins = np.array(row["edges"]), np.array(row["bins"])
        if bins.size != edges.size + 1 or np.any(np.diff(edges) <= 0) or np.any(bins < 0) or not bins.sum() > 0:
            raise ConfigError(f"{path}: {row['name']!r}: edges must ascend, and there is one bin more than edges")
    return sketches
