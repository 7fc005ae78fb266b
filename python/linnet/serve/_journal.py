"""Finished requests, read from the engine by a thread of its own and handed to the log and to traces."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from linnet._core.serve import Engine

log = logging.getLogger("linnet.serve")

_SECONDS = 0.2
_CHUNK = 16
"""Entries taken at a time. Between two chunks the interpreter's lock is left to requests."""
_PAUSE = 0.0002

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Entry(NamedTuple):
    """A request that ended. Times are nanoseconds; ``version`` is 0 where none was found."""

    end: int
    """Since 1970."""
    model: str
    version: int
    protocol: str
    code: int
    message: str
    """Of a failure."""
    id: str
    traceparent: str
    total: int
    decode: int
    queue: int
    run: int
    encode: int
    rows: int
    batch: int
    """Rows of the run that it was part of."""
    bytes_in: int
    bytes_out: int


class Caller(NamedTuple):
    """The span that a request came from, as W3C's ``traceparent`` names it."""

    trace: str
    span: str
    sampled: bool


def caller_of(traceparent: str) -> Caller | None:
    """What a ``traceparent`` header says; None when there is none, or it is not well formed."""
    match = _TRACEPARENT.fullmatch(traceparent)
    return Caller(match[1], match[2], bool(int(match[3], 16) & 1)) if match else None


class Sink(Protocol):
    """Takes entries; called by the journal's thread only."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Entries in the order in which the requests ended."""

    def close(self) -> None:
        """There will be no more."""


class Journal:
    """Reads finished requests while it is open. The engine keeps the last 65536 in between; older ones are lost, and
    counted in `lost`."""

    def __init__(self, engine: Engine, sinks: Sequence[Sink]) -> None:
        self.lost = 0
        self._engine = engine
        self._sinks = sinks
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="linnet-journal", daemon=True)
        engine.enable_journal(True)
        self._thread.start()

    def close(self) -> None:
        """Reads what is left, and ends."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(_SECONDS):
            self._drain()
        self._engine.enable_journal(False)
        self._drain()
        for sink in self._sinks:
            sink.close()

    def _drain(self) -> None:
        full = True
        while full:
            rows, lost = self._engine.journal(_CHUNK)
            full = len(rows) == _CHUNK
            self.lost += lost
            entries = [Entry(*row) for row in rows]
            for sink in self._sinks if entries else ():
                try:
                    sink.write(entries)
                except Exception:  # neither a full disk nor a bug there may end the other one
                    log.exception("%s failed", type(sink).__name__)
            if full:
                time.sleep(_PAUSE)
