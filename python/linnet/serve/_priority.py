"""Work beside serving: heavy calls run when a core has nothing else to do."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator


@contextlib.contextmanager
def background() -> Iterator[None]:
    """Gives the calling thread idle priority inside the block (Linux; nothing happens where that cannot be done).

    Only for calls that release the GIL: a thread that waits for a core must not hold what others wait for.
    """
    try:
        policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameter)


def return_memory() -> None:
    """Hands memory that was freed back to the system, where the C library can."""
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)


_LIBC = ctypes.CDLL(None)
