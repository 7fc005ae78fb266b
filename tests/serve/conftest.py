"""Servers, real clients and models for the tests of serving."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import linnet
from client_worker import Worker
from linnet.serve import Server


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Servers tell what they load; failing tests show it, others need not."""
    logging.getLogger("linnet.serve").setLevel(logging.WARNING)
    yield


@pytest.fixture(scope="session")
def triton() -> Iterator[Worker]:
    worker = Worker("triton")
    yield worker
    worker.close()


@pytest.fixture(scope="session")
def tensorflow() -> Iterator[Worker]:
    if os.environ.get("LINNET_TEST_TENSORFLOW_SERVING") != "1":
        pytest.skip("TensorFlow takes 1.6 GB: set LINNET_TEST_TENSORFLOW_SERVING=1")
    worker = Worker("tensorflow")
    yield worker
    worker.close()


@pytest.fixture
def in_process():
    """``in_process(path, inputs)``: the model's outputs by name, run here."""
    sessions: dict[Path, linnet.InferenceSession] = {}

    def run(path: Path, inputs):
        if path not in sessions:
            sessions[path] = linnet.InferenceSession(path)
        session = sessions[path]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, inputs), strict=True))

    return run


@pytest.fixture
def serve() -> Iterator:
    """``serve(source, **settings)``: a server that has started; stopped after the test."""
    servers: list[Server] = []

    def start(source: Path, **settings) -> Server:
        server = Server(source, **({"grpc_port": 0, "http_port": 0} | settings))
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.stop()
