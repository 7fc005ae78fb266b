"""A bound on the memory that requests take before and while they are run, over all wires together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from linnet._core import serve as _core
from linnet._errors import ServeError
from linnet.serve._codes import Code


class Budget:
    """Counts the bytes of requests from when they arrive until they are answered. May be used from any thread.

    Args:
        limit: bytes at a time. A request that is alone is taken whatever its size is.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self.used = 0
        self.refused = 0

    def counts(self) -> Iterable[tuple[str, str, int]]:
        """For `/metrics`."""
        yield "requests_over_memory", "Requests refused because others took max_bytes_in_flight.", self.refused

    def take(self, count: int, own: int = 0) -> None:
        """Takes bytes for a request that has taken ``own`` bytes before.

        Raises:
            ServeError: UNAVAILABLE, there are not so many left.
        """
        with self._lock:
            self._check(count, own)
            self.used += count

    def check(self, count: int) -> None:
        """Raises as `take`, and takes nothing."""
        with self._lock:
            self._check(count, 0)

    def _check(self, count: int, own: int) -> None:
        if self.used > own and self.used + count > self._limit:
            self.refused += 1
            text = f"requests under way take all of the {self._limit} bytes that they may (max_bytes_in_flight)"
            raise ServeError(Code.UNAVAILABLE, text)

    def give(self, count: int) -> None:
        """Gives bytes back."""
        with self._lock:
            self.used -= count


class Hold:
    """What one request has of a budget; all of it is given back when the ``with`` ends."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give(self._held)

    def take(self, count: int) -> None:
        """Takes so many bytes more; raises as `Budget.take`."""
        self._budget.take(count, self._held)
        self._held += count


class Metered:
    """The engine's calls for a transport whose messages arrive whole."""

    def __init__(self, engine: _core.Engine, budget: Budget) -> None:
        self.infer_oip = _metered(engine.infer_oip, budget)
        self.infer_oip_stream = _metered(engine.infer_oip_stream, budget)
        self.predict_tensorflow = _metered(engine.predict_tensorflow, budget)


def _metered(run: Callable[..., bytes], budget: Budget) -> Callable[..., bytes]:
    def call(request: bytes, *rest: Any, **named: Any) -> bytes:
        count = len(request)
        budget.take(count)
        try:
            return run(request, *rest, **named)
        finally:
            budget.give(count)

    return call
