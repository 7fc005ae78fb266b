"""The request log and traces of a server: opened, counted and closed as one."""

from __future__ import annotations

from collections.abc import Iterable

from linnet._core import serve as _core
from linnet.serve._config import ConfigError, ServerConfig
from linnet.serve._journal import Journal, Sink
from linnet.serve._request_log import RequestLog


class Watch:
    """Nothing is done, and the request path is as without it, unless the settings ask for a log or traces.

    Raises:
        ConfigError: traces are asked for and cannot be made.
    """

    def __init__(self, config: ServerConfig, engine: _core.Engine) -> None:
        self._config, self._engine = config, engine
        self._journal: Journal | None = None
        self._log: RequestLog | None = None
        for name in ("log_ratio", "trace_ratio"):
            if not 0 <= getattr(config, name) <= 1:
                raise ConfigError(f"{name} is {getattr(config, name)}, which is no share from 0 to 1")
        if config.trace:
            from linnet.serve import _traces

            self._traces: _traces.Traces | None = _traces.Traces(
                _traces.otlp_exporter(config.trace), config.trace_ratio
            )
        else:
            self._traces = None

    @property
    def wanted(self) -> bool:
        """Whether requests are logged or traced."""
        return bool(self._config.log_requests or self._config.trace)

    def open(self) -> None:
        """Begins.

        Raises:
            OSError: the log's file cannot be opened.
        """
        if not self.wanted:
            return
        sinks: list[Sink] = []
        if self._config.log_requests:
            self._log = RequestLog(self._config.log_requests, self._config.log_ratio)
            sinks.append(self._log)
        if self._traces is not None:
            sinks.append(self._traces)
        self._journal = Journal(self._engine, sinks)

    def close(self) -> None:
        """Writes and sends what is left."""
        if self._journal is not None:
            self._journal.close()

    def reopen(self) -> None:
        """Opens the log's file anew."""
        if self._log is not None:
            self._log.reopen()

    def counts(self) -> Iterable[tuple[str, str, int]]:
        """For `/metrics`."""
        if self._journal is not None:
            yield "journal_lost", "Requests lost for the log and traces: they came too fast.", self._journal.lost
        if self._log is not None:
            yield "log_lines", "Lines of the request log.", self._log.lines
            yield "log_lines_lost", "Lines of the request log that could not be written.", self._log.failed
        if self._traces is not None:
            yield "trace_spans", "Spans made.", self._traces.made
            yield "trace_spans_exported", "Spans that the collector took.", self._traces.exported
            yield "trace_spans_failed", "Spans that the collector did not take.", self._traces.failed
