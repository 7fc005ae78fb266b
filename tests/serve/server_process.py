"""A server in a process of its own, as `linnet serve` starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import numpy as np

import linnet
from linnet.serve import ServeError
from linnet.serve._client import _outputs, _request

INFER = "/inference.GRPCInferenceService/ModelInfer"


def eventually(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


class ServerProcess:
    """``linnet serve SOURCE ...`` on free ports; ended at the end of the ``with``."""

    def __init__(self, source: Path, *arguments: str) -> None:
        path = os.pathsep.join([str(Path(linnet.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "linnet", "serve", str(source), "--grpc-port", "0", "--http-port", "0"]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        assert self.process.stdout is not None
        self.lines: list[str] = []
        self.grpc = self.http = ""
        for line in self.process.stdout:
            self.lines.append(line)
            if match := re.match(r"gRPC on (\S+)", line):
                self.grpc = match[1]
            if match := re.match(r"HTTP on http://(\S+)", line):
                self.http = match[1]
                break
        assert self.grpc and self.http, "".join(self.lines)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self.lines.extend(lines)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            for _ in range(2):  # the second: without draining
                self.process.send_signal(signal.SIGTERM)
                time.sleep(0.1)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join()

    def memory(self) -> int:
        """Resident bytes."""
        return self._status("VmRSS")

    def peak_memory(self) -> int:
        return self._status("VmHWM")

    def _status(self, key: str) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{key}:\s+(\d+) kB", text)[1]) * 1024  # type: ignore[index]


class GoodClient:
    """Asks again and again in a thread; ``answers``: (seconds, code or "OK", first output)."""

    def __init__(self, address: str, model: str, feeds: dict[str, np.ndarray], timeout: float = 30.0) -> None:
        self.answers: list[tuple[float, str, Any]] = []
        self._channel = grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),))
        self._call = self._channel.unary_unary(INFER)
        self._request, self._timeout = _request(model, feeds, (), "", 0, ""), timeout
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def ask(self) -> tuple[str, Any]:
        try:
            return "OK", next(iter(_outputs(self._call(self._request, timeout=self._timeout)).values()))
        except grpc.RpcError as error:
            return error.code().name, error.details()
        except ServeError as error:
            return "CONTENT", str(error)

    def _run(self) -> None:
        while not self._stop.is_set():
            start = time.monotonic()
            code, value = self.ask()
            self.answers.append((time.monotonic() - start, code, value))

    def __enter__(self) -> GoodClient:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._channel.close()

    @property
    def codes(self) -> set[str]:
        return {code for _, code, _ in self.answers}
