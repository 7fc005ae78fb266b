"""A server as a process of its own under more load than it can take, changes of version, and signals."""

from __future__ import annotations

import collections
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

import serving_models as models
from linnet.serve import Client, Server
from linnet.serve._client import _outputs, _request
from linnet.serve._grpc import GrpcTransport, Methods
from repository_models import until
from server_process import INFER, GoodClient, ServerProcess

MIB = 1 << 20


def row(width: int = 192) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, width)).astype(np.float32)


class Burst:
    """Calls under way on one connection; ``results``: (code, seconds, answer's bytes), as they end."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),))
        grpc.channel_ready_future(self._channel).result(timeout=20)
        self._call = self._channel.unary_unary(INFER)
        self._left = threading.Semaphore(0)
        self.sent = 0
        self.results: list[tuple[str, float, bytes | None]] = []

    def send(self, request: bytes, timeout: float) -> None:
        start = time.monotonic()
        future = self._call.future(request, timeout=timeout)

        def done(future: Any) -> None:
            code = future.code().name
            self.results.append((code, time.monotonic() - start, future.result() if code == "OK" else None))
            self._left.release()

        self.sent += 1
        future.add_done_callback(done)

    def wait(self) -> None:
        for _ in range(self.sent):
            assert self._left.acquire(timeout=60)
        self._channel.close()


def test_no_call_is_lost_when_the_server_is_told_to_go(tmp_path: Path) -> None:
    path = models.heavy(tmp_path / "heavy.onnx")
    with ServerProcess(path, "--drain", "2") as server:
        burst = Burst(server.grpc)
        with Client(server.grpc) as client:
            expected = client.infer("heavy", {"x": row()})["y"]
            request = _request("heavy", {"x": row()}, (), "", 0, "")
            for _ in range(200):
                burst.send(request, 60)
            server.process.send_signal(signal.SIGTERM)
            until = time.monotonic() + 10
            while client.is_ready() and time.monotonic() < until:
                time.sleep(0.01)
            assert not client.is_ready()  # it says so, and still answers
            y = client.infer("heavy", {"x": row()})["y"]
            assert np.allclose(y, expected, rtol=1e-4, atol=1e-5)
        burst.wait()
        assert collections.Counter(code for code, _, _ in burst.results) == {"OK": 200}
        assert server.process.wait(30) == 0
    answers = [next(iter(_outputs(answer).values())) for _, _, answer in burst.results if answer]
    assert all(np.allclose(y, expected, rtol=1e-4, atol=1e-5) for y in answers)


def test_open_streams_do_not_keep_a_server_that_is_told_to_go(tmp_path: Path) -> None:
    path = models.heavy(tmp_path / "heavy.onnx")
    request = _request("heavy", {"x": row()}, (), "", 0, "")
    with ServerProcess(path, "--drain", "0") as server, grpc.insecure_channel(server.grpc) as channel:
        more = threading.Event()

        def requests(count: int) -> Iterator[bytes]:
            for _ in range(count):
                yield request
            more.wait(30)

        call = channel.stream_stream(INFER.replace("ModelInfer", "ModelStreamInfer"))
        idle, used = call(requests(0)), call(requests(1))
        next(used)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert time.monotonic() - started < 10, "exit_seconds is 30"
        for stream in (idle, used):
            with pytest.raises(grpc.RpcError) as caught:
                next(stream)
            assert caught.value.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
        more.set()


def test_a_stream_is_answered_what_it_asked_for_before_the_server_goes() -> None:
    """It then ends with a code that sends its client elsewhere: OK would hide that nobody reads what it asks next."""
    inside, gate, more = threading.Event(), threading.Event(), threading.Event()

    def infer_oip_stream(*_: object, **__: object) -> bytes:
        inside.set()
        gate.wait(30)
        return b"answer"

    def requests() -> Iterator[bytes]:
        yield b"request"
        more.wait(30)

    engine: Any = SimpleNamespace(infer_oip=None, predict_tensorflow=None, infer_oip_stream=infer_oip_stream)
    transport = GrpcTransport(engine, Methods({}, {}))
    port = transport.listen("127.0.0.1:0")
    transport.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = channel.stream_stream(INFER.replace("ModelInfer", "ModelStreamInfer"))(requests())
        assert inside.wait(20)
        stop = threading.Thread(target=transport.stop, args=(30,))
        stop.start()
        until(lambda: transport._stopping)
        gate.set()
        assert next(stream) == b"answer"
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        more.set()
        stop.join(20)
        assert not stop.is_alive()


def test_ten_times_more_than_it_can_take(tmp_path: Path) -> None:
    """Every call has 100 ms. Those that the server takes on are in time; it refuses the others with the right code."""
    path = models.heavy(tmp_path / "heavy.onnx", side=400)
    with ServerProcess(path) as server:
        request = _request("heavy", {"x": row(400)}, (), "", 0, "")
        with Client(server.grpc) as client:
            for _ in range(10):
                client.infer("heavy", {"x": row(400)})
            started = time.monotonic()
            for _ in range(10):
                client.infer("heavy", {"x": row(400)})
            rate = 10 * 2 * 10 / (time.monotonic() - started)  # ten times what two cores can do
        before = server.memory()
        burst = Burst(server.grpc)
        started = time.monotonic()
        while (now := time.monotonic() - started) < 4.0:
            while burst.sent < rate * now:
                burst.send(request, 0.1)
            time.sleep(1e-3)
        burst.wait()
        codes = collections.Counter(code for code, _, _ in burst.results)
        assert set(codes) <= {"OK", "DEADLINE_EXCEEDED", "UNAVAILABLE", "RESOURCE_EXHAUSTED"}
        # It goes on working at its rate, as far as the client leaves it the cores.
        assert codes["OK"] >= 0.2 * rate / 10 * 4.0, codes
        assert server.peak_memory() < before + 300 * MIB
        with GoodClient(server.grpc, "heavy", {"x": row(400)}) as good:  # and is well when it is over
            time.sleep(0.5)
        assert good.codes == {"OK"}


def test_fifty_updates_under_load(tmp_path: Path) -> None:
    """Two versions answer with different numbers. No call fails, and no answer has both."""
    folder = tmp_path / "constant"
    models.constant(folder / "1" / "model.onnx", 1.0, 2 * MIB)
    models.constant(folder / "2" / "model.onnx", 2.0, 2 * MIB)
    feeds = {"x": np.zeros((4, 1), np.float32)}
    server = Server(tmp_path, grpc_port=0, http_port=None, control="explicit", load=("*",), settle_seconds=0.0)
    with server, GoodClient(server.grpc_address, "constant", feeds) as a:
        with GoodClient(server.grpc_address, "constant", feeds) as b:
            for i in range(50):
                (folder / "config.pbtxt").write_text(f"version_policy {{ specific {{ versions: {1 + i % 2} }} }}\n")
                server.repository.load("constant")
                assert sorted(server.repository.view("constant").active) == [1 + i % 2]
                y = a.ask()[1]
                assert y.tolist() == [[1.0 + i % 2]] * 4
            assert server.repository.rollback("constant") == [1]
            assert a.ask()[1].tolist() == [[1.0]] * 4
        answers = a.answers + b.answers
    assert a.codes == b.codes == {"OK"}
    assert {tuple(sorted(set(y.ravel().tolist()))) for _, _, y in answers} == {(1.0,), (2.0,)}


@pytest.mark.parametrize("cycles", [1000])
def test_memory_is_flat_over_loads_and_unloads(tmp_path: Path, cycles: int) -> None:
    models.constant(tmp_path / "constant" / "1" / "model.onnx", 1.0, 4 * MIB)
    with ServerProcess(tmp_path, "--explicit") as server, Client(server.grpc) as client:
        feeds = {"x": np.zeros((1, 1), np.float32)}
        used = []
        for cycle in range(cycles):
            client.load("constant")
            if cycle % 10 == 0:
                assert client.infer("constant", feeds)["y"].tolist() == [[1.0]]
            client.unload("constant")
            if cycle % (cycles // 20) == 0:
                used.append(server.memory())
        # The first cycles bring code and pools into memory; after them nothing grows.
        assert used[-1] - used[4] < 8 * MIB, [round(u / MIB, 1) for u in used]


def test_a_model_that_is_flooded_leaves_another_alone(tmp_path: Path) -> None:
    models.heavy(tmp_path / "heavy" / "1" / "model.onnx")
    models.mlp(tmp_path / "light" / "1" / "model.onnx")
    with ServerProcess(tmp_path) as server:
        light = GoodClient(server.grpc, "light", {"x": row(40)})
        floods = [GoodClient(server.grpc, "heavy", {"x": row()}) for _ in range(16)]
        for flood in floods:
            flood.__enter__()
        with light:
            time.sleep(3.0)
        for flood in floods:
            flood.__exit__(None, None, None)
    assert light.codes == {"OK"} and all(flood.codes == {"OK"} for flood in floods)
    waits = sorted(seconds for seconds, _, _ in light.answers)
    queued = sorted(seconds for flood in floods for seconds, _, _ in flood.answers)
    # Sixteen wait for each other; the one beside them does not wait for all of them.
    assert len(waits) > 30 and waits[len(waits) // 2] < 0.5 * queued[len(queued) // 2]
