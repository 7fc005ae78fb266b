"""OpenTelemetry spans: their times, their parents, which requests get them."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import linnet.serve
from repository_models import adds
from test_request_log import TRACE, TRACEPARENT, X, entry

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from linnet.serve import _traces


def spans_of(*entries: Any, ratio: float = 1.0) -> list[Any]:
    exporter = InMemorySpanExporter()
    traces = _traces.Traces(exporter, ratio)
    traces.write(entries)
    traces.close()
    assert traces.exported == traces.made == len(exporter.get_finished_spans())
    return list(exporter.get_finished_spans())


def test_a_request_and_its_stages() -> None:
    one = entry(traceparent=TRACEPARENT, id="7")
    spans = {span.name: span for span in spans_of(one)}
    assert spans.keys() == {"infer m", "decode", "queue", "run", "encode"}
    root = spans["infer m"]
    assert root.kind is SpanKind.SERVER
    assert f"{root.context.trace_id:032x}" == TRACE
    assert f"{root.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert root.parent.is_remote
    assert (root.start_time, root.end_time) == (one.end - 1_000_000, one.end)
    at = {name: (spans[name].start_time - root.start_time, spans[name].end_time - root.start_time) for name in spans}
    assert at["decode"] == (0, 100_000)
    assert at["queue"] == (100_000, 300_000)
    assert at["run"] == (300_000, 800_000)
    assert at["encode"] == (950_000, 1_000_000)
    for name in ("decode", "queue", "run", "encode"):
        assert spans[name].parent.span_id == root.context.span_id
        assert spans[name].context.trace_id == root.context.trace_id
    assert root.attributes["linnet.model"] == "m"
    assert root.attributes["rpc.grpc.status_code"] == 0
    assert root.attributes["linnet.request_id"] == "7"
    assert root.resource.attributes["service.name"] == "linnet"
    assert root.status.status_code is StatusCode.UNSET


def test_who_is_traced() -> None:
    unsampled = TRACEPARENT[:-2] + "00"
    assert spans_of(entry(traceparent=unsampled), ratio=1.0) == [], "the caller said no"
    assert spans_of(entry(traceparent=TRACEPARENT), ratio=0.0) != [], "the caller said yes"
    assert spans_of(entry(), entry(traceparent="nonsense"), ratio=0.0) == []
    roots = [span for span in spans_of(*[entry()] * 1000, ratio=0.3) if span.parent is None]
    assert 200 < len(roots) < 400
    assert len({span.context.trace_id for span in roots}) == len(roots)


@pytest.mark.parametrize(("code", "error"), [(13, True), (14, True), (4, True), (3, False), (5, False), (1, False)])
def test_an_error_is_the_servers_or_the_callers(code: int, error: bool) -> None:
    (span,) = spans_of(entry(code=code, message="no", decode=0, queue=0, run=0, encode=0))
    assert (span.status.status_code is StatusCode.ERROR) == error
    assert span.attributes["linnet.error"] == "no"


def test_spans_that_are_not_delivered_are_counted() -> None:
    class Broken(InMemorySpanExporter):
        def export(self, spans: Any) -> Any:
            return SpanExportResult.FAILURE

    traces = _traces.Traces(Broken())
    traces.write([entry()])
    traces.close()
    assert (traces.made, traces.exported, traces.failed) == (5, 0, 5)


def test_through_a_server(tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(_traces, "otlp_exporter", lambda endpoint: exporter)
    server = serve(adds(1, tmp_path / "m.onnx"), trace="http://localhost:4318", trace_ratio=0.0)
    with linnet.serve.Client(server.grpc_address, metadata=[("traceparent", TRACEPARENT)]) as client:
        client.infer("m", {"x": X})
    with linnet.serve.Client(server.grpc_address) as client:
        client.infer("m", {"x": X})
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    request = urllib.request.Request(
        server.http_address + "/v2/models/m/infer", json.dumps(body).encode(), {"traceparent": TRACEPARENT}
    )
    urllib.request.urlopen(request).read()
    text = urllib.request.urlopen(server.http_address + "/metrics").read().decode()
    assert "linnet_trace_spans_total" in text
    server.stop()
    spans = exporter.get_finished_spans()
    roots = [span for span in spans if span.kind is SpanKind.SERVER]
    assert [f"{span.context.trace_id:032x}" for span in roots] == [TRACE, TRACE]
    assert {span.attributes["linnet.protocol"] for span in roots} == {"oip_grpc", "oip_rest"}
    for root in roots:
        inside = [span for span in spans if span.parent and span.parent.span_id == root.context.span_id]
        assert {"decode", "run", "encode"} <= {span.name for span in inside}
        for span in inside:
            assert root.start_time <= span.start_time <= span.end_time <= root.end_time


def test_by_otlp_to_a_collector(tmp_path: Path, serve: Any) -> None:
    """What the SDK sends arrives at /v1/traces and holds the trace's number."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    collector = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    server = serve(adds(1, tmp_path / "m.onnx"), trace=f"http://127.0.0.1:{collector.server_port}")
    with linnet.serve.Client(server.grpc_address, metadata=[("traceparent", TRACEPARENT)]) as client:
        client.infer("m", {"x": np.zeros((1, 2), np.float32)})
    server.stop()
    collector.shutdown()
    collector.server_close()
    assert [path for path, _ in received] == ["/v1/traces"]
    assert bytes.fromhex(TRACE) in received[0][1]


def test_a_collector_that_is_not_there_does_not_hold_up_the_end(tmp_path: Path, serve: Any) -> None:
    server = serve(adds(1, tmp_path / "m.onnx"), trace="http://127.0.0.1:9")
    with linnet.serve.Client(server.grpc_address) as client:
        client.infer("m", {"x": X})
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 6


def test_a_wrong_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(linnet.serve.ConfigError, match="http://localhost:4318"):
        linnet.serve.Server(adds(1, tmp_path / "m.onnx"), trace="localhost:4318")
