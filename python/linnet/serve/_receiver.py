"""Receiving calls, with less work for each than grpcio's own loop does.

In grpcio's server for Python a call passes four events and is given from thread to thread three times, which takes as
long as everything else together. Here a call of an inference method is received whole by the one thread that looks at
events. If no other is under way and it takes next to no time, that thread answers it, with a last event in which the
call ends; else it is given to a thread of its own, once. All other calls, and the end of the server, are left to
grpcio.

That needs parts of grpcio that are not public. Where they are not as they were (grpcio 1.60 to 1.85), grpcio's own loop
is used.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import grpc

log = logging.getLogger("linnet.serve")

_MOST = 4096
"""Calls under way, with those whose request has not come yet; they take no thread. Further ones are left to grpcio."""

Handler = Callable[[bytes, grpc.ServicerContext], bytes]
AtOnce = Callable[[bytes, "float | None", Any], "Handler | bytes | None"]


@dataclass(frozen=True)
class Method:
    """Two ways of answering a request."""

    handler: Handler
    """In a thread of its own."""
    at_once: AtOnce
    """In the thread that receives all of them: of the request, its deadline in seconds since 1970 and its metadata the
    answer, a handler that fails as it has to, or None: it takes too long."""


class _Call:
    """One call of such a method, until it is answered or given to a thread; the tag of its events."""

    __slots__ = ("answered", "event", "method")

    def __init__(self, event: Any, method: Method) -> None:
        self.event = event
        self.method = method
        self.answered = False


class Receiver:
    """Starts a server, and receives its calls.

    Args:
        server: not started yet.
        methods: those that may be answered at once, by path; the server has handlers for them, too.
        pool: the server's.
    """

    def __init__(self, server: grpc.Server, methods: Mapping[str, Method], pool: futures.Executor) -> None:
        self._server: grpc.Server | None = server
        self._methods = {path.encode(): method for path, method in methods.items()}
        self._pool = pool
        self._under_way = 0  # calls of these methods; guarded by the server's lock
        self._grpc = _parts_of_grpcio(server) if methods else None
        if methods and self._grpc is None:
            log.info("calls are received by grpcio's own loop: this version of it is not known inside")

    def start(self) -> None:
        # It is not kept: a server ends when nobody has it any more.
        server, self._server = self._server, None
        assert server is not None, "it was started before"
        if self._grpc is None:
            server.start()
            return
        parts, state = self._grpc, server._state
        with state.lock:
            state.server.start()
            state.stage = parts.STARTED
            parts.request_call(state)
        threading.Thread(target=self._serve, args=(parts, state), name="linnet-receiver", daemon=True).start()

    def _serve(self, parts: SimpleNamespace, state: Any) -> None:
        poll = state.completion_queue.poll
        while True:
            event = poll(time.time() + parts.check_period)
            if state.server_deallocated:
                parts.begin_shutdown(state)
            tag = event.tag
            if type(tag) is _Call:
                goes_on = self._proceed(parts, state, tag, event)
            elif event.completion_type == parts.timeout:
                goes_on = True
            else:
                goes_on = self._take(parts, state, event) or parts.process(state, event)
            if not goes_on:
                return
            # An event holds on to its call; none may outlive it while the queue is looked at.
            event = tag = None

    def _take(self, parts: SimpleNamespace, state: Any, event: Any) -> bool:
        """Begins a call of one of the methods; False for other events, and when no more calls are taken."""
        if event.tag is not parts.request_tag or not event.success:
            return False
        method = self._methods.get(event.call_details.method)
        if method is None:
            return False
        with state.lock:
            if state.stage is not parts.STARTED or self._under_way >= _MOST:
                return False
            state.due.remove(event.tag)
            call = _Call(event, method)
            event.call.start_server_batch((parts.ReceiveMessage(0),), call)
            state.rpc_states.add(call)
            self._under_way += 1
            parts.request_call(state)
        return True

    def _proceed(self, parts: SimpleNamespace, state: Any, call: _Call, event: Any) -> bool:
        """A call's request is there, or its answer is sent; False when the server has ended with it."""
        if call.answered:
            with state.lock:
                state.rpc_states.remove(call)
                self._under_way -= 1
                return not parts.stop_serving(state)
        request = event.batch_operations[0].message()
        if request is None:  # the client has ended the call, or cancelled it
            details = f'"{call.event.call_details.method.decode()}" requires exactly one request message.'
            self._answer(parts, call, None, parts.unimplemented, details.encode())
            return True
        answer: Handler | bytes | None = None
        if self._under_way == 1:
            try:
                answer = call.method.at_once(request, call.event.call_details.deadline, call.event.invocation_metadata)
            except Exception:
                log.exception("a request could not be tried")
        if isinstance(answer, bytes):
            self._answer(parts, call, answer, parts.ok, b"")
        else:
            self._hand_over(parts, state, call, request, answer or call.method.handler)
        return True

    def _answer(self, parts: SimpleNamespace, call: _Call, answer: bytes | None, code: Any, details: bytes) -> None:
        call.answered = True
        operations = [
            parts.SendInitialMetadata(None, 0),
            parts.SendStatus(None, code, details, 0),
            parts.ReceiveClose(0),
        ]
        if answer is not None:
            operations.insert(1, parts.SendMessage(answer, 0))
        call.event.call.start_server_batch(operations, call)

    def _hand_over(self, parts: SimpleNamespace, state: Any, call: _Call, request: bytes, handler: Handler) -> None:
        """From here on it is one of grpcio's own calls, whose request has been received; or there are too many."""
        with state.lock:
            most = state.maximum_concurrent_rpcs
            refused = most is not None and state.active_rpc_count >= most
            state.active_rpc_count += not refused
        if refused:
            self._answer(parts, call, None, parts.resource_exhausted, b"Concurrent RPC limit exceeded!")
            return
        own = parts.CallState()
        with own.condition:
            call.event.call.start_server_batch((parts.ReceiveClose(0),), parts.receive_close(own))
            own.due.add(parts.close_token)
        with state.lock:
            state.rpc_states.remove(call)
            state.rpc_states.add(own)

        def ended(_: object) -> None:
            with state.lock:
                state.active_rpc_count -= 1
                self._under_way -= 1

        run = own.context.run
        given = self._pool.submit(run, parts.respond, call.event, own, handler, lambda: request, None, None)
        given.add_done_callback(ended)


