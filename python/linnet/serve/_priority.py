"""Work beside serving: what loads gives way to what serves, and gives memory back."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
import time
from collections.abc import Iterator
from types import TracebackType

from linnet._core import serve as _core

NICENESS = 10
"""Of the loader's thread: its share of a busy core is a tenth of a serving thread's."""
_WINDOW = 0.1


class Quiet:
    """The scope of one load by one thread. Inside its blocks `idle` the thread has Linux's idle priority, so that a
    thread that serves gets its core at once and not after a time slice.

    On a machine without a moment's rest such a thread may stop for long in the middle of a system call or an
    allocation, and those that wait for the same lock wait with it (measured: p99 of answers from 5 to 80 ms). So a
    load that gets less than half of a core for a tenth of a second goes on at ordinary priority.

    The blocks are for calls that release the GIL, and make no threads: these inherit their maker's priority.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._over = not can_return()
        self._inside = 0
        self._done = threading.Event()

    def __enter__(self) -> Quiet:
        if not self._over:
            clock = time.pthread_getcpuclockid(threading.get_ident())
            threading.Thread(target=self._watch, args=(clock,), name="linnet-loader-watch", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._done.set()

    @contextlib.contextmanager
    def idle(self) -> Iterator[None]:
        """A block at idle priority."""
        with self._lock:
            if not self._over:
                self._inside = threading.get_native_id()
                os.sched_setscheduler(self._inside, os.SCHED_IDLE, os.sched_param(0))
        _core.set_gives_way(True)
        try:
            yield
        finally:
            _core.set_gives_way(False)
            with self._lock:
                self._leave()

    def _watch(self, clock: int) -> None:
        since, used = time.monotonic(), 0.0
        while not self._done.wait(_WINDOW):
            with self._lock:
                if self._done.is_set():
                    return
                now, now_used = time.monotonic(), time.clock_gettime(clock)
                if used and now_used - used < (now - since) / 2:
                    self._over = True
                    self._leave()
                    return
                since, used = now, now_used

    def _leave(self) -> None:
        if self._inside:
            os.sched_setscheduler(self._inside, os.SCHED_OTHER, os.sched_param(0))
            self._inside = 0


@functools.cache
def can_return() -> bool:
    """Whether a thread may take idle priority and leave it again: elsewhere than on Linux it cannot, and without
    CAP_SYS_NICE or a limit RLIMIT_NICE of 20 it may not."""
    results: list[bool] = []

    def attempt() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except (AttributeError, OSError):
            return
        results.append(True)

    thread = threading.Thread(target=attempt)  # one that is not needed any more
    thread.start()
    thread.join()
    return bool(results)


def be_nice() -> None:
    """Lowers the calling thread, and threads that it makes, for good; nothing happens where one thread's priority
    cannot be set (elsewhere than on Linux it would be the process's)."""
    if hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def return_memory() -> None:
    """Hands memory that was freed back to the system, where the C library can."""
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)


_LIBC = ctypes.CDLL(None)
