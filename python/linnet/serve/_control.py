"""All that a server answers besides inference, as functions of bytes: what a transport puts its paths in front of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from linnet.serve import _health, _oip, _reflection, _rest, _tensorflow
from linnet.serve._repository import Repository

Unary = Callable[[bytes], bytes]
Stream = Callable[[Iterator[bytes], Any], Iterable[bytes]]

SERVICES = (_oip.SERVICE, _tensorflow.PREDICTION, _tensorflow.MODEL, _health.SERVICE)


class Control:
    """The control plane over a repository.

    Args:
        repository: the models.
        name, version: of the server, as ServerMetadata tells them.
        watchers: health watches that may be open at a time; each holds a thread of the transport.
    """

    def __init__(self, repository: Repository, name: str, version: str, watchers: int = 64) -> None:
        self.repository = repository
        self.oip = _oip.Oip(repository, name, version)
        self.tensorflow = _tensorflow.TensorFlow(repository)
        self.health = _health.Health(repository, SERVICES, watchers)
        self.reflection = _reflection.Reflection(SERVICES)
        self._rest = _rest.Rest(self.oip, self.tensorflow)

    def unary(self, admin: bool = False) -> dict[str, Unary]:
        """Calls of one request and one answer by their path; they raise `ServeError`.

        Args:
            admin: for a port on which everything may be changed.
        """
        return {
            **self.oip.methods(admin),
            **self.tensorflow.methods(admin),
            f"/{_health.SERVICE}/Check": self.health.check,
            f"/{_health.SERVICE}/List": self.health.list,
        }

    def streams(self) -> dict[str, Stream]:
        """Calls of many answers by their path: generators over requests, and the call's context."""
        reflections: dict[str, Stream] = {
            f"/{_reflection.service(version)}/ServerReflectionInfo": partial(self._reflect, version)
            for version in _reflection.VERSIONS
        }
        return {f"/{_health.SERVICE}/Watch": self.health.watch, **reflections}

    def rest(self, method: str, path: str, body: bytes, admin: bool = False) -> tuple[int, str, bytes] | None:
        """A REST call: status, content type and content; None for a path that is not one of these."""
        return self._rest.answer(method, path, body, admin)

    def close(self) -> None:
        """Ends what would go on for as long as a caller likes."""
        self.health.close()

    def _reflect(self, version: str, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        return self.reflection.info(requests, version)
