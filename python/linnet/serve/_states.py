"""What is known of models and their versions at one moment; never changed once it is made."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from linnet._errors import ServeError
from linnet.serve._codes import Code
from linnet.serve._config import ModelConfig
from linnet.serve._loading import Loaded


class State(enum.IntEnum):
    """Of one version; the numbers are TF Serving's."""

    START = 10
    """Seen; waits for its turn, or for its files to be whole."""
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    """No new requests; those under way are finished."""
    END = 50
    """Unloaded, or could not be loaded."""


@dataclass(frozen=True)
class VersionStatus:
    """The state of a version; ``error`` says why it is not available, ``code`` (gRPC's) what kind of error that is."""

    version: int
    state: State
    code: int = Code.OK
    error: str = ""


@dataclass(frozen=True)
class ModelView:
    """A model as it is now."""

    config: ModelConfig
    active: Mapping[int, Loaded] = field(default_factory=dict)
    """Versions that answer requests."""
    statuses: Mapping[int, VersionStatus] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    split: Mapping[int, float] = field(default_factory=dict)
    wanted: bool = True
    """False: it is in the repository and was not asked for, or was unloaded."""
    problem: str = ""
    """Why its newest files, settings or labels are not in use; empty: they are."""
    previous: tuple[tuple[int, ...], ...] = ()
    """Sets of versions that can be returned to, the latest last."""

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def default(self) -> int | None:
        """The version that a request gets that names none."""
        return max(self.active, default=None)

    def find(self, version: str = "") -> Loaded:
        """The version for a request's text: a number, a label, or empty for the default.

        Raises:
            ServeError: NOT_FOUND when there is no such version, UNAVAILABLE when the model has none.
        """
        number: int | None
        if version:
            number = int(version) if version.isascii() and version.isdigit() else self.labels.get(version)
        else:
            number = self.default
            if number is None:
                raise ServeError(Code.UNAVAILABLE, f"model '{self.name}' has no available versions")
        loaded = None if number is None else self.active.get(number)
        if loaded is None:
            raise ServeError(Code.NOT_FOUND, f"model '{self.name}' has no version '{version}' that is available")
        return loaded
