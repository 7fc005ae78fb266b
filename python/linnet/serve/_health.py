"""gRPC's health checking protocol: the server, its services by their full names, and its models by theirs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from linnet._errors import ServeError
from linnet.serve import _messages
from linnet.serve._codes import Code
from linnet.serve._repository import Repository

SERVICE = "grpc.health.v1.Health"
_REQUEST, _RESPONSE = "grpc.health.v1.HealthCheckRequest", "grpc.health.v1.HealthCheckResponse"
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3
_LOOK_UP = 1.0
"""Seconds between two looks at whether the caller is still there."""


class Context(Protocol):
    """As much of a call as a stream needs: gRPC's own has it."""

    def is_active(self) -> bool:
        """Whether the caller still listens."""


class Health:
    """Health of a repository's models and of the services.

    Args:
        services: full names of the services on this port.
        most_watchers: streams at a time (each holds a thread); one more gets RESOURCE_EXHAUSTED.
    """

    def __init__(self, repository: Repository, services: Sequence[str], most_watchers: int = 64) -> None:
        self._repository = repository
        self._services = frozenset({"", *services})
        self._watchers = threading.Semaphore(most_watchers)
        self._closed = False

    def close(self) -> None:
        """The server is going away: ends all watches, so that a transport need not wait for them."""
        self._closed = True
        self._repository.drain()

    def status(self, service: str) -> int | None:
        """SERVING or NOT_SERVING, by number; None for a name that is unknown."""
        if service in self._services:
            return _SERVING if self._repository.ready else _NOT_SERVING
        view = self._repository.views.get(service)
        if view is None:
            return None
        return _SERVING if view.active and not self._repository.draining else _NOT_SERVING

    def check(self, request: bytes) -> bytes:
        """Check.

        Raises:
            ServeError: NOT_FOUND for an unknown name.
        """
        name = _messages.parse(_REQUEST, request).service
        status = self.status(name)
        if status is None:
            raise ServeError(Code.NOT_FOUND, f"unknown service or model '{name}'")
        return _answer(status)

    def list(self, request: bytes) -> bytes:
        """List: all names."""
        answer = _messages.message_class("grpc.health.v1.HealthListResponse")()
        for name in sorted({*self._services, *self._repository.views}):
            answer.statuses[name].status = self.status(name) or _SERVICE_UNKNOWN
        return bytes(answer.SerializeToString())

    def watch(self, requests: Iterator[bytes], context: Context) -> Iterator[bytes]:
        """Watch: the status now and after each change, until the caller is gone or `close`.

        Raises:
            ServeError: RESOURCE_EXHAUSTED when too many watch.
        """
        name = _messages.parse(_REQUEST, next(requests, b"")).service
        if not self._watchers.acquire(blocking=False):
            raise ServeError(Code.RESOURCE_EXHAUSTED, "too many health watches are open")
        try:
            told = 0
            while context.is_active():
                seen, last = self._repository.changes, self._closed
                status = self.status(name) or _SERVICE_UNKNOWN
                if status != told:
                    told = status
                    yield _answer(status)
                if last:
                    return
                self._repository.wait_change(seen, _LOOK_UP)
        finally:
            self._watchers.release()


def _answer(status: int) -> bytes:
    return bytes(_messages.message_class(_RESPONSE)(status=status).SerializeToString())