def _parts_of_grpcio(server: grpc.Server) -> SimpleNamespace | None:
    """What `Receiver` uses of grpcio's server; None where something is missing or takes other arguments."""
    try:
        from grpc import _server
        from grpc._cython import cygrpc

        parts = SimpleNamespace(
            process=_server._process_event_and_continue,
            request_call=_server._request_call,
            begin_shutdown=_server._begin_shutdown_once,
            stop_serving=_server._stop_serving,
            respond=_server._unary_response_in_pool,
            receive_close=_server._receive_close_on_server,
            CallState=_server._RPCState,
            request_tag=_server._REQUEST_CALL_TAG,
            close_token=_server._RECEIVE_CLOSE_ON_SERVER_TOKEN,
            STARTED=_server._ServerStage.STARTED,
            check_period=_server._DEALLOCATED_SERVER_CHECK_PERIOD_S,
            timeout=cygrpc.CompletionType.queue_timeout,
            ReceiveMessage=cygrpc.ReceiveMessageOperation,
            ReceiveClose=cygrpc.ReceiveCloseOnServerOperation,
            SendInitialMetadata=cygrpc.SendInitialMetadataOperation,
            SendMessage=cygrpc.SendMessageOperation,
            SendStatus=cygrpc.SendStatusFromServerOperation,
            ok=cygrpc.StatusCode.ok,
            unimplemented=cygrpc.StatusCode.unimplemented,
            resource_exhausted=cygrpc.StatusCode.resource_exhausted,
        )
        expected = {
            parts.process: "state event",
            parts.request_call: "state",
            parts.begin_shutdown: "state",
            parts.stop_serving: "state",
            parts.receive_close: "state",
            parts.respond: "rpc_event state behavior argument_thunk request_deserializer response_serializer",
            parts.CallState: "",
        }
        fits = all(" ".join(inspect.signature(part).parameters) == names for part, names in expected.items())
        names = "completion_queue server lock stage due rpc_states active_rpc_count maximum_concurrent_rpcs"
        fits = fits and all(hasattr(server._state, name) for name in [*names.split(), "server_deallocated"])
        fits = fits and all(hasattr(parts.CallState(), name) for name in ("condition", "due", "context"))
    except (ImportError, AttributeError, TypeError, ValueError):
        return None
    return parts if fits else None
