"""A version's manifest: the sizes and digests of its files. A version that has one is used only when all of it fits.

`publish` makes such a version so that no reader sees a part of it: everything is written in a folder whose name begins
with a dot, brought to disk, and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from linnet import _core, _errors
from linnet.serve import _drift

NAME = "manifest.json"
_PART = ".publish-"
_ABANDONED = 24 * 3600.0
_CHUNK = 64 << 20


class ManifestError(ValueError):
    """A version's files are not what its manifest says: they are not all there yet, or were changed."""


@dataclass(frozen=True)
class Entry:
    """One file of a version."""

    size: int
    sha256: str


def read(folder: Path) -> dict[str, Entry] | None:
    """The manifest's files by their names relative to ``folder``; None when there is no manifest.

    Raises:
        ManifestError: it cannot be read (it may be half written).
    """
    try:
        text = (folder / NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ManifestError(f"{folder / NAME}: cannot be read: {error}") from None
    try:
        files = json.loads(text)["files"]
        entries = {str(name): Entry(int(file["size"]), str(file["sha256"])) for name, file in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{folder / NAME}: not a manifest: {error}") from None
    for name in entries:
        if not name or name.startswith("/") or ".." in name.split("/"):
            raise ManifestError(f"{folder / NAME}: {name!r} is not the name of a file in the version's folder")
    return entries


def check_sizes(folder: Path, entries: dict[str, Entry], present: dict[str, int]) -> None:
    """Compares the manifest with the files ``present`` (sizes by name).

    Raises:
        ManifestError: naming the first file that differs.
    """
    for name, entry in entries.items():
        if name not in present:
            raise ManifestError(f"{folder / name}: is in the manifest and not there")
        if present[name] != entry.size:
            raise ManifestError(f"{folder / name}: has {present[name]} bytes; the manifest says {entry.size}")
    for name in present:
        if name not in entries and name != NAME:
            raise ManifestError(f"{folder / name}: is not in the manifest")


def check_digests(folder: Path, entries: dict[str, Entry]) -> None:
    """Reads all files.

    Raises:
        ManifestError: naming the first file whose contents differ.
    """
    for name, entry in entries.items():
        try:
            found = digest(folder / name)
        except OSError as error:
            raise ManifestError(f"{folder / name}: cannot be read: {error}") from None
        if found != entry:
            raise ManifestError(f"{folder / name}: its contents are not those of the manifest (sha256)")


def digest(path: Path) -> Entry:
    """Size and SHA-256 of a file."""
    sha256, size = hashlib.sha256(), 0
    buffer = bytearray(min(_CHUNK, path.stat().st_size + 1))  # few and large pieces: the GIL is not held meanwhile
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            sha256.update(memoryview(buffer)[:count])
            size += count
    return Entry(size, sha256.hexdigest())


def publish(
    model: Path, destination: Path, version: int | None = None, data: Iterable[Path] = (), verify: bool = True
) -> Path:
    """Adds a version to a model's folder; servers that watch it see the whole version or none of it. The model's
    reference for drift (`linnet.serve.record_reference`) is taken along when it lies beside it.

    Args:
        model: an ONNX file. Files beside it whose names it mentions (external data) are taken along.
        destination: the model's folder, ``REPOSITORY/NAME``; made when it is absent.
        version: its number; None: the next one.
        data: further files to take along; they must be beside the model or below its folder.
        verify: load the copy before it is published.

    Returns:
        The new version's folder.

    Raises:
        FileExistsError: the version is there already.
        LinnetError: the copy does not load.
    """
    if not model.is_file():
        raise _errors.NoSuchFile(f"{model}: there is no such file")
    destination.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(destination)
    part = destination / f"{_PART}{os.getpid()}-{secrets.token_hex(4)}"
    part.mkdir()
    try:
        files = {"model.onnx": model}
        for path in [*(model.resolve().parent / name for name in external_data(model)), *data]:
            files[path.resolve().relative_to(model.resolve().parent).as_posix()] = path
        reference = _drift.place_for(model)
        if reference.is_file():
            files[_drift.FOLDER_NAME] = reference
        for name, path in files.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, part / name)
            _sync(part / name)
        if verify:
            options = _core.SessionOptions()
            options.threads = 1
            _core.Session(part / "model.onnx", options)
        entries = {name: digest(part / name) for name in sorted(files)}
        text = {"files": {name: {"size": e.size, "sha256": e.sha256} for name, e in entries.items()}}
        (part / NAME).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
        _sync(part / NAME)
        for folder in {(part / name).parent for name in files} | {part}:
            _sync(folder)
        return _rename(part, destination, version)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _rename(part: Path, destination: Path, version: int | None) -> Path:
    while True:
        number = version if version is not None else max(_versions(destination), default=0) + 1
        target = destination / str(number)
        try:
            if target.exists():  # renaming onto an empty folder would succeed
                raise FileExistsError
            part.rename(target)
        except OSError as error:
            if not target.exists():
                raise
            if version is not None:
                raise FileExistsError(f"{target}: version {version} is there already; give another number") from error
            continue
        _sync(destination)
        return target


def _versions(folder: Path) -> Iterator[int]:
    return (int(entry.name) for entry in os.scandir(folder) if re.fullmatch(r"[0-9]{1,18}", entry.name))


def external_data(model: Path, folder: Path | None = None) -> list[str]:
    """Files with a model's external data, relative to its folder (``folder``, when the model is a copy from there):
    those that are there and beneath it. What a model says that cannot be read is found out when it is loaded."""
    folder = folder or model.resolve().parent
    try:
        names = _core.serve.external_files(model)
    except _errors.LinnetError:
        return []
    inside = (name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts)
    return sorted(name for name in inside if (folder / name).is_file())


def _remove_abandoned(destination: Path) -> None:
    """What publishers left behind that were stopped long ago."""
    for entry in os.scandir(destination):
        if entry.name.startswith(_PART) and time.time() - entry.stat().st_mtime > _ABANDONED:
            shutil.rmtree(entry.path, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
