"""OpenTelemetry traces (``pip install linnet[trace]``): spans made of finished requests, in the journal's thread.

A request's span has the span of its caller (W3C's ``traceparent``) for its parent, and four children: decode, queue,
run and encode.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Sequence
from typing import Any

from linnet._info import get_version_string
from linnet.serve._config import ConfigError
from linnet.serve._journal import Caller, Entry, caller_of
from linnet.serve._request_log import code_name

try:
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON
except ImportError as error:
    raise ConfigError("traces need the OpenTelemetry SDK: pip install 'linnet[trace]'") from error

_FAILURES_OF_THE_SERVER = {2, 4, 12, 13, 14, 15}
"""Codes that make a server's span an error, by OpenTelemetry's conventions for gRPC; others are the caller's."""
_WAITING_SPANS = 32768
_LAST_SECONDS = 3.0
"""That delivering the last spans may take when the server ends."""


def otlp_exporter(endpoint: str) -> SpanExporter:
    """Sends to a collector by OTLP over HTTP.

    Args:
        endpoint: ``http://host:4318``, or a URL with a path.

    Raises:
        ConfigError: the exporter is not installed, or that is no URL.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ConfigError("traces need the OTLP exporter: pip install 'linnet[trace]'") from error
    scheme, _, rest = endpoint.partition("://")
    if scheme not in ("http", "https") or not rest:
        raise ConfigError(f"trace: {endpoint!r} is no address such as http://localhost:4318")
    url = endpoint if "/" in rest.rstrip("/") else endpoint.rstrip("/") + "/v1/traces"
    return OTLPSpanExporter(endpoint=url)


class Traces:
    """Makes spans and hands them to ``exporter``.

    Args:
        ratio: the share of requests without a ``traceparent`` that are traced; those with one are when its sampled
            flag says so.
    """

    def __init__(self, exporter: SpanExporter, ratio: float = 1.0) -> None:
        self.made = 0
        self._ratio = ratio
        self._random = random.Random()
        self._exporter = _Counting(exporter)
        resource = {"service.version": get_version_string()}
        if "OTEL_SERVICE_NAME" not in os.environ:
            resource["service.name"] = "linnet"
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create(resource), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter, max_queue_size=_WAITING_SPANS))
        self._tracer = self._provider.get_tracer("linnet.serve", get_version_string())

    @property
    def exported(self) -> int:
        """Spans that were delivered."""
        return self._exporter.exported

    @property
    def failed(self) -> int:
        """Spans that the exporter could not deliver."""
        return self._exporter.failed

    def write(self, entries: Sequence[Entry]) -> None:
        """Makes the spans of those that are to be traced."""
        for entry in entries:
            caller = caller_of(entry.traceparent)
            if caller.sampled if caller else self._random.random() < self._ratio:
                self._span(entry, caller)

    def close(self) -> None:
        """Delivers what is left; gives up on a collector that does not answer in time."""
        ending = threading.Thread(target=self._provider.shutdown, name="linnet-traces-end", daemon=True)
        ending.start()
        ending.join(_LAST_SECONDS)
        if ending.is_alive():
            self._exporter.shutdown()  # it retries no more
            ending.join(1.0)

    def _span(self, entry: Entry, caller: Caller | None) -> None:
        start = entry.end - entry.total
        parent = trace.set_span_in_context(_remote(caller)) if caller else None
        span = self._tracer.start_span(
            f"infer {entry.model}", parent, trace.SpanKind.SERVER, _attributes(entry), start_time=start
        )
        if entry.code in _FAILURES_OF_THE_SERVER:
            span.set_status(trace.Status(trace.StatusCode.ERROR, entry.message))
        inside = trace.set_span_in_context(span)
        at = start
        for name, took in (("decode", entry.decode), ("queue", entry.queue), ("run", entry.run)):
            if took:
                self._child(name, inside, at, at + took)
                at += took
        if entry.encode:
            self._child("encode", inside, entry.end - entry.encode, entry.end)
        span.end(entry.end)
        self.made += 1

    def _child(self, name: str, inside: Any, start: int, end: int) -> None:
        self._tracer.start_span(name, inside, start_time=start).end(end)
        self.made += 1


def _remote(caller: Caller) -> trace.Span:
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    context = trace.SpanContext(int(caller.trace, 16), int(caller.span, 16), is_remote=True, trace_flags=flags)
    return trace.NonRecordingSpan(context)


def _attributes(entry: Entry) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "linnet.model": entry.model,
        "linnet.version": entry.version,
        "linnet.protocol": entry.protocol,
        "linnet.rows": entry.rows,
        "linnet.batch": entry.batch,
        "linnet.bytes_in": entry.bytes_in,
        "linnet.bytes_out": entry.bytes_out,
        "linnet.code": code_name(entry.code),
    }
    if entry.protocol.endswith("_grpc"):
        attributes |= {"rpc.system": "grpc", "rpc.grpc.status_code": entry.code}
    if entry.id:
        attributes["linnet.request_id"] = entry.id
    if entry.message:
        attributes["linnet.error"] = entry.message
    return attributes


class _Counting(SpanExporter):  # type: ignore[misc,unused-ignore]
    def __init__(self, exporter: SpanExporter) -> None:
        self.exported = self.failed = 0
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
        else:
            self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return bool(self._exporter.force_flush(timeout_millis))
