"""Work beside serving: the thread that loads gives way to those that serve, and gives memory back."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading

NICENESS = 10
"""Of the loader's thread: its share of a busy core is a tenth of a serving thread's.

Not Linux's idle priority: on a busy machine a thread that has it can stop for a long time in the middle of a system
call or an allocation, and those that wait for the same lock wait with it (measured: an answer's p99 went from 5 to
80 ms). And without rights a thread cannot leave it again.
"""


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
