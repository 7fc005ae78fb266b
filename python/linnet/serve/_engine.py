"""The engine as the control plane sees it: what `linnet._core.serve` has of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class Served(Protocol):
    """One version of a model, ready to run."""

    @property
    def in_flight(self) -> int:
        """Requests that hold it, waiting or running."""

    def statistics(self) -> dict[str, Any]:
        """Counts and times."""

    def set_reference(self, sketches: list[dict[str, Any]], window: int = ...) -> None:
        """What its inputs and outputs are compared with."""

    def drift(self) -> list[dict[str, Any]]:
        """How far they have moved, by tensor."""


MakeServed = Callable[..., Served]
"""Makes one from a session, a name, a version and limits: the class `linnet._core.serve.Served`."""


class Engine(Protocol):
    """Runs requests; which version is meant is looked up in what it was told last, as a whole."""

    def set_model(
        self,
        name: str,
        versions: Sequence[Any],
        *,
        labels: dict[str, int] = ...,
        split: dict[int, float] = ...,
        default: int | None = ...,
    ) -> None:
        """Replaces a model's versions; without any it is known and not ready."""

    def remove_model(self, name: str) -> None:
        """Forgets a model."""
