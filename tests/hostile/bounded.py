"""Work in a forked child whose time and memory are measured."""

from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SANITIZED = "libclang_rt.asan" in Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else False
MOST_SECONDS = 20.0 if SANITIZED else 1.0
PATIENCE = 20 * MOST_SECONDS  # by the clock, until a child counts as hanging
MOST_MEGABYTES = 2000.0 if SANITIZED else 200.0


def resident_mb(peak: bool = False) -> float:
    """Memory of this process in MB: now, or the most since `forget_peak`."""
    key = "VmHWM:" if peak else "VmRSS:"
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    return 0.0


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@dataclass
class Outcome:
    label: str
    seconds: float  # that it computed, in all threads: other programs may be running
    megabytes: float  # more than before the case
    said: Any  # what the function returned or the error's type and text


def each_in_child(
    cases: Callable[[], Iterable[tuple[str, Callable[[], Any]]]], patience: float = PATIENCE
) -> tuple[list[Outcome], str | None]:
    """Runs all cases in one forked child: their outcomes, and the label of the case in which the child died, if any."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 1
        try:
            for label, work in cases():
                _send(writer, ("start", label))
                forget_peak()
                before = resident_mb()
                start = time.process_time()
                try:
                    said = work()
                except Exception as problem:
                    said = f"{type(problem).__name__}: {problem}"
                seconds = time.process_time() - start
                _send(writer, ("end", Outcome(label, seconds, resident_mb(peak=True) - before, said)))
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    outcomes: list[Outcome] = []
    running: str | None = None
    try:
        while True:
            ready, _, _ = select.select([reader], [], [], patience)
            if not ready:
                os.kill(child, signal.SIGKILL)
                running = f"{running} (no answer in {patience} s)"
                break
            message = _receive(reader)
            if message is None:
                break
            if message[0] == "start":
                running = message[1]
            else:
                running = None
                outcomes.append(message[1])
    finally:
        os.close(reader)
        _, status = os.waitpid(child, 0)
    if running is None and status != 0:
        running = f"after {outcomes[-1].label if outcomes else 'nothing'}"
    if running is not None and os.WIFSIGNALED(status):
        running += f" (signal {os.WTERMSIG(status)})"
    return outcomes, running


def _send(fd: int, thing: Any) -> None:
    data = pickle.dumps(thing)
    data = struct.pack("<I", len(data)) + data
    while data:
        data = data[os.write(fd, data) :]


def _receive(fd: int) -> Any:
    def exactly(count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            more = os.read(fd, count - len(data))
            if not more:
                return None
            data += more
        return data

    head = exactly(4)
    body = exactly(struct.unpack("<I", head)[0]) if head is not None else None
    return pickle.loads(body) if body is not None else None


def within_bounds(outcome: Outcome) -> str | None:
    """What is wrong with how long it took and how much memory it asked for; None when nothing is."""
    if outcome.seconds > MOST_SECONDS:
        return f"{outcome.label}: {outcome.seconds:.2f} s ({outcome.said})"
    if outcome.megabytes > MOST_MEGABYTES:
        return f"{outcome.label}: {outcome.megabytes:.0f} MB ({outcome.said})"
    return None


def attempt(work: Callable[[], Any]) -> Any:
    """The result of `work`, or "Type: text" of the exception it raised, from a child that must stay within bounds."""
    outcomes, died = each_in_child(lambda: [("", work)])
    assert died is None, f"the process died: {died}"
    wrong = within_bounds(outcomes[0])
    assert wrong is None, wrong
    return outcomes[0].said
