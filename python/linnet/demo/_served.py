"""The demo's third job: the reader behind gRPC in a process of its own, called by clients that are there."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from linnet import _measure
from linnet.demo._data import MODEL, Digits, model_input

Floats = npt.NDArray[np.float32]
Reader = Callable[[Floats], Floats]


@dataclass
class Called:
    """What one client got: digits read ``right``; whether all probabilities are the very bits of a run without a
    server; seconds of every call with one digit."""

    client: str
    right: int
    equal: bool
    times: _measure.Seconds


def can_serve() -> bool:
    """Whether the packages of ``linnet[serve]`` are there."""
    return all(importlib.util.find_spec(name) is not None for name in ("grpc", "google.protobuf", "aiohttp"))


def serve_digits(digits: Digits, chances: Floats, seconds: float, say: Callable[[str], None]) -> list[Called]:
    """Serve the model with ``linnet serve`` and read ``digits`` through it, one at a time.

    Args:
        chances: what a run without a server makes of them, [n, 10].
        seconds: how long each client's calls are timed.
    """
    say("serving the model over gRPC")
    command = [sys.executable, "-m", "linnet", "serve", str(MODEL), "--grpc-port", "0", "--http-port", "none"]
    with subprocess.Popen(
        [*command, "--drain", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            address = _address(server)
            called = []
            for name, connect in _clients():
                say(f"calling it with {name}")
                called.append(_call(name, connect(address), digits, chances, seconds))
            return called
        finally:
            server.terminate()
            server.wait(30)


def _address(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    for line in server.stdout:
        if match := re.match(r"gRPC on (\S+)", line):
            return match[1]
    raise RuntimeError("linnet serve did not start: run it by hand to see why")


def _clients() -> list[tuple[str, Callable[[str], Reader]]]:
    clients: list[tuple[str, Callable[[str], Reader]]] = [("linnet.serve.Client", _linnet_client)]
    if importlib.util.find_spec("tritonclient") is not None:
        clients.append((f"tritonclient {version('tritonclient')}", _triton_client))
    return clients


def _linnet_client(address: str) -> Reader:
    from linnet.serve import Client

    client = Client(address)
    return lambda picture: client.infer("digits", {"image": picture})["probabilities"]


def _triton_client(address: str) -> Reader:
    grpc: Any = importlib.import_module("tritonclient.grpc")
    client = grpc.InferenceServerClient(address)

    def read(picture: Floats) -> Floats:
        image = grpc.InferInput("image", list(picture.shape), "FP32")
        image.set_data_from_numpy(picture)
        chances: Floats = client.infer("digits", [image]).as_numpy("probabilities")
        return chances

    return read


def _call(name: str, read: Reader, digits: Digits, chances: Floats, seconds: float) -> Called:
    pictures = model_input(digits.images)
    answers = np.concatenate([read(pictures[i : i + 1]) for i in range(len(pictures))])
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        i = len(times) % len(pictures)
        start = time.perf_counter()
        read(pictures[i : i + 1])
        times.append(time.perf_counter() - start)
    right = int(np.sum(answers.argmax(1) == digits.labels))
    return Called(name, right, bool(np.array_equal(answers, chances)), np.array(times))
