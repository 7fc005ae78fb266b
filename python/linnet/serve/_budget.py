"""What one request has of the engine's budget of bytes, where its body arrives piece by piece."""

from __future__ import annotations

from linnet._core import serve as _core


class Hold:
    """All that is taken is given back when the ``with`` ends."""

    def __init__(self, budget: _core.Budget) -> None:
        self._budget = budget
        self._held = 0

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give(self._held)

    def take(self, count: int) -> None:
        """Takes so many bytes more. ServeError UNAVAILABLE: there are not so many left."""
        self._budget.take(count, self._held)
        self._held += count
