"""The gRPC transport: takes bytes from grpcio and hands them on; knows no message.

Every method is a row of a table from path to handler. Inference runs without the interpreter's lock: in a thread of its
call's own, or, if no other call is under way and it takes next to no time, in the thread that receives all requests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from linnet._core import serve as _core
from linnet._errors import ServeError
from linnet.serve import _compression
from linnet.serve._receiver import Handler, Method, Receiver
from linnet.serve._threads import CallThreads

_OIP = "/inference.GRPCInferenceService/"
_TENSORFLOW = "/tensorflow.serving.PredictionService/"

_CODES = {code.value[0]: code for code in grpc.StatusCode}

_SMALL = 64 << 10
"""Bytes of a request that the thread which receives all of them may answer."""

Unary = Callable[[bytes], bytes]
Stream = Callable[[Iterator[bytes], Any], Iterable[bytes]]


@dataclass(frozen=True)
class Methods:
    """What a port offers besides inference, by path: functions of a request's bytes, and generators."""

    unary: Mapping[str, Unary]
    streams: Mapping[str, Stream]


def _fail(context: grpc.ServicerContext, error: ServeError) -> None:
    code = _CODES.get(error.code, grpc.StatusCode.UNKNOWN)
    if code is grpc.StatusCode.UNAVAILABLE:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", "50"),))
    context.abort(code, str(error))


def _failing(error: ServeError) -> Handler:
    def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
        _fail(context, error)
        raise error

    return handle


def _metadata(metadata: Iterable[tuple[str, str | bytes]], name: str) -> str:
    for key, value in metadata:
        if key == name:
            return value if isinstance(value, str) else value.decode("latin-1")
    return ""


class GrpcTransport:
    """A grpcio server on one or more addresses.

    Args:
        engine: what runs requests.
        methods: the control plane's methods on this port.
        inference: False leaves the inference methods out (a port for administration).
        threads: calls at a time; more are refused with RESOURCE_EXHAUSTED. Each open stream takes one.
        max_message_bytes: a longer message is refused with RESOURCE_EXHAUSTED.
        traced: reads the W3C ``traceparent`` of each call.
    """

    def __init__(
        self,
        engine: _core.Engine,
        methods: Methods,
        *,
        inference: bool = True,
        threads: int = 256,
        max_message_bytes: int = 64 << 20,
        traced: bool = False,
    ) -> None:
        self._engine = engine
        self._traced = traced
        self._limit = max_message_bytes
        # Streams of inference that wait for their next request: `stop` need not wait for them.
        self._idle: set[grpc.ServicerContext] = set()
        self._idle_lock = threading.Lock()
        self._stopping = False
        table: dict[str, grpc.RpcMethodHandler] = {}
        inferences: dict[str, Method] = {}
        if inference:
            inferences[_OIP + "ModelInfer"] = self._inference(engine.infer_oip)
            inferences[_TENSORFLOW + "Predict"] = self._inference(engine.predict_tensorflow)
            table[_OIP + "ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream_infer)
        for path, method in inferences.items():
            table[path] = grpc.unary_unary_rpc_method_handler(method.handler)
        for path, function in methods.unary.items():
            table[path] = grpc.unary_unary_rpc_method_handler(_control(function, max_message_bytes))
        for path, stream in methods.streams.items():
            table[path] = grpc.stream_stream_rpc_method_handler(_generator(stream, max_message_bytes))
        self._pool = CallThreads(threads)
        self._server = grpc.server(
            self._pool,
            handlers=(_Table(table),),
            maximum_concurrent_rpcs=threads,
            options=(
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.per_message_decompression", 0),  # we do that, and know when to stop
                ("grpc.so_reuseport", 0),
                # Streams that are opened and reset by the thousand count; their connection waits, not the others.
                ("grpc.max_concurrent_streams", 2 * threads),
                # A client may keep a quiet connection open; one that pings too often is told to go.
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ),
        )

        self._receiver = Receiver(self._server, inferences, self._pool)

    def listen(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Binds ``host:port`` (port 0: a free one) or ``unix:/path``. Gives the port. OSError when it is taken."""
        try:
            if credentials is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, credentials))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: is it in use?") from error

    def start(self) -> None:
        self._pool.submit(int)  # one thread is there from now on, whatever the system refuses later
        self._receiver.start()

    def stop(self, grace_s: float) -> None:
        """Takes no new calls, waits at most ``grace_s`` seconds for those under way, and ends. A stream ends when what
        it asked for has been answered, with UNAVAILABLE: its client may ask for more elsewhere. One that asks for
        nothing at the time is cancelled."""
        ended = self._server.stop(grace_s)
        with self._idle_lock:
            self._stopping = True
            for context in self._idle:
                context.cancel()
        ended.wait()
        self._pool.shutdown(wait=False)

    def _inference(self, run: Callable[..., Any]) -> Method:
        traced, limit, plain = self._traced, self._limit, _compression.plain

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            cancel = _core.Cancel(context.add_callback)
            left = context.time_remaining()
            try:
                trace = _metadata(context.invocation_metadata(), "traceparent") if traced else ""
                answer: bytes = run(plain(request, limit), -1.0 if left is None else left, cancel, trace)
                return answer
            except ServeError as error:
                _fail(context, error)
                raise

        def at_once(
            request: bytes, deadline: float | None, metadata: Iterable[tuple[str, str | bytes]]
        ) -> Handler | bytes | None:
            if len(request) > _SMALL:
                return None
            left = -1.0 if deadline is None else max(0.0, deadline - time.time())
            try:
                trace = _metadata(metadata, "traceparent") if traced else ""
                answer: bytes | None = run(plain(request, limit), left, None, trace, True)
                return answer
            except ServeError as error:
                return _failing(error)

        return Method(handle, at_once)

    def _stream_infer(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Answers in the order of the requests. An error is a message of the stream, and the stream goes on, unless the
        caller asks for gRPC's own errors (Triton's header ``triton_grpc_error``)."""
        cancel = _core.Cancel()
        if not context.add_callback(cancel):
            return
        metadata = context.invocation_metadata()
        as_status = _metadata(metadata, "triton_grpc_error") == "true"
        trace = _metadata(metadata, "traceparent") if self._traced else ""
        for request in self._until_stop(requests, context):
            left = context.time_remaining()
            try:
                yield self._engine.infer_oip_stream(
                    _compression.plain(request, self._limit),
                    -1.0 if left is None else left,
                    cancel,
                    trace,
                    raise_errors=as_status,
                )
            except ServeError as error:
                _fail(context, error)

    def _until_stop(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """A stream's requests, until it or the transport ends."""
        while True:
            with self._idle_lock:
                stopping = self._stopping
                if not stopping:
                    self._idle.add(context)
            if stopping:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the server shuts down")
            try:
                request = next(requests, None)
            finally:
                with self._idle_lock:
                    self._idle.discard(context)
            if request is None:
                return
            yield request


class _Table(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, table: Mapping[str, grpc.RpcMethodHandler]) -> None:
        self._table = table

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._table.get(handler_call_details.method)


def _control(function: Unary, limit: int) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return function(_compression.plain(request, limit))
        except ServeError as error:
            _fail(context, error)
            raise

    return handle


def _generator(stream: Stream, limit: int) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
    def handle(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            yield from stream((_compression.plain(request, limit) for request in requests), context)
        except ServeError as error:
            _fail(context, error)

    return handle
