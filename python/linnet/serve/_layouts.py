"""Where models lie: one file, a folder in Triton's layout, one in TF Serving's, and what is in them at this moment."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from linnet.serve import _drift, _manifest, _pbtxt
from linnet.serve._config import ConfigError, Configuration, ModelConfig, check_name
from linnet.serve._toml import read_toml

_VERSION = re.compile(r"[0-9]{1,18}")
_TEMPORARY = re.compile(
    r"\..*|.*~|.*\.(tmp|temp|part|partial|filepart|crdownload|swp)|(tmp|temp)[._-].*", re.IGNORECASE
)
_LAYOUTS = (
    "an ONNX file; a folder of models in Triton's layout (MODEL/1/model.onnx); "
    "one model's folder of versions as TF Serving has it (1/model.onnx); a TOML file or a TF Serving model config file"
)
MOST_FILES = 10_000
"""Of one version; more is taken for a mistake."""

Stamp = tuple[tuple[str, int, int, int], ...]
"""Name, size, time of change and inode of each file: another stamp is another version."""


@dataclass(frozen=True)
class VersionFiles:
    """What is there of one version."""

    version: int
    model: Path | None
    """The ONNX file; None when it is not there (yet), or unclear which it is."""
    folder: Path
    stamp: Stamp
    changed: float
    """When a file was last written or renamed, in seconds since 1970."""
    manifest: dict[str, _manifest.Entry] | None = None
    problem: str = ""
    """Why it cannot be loaded now; empty: it can, once it has settled (or has a manifest)."""

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(size for _, size, _, _ in self.stamp)


@dataclass(frozen=True)
class Scan:
    """The models that there are, and the reasons why others cannot be used, by name."""

    models: dict[str, ModelConfig] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is still being written, or hidden."""
    return _TEMPORARY.fullmatch(name) is not None


def open_path(path: Path) -> Configuration:
    """What to serve when the user names this file or folder.

    Raises:
        ConfigError: it is none of the layouts, or its settings are wrong.
    """
    if path.is_dir():
        names = _folders(path)
        if any(_VERSION.fullmatch(name) for name in names):
            name = check_name(path.resolve().name, str(path))
            return Configuration(models=(ModelConfig(name, path, "tensorflow", source=str(path)),), origin=path)
        if (path / "config.pbtxt").exists():
            raise ConfigError(f"{path}: is one model of a Triton repository: serve the folder that it is in")
        if names or not any(p.suffix == ".onnx" for p in path.iterdir()):
            return Configuration(repositories=(path,), origin=path)
        raise ConfigError(f"{path}: holds ONNX files and no folders: name one of the files, or give {_LAYOUTS}")
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file or folder")
    if path.suffix == ".onnx":
        return Configuration(models=(file_model(path),), origin=path)
    if path.suffix == ".toml":
        return read_toml(path)
    if path.suffix in (".config", ".pbtxt", ".conf", ".txt", ".cfg"):
        models, warnings = _pbtxt.read_tensorflow(path)
        return Configuration(models=tuple(models), warnings=tuple(warnings), origin=path)
    raise ConfigError(f"{path}: what is this? Give {_LAYOUTS}")


def file_model(path: Path) -> ModelConfig:
    """The model that one ONNX file is: its name is the file's, without the suffix."""
    return ModelConfig(check_name(path.stem, str(path)), path, "file", source=str(path))


def scan(configuration: Configuration) -> Scan:
    """The models of a configuration as they are now: folders of models are read anew."""
    models = {model.name: model for model in configuration.models}
    problems: dict[str, str] = {}
    warnings: list[str] = []
    for repository in configuration.repositories:
        try:
            names = _folders(repository)
        except OSError as error:
            raise ConfigError(f"{repository}: cannot be read: {error}") from None
        for name in names:
            try:
                if name in models:
                    raise ConfigError(f"{repository / name}: there is a model of that name in {models[name].path} too")
                models[name], found = _pbtxt.read_triton(repository / name)
                warnings += found
            except ConfigError as error:
                problems.setdefault(name, str(error))
    return Scan(models, problems, tuple(warnings))


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(e.name for e in entries if not is_temporary(e.name) and e.is_dir())


