"""The demo's job: read the held-out digits with a runtime, and measure what that takes."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from linnet import _measure
from linnet.demo._data import MODEL, Digits, model_input

Floats = npt.NDArray[np.float32]


@dataclass
class Result:
    """What one runtime did: ``chances`` [n, 10], a row a digit; seconds for each single digit; memory in bytes."""

    runtime: str
    version: str
    chances: Floats
    times: _measure.Seconds = field(default_factory=lambda: np.zeros(0))
    memory: int = 0

    def right(self, digits: Digits) -> int:
        """How many digits were read right."""
        return int(np.sum(self.chances.argmax(1) == digits.labels))


@dataclass(frozen=True)
class Step:
    """One step of a run: its name, its operator, and its mean duration in microseconds."""

    name: str
    op: str
    microseconds: float


def available(names: tuple[str, ...] = ("linnet", "onnxruntime")) -> list[str]:
    """Those of ``names`` that can be imported."""
    return [name for name in names if importlib.util.find_spec(name) is not None]


def read_digits(runtimes: list[str], digits: Digits, seconds: float, say: Callable[[str], None]) -> list[Result]:
    """Read ``digits`` one at a time with every runtime on one thread; time them in turns."""
    pictures = model_input(digits.images)
    singles: list[_measure.Feeds] = [{"image": pictures[i : i + 1]} for i in range(len(pictures))]
    results: list[Result] = []
    calls: dict[str, Callable[[], object]] = {}
    for name in runtimes:
        say(f"reading {len(singles)} digits with {name}")
        run = _measure.runtime(name)(MODEL, 1)
        chances = np.concatenate([np.asarray(run(feeds)[0], np.float32) for feeds in singles])
        results.append(Result(name, str(importlib.import_module(name).__version__), chances))
        calls[name] = _reader(run, singles)
    say(f"timing single digits, {' and '.join(runtimes)} in turns")
    times = _measure.interleaved(calls, seconds=seconds)
    for result in results:
        result.times = times[result.runtime]
        say(f"measuring the memory of {result.runtime} in a process of its own")
        result.memory = _measure.memory(result.runtime, MODEL, singles[0])
    return results


def _reader(run: _measure.Call, singles: list[_measure.Feeds]) -> Callable[[], object]:
    digit = itertools.cycle(singles)
    return lambda: run(next(digit))


def step_times(digits: Digits, runtime: str = "linnet", runs: int = 500) -> list[Step]:
    """Where the time goes: the steps of the plan in order, averaged over ``runs`` single digits.

    Read from the trace that a profiling session writes (Chrome's format: one event of category "Node" a step).
    """
    module = importlib.import_module(runtime)
    pictures = model_input(digits.images)
    with tempfile.TemporaryDirectory() as folder:
        options = module.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder, "digits")
        session = module.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])
        for i in range(runs):
            session.run(None, {"image": pictures[i % len(pictures)][None]})
        events = json.loads(Path(session.end_profiling()).read_text())
    if isinstance(events, dict):
        events = events["traceEvents"]
    total: dict[tuple[str, str], float] = defaultdict(float)
    count: dict[tuple[str, str], int] = defaultdict(int)
    for event in events:
        if event.get("cat") == "Node" and "dur" in event:
            key = (event["name"].removesuffix("_kernel_time"), event.get("args", {}).get("op_name", ""))
            total[key] += event["dur"]
            count[key] += 1
    return [Step(name, op, total[name, op] / count[name, op]) for name, op in total]
