"""What this process and this machine use, as the kernel tells it (Linux; elsewhere what is known is less)."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """Of this process at one moment. None: not known on this system."""

    cpu_seconds: float
    resident_bytes: int | None
    virtual_bytes: int | None
    open_files: int | None
    most_files: int | None
    threads: int | None
    started: float | None
    """Seconds since 1970."""


def usage() -> Usage:
    """Reads it; takes some 30 microseconds."""
    times = os.times()
    resident = virtual = threads = started = None
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        threads, virtual = int(fields[17]), int(fields[20])
        resident = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot
    except (OSError, ValueError, IndexError, AttributeError):
        pass
    return Usage(times.user + times.system, resident, virtual, _open_files(), _most_files(), threads, started)


def _open_files() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # the listing's own
    except OSError:
        return None


def _most_files() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


class Machine:
    """The whole machine's CPU and memory."""

    def __init__(self) -> None:
        self._last = _cpu_ticks()

    def cpu_share(self) -> float:
        """The share of all CPUs' time that was used since the last call."""
        before, now = self._last, _cpu_ticks()
        self._last = now
        used, passed = now[0] - before[0], now[1] - before[1]
        return used / passed if passed > 0 else 0.0

    def memory(self) -> tuple[int, int]:
        """Bytes that there are, and that are in use."""
        found = {}
        try:
            with open("/proc/meminfo", "rb") as file:
                for line in file:
                    name, _, value = line.partition(b":")
                    found[name] = int(value.split()[0]) * 1024
        except (OSError, ValueError, IndexError):
            return 0, 0
        total = found.get(b"MemTotal", 0)
        return total, total - found.get(b"MemAvailable", 0)


def _cpu_ticks() -> tuple[int, int]:
    """Used, and passed; of all CPUs since the start of the machine."""
    try:
        with open("/proc/stat", "rb") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return 0, 0
    idle = sum(ticks[3:5])
    return sum(ticks) - idle, sum(ticks)
