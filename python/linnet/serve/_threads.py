"""The threads that calls are handled in."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent import futures
from typing import Any


class _Call:
    """What `CallThreads.submit` gives: enough of a future to be told of the end."""

    __slots__ = ("_ended", "_tell", "run")

    def __init__(self, run: Callable[[], object]) -> None:
        self.run = run
        self._tell: list[Callable[[Any], object]] = []
        self._ended = False

    def add_done_callback(self, tell: Callable[[Any], object]) -> None:
        self._tell.append(tell)
        if self._ended:
            self._tell_all()

    def end(self) -> None:
        self._ended = True
        self._tell_all()

    def _tell_all(self) -> None:
        while self._tell:
            try:
                tell = self._tell.pop()  # whoever takes it out calls it: once
            except IndexError:
                return
            tell(self)


class CallThreads(futures.Executor):
    """An executor for grpcio that adds less to each call than `concurrent.futures.ThreadPoolExecutor` does.

    A short call spends a tenth of its time there: futures with conditions, work items, semaphores. Functions must not
    raise, and what they return is dropped, as grpcio has it.

    Args:
        most: threads; they are started as they are needed and as the system lets them be, and stay. RuntimeError if it
            refuses the first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._taken = 0  # calls that are handled or wait
        self._threads: list[threading.Thread] = []
        self._end = weakref.finalize(self, _end, self._calls, self._threads)

    def submit(self, fn: Callable[..., object], /, *args: Any, **kwargs: Any) -> Any:
        call = _Call(lambda: fn(*args, **kwargs))
        with self._lock:
            self._taken += 1
            if self._taken > len(self._threads) < self._most:
                name = f"linnet-call-{len(self._threads)}"
                # A daemon: a program that forgets to stop its server ends none the less (`_end` waits for calls).
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                try:
                    thread.start()
                    self._threads.append(thread)
                except RuntimeError:  # the system has no more: the call waits for one of those that are there
                    if not self._threads:
                        self._taken -= 1
                        raise
        self._calls.put(call)
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """The threads end after their calls."""
        if wait:
            self._end()
        else:
            for _ in self._threads:
                self._calls.put(None)

    def _work(self) -> None:
        take = self._calls.get
        while (call := take()) is not None:
            call.run()
            with self._lock:
                self._taken -= 1
            call.end()
            del call


def _end(calls: queue.SimpleQueue[_Call | None], threads: list[threading.Thread]) -> None:
    for _ in threads:
        calls.put(None)
    for thread in threads:
        thread.join()
