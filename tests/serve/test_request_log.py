"""The request log: a line for each request, nothing of what is in it, and no line lost without being counted."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import linnet.serve
from linnet.serve import ConfigError, ServeError
from linnet.serve._journal import Entry, Journal, caller_of
from linnet.serve._request_log import RequestLog, as_dict
from repository_models import adds
from server_process import eventually

X = np.full((3, 2), 1234567.0, np.float32)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def entry(**changes: Any) -> Entry:
    plain = Entry(
        end=1_700_000_000_123_456_789,
        model="m",
        version=1,
        protocol="oip_grpc",
        code=0,
        message="",
        id="",
        traceparent="",
        total=1_000_000,
        decode=100_000,
        queue=200_000,
        run=500_000,
        encode=50_000,
        rows=3,
        batch=4,
        bytes_in=100,
        bytes_out=50,
    )
    return plain._replace(**changes)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_for_each_request(tmp_path: Path, serve: Any) -> None:
    log = tmp_path / "log.jsonl"
    server = serve(adds(1, tmp_path / "m.onnx"), log_requests=str(log))
    with linnet.serve.Client(server.grpc_address, metadata=[("traceparent", TRACEPARENT)]) as client:
        client.infer("m", {"x": X}, request_id="first")
        with contextlib.suppress(ServeError):
            client.infer("absent", {"x": X})
    server.stop()
    good, bad = lines(log)
    assert good.keys() == {
        *("time", "model", "version", "protocol", "code", "total_ms", "decode_ms", "queue_ms", "run_ms", "encode_ms"),
        *("rows", "batch", "bytes_in", "bytes_out", "id", "trace"),
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", good["time"])
    assert (good["model"], good["version"], good["code"], good["rows"], good["batch"]) == ("m", 1, "OK", 3, 3)
    assert (good["id"], good["trace"], good["protocol"]) == ("first", TRACE, "oip_grpc")
    parts = good["decode_ms"] + good["queue_ms"] + good["run_ms"] + good["encode_ms"]
    assert 0 < parts <= good["total_ms"] * 1.001
    assert good["bytes_in"] > X.nbytes < good["bytes_out"]
    assert (bad["model"], bad["version"], bad["code"]) == ("absent", 0, "NOT_FOUND")
    assert "absent" in bad["error"]
    text = log.read_text()
    assert "1234567" not in text and "1234568" not in text, "a payload"


def test_the_schema() -> None:
    assert as_dict(entry(code=14, message="full", id="7", traceparent=TRACEPARENT)) == {
        "time": "2023-11-14T22:13:20.123456Z",
        "model": "m",
        "version": 1,
        "protocol": "oip_grpc",
        "code": "UNAVAILABLE",
        "total_ms": 1.0,
        "decode_ms": 0.1,
        "queue_ms": 0.2,
        "run_ms": 0.5,
        "encode_ms": 0.05,
        "rows": 3,
        "batch": 4,
        "bytes_in": 100,
        "bytes_out": 50,
        "id": "7",
        "trace": TRACE,
        "error": "full",
    }


@pytest.mark.parametrize(
    "text",
    ["", "00", f"ff-{TRACE}-00f067aa0ba902b7-01", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{TRACE}-{'0' * 16}-01",
     f"00-{TRACE.upper()}-00f067aa0ba902b7-01", f"00-{TRACE}-00f067aa0ba902b7", f"00-{TRACE}-00f067aa0ba902b7-01x"],
)  # fmt: skip
def test_a_wrong_traceparent_is_none(text: str) -> None:
    assert caller_of(text) is None


def test_a_right_traceparent() -> None:
    assert caller_of(TRACEPARENT) == (TRACE, "00f067aa0ba902b7", True)
    assert caller_of(TRACEPARENT[:-2] + "00") == (TRACE, "00f067aa0ba902b7", False)
    assert caller_of("cc" + TRACEPARENT[2:] + "-what-comes-later") is not None


def test_failures_are_always_logged(tmp_path: Path) -> None:
    log = RequestLog(str(tmp_path / "log"), ratio=0.0)
    log.write([entry(), entry(code=13, message="it broke"), entry()])
    assert [line["code"] for line in lines(tmp_path / "log")] == ["INTERNAL"]
    half = RequestLog(str(tmp_path / "half"), ratio=0.5)
    half.write([entry()] * 2000)
    assert 800 < half.lines < 1200


def test_text_from_clients_cannot_break_a_line(tmp_path: Path) -> None:
    log = RequestLog(str(tmp_path / "log"))
    log.write([entry(id='a\n{"model": "forged"}\r\x00\u2028', model="ü")])
    assert len((tmp_path / "log").read_bytes().splitlines()) == 1
    assert lines(tmp_path / "log")[0]["model"] == "ü"


def test_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = RequestLog(str(path))
    log.write([entry(id="1")])
    path.rename(tmp_path / "log.1")
    log.write([entry(id="2")])
    path.unlink()
    path.touch()
    log.write([entry(id="3")])
    log.reopen()
    log.write([entry(id="4")])
    assert [line["id"] for line in lines(tmp_path / "log.1")] == ["1"]
    assert [line["id"] for line in lines(path)] == ["3", "4"]
    log.close()


def test_lines_that_cannot_be_written_are_counted() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    log = RequestLog("/dev/full")
    log.write([entry(), entry()])
    assert (log.lines, log.failed) == (0, 2)


def test_entries_that_are_not_read_in_time_are_counted(tmp_path: Path, serve: Any) -> None:
    engine = serve(adds(1, tmp_path / "m.onnx")).engine
    engine.enable_journal(True)
    for _ in range(65536 + 100):
        with contextlib.suppress(ServeError):
            engine.infer_oip(b"\xff")
    entries, lost = engine.journal(1000)
    assert (len(entries), lost) == (1000, 100)
    assert engine.journal(1)[1] == 0, "told once"


def test_a_broken_sink_does_not_stop_the_others(tmp_path: Path, serve: Any) -> None:
    class Broken:
        def write(self, entries: Any) -> None:
            raise RuntimeError("broken")

        def close(self) -> None:
            pass

    engine = serve(adds(1, tmp_path / "m.onnx")).engine
    log = RequestLog(str(tmp_path / "log"))
    journal = Journal(engine, [Broken(), log])
    for _ in range(600):
        with contextlib.suppress(ServeError):
            engine.infer_oip(b"\xff")
    journal.close()
    assert log.lines == 600
    with contextlib.suppress(ServeError):
        engine.infer_oip(b"\xff")
    assert engine.journal(10) == ([], 0), "nothing is kept when nobody reads"


def test_nothing_is_kept_by_default(tmp_path: Path, serve: Any) -> None:
    server = serve(adds(1, tmp_path / "m.onnx"))
    with linnet.serve.Client(server.grpc_address) as client:
        client.infer("m", {"x": X})
    assert server.engine.journal(10) == ([], 0)


def test_settings(tmp_path: Path, serve: Any) -> None:
    path = adds(1, tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="log_ratio"):
        linnet.serve.Server(path, log_ratio=1.5)
    with pytest.raises(OSError, match="absent"):
        linnet.serve.Server(path, grpc_port=0, http_port=None, log_requests=str(tmp_path / "absent" / "log")).start()
    toml = tmp_path / "s.toml"
    toml.write_text('[server]\nlog_requests = "log.jsonl"\nlog_ratio = 0.5\n[models.m]\npath = "m.onnx"')
    assert linnet.serve.Server(toml).config.log_requests == str(tmp_path / "log.jsonl")
    toml.write_text('[server]\nlog_ratio = 2\n[models.m]\npath = "m.onnx"')
    with pytest.raises(ConfigError, match="no share from 0 to 1"):
        linnet.serve.Server(toml)


def test_the_command(tmp_path: Path) -> None:
    """Lines on standard output; SIGHUP does not end the server."""
    path = adds(1, tmp_path / "m.onnx")
    words = ["-m", "linnet", "serve", str(path), "--grpc-port", "0", "--http-port", "none", "--log-requests", "-"]
    process = subprocess.Popen([sys.executable, *words, "--drain", "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = ""
    while not address:
        found = re.search(r"gRPC on (\S+)", process.stdout.readline())
        address = found[1] if found else ""
    status = Path(f"/proc/{process.pid}/status")
    eventually(lambda: bool(int(re.findall(r"SigCgt:\s+(\w+)", status.read_text())[0], 16) & 1))
    with linnet.serve.Client(address) as client:
        process.send_signal(signal.SIGHUP)
        client.infer("m", {"x": X})
        process.terminate()
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert [json.loads(line)["code"] for line in rest.splitlines() if line.startswith("{")] == ["OK"]


def test_tensorflow_and_streams_are_logged(tmp_path: Path, serve: Any) -> None:
    log = tmp_path / "log"
    server = serve(adds(1, tmp_path / "m.onnx"), log_requests=str(log))
    with grpc.insecure_channel(server.grpc_address) as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError):
            call(b"\xff", metadata=[("traceparent", TRACEPARENT)])
    eventually(lambda: log.exists() and bool(lines(log)))
    assert (lines(log)[0]["protocol"], lines(log)[0]["trace"]) == ("tensorflow_grpc", TRACE)
