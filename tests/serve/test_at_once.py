"""Calls that are answered by the thread that receives them, and those that are given to one of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

import serving_models as models
from linnet import _core
from linnet.serve import ServeError, _receiver
from linnet.serve._client import _request
from linnet.serve._grpc import GrpcTransport, Methods
from linnet.serve._threads import CallThreads
from repository_models import until

Answer = Callable[..., Any]


class Calls:
    """A server of one method, whose two ways of answering are set by the test; and who was asked, in which thread."""

    def __init__(self) -> None:
        self.at_once: Answer = lambda request, deadline, metadata: None
        self.handler: Answer = lambda request, context: b"handled " + request
        self.threads: list[tuple[str, str]] = []
        self.pool = CallThreads(8)

        def handle(request: bytes, context: grpc.ServicerContext) -> Any:
            self.threads.append(("handler", threading.current_thread().name))
            return self.handler(request, context)

        def at_once(request: bytes, deadline: float | None, metadata: Any) -> Any:
            self.threads.append(("at once", threading.current_thread().name))
            return self.at_once(request, deadline, metadata)

        def service(details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(handle) if details.method in ("/a/b", "/a/other") else None

        self.server = grpc.server(self.pool, handlers=(SimpleNamespace(service=service),), maximum_concurrent_rpcs=600)
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.receiver = _receiver.Receiver(self.server, {"/a/b": _receiver.Method(handle, at_once)}, self.pool)
        self.receiver.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.call = self.channel.unary_unary("/a/b")

    def open(self) -> int:
        return int(self.server._state.active_rpc_count)

    def kept(self) -> int:
        return len(self.server._state.rpc_states)

    def stop(self) -> None:
        self.channel.close()
        self.server.stop(None).wait()
        self.pool.shutdown()


class Held:
    """A handler that says that it runs, and ends when it is told to."""

    def __init__(self) -> None:
        self.inside, self.gate = threading.Event(), threading.Event()

    def __call__(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.inside.set()
        self.gate.wait(30)
        return b"held"


@pytest.fixture(params=[True, False], ids=["received here", "received by grpcio"])
def calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    if not request.param:
        monkeypatch.setattr(_receiver, "_parts_of_grpcio", lambda server: None)
    calls = Calls()
    yield calls
    calls.stop()


@pytest.fixture
def early() -> Iterator[Calls]:
    calls = Calls()
    yield calls
    calls.stop()


def test_the_installed_grpcio_is_known_inside(early: Calls) -> None:
    assert _receiver._parts_of_grpcio(early.server) is not None
    names = {thread.name for thread in threading.enumerate()}
    assert "linnet-receiver" in names


@pytest.mark.parametrize("name", ["_receive_close_on_server", "_RPCState"])
def test_an_unknown_grpcio_receives_calls_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"grpc._server.{name}", lambda other, parameters: None)
    server = grpc.server(CallThreads(1))
    assert _receiver._parts_of_grpcio(server) is None


def test_an_answer_at_once(early: Calls) -> None:
    early.at_once = lambda request, deadline, metadata: (
        b"%d %s"
        % (
            50 < deadline - time.time() < 61,
            dict(metadata)["k"].encode(),
        )
    )
    assert early.call(b"x", timeout=60, metadata=[("k", "v")]) == b"1 v"
    assert [kind for kind, _ in early.threads] == ["at once"]
    assert not early.threads[0][1].startswith("linnet-call")
    until(lambda: early.open() == early.kept() == 0)


def test_a_mistake_at_once_is_handled(early: Calls, caplog: pytest.LogCaptureFixture) -> None:
    early.at_once = lambda *_: 1 // 0
    assert early.call(b"x", timeout=60) == b"handled x"
    assert "could not be tried" in caplog.text


def test_a_server_that_nobody_has_ends() -> None:
    calls = Calls()
    state, channel, calls.server = calls.server._state, calls.channel, None
    assert calls.call(b"x", timeout=60) == b"handled x"
    until(lambda: state.stage.name == "STOPPED")
    channel.close()


def test_other_methods_are_grpcios(early: Calls) -> None:
    assert early.channel.unary_unary("/a/other")(b"x", timeout=60) == b"handled x"
    assert [kind for kind, _ in early.threads] == ["handler"]
    with pytest.raises(grpc.RpcError) as caught:
        early.channel.unary_unary("/a/none")(b"x", timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_too_many_calls_at_a_time(calls: Calls) -> None:
    calls.handler = held = Held()
    futures = [calls.call.future(b"x", timeout=60) for _ in range(600)]
    until(lambda: calls.open() == 600)
    with pytest.raises(grpc.RpcError) as caught:
        calls.call(b"x", timeout=60)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    held.gate.set()
    assert {future.result() for future in futures} == {b"held"}
    until(lambda: calls.open() == calls.kept() == 0)


def test_calls_without_a_request_take_no_thread(early: Calls) -> None:
    ended = threading.Event()

    def requests() -> Iterator[bytes]:
        ended.wait(30)
        yield b"late"

    call = early.channel.stream_unary("/a/b")
    waiting = [call.future(requests()) for _ in range(20)]
    until(lambda: early.kept() == 20)
    assert early.call(b"x", timeout=60) == b"handled x"
    assert len(early.pool._threads) == 1
    ended.set()
    assert {future.result() for future in waiting} == {b"handled late"}


def test_what_takes_longer_gets_a_thread(early: Calls) -> None:
    assert early.call(b"x", timeout=60) == b"handled x"
    (first, receiver), (second, handler) = early.threads
    assert (first, second) == ("at once", "handler") and handler.startswith("linnet-call") and receiver != handler


def test_a_failure_at_once(early: Calls) -> None:
    def fail(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("try", "later"),))
        return context.abort(grpc.StatusCode.UNAVAILABLE, "full")  # type: ignore[no-any-return]

    early.at_once = lambda *_: fail
    with pytest.raises(grpc.RpcError) as caught:
        early.call(b"x", timeout=60)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "full")
    assert caught.value.trailing_metadata()[0] == ("try", "later")
    assert [kind for kind, _ in early.threads] == ["at once"]


def test_beside_another_call_none_is_tried(early: Calls) -> None:
    early.handler = held = Held()
    first = early.call.future(b"x", timeout=60)
    assert held.inside.wait(30)
    early.handler = lambda request, context: b"second"
    early.at_once = lambda *_: b"at once"
    assert early.call(b"x", timeout=60) == b"second"
    held.gate.set()
    assert first.result() == b"held"
    until(lambda: early.open() == early.kept() == 0)
    assert early.call(b"x", timeout=60) == b"at once"


def test_hundreds_of_calls_at_a_time(calls: Calls) -> None:
    calls.at_once = lambda request, *_: b"at once " + request if request[0] % 2 else None
    futures = [calls.call.future(bytes([i % 256]), timeout=60) for i in range(500)]
    for i, future in enumerate(futures):
        assert future.result()[-1:] == bytes([i % 256])
    until(lambda: calls.open() == calls.kept() == 0)


def test_a_call_that_ends_without_a_request(calls: Calls) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        calls.channel.stream_unary("/a/b")(iter(()), timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details().endswith("requires exactly one request message.")
    assert calls.threads == []
    until(lambda: calls.open() == calls.kept() == 0)
    assert calls.call(b"x", timeout=60) == b"handled x"


def test_a_call_that_is_cancelled_before_its_request(calls: Calls) -> None:
    ended = threading.Event()

    def requests() -> Iterator[bytes]:
        ended.wait(30)
        yield b"late"

    call = calls.channel.stream_unary("/a/b").future(requests())
    until(lambda: calls.kept() == 1)
    call.cancel()
    until(lambda: calls.open() == calls.kept() == 0)
    ended.set()
    assert calls.call(b"x", timeout=60) == b"handled x"


def test_a_call_that_is_cancelled_while_it_is_answered(calls: Calls) -> None:
    calls.handler = held = Held()
    call = calls.call.future(b"x")
    assert held.inside.wait(30)
    call.cancel()
    held.gate.set()
    until(lambda: calls.open() == calls.kept() == 0)


def test_stopping_waits_for_what_is_handled(calls: Calls) -> None:
    calls.handler = held = Held()
    call = calls.call.future(b"x")
    assert held.inside.wait(30)
    stopped = calls.server.stop(30)
    held.gate.set()
    assert call.result() == b"held"
    assert stopped.wait(30)


# ---- the engine ----------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path) -> _core.serve.Engine:
    engine = _core.serve.Engine(2)
    every: dict[str, Any] = {
        "short": {"max_batch": 1 << 20},
        "delayed": {"queue_delay_us": 1000, "max_batch": 4},
        "long": {},
    }
    for name, limits in every.items():
        make = models.heavy if name == "long" else models.mlp
        session = _core.Session(make(tmp_path / f"{name}.onnx"), _core.SessionOptions())
        engine.set_model(name, [_core.serve.Served(session, name, 1, **limits)])
    return engine


def requests(engine: _core.serve.Engine) -> float:
    rows = [row for row in engine.metrics().splitlines() if row.startswith("linnet_requests_total{")]
    return sum(float(row.split()[-1]) for row in rows)


@pytest.mark.parametrize("model", ["short", "delayed", "long"])
def test_only_what_is_known_to_be_short_runs_at_once(engine: _core.serve.Engine, model: str) -> None:
    request = _request(model, {"x": np.ones((1, 192 if model == "long" else 40), np.float32)}, (), "", 0, "")
    assert engine.infer_oip(request, -1.0, None, "", True) is None  # nothing is known yet
    assert requests(engine) == 0
    want, got, tries = b"", None, 0
    while got is None and tries < (1000 if model == "short" else 20):  # a machine's hiccup makes it long for a while
        want = engine.infer_oip(request)
        got = engine.infer_oip(request, -1.0, None, "", True)
        tries += 1
    assert got == (want if model == "short" else None)
    assert requests(engine) == tries + (got is not None)


def test_many_rows_are_not_short(engine: _core.serve.Engine) -> None:
    one, many = (_request("short", {"x": np.ones((n, 40), np.float32)}, (), "", 0, "") for n in (1, 10_000_000 // 160))
    while engine.infer_oip(one, -1.0, None, "", True) is None:
        engine.infer_oip(one)
    assert engine.infer_oip(many, -1.0, None, "", True) is None


def test_failures_at_once(engine: _core.serve.Engine) -> None:
    with pytest.raises(ServeError, match="there is no model 'none'"):
        engine.infer_oip(_request("none", {"x": np.ones(1, np.float32)}, (), "", 0, ""), -1.0, None, "", True)


@pytest.mark.parametrize("early", [True, False], ids=["received here", "received by grpcio"])
def test_the_transport_answers_as_the_engine_does(
    engine: _core.serve.Engine, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not early:
        monkeypatch.setattr(_receiver, "_parts_of_grpcio", lambda server: None)
    transport = GrpcTransport(engine, Methods({}, {}))
    port = transport.listen("127.0.0.1:0")
    transport.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for width in (40, 40, 41, 40):
            request = _request("short", {"x": np.ones((1, width), np.float32)}, (), "", 0, "")
            for _ in range(5):
                try:
                    want: Any = engine.infer_oip(request)
                except ServeError as error:
                    want = error
                try:
                    assert call(request, timeout=60) == want
                except grpc.RpcError as error:
                    assert (error.code().value[0], error.details()) == (want.code, str(want))
    transport.stop(1)
