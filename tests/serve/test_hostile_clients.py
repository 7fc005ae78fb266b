"""Slow, broken and hostile clients cost the others nothing: a good client is answered all the while."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import socket
import struct
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

import serving_models as models
from linnet import _core
from linnet.serve import Client, ServeError, Server
from linnet.serve._client import _request
from linnet.serve._http import HttpTransport
from server_process import INFER, GoodClient, ServerProcess, eventually

MIB = 1 << 20
FEEDS = {"x": np.ones((1, 40), np.float32)}
INFER_PATH = "/v2/models/mlp/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    path = models.mlp(tmp_path_factory.mktemp("models") / "mlp.onnx")
    with ServerProcess(path) as made:
        with GoodClient(made.grpc, "mlp", FEEDS):
            time.sleep(0.3)
        yield made


def address(text: str) -> tuple[str, int]:
    host, port = text.rsplit(":", 1)
    return host, int(port)


_connections: list[socket.socket] = []


def connect(where: str, count: int = 1) -> list[socket.socket]:
    """Closed at the end of the test, if not before."""
    made = [socket.create_connection(address(where), timeout=20) for _ in range(count)]
    _connections.extend(made)
    return made


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while _connections:
        _connections.pop().close()


def post(server: ServerProcess, body: bytes, headers: dict[str, str] | None = None, path: str = INFER_PATH) -> int:
    connection = http.client.HTTPConnection(server.http, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", path, body, headers or {})
        response = connection.getresponse()
        response.read()
        return response.status


def code_of(server: ServerProcess, request: bytes, **options: object) -> str:
    with grpc.insecure_channel(server.grpc, options=(("grpc.max_send_message_length", -1),)) as channel:
        try:
            channel.unary_unary(INFER)(request, timeout=20, **options)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def slow_heads(server: ServerProcess) -> None:
    """Slowloris: heads that never end."""
    slow = connect(server.http, 300)
    for piece in [b"POST /v2/models/mlp/infer HTTP/1.1\r\n", *[f"X-{i}: {i}\r\n".encode() for i in range(10)]]:
        for one in slow:
            one.sendall(piece)
        time.sleep(0.1)
    for one in slow:
        one.close()


def slow_bodies(server: ServerProcess) -> None:
    slow = connect(server.http, 200)
    for one in slow:
        one.sendall(b"POST /v2/models/mlp/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(10):
        for one in slow:
            one.sendall(b"{")
        time.sleep(0.1)
    for one in slow:
        one.close()


def silent_connections(server: ServerProcess) -> None:
    """Half open: connected, and nothing ever sent."""
    silent = connect(server.http, 1000) + connect(server.grpc, 1000)
    time.sleep(1.5)
    for one in silent:
        one.close()


def oversized(server: ServerProcess) -> None:
    assert code_of(server, bytes(65 * MIB)) == "RESOURCE_EXHAUSTED"
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
        assert post(server, bytes(65 * MIB)) == 413
    (endless,) = connect(server.http)
    endless.sendall(f"POST {INFER_PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    with contextlib.suppress(OSError):
        for _ in range(200):
            endless.sendall(b"100000\r\n" + bytes(MIB) + b"\r\n")
    endless.close()


def garbage(server: ServerProcess) -> None:
    rng = random.Random(0)
    good = _request("mlp", FEEDS, (), "", 0, "")
    for _ in range(60):
        at = rng.randrange(len(good))
        mutated = good[:at] + rng.randbytes(rng.randrange(1, 9)) + good[at + rng.randrange(5) :]
        assert code_of(server, mutated) in ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED")
        assert code_of(server, rng.randbytes(200)) in ("INVALID_ARGUMENT", "NOT_FOUND")
        assert post(server, rng.randbytes(200)) == 400
        for where in (server.grpc, server.http):
            (one,) = connect(where)
            with contextlib.suppress(OSError):
                one.sendall(rng.randbytes(300))
            one.close()


def wrong_lengths(server: ServerProcess) -> None:
    assert post(server, b"{}", {"Inference-Header-Content-Length": "100"}) == 400
    assert post(server, b"{}", {"Inference-Header-Content-Length": "-1"}) == 400
    assert post(server, b"{}", {"Inference-Header-Content-Length": "9" * 30}) == 400
    assert post(server, b"{}", {"Inference-Header-Content-Length": "1"}) == 400
    for length in (b"5", b"10000", b"-3", b"99999999999999999999"):  # shorter, longer, nonsense
        (one,) = connect(server.http)
        one.sendall(b"POST /v2/models/mlp/infer HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n{}{}{}")
        one.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            assert b" 200 " not in one.recv(1000)
        one.close()


def bombs(server: ServerProcess) -> None:
    """A megabyte that becomes a gigabyte, by HTTP and by gRPC."""
    content = zlib.compressobj(1, wbits=31)
    bomb = b"".join([*(content.compress(bytes(16 * MIB)) for _ in range(64)), content.flush()])
    assert len(bomb) < 8 * MIB
    assert post(server, bomb, {"Content-Encoding": "gzip"}) == 413
    assert post(server, bomb[: len(bomb) // 2], {"Content-Encoding": "gzip"}) == 413
    assert post(server, bomb[: len(bomb) // 200], {"Content-Encoding": "gzip"}) == 400  # not whole
    assert post(server, zlib.compress(bytes(65 * MIB), 1), {"Content-Encoding": "deflate"}) == 413
    assert post(server, b"not gzip", {"Content-Encoding": "gzip"}) == 400
    assert post(server, b"{}", {"Content-Encoding": "br"}) == 501
    assert code_of(server, bytes(65 * MIB), compression=grpc.Compression.Gzip) == "RESOURCE_EXHAUSTED"
    assert code_of(server, bytes(65 * MIB), compression=grpc.Compression.Deflate) == "RESOURCE_EXHAUSTED"
    assert code_of(server, bomb) == "RESOURCE_EXHAUSTED"  # as it comes from a client that compressed it


def rapid_resets(server: ServerProcess) -> None:
    """HTTP/2 streams that are opened and reset at once, by the thousand."""
    for _ in range(4):
        with contextlib.closing(Http2(server.grpc)) as raw, contextlib.suppress(OSError):
            for stream in range(1, 6001, 2):
                raw.open(stream)
                raw.reset(stream)
            raw.flush()
            time.sleep(0.2)


class Http2:
    """Just enough of HTTP/2 to misbehave."""

    def __init__(self, where: str) -> None:
        (self._socket,) = connect(where)
        self._out = bytearray(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self._frame(4, 0, 0, struct.pack(">HI", 4, MIB))  # settings: large windows for what the server sends
        self._where = where

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self._out += struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    def open(self, stream: int) -> None:
        fields = [
            (":method", "POST"), (":scheme", "http"), (":path", INFER), (":authority", "x"), ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]  # fmt: skip
        block = b"".join(b"\x00" + bytes([len(k)]) + k.encode() + bytes([len(v)]) + v.encode() for k, v in fields)
        self._frame(1, 4, stream, block)

    def reset(self, stream: int) -> None:
        self._frame(3, 0, stream, struct.pack(">I", 8))

    def flush(self) -> None:
        self._socket.sendall(self._out)
        self._out.clear()

    def close(self) -> None:
        self._socket.close()


ATTACKS = [
    slow_heads,
    slow_bodies,
    silent_connections,
    oversized,
    garbage,
    wrong_lengths,
    bombs,
    rapid_resets,
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_good_client_is_answered_all_the_while(
    server: ServerProcess, attack: Callable[[ServerProcess], None]
) -> None:
    with GoodClient(server.grpc, "mlp", FEEDS) as good, GoodClient(server.grpc, "mlp", FEEDS) as other:
        expected = good.ask()[1].tobytes()
        before = len(good.answers)
        attack(server)
        during = len(good.answers) - before
        connection = http.client.HTTPConnection(server.http, timeout=20)  # and new ones come through
        connection.request("GET", "/v2/health/ready")
        assert connection.getresponse().status == 200
        connection.close()
    assert good.codes == other.codes == {"OK"}
    assert all(y.tobytes() == expected for _, _, y in good.answers)
    assert during > 0 and max(seconds for seconds, _, _ in good.answers) < 5
    assert server.process.poll() is None


def test_memory_after_all_that(server: ServerProcess) -> None:
    """64 MiB is the largest message: none of the attacks made the server hold more than a few of them."""
    assert server.peak_memory() < 700 * MIB
    until = time.monotonic() + 20
    while server.memory() > 400 * MIB and time.monotonic() < until:
        time.sleep(0.2)
    assert server.memory() < 400 * MIB
    descriptors = len(os.listdir(f"/proc/{server.process.pid}/fd"))
    assert descriptors < 500


@pytest.fixture
def transport() -> Iterator[tuple[HttpTransport, str]]:
    engine = _core.serve.Engine(1, MIB)
    made = HttpTransport(
        engine,
        lambda method, path, body: (200, "text/plain", body),
        head_timeout_s=0.4,
        body_timeout_s=0.4,
        max_connections=20,
    )
    yield made, f"127.0.0.1:{made.listen('127.0.0.1', 0)}"
    made.stop(1.0)


def closed(one: socket.socket, seconds: float) -> bool:
    one.settimeout(seconds)
    try:
        return one.recv(1000) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_connections_on_which_nothing_happens_are_closed(transport: tuple[HttpTransport, str]) -> None:
    _, where = transport
    silent, partial, used = connect(where, 3)
    partial.sendall(b"GET / HTTP/1.1\r\nHost:")
    used.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in used.recv(1000)
    assert all(closed(one, 5) for one in (silent, partial, used))


def test_a_body_that_does_not_come(transport: tuple[HttpTransport, str]) -> None:
    _, where = transport
    (one,) = connect(where)
    one.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
    assert b" 408 " in one.recv(1000)


def test_bodies_that_come_share_what_memory_they_may_take(transport: tuple[HttpTransport, str]) -> None:
    made, where = transport
    announced, half, other = connect(where, 3)
    announced.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    half.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 700000\r\n\r\n" + bytes(600_000))
    eventually(lambda: made._budget.used == 600_000)  # of what was announced and has not come, nothing
    other.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n")
    assert b" 503 " in other.recv(1000)
    (chunked,) = connect(where)
    chunked.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7a120\r\n" + bytes(500_000))
    assert b" 503 " in chunked.recv(1000)
    half.sendall(bytes(100_000))
    assert b" 200 " in half.recv(1000)
    eventually(lambda: made._budget.used == 0)
    assert made._budget.refused == 2


def test_one_budget_for_all_wires(tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "mlp.onnx")
    with Server(path, grpc_port=0, http_port=0, max_bytes_in_flight=MIB) as own:
        (half,) = connect(own.http_address.removeprefix("http://"))
        half.sendall(f"POST {INFER_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 1048500\r\n\r\n".encode())
        half.sendall(bytes(1_048_400))
        eventually(lambda: own.engine.budget.used == 1_048_400)
        with Client(own.grpc_address) as client:
            with pytest.raises(ServeError, match="max_bytes_in_flight") as caught:
                client.infer("mlp", FEEDS)
            assert caught.value.code == 14
            half.close()
            eventually(lambda: own.engine.budget.used == 0)
            client.infer("mlp", FEEDS)
        big = np.ones((10_000, 40), np.float32)  # alone, a request may be as long as a message may
        with Client(own.grpc_address) as client:
            assert len(client.infer("mlp", {"x": big})["probabilities"]) == 10_000
        with urllib.request.urlopen(own.http_address + "/metrics") as answer:
            assert b"linnet_requests_over_memory_total 1\n" in answer.read()


def test_the_quietest_of_too_many_connections_are_closed(transport: tuple[HttpTransport, str]) -> None:
    _, where = transport
    old = connect(where, 15)
    time.sleep(0.2)
    new = connect(where, 15)
    time.sleep(0.15)
    gone = [closed(one, 0.01) for one in old]
    assert sum(gone) >= 10 and not any(closed(one, 0.001) for one in new)


def test_idle_connections_by_the_thousand(server: ServerProcess) -> None:
    quiet = connect(server.http, 1500)
    channels = [
        grpc.insecure_channel(server.grpc, options=(("grpc.use_local_subchannel_pool", 1),)) for _ in range(200)
    ]
    gate = threading.Semaphore(0)
    for channel in channels:
        grpc.channel_ready_future(channel).add_done_callback(lambda _: gate.release())
    assert all(gate.acquire(timeout=30) for _ in channels)
    with GoodClient(server.grpc, "mlp", FEEDS) as good:
        time.sleep(1.0)
    assert good.codes == {"OK"} and len(good.answers) > 50
    for one in quiet:
        one.close()
    for channel in channels:
        channel.close()
