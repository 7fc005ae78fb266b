"""The engine of the server: bytes in, bytes out, without the interpreter's lock. Failures are `linnet.ServeError`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from linnet import _core

def set_gives_way(gives_way: bool) -> None:
    """Whether the calling thread, from now on, hands its CPU over between two pieces of work."""

def copy_file(source: str, target: str) -> None:
    """Copies a file's bytes with as little disturbance of other threads as can be. OSError."""

def external_files(model: Path) -> set[str]:
    """Where a model's external data lie, as it says. LinnetError: it cannot be read, or is no model."""

class Served:
    """One version of a model, ready to run."""

    def __init__(
        self,
        session: _core.Session,
        name: str,
        version: int,
        *,
        max_batch: int = 1,
        refuse_larger: bool = False,
        queue_delay_us: int = 0,
        instances: int = 0,
        max_queue_requests: int = 1024,
        max_queue_bytes: int = ...,
        priority_levels: int = 0,
        default_priority: int = 0,
        weight: float = 1.0,
        default_timeout_us: int = 0,
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def in_flight(self) -> int:
        """Requests that wait or run."""

    def statistics(self) -> dict[str, Any]:
        """Counts and nanoseconds since it was made."""

    def set_reference(self, sketches: list[dict[str, Any]], window: int = 10000) -> None:
        """What inputs and outputs are compared with; only before it is given to an engine."""

    def drift(self) -> list[dict[str, Any]]: ...

class Cancel:
    """Calling it stops a request that waits.

    ``subscribe`` is called with it when its request has to wait (one that is run at once is spared that), and returns
    False when the request is to be stopped already.
    """

    def __init__(self, subscribe: Callable[[Cancel], bool] | None = None) -> None: ...
    def __call__(self) -> None: ...

class Budget:
    """The bytes of requests under way, over all wires together; from a request's arrival until it is answered.
    Thread-safe."""

    used: int
    refused: int
    """Requests so far."""

    def take(self, count: int, own: int = 0) -> None:
        """Takes bytes for a request that has taken ``own`` bytes before. A request that is alone is taken whatever its
        size is. ServeError UNAVAILABLE: there are not so many left."""

    def check(self, count: int) -> None:
        """Raises as `take`, and takes nothing."""

    def give(self, count: int) -> None: ...

class Engine:
    """Runs requests on at most ``cpus`` cores (0: all that the process may use). Thread-safe."""

    budget: Budget
    """gRPC's calls take their bytes from it here; HTTP's transport does so itself, as they arrive."""

    def __init__(self, cpus: int = 0, max_bytes_in_flight: int = ...) -> None: ...
    def set_model(
        self,
        name: str,
        versions: Sequence[Served],
        *,
        labels: dict[str, int] = ...,
        split: dict[int, float] = ...,
        default: int | None = None,
    ) -> None:
        """Replaces a model's versions as a whole; without any it is known and not ready."""

    def remove_model(self, name: str) -> None: ...
    @overload
    def infer_oip(
        self, request: bytes, timeout_s: float = -1.0, cancel: Cancel | None = None, traceparent: str = ""
    ) -> bytes: ...
    @overload
    def infer_oip(
        self, request: bytes, timeout_s: float, cancel: None, traceparent: str, at_once: Literal[True]
    ) -> bytes | None:
        """None: it would have to wait, or take more than 0.1 ms; nothing is counted then."""
    def infer_oip_stream(
        self,
        request: bytes,
        timeout_s: float = -1.0,
        cancel: Cancel | None = None,
        traceparent: str = "",
        raise_errors: bool = False,
    ) -> bytes: ...
    @overload
    def predict_tensorflow(
        self, request: bytes, timeout_s: float = -1.0, cancel: Cancel | None = None, traceparent: str = ""
    ) -> bytes: ...
    @overload
    def predict_tensorflow(
        self, request: bytes, timeout_s: float, cancel: None, traceparent: str, at_once: Literal[True]
    ) -> bytes | None:
        """None: it would have to wait, or take more than 0.1 ms; nothing is counted then."""
    def infer_rest_v2(
        self,
        body: bytes,
        json_size: int,
        model: str,
        version: str = "",
        timeout_s: float = -1.0,
        cancel: Cancel | None = None,
        traceparent: str = "",
    ) -> tuple[bytes, int]:
        """The answer, and the length of its JSON before tensors as bytes (-1: all is JSON)."""

    def predict_rest_v1(
        self,
        body: bytes,
        model: str,
        version: str = "",
        label: str = "",
        timeout_s: float = -1.0,
        cancel: Cancel | None = None,
        traceparent: str = "",
    ) -> bytes: ...
    def metrics(self, triton_names: bool = False) -> str:
        """Prometheus' text format."""

    def enable_journal(self, on: bool = True) -> None: ...
    def journal(self, most: int) -> tuple[list[tuple[Any, ...]], int]:
        """The oldest requests that ended, at most so many, and how many were lost. See `linnet.serve._journal`."""
