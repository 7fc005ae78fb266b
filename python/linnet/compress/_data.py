"""The user's samples: arrays, dicts, files and folders as an iterable of feeds, checked against the model's inputs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from linnet import _core, _errors

Feeds = dict[str, Any]


class Samples:
    """Feeds that can be gone through again and again; files are read anew each time, one at a time.

    ``source`` is one of:

    * an iterable of samples, each a dict of arrays by input name, or an array where the model has one input. What can
      be iterated only once (a generator) is kept in memory.
    * an ``.npz`` file, or an ``.npy`` file where the model has one input, or a folder of such files. Their arrays hold
      one sample, or many stacked along the first axis. Arrays that are no inputs are passed over.

    Args:
        inputs: the model's, as `linnet._core.Session.inputs` gives them.
        most: samples used at most; None for all.

    Raises:
        NoSuchFile, InvalidArgument: naming the file or the sample, and the input.
    """

    def __init__(self, source: Any, inputs: Sequence[_core.Port], most: int | None = None) -> None:
        self._ports = {p["name"]: p for p in inputs}
        self._most = most
        self._source: Any = source
        self._stacks: list[Path] | None = None
        if isinstance(source, Mapping):
            self._source = [source]
        elif isinstance(source, (str, os.PathLike)):
            self._stacks = _files(Path(source))
        elif isinstance(source, np.ndarray):
            self._source = list(self._split({self._only(): source}, "the array"))
        elif iter(source) is source:
            self._source = list(source)

    def __iter__(self) -> Iterator[Feeds]:
        for i, feeds in enumerate(self._all()):
            if self._most is not None and i >= self._most:
                return
            yield feeds

    def __len__(self) -> int:
        """The number of samples where it is known without reading files, else 0."""
        if self._stacks is not None or not hasattr(self._source, "__len__"):
            return 0
        count = len(self._source)
        return count if self._most is None else min(count, self._most)

    def _all(self) -> Iterator[Feeds]:
        if self._stacks is None:
            for i, sample in enumerate(self._source):
                where = f"sample {i}"
                given = dict(sample) if isinstance(sample, Mapping) else {self._only(where): sample}
                yield self._checked(given, where)
            return
        for path in self._stacks:
            try:
                loaded = np.load(path, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise _errors.InvalidArgument(f"{path}: cannot be read as numpy arrays: {error}") from error
            if isinstance(loaded, np.ndarray):
                yield from self._split({self._only(str(path)): loaded}, str(path))
                continue
            with loaded:
                arrays = {name: loaded[name] for name in loaded.files if name in self._ports}
                if len(loaded.files) == 1 == len(self._ports):
                    arrays = {self._only(): loaded[loaded.files[0]]}
                yield from self._split(arrays, str(path))

    def _only(self, where: str = "the data") -> str:
        if len(self._ports) != 1:
            names = ", ".join(repr(name) for name in self._ports)
            raise _errors.InvalidArgument(f"{where}: an array without a name, but the model has the inputs {names}")
        return next(iter(self._ports))

    def _split(self, arrays: dict[str, Any], where: str) -> Iterator[Feeds]:
        """Single samples out of stacks: slices of the first axis, which each stay an axis of 1 where the rank asks."""
        self._checked(arrays, where, shapes=False)
        pieces: dict[str, list[Any]] = {}
        for name, array in arrays.items():
            shape = self._ports[name]["shape"]
            rank = len(shape) if shape is not None else array.ndim
            if array.ndim == rank + 1:
                pieces[name] = list(array)
            elif array.ndim == rank and rank and _fits(array.shape[1:], shape[1:] if shape else None):
                size = shape[0] if shape and isinstance(shape[0], int) else 1
                count = array.shape[0] // max(size, 1)
                if count * size != array.shape[0]:
                    raise _errors.InvalidArgument(
                        f"{where}: '{name}' has {array.shape[0]} rows, which is no multiple of the model's {size}"
                    )
                pieces[name] = [array[i * size : (i + 1) * size] for i in range(count)]
            else:
                pieces[name] = [array]
        counts = {name: len(piece) for name, piece in pieces.items()}
        if len(set(counts.values())) > 1:
            raise _errors.InvalidArgument(f"{where}: the inputs have different numbers of samples, {counts}")
        for i in range(max(counts.values(), default=0)):
            yield self._checked({name: piece[i] for name, piece in pieces.items()}, f"{where}, sample {i}")

    def _checked(self, feeds: Feeds, where: str, shapes: bool = True) -> Feeds:
        for name in feeds:
            if name not in self._ports:
                names = ", ".join(repr(n) for n in self._ports)
                raise _errors.InvalidArgument(f"{where}: the model has no input '{name}'; its inputs are {names}")
        for name, port in self._ports.items():
            if name not in feeds:
                if port["optional"]:
                    continue
                raise _errors.InvalidArgument(f"{where}: input '{name}' is missing")
            value = np.asarray(feeds[name]) if not isinstance(feeds[name], (list, dict)) else feeds[name]
            if not isinstance(value, np.ndarray):
                continue
            feeds[name] = value
            if str(value.dtype) != port["dtype"] and port["dtype"] != "string":
                raise _errors.InvalidArgument(
                    f"{where}: input '{name}' is {value.dtype}; the model takes {port['dtype']} "
                    f"(array.astype('{port['dtype']}') converts, and mind the scale of the values)"
                )
            shape = port["shape"]
            if shapes and shape is not None and not (len(shape) == value.ndim and _fits(value.shape, shape)):
                expected = ", ".join("?" if d is None else str(d) for d in shape)
                raise _errors.InvalidArgument(
                    f"{where}: input '{name}' has the shape {list(value.shape)}; the model takes [{expected}]"
                )
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise _errors.InvalidArgument(f"{where}: input '{name}' has elements that are NaN or infinite")
        return feeds


def _fits(shape: Iterable[int], declared: Sequence[int | str | None] | None) -> bool:
    return declared is None or all(not isinstance(d, int) or d == n for d, n in zip(declared, shape, strict=False))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in (".npy", ".npz"))
        if not found:
            raise _errors.InvalidArgument(f"{path}: the folder has no .npy or .npz files")
        return found
    if not path.is_file():
        raise _errors.NoSuchFile(f"{path}: no such file")
    if path.suffix not in (".npy", ".npz"):
        raise _errors.InvalidArgument(f"{path}: expected a .npy or .npz file, or a folder of them")
    return [path]


def labels(source: Any) -> Any:
    """Labels as an array: an array or list itself, a ``.npy`` file, ``labels`` of an ``.npz`` file."""
    if not isinstance(source, (str, os.PathLike)):
        return np.asarray(source)
    path = Path(source)
    if not path.is_file():
        raise _errors.NoSuchFile(f"{path}: no such file")
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _errors.InvalidArgument(f"{path}: cannot be read as numpy arrays: {error}") from error
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        names = [n for n in ("labels", "label", "y") if n in loaded.files] or loaded.files[: len(loaded.files) == 1]
        if not names:
            raise _errors.InvalidArgument(f"{path}: no array 'labels' among {', '.join(loaded.files)}")
        return loaded[names[0]]
