"""Work beside serving: what is heavy in a load runs when a core has nothing else to do, but is not put off for ever."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Iterator
from types import TracebackType

PATIENCE = 10.0
"""Seconds after which a load goes on at ordinary priority: on a machine that is never idle it would not end."""
_NICE = 10


class Quiet:
    """The scope of one load. Inside its blocks `idle` the thread has Linux's idle priority, until patience is over.

    The blocks are for calls that release the GIL, and make no threads: a thread that waits for a core must not hold
    what others wait for, and threads inherit their maker's priority.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._lock = threading.Lock()
        self._over = not can_return()
        self._inside = 0
        self._timer = threading.Timer(patience, self._give_up)
        self._timer.daemon = True

    def __enter__(self) -> Quiet:
        if not self._over:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    @contextlib.contextmanager
    def idle(self) -> Iterator[None]:
        """A block at idle priority."""
        with self._lock:
            if not self._over:
                self._inside = threading.get_native_id()
                os.sched_setscheduler(self._inside, os.SCHED_IDLE, os.sched_param(0))
        try:
            yield
        finally:
            with self._lock:
                self._return()

    def _give_up(self) -> None:
        with self._lock:
            self._over = True
            self._return()

    def _return(self) -> None:
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
    """Lowers the calling thread for good, where `Quiet` can do nothing."""
    if not can_return() and hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def return_memory() -> None:
    """Hands memory that was freed back to the system, where the C library can."""
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)


_LIBC = ctypes.CDLL(None)
