"""The request log: a line of JSON for each request, without what is in its tensors."""

from __future__ import annotations

import json
import logging
import os
import random
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import grpc

from linnet.serve._journal import Entry, caller_of

log = logging.getLogger("linnet.serve")

_NAMES: dict[int, str] = {code.value[0]: code.name for code in grpc.StatusCode}


def code_name(code: int) -> str:
    """A gRPC status code's name."""
    return _NAMES.get(code, str(code))


class RequestLog:
    """Writes to a file, or to standard output ("-"). The file is opened again when another one (or none) is at its
    path, as after logrotate has moved it away.

    Args:
        path: where to.
        ratio: the share of good requests that get a line; those that failed always do.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str, ratio: float = 1.0) -> None:
        self.lines = 0
        """Written so far."""
        self.failed = 0
        """Lines that could not be written."""
        self._path = path
        self._ratio = ratio
        self._random = random.Random()
        self._file = -1
        self._anew = False
        if path != "-":
            self._open()

    def write(self, entries: Sequence[Entry]) -> None:
        """Writes their lines."""
        chosen = [e for e in entries if e.code or self._ratio >= 1 or self._random.random() < self._ratio]
        data = b"".join(json.dumps(as_dict(e)).encode("ascii") + b"\n" for e in chosen)
        if not data:
            return
        try:
            if self._path == "-":
                sys.stdout.flush()
                _write_all(sys.stdout.fileno(), data)
            else:
                self._follow()
                _write_all(self._file, data)
        except (OSError, ValueError) as error:
            if not self.failed:
                log.error("request log %s: lines are lost: %s", self._path, error)
            self.failed += len(chosen)
        else:
            self.lines += len(chosen)

    def close(self) -> None:
        """Closes the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def reopen(self) -> None:
        """Opens the file anew before the next line, whatever is at its path."""
        self._anew = True

    def _open(self) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self.close()
        self._file = file

    def _follow(self) -> None:
        try:
            same = os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except FileNotFoundError:
            same = False
        if self._anew or not same:
            self._anew = False
            self._open()


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def as_dict(entry: Entry) -> dict[str, Any]:
    """A line's fields; docs/operate.md describes them."""
    ended = datetime.fromtimestamp(entry.end // 10**9, timezone.utc)
    line: dict[str, Any] = {
        "time": f"{ended:%Y-%m-%dT%H:%M:%S}.{entry.end % 10**9 // 1000:06d}Z",
        "model": entry.model,
        "version": entry.version,
        "protocol": entry.protocol,
        "code": code_name(entry.code),
        "total_ms": entry.total / 1e6,
        "decode_ms": entry.decode / 1e6,
        "queue_ms": entry.queue / 1e6,
        "run_ms": entry.run / 1e6,
        "encode_ms": entry.encode / 1e6,
        "rows": entry.rows,
        "batch": entry.batch,
        "bytes_in": entry.bytes_in,
        "bytes_out": entry.bytes_out,
    }
    if entry.id:
        line["id"] = entry.id
    caller = caller_of(entry.traceparent)
    if caller is not None:
        line["trace"] = caller.trace
    if entry.message:
        line["error"] = entry.message
    return line
