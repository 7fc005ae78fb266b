"""The threads that calls are handled in."""

from __future__ import annotations

import inspect
import logging
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent import futures
from types import SimpleNamespace
from typing import Any

log = logging.getLogger("linnet.serve")

AtOnce = Callable[[bytes, float | None, Any], "Callable[..., bytes] | bytes | None"]
"""Answers a request (its bytes, deadline in seconds since 1970, metadata) where that takes next to no time: the answer,
a handler that fails as the request has to, or None."""


def can_answer_at_once(handler: Callable[..., bytes], function: AtOnce) -> None:
    """Has `CallThreads` try ``function`` before it hands a call to ``handler``."""
    handler.at_once = function  # type: ignore[attr-defined]


def _parts_of_grpcio() -> SimpleNamespace | None:
    """What `CallThreads` takes from grpcio's own server to receive a request; None where they are not as expected."""
    try:
        from grpc import _server
        from grpc._cython import cygrpc

        parts = SimpleNamespace(
            respond=_server._unary_response_in_pool,
            receive=_server._receive_message,
            is_active=_server._is_rpc_state_active,
            status=_server._status,
            abort=_server._abort,
            token=_server._RECEIVE_MESSAGE_TOKEN,
            closed=_server._CLOSED,
            operation=cygrpc.ReceiveMessageOperation,
            unimplemented=cygrpc.StatusCode.unimplemented,
        )
    except (ImportError, AttributeError):
        return None
    expected = {
        parts.respond: "rpc_event state behavior argument_thunk request_deserializer response_serializer",
        parts.receive: "state call request_deserializer",
        parts.is_active: "state",
        parts.status: "rpc_event state serialized_response",
        parts.abort: "state call code details",
    }
    fits = all(" ".join(inspect.signature(part).parameters) == names for part, names in expected.items())
    return parts if fits else None


class _Call:
    """What `CallThreads.submit` gives: enough of a future to be told of the end."""

    __slots__ = ("_ended", "_tell", "run")

    def __init__(self, run: Callable[[], object]) -> None:
        self.run = run
        self._tell: list[Callable[[Any], object]] = []
        self._ended = False

    def add_done_callback(self, tell: Callable[[Any], object]) -> None:
        self._tell.append(tell)
        if self._ended:
            self._tell_all()

    def end(self) -> None:
        self._ended = True
        self._tell_all()

    def _tell_all(self) -> None:
        while self._tell:
            try:
                tell = self._tell.pop()  # whoever takes it out calls it: once
            except IndexError:
                return
            tell(self)


class CallThreads(futures.Executor):
    """An executor for grpcio that adds less to each call than `concurrent.futures.ThreadPoolExecutor` does.

    A short call spends a tenth of its time there: futures with conditions, work items, semaphores. As much goes into
    waking threads: grpcio's server has a thread of this executor wait for the request, which its own thread receives.
    Here a call is given to a thread when its request is there, and one that nobody else waits beside, and that takes
    next to no time, is answered by the thread that received it (`can_answer_at_once`).

    Functions must not raise, and what they return is dropped, as grpcio has it.

    Args:
        most: threads; they are started as they are needed, and stay.
        early: whether requests are received here. That needs parts of grpcio that are not public: where they are not
            as expected, they are received as grpcio has it.
    """

    def __init__(self, most: int, early: bool = True) -> None:
        self._most = most
        self._grpc = _parts_of_grpcio() if early else None
        if early and self._grpc is None:
            log.info("requests are received as grpcio has it: this version is another one inside")
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._taken = 0  # calls that are handled or wait for a thread
        self._open = 0  # those, and calls whose request is not there yet
        self._threads: list[threading.Thread] = []
        self._end = weakref.finalize(self, _end, self._calls, self._threads)

    def submit(self, fn: Callable[..., object], /, *args: Any, **kwargs: Any) -> Any:
        grpc = self._grpc
        # Of the calls that `respond` answers, those whose request is one message.
        if (
            grpc is not None
            and len(args) == 7
            and args[0] is grpc.respond
            and getattr(args[4], "__name__", "") == "unary_request"
        ):
            received = self._receive(grpc, fn, *args)
            if received is not None:
                return received
        call = _Call(lambda: fn(*args, **kwargs))
        with self._lock:
            self._open += 1
        self._hand_over(call)
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """The threads end after their calls."""
        if wait:
            self._end()
        else:
            for _ in self._threads:
                self._calls.put(None)

    def _receive(
        self,
        grpc: SimpleNamespace,
        run: Callable[..., object],
        respond: Callable[..., None],
        event: Any,
        state: Any,
        behavior: Callable[..., bytes],
        _: Any,
        deserialize: Any,
        serialize: Any,
    ) -> _Call | None:
        """Asks for a call's request, and sees to the call when it is there; None if the call has ended."""
        call = _Call(lambda: None)

        def hand_over(behavior: Callable[..., bytes], request: Callable[[], bytes | None]) -> None:
            call.run = lambda: run(respond, event, state, behavior, request, deserialize, serialize)
            self._hand_over(call)

        def without() -> None:
            """As grpcio answers a call that its client ends without a request."""
            with state.condition:
                if state.client is grpc.closed:
                    details = f'"{event.call_details.method.decode()}" requires exactly one request message.'
                    grpc.abort(state, event.call, grpc.unimplemented, details.encode())

        def handle() -> None:
            request, state.request = state.request, None
            if request is None:
                return hand_over(behavior, without)
            answer = None
            at_once = getattr(behavior, "at_once", None)
            if at_once is not None and self._open == 1:
                try:
                    answer = at_once(request, event.call_details.deadline, event.invocation_metadata)
                except Exception:
                    log.exception("a request could not be tried")
            if not isinstance(answer, bytes):
                return hand_over(answer or behavior, lambda: request)
            try:
                grpc.status(event, state, answer)
            finally:
                with self._lock:
                    self._open -= 1
                call.end()

        take = grpc.receive(state, event.call, deserialize)

        def received(message: Any) -> tuple[Any, tuple[Callable[[], object], ...]]:
            ended, callbacks = take(message)
            return ended, (*callbacks, handle)

        with state.condition:
            if not grpc.is_active(state):
                return None
            event.call.start_server_batch((grpc.operation(0),), received)
            state.due.add(grpc.token)
        with self._lock:
            self._open += 1
        return call

    def _hand_over(self, call: _Call) -> None:
        with self._lock:
            self._taken += 1
            if self._taken > len(self._threads) < self._most:
                name = f"linnet-call-{len(self._threads)}"
                # A daemon: a program that forgets to stop its server ends none the less (`_end` waits for calls).
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
        self._calls.put(call)

    def _work(self) -> None:
        take = self._calls.get
        while (call := take()) is not None:
            call.run()
            with self._lock:
                self._taken -= 1
                self._open -= 1
            call.end()
            del call


def _end(calls: queue.SimpleQueue[_Call | None], threads: list[threading.Thread]) -> None:
    for _ in threads:
        calls.put(None)
    for thread in threads:
        thread.join()
