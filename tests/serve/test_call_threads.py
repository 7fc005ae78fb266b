"""The executor that grpcio's calls run in."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from linnet.serve._threads import CallThreads


def test_as_many_threads_as_calls_and_no_more_than_allowed() -> None:
    threads = CallThreads(3)
    gate = threading.Event()
    names: list[str] = []

    def work() -> None:
        names.append(threading.current_thread().name)
        gate.wait(30)

    before = set(threading.enumerate())
    calls = [threads.submit(work) for _ in range(8)]
    assert len(set(threading.enumerate()) - before) == 3
    until = time.monotonic() + 30
    while len(names) < 3 and time.monotonic() < until:
        time.sleep(1e-3)
    gate.set()
    threads.shutdown()
    assert len(names) == len(calls) == 8 and len(set(names)) == 3
    assert set(threading.enumerate()) <= before


def test_one_thread_is_enough_for_one_call_at_a_time() -> None:
    threads = CallThreads(16)
    before = set(threading.enumerate())
    for _ in range(50):
        done = threading.Event()
        threads.submit(int).add_done_callback(lambda _, done=done: done.set())
        assert done.wait(30)
    assert len(set(threading.enumerate()) - before) == 1
    threads.shutdown()


def test_each_call_tells_once_that_it_has_ended() -> None:
    threads = CallThreads(4)
    told: list[Any] = []
    calls = []
    for _ in range(2000):
        call = threads.submit(int)
        call.add_done_callback(told.append)  # before, while or after it ends
        calls.append(call)
    threads.shutdown()
    assert len(told) == 2000 and set(map(id, told)) == set(map(id, calls))


def test_a_system_without_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = CallThreads(4)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            threads.submit(int)
    gate, ran = threading.Event(), threading.Semaphore(0)
    threads.submit(gate.wait, 30)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            threads.submit(ran.release)  # wait for the one that is there
    gate.set()
    assert all(ran.acquire(timeout=30) for _ in range(3))
    threads.shutdown()
