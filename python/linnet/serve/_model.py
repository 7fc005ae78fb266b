"""One model of the repository: brings what is served to what its files and settings say, and back. Loader's thread."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from linnet.serve import _layouts
from linnet.serve._codes import Code
from linnet.serve._config import ModelConfig
from linnet.serve._engine import Engine
from linnet.serve._layouts import VersionFiles
from linnet.serve._loading import Loaded, LoadError
from linnet.serve._states import ModelView, State, VersionStatus

log = logging.getLogger("linnet.serve")

_HELD_BACK = "held back: the model was rolled back from it"


class Host(Protocol):
    """What a model needs of the repository."""

    engine: Engine
    settling: _layouts.Settling
    allow_absent_labels: bool

    def load_version(self, config: ModelConfig, files: VersionFiles) -> Loaded:
        """Loads a version; LoadError when it cannot be, or does not fit into the memory limit."""

    def retire(self, model: Model, loaded: Loaded) -> None:
        """Told of a version that gets no more requests (maybe twice): calls `Model.drained` when it has none left."""

    def changed(self, model: Model) -> None:
        """Shows the model's new state to the world."""


class Model:
    """Which versions are loaded, which answer, and which were given up.

    A version whose files cannot be loaded, or that was rolled back from, is passed over until its files or the settings
    change; the policy then chooses among the others. So a bad version leaves the one before it serving.
    """

    def __init__(self, config: ModelConfig, host: Host, wanted: bool = True) -> None:
        self.config = config
        self.wanted = wanted
        self.waiting: float | None = None
        """Seconds until files may have settled; None when there is nothing to wait for."""
        self.failures: dict[int, str] = {}
        """Versions that the policy wants and that cannot be loaded, from the last `reconcile`."""
        self.problem = ""
        self._host = host
        self._active: dict[int, Loaded] = {}
        self._previous: list[dict[int, Loaded]] = []
        self._passed_over: dict[tuple[int, _layouts.Stamp], str] = {}
        self._statuses: dict[int, VersionStatus] = {}
        self._labels: dict[str, int] = {}
        self._split: dict[int, float] = {}
        self._shown: object = ((), {}, {})
        """What the engine was told last; its host has told it that there is the model."""
        self._label_problems: list[str] = []

    @property
    def view(self) -> ModelView:
        """The state for all to see."""
        return ModelView(
            config=self.config,
            active=dict(sorted(self._active.items())),
            statuses=dict(sorted(self._statuses.items())),
            labels=dict(self._labels),
            split=dict(self._split),
            wanted=self.wanted,
            problem="; ".join([*([self.problem] if self.problem else []), *self._label_problems]),
            previous=tuple(tuple(sorted(one)) for one in self._previous),
        )

    def configure(self, config: ModelConfig) -> None:
        """New settings; `reconcile` puts them into effect."""
        if not config.loads_like(self.config):
            self._passed_over.clear()
        self.config = config

    def retry(self) -> None:
        """Versions that failed or were held back get another chance."""
        self._passed_over.clear()

    def reconcile(self) -> None:
        """Loads what is to be served and is not, switches to it, and retires what is not to be served any more."""
        if not self.wanted:
            self.unload()
            return
        files = _layouts.versions(self.config)
        whole = self._whole(files)
        staying = set(self._active) & set(files) if files else set(self._active)
        fresh: dict[int, Loaded] = {}
        while True:
            usable = {v for v, f in whole.items() if (v, f.stamp) not in self._passed_over}
            chosen = self.config.policy.choose(usable | staying)
            missing = [v for v in chosen if v in usable and not self._is_current(fresh.get(v), whole[v])]
            missing = [v for v in missing if not self._is_current(self._active.get(v), whole[v])]
            if not missing:
                break
            loaded = self._load(whole[missing[-1]])
            if loaded is not None:
                fresh[loaded.version] = loaded
        self.problem = "" if files else f"{self.config.path}: has no versions"
        self._switch({v: fresh[v] if v in fresh else self._active[v] for v in chosen})
        for loaded in fresh.values():
            if self._active.get(loaded.version) is not loaded:
                self._host.retire(self, loaded)
        self._note_failures(files)
        self._host.changed(self)

    def rollback(self) -> bool:
        """Returns to the versions before the last switch; False when none are kept."""
        if not self._previous:
            return False
        former = self._previous.pop()
        for version, loaded in self._active.items():
            if former.get(version) is not loaded:
                self._passed_over[version, loaded.files.stamp] = _HELD_BACK
                log.info("%s: rolled back from version %d", self.config.name, version)
        self.wanted = True
        self._switch(former, keep=False)
        self._host.changed(self)
        return True

    def unload(self) -> None:
        """Takes the model out of service; nothing of it is kept."""
        self.wanted = False
        self.waiting = None
        self.failures = {}
        self.forget_previous()
        self._switch({}, keep=False)
        self._host.changed(self)

    def forget_previous(self, all_but: int = 0) -> bool:
        """Gives the memory of former versions back, the oldest first; whether there were any."""
        any_left = len(self._previous) > all_but
        gone = self._previous[: len(self._previous) - all_but]
        self._previous = self._previous[len(gone) :]
        for generation in gone:
            for loaded in generation.values():
                if not any(one is loaded for one in self._in_memory()):
                    self._host.retire(self, loaded)
        return any_left

    def drained(self, loaded: Loaded) -> bool:
        """A retired version has answered its last request; whether it stays in memory."""
        status = self._statuses.get(loaded.version)
        if status is not None and status.state == State.UNLOADING:
            self._note(loaded.version, State.END, Code.OK, "")
            self._host.changed(self)
        return any(one is loaded for one in self._in_memory())

    def memory(self) -> int:
        """Bytes of all versions in memory, about."""
        return sum(loaded.bytes for loaded in self._in_memory())

    def _in_memory(self) -> list[Loaded]:
        found = {id(one): one for generation in [self._active, *self._previous] for one in generation.values()}
        return list(found.values())

    def _whole(self, files: Mapping[int, VersionFiles]) -> dict[int, VersionFiles]:
        """Versions whose files are all there and have settled."""
        whole: dict[int, VersionFiles] = {}
        self.waiting = None
        for version, one in files.items():
            remaining = 0.0 if one.problem else self._host.settling.remaining(one)
            if not one.problem and not remaining:
                whole[version] = one
            elif version not in self._active:
                self._note(version, State.START, Code.OK, one.problem or "its files were changed a moment ago")
            if remaining:
                self.waiting = min(remaining, self.waiting or remaining)
        return whole

    def _is_current(self, loaded: Loaded | None, files: VersionFiles) -> bool:
        return loaded is not None and loaded.files.stamp == files.stamp and loaded.config.loads_like(self.config)

    def _load(self, files: VersionFiles) -> Loaded | None:
        name, version = self.config.name, files.version
        serving = version in self._active
        if not serving:
            self._note(version, State.LOADING, Code.OK, "")
            self._host.changed(self)
        try:
            loaded = self._host.load_version(self.config, files)
        except LoadError as error:
            self._passed_over[version, files.stamp] = str(error)
            if not serving:
                self._note(version, State.END, Code.INVALID_ARGUMENT, str(error))
            log.error("%s: version %d was not loaded: %s", name, version, error)
            return None
        log.info("%s: version %d is loaded (%.2f s; batching %s)", name, version, loaded.seconds, loaded.batching)
        return loaded

    def _note_failures(self, files: Mapping[int, VersionFiles]) -> None:
        """What the policy would choose were all versions good, and cannot have; states of what is gone are dropped."""
        wanted = self.config.policy.choose([*files, *self.config.policy.specific])
        self.failures = {}
        for version in wanted:
            if version not in files:
                self.failures[version] = f"version {version} is not in {self.config.path}"
                self._note(version, State.END, Code.NOT_FOUND, self.failures[version])
                continue
            reason = self._passed_over.get((version, files[version].stamp), "")
            if reason and reason != _HELD_BACK:
                self.failures[version] = reason
        for version, status in list(self._statuses.items()):
            gone = version not in files and version not in wanted and version not in self._active
            if gone and status.state in (State.START, State.END):
                del self._statuses[version]
        if self.failures and not self.problem:
            self.problem = "; ".join(f"version {v}: {text}" for v, text in self.failures.items())

    def _switch(self, chosen: dict[int, Loaded], keep: bool = True) -> None:
        """Publishes another set of versions, and retires those that are in it no more."""
        former = self._active
        labels = self._assign_labels(chosen)
        split = self._shares(chosen, labels)
        shown = (tuple((v, id(one)) for v, one in sorted(chosen.items())), labels, split)
        if shown == self._shown:
            return
        self._host.engine.set_model(
            self.config.name,
            [chosen[v].served for v in sorted(chosen)],
            labels=labels,
            split=split,
            default=max(chosen, default=None),
        )
        self._active, self._labels, self._split, self._shown = chosen, labels, split, shown
        for version in chosen:
            self._note(version, State.AVAILABLE, Code.OK, "")
        if keep and former and set(map(id, former.values())) != set(map(id, chosen.values())):
            self._previous.append(former)
        for one in former.values():
            if chosen.get(one.version) is not one:
                if one.version not in chosen:
                    self._note(one.version, State.UNLOADING, Code.OK, "")
                self._host.retire(self, one)
        if keep:
            self.forget_previous(all_but=self.config.keep_previous)

    def _assign_labels(self, chosen: Mapping[int, Loaded]) -> dict[str, int]:
        """Labels go onto available versions only; one that cannot move stays where it is."""
        labels: dict[str, int] = {}
        self._label_problems = []
        for label, version in self.config.labels.items():
            former = self._labels.get(label)
            if version in chosen or (self._host.allow_absent_labels and former is None):
                labels[label] = version
                continue
            where = "is not set"
            if former is not None and former in chosen:
                labels[label] = former
                where = f"stays on {former}"
            self._label_problems.append(f"label '{label}' {where}: version {version} is not available")
        return labels

    def _shares(self, chosen: Mapping[int, Loaded], labels: Mapping[str, int]) -> dict[int, float]:
        """The weighted split by version; what is not available has no share."""
        split: dict[int, float] = {}
        for key, share in self.config.split.items():
            version: int | None = int(key) if key.isdigit() else labels.get(key)
            if version is not None and version in chosen:
                split[version] = split.get(version, 0.0) + share
        return split if sum(split.values()) > 0 else {}

    def _note(self, version: int, state: State, code: int, error: str) -> None:
        self._statuses[version] = VersionStatus(version, state, code, error)