def versions(config: ModelConfig) -> dict[int, VersionFiles]:
    """What there is of each version of a model."""
    if config.layout == "file":
        files = _file_version(config.path)
        return {} if files is None else {1: files}
    found: dict[int, VersionFiles] = {}
    try:
        names = _folders(config.path)
    except OSError:
        return {}
    for name in names:
        if _VERSION.fullmatch(name) and not (config.layout == "triton" and name.startswith("0")):
            found.setdefault(int(name), _folder_version(int(name), config.path / name, config.filename))
    return found


def _file_version(path: Path) -> VersionFiles | None:
    """The file, and those beside it that its name begins: external data is often called so."""
    try:
        with os.scandir(path.parent) as entries:
            names = [e.name for e in entries if e.name == path.name or _belongs(e, path)]
    except OSError:
        return None
    if path.name not in names:
        return None
    stamp, changed = _stamp(path.parent, names)
    return VersionFiles(1, path, path.parent, stamp, changed)


def _belongs(entry: os.DirEntry[str], model: Path) -> bool:
    data = (".data", "_data", ".bin", ".weights")
    drift = entry.name == model.stem + _drift.FILE_SUFFIX
    return (drift or (entry.name.startswith(model.stem) and entry.name.endswith(data))) and entry.is_file()


def _folder_version(version: int, folder: Path, filename: str) -> VersionFiles:
    names: list[str] = []
    for base, folders, files in os.walk(folder, followlinks=False):
        folders[:] = [f for f in folders if not f.startswith(".")]
        names += [(Path(base) / f).relative_to(folder).as_posix() for f in files]
        if len(names) > MOST_FILES:
            return VersionFiles(version, None, folder, (), 0.0, problem=f"{folder}: holds more than {MOST_FILES} files")
    plain = [name for name in names if not is_temporary(name.rsplit("/", 1)[-1])]
    stamp, _ = _stamp(folder, plain)
    _, changed = _stamp(folder, names)  # what is copied under another name delays, too
    model = None
    problem = ""
    if filename or "model.onnx" in plain:
        name = filename or "model.onnx"
        model = folder / name if name in plain else None
        problem = "" if model else f"{folder}: {name} is not there (yet)"
    else:
        onnx = [name for name in plain if name.endswith(".onnx") and "/" not in name]
        model = folder / onnx[0] if len(onnx) == 1 else None
        if len(onnx) > 1:
            problem = f"{folder}: has {len(onnx)} ONNX files and none is called model.onnx"
        elif not onnx:
            problem = f"{folder}: model.onnx is not there (yet)"
    manifest = None
    try:
        manifest = _manifest.read(folder)
        if manifest is not None:
            _manifest.check_sizes(folder, manifest, {name: size for name, size, _, _ in stamp})
    except _manifest.ManifestError as error:
        problem = problem or str(error)
    return VersionFiles(version, model, folder, stamp, changed, manifest, problem)


def _stamp(folder: Path, names: list[str]) -> tuple[Stamp, float]:
    rows = []
    changed = 0.0
    for name in sorted(names):
        try:
            status = os.stat(folder / name)
        except OSError:  # renamed or removed meanwhile
            rows.append((name, -1, 0, 0))
            changed = time.time()
            continue
        rows.append((name, status.st_size, status.st_mtime_ns, status.st_ino))
        changed = max(changed, status.st_mtime, status.st_ctime)
    return tuple(rows), changed


class Settling:
    """Tells when files have stopped to change: for so long by their own times, or by two looks at them so far apart."""

    def __init__(
        self, seconds: float, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._seconds, self._clock, self._wall = seconds, clock, wall
        self._seen: dict[Path, tuple[Stamp, float]] = {}

    def remaining(self, files: VersionFiles) -> float:
        """Seconds until they count as settled; 0: they do. A version with a manifest needs no time."""
        if files.manifest is not None:
            return 0.0
        now = self._clock()
        stamp, since = self._seen.get(files.folder, ((), now))
        if stamp != files.stamp:
            self._seen[files.folder] = (files.stamp, now)
            since = now
        age = self._wall() - files.changed
        waited = max(now - since, age if age >= 0 else 0.0)
        return max(0.0, self._seconds - waited)
