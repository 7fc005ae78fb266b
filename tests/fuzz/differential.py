"""Random small graphs, run in many ways that must agree: ``python tests/fuzz/differential.py [--seconds 60]``.

Each graph is run by onnxruntime without optimisation, and by Linnet with and without optimisation, with `exact`, with
every kernel table that this CPU has and with one thread and two. The first disagreement, or the first graph that
onnxruntime runs and Linnet does not, ends the program with status 1: the model and its inputs are written to
``--keep``, and ``--seed`` runs one graph again.
"""

from __future__ import annotations

import argparse
import os
import pickle
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import random_graphs

Arrays = list[Any]
WAYS: dict[str, dict[str, Any]] = {
    "optimised": {},
    "simplified": {"level": 1},
    "unoptimised": {"level": 0},
    "exact, 2 threads": {"exact": True, "threads": 2},
}
TOLERANCE = 3e-4  # of the largest magnitude among the values that an output is made of


def answer(model: bytes, feeds: dict[str, Any], level: int = 99, exact: bool = False, threads: int = 1) -> Arrays:
    import linnet

    options = linnet.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = level
    options.add_session_config_entry("linnet.exact", "1" if exact else "0")
    session = linnet.InferenceSession(model, options)
    results = session.run(None, feeds)
    again = session.run(None, feeds)
    for a, b in zip(results, again, strict=True):
        assert a.tobytes() == b.tobytes(), "a second run has other bits"
    return results


def serve_answers() -> None:
    """The other side of `Table`: models and feeds come in through standard input, answers go out."""
    out = os.fdopen(os.dup(1), "wb")
    while head := sys.stdin.buffer.read(4):
        model, feeds, ways = pickle.loads(sys.stdin.buffer.read(struct.unpack("<I", head)[0]))
        answers: dict[str, Any] = {}
        for name, way in ways.items():
            try:
                answers[name] = answer(model, feeds, **way)
            except Exception as problem:
                answers[name] = f"{type(problem).__name__}: {problem}"
        data = pickle.dumps(answers)
        out.write(struct.pack("<I", len(data)) + data)
        out.flush()


class Table:
    """A process that runs with one kernel table."""

    def __init__(self, isa: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            env=os.environ | {"LINNET_ISA": isa},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(self, model: bytes, feeds: dict[str, Any], ways: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        data = pickle.dumps((model, feeds, ways))
        self.process.stdin.write(struct.pack("<I", len(data)) + data)
        self.process.stdin.flush()
        head = self.process.stdout.read(4)
        if len(head) < 4:
            return dict.fromkeys(ways, f"the process died with status {self.process.wait()}")
        answers: dict[str, Any] = pickle.loads(self.process.stdout.read(struct.unpack("<I", head)[0]))
        return answers


def tables() -> list[str]:
    """Kernel tables of this CPU."""
    from linnet import _core

    return [name for name, runs in _core.kernel_tables() if runs]


def magnitudes(model: onnx.ModelProto, feeds: dict[str, Any], outputs: list[str]) -> dict[str, float] | None:
    """For each output the largest magnitude among the values that it is made of; None when onnxruntime refuses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    open_model = onnx.ModelProto()
    open_model.CopyFrom(model)
    known = {o.name for o in model.graph.output}
    made = [name for node in model.graph.node for name in node.output]
    open_model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made if name not in known)
    try:
        session = onnxruntime.InferenceSession(open_model.SerializeToString(), options, ["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        results = session.run(names, feeds)
    except Exception:
        return None
    own: dict[str, float] = {}
    for name, array in [*zip(names, results, strict=True), *feeds.items()]:
        own[name] = float(np.max(np.abs(np.asarray(array, np.float64)), initial=0))
    reach = dict(own)
    for node in model.graph.node:
        most = max([reach.get(i, 0.0) for i in node.input], default=0.0)
        for name in node.output:
            reach[name] = max(own.get(name, 0.0), most)
    global _reference
    _reference = {n: r for n, r in zip(names, results, strict=True)}
    return {name: reach[name] for name in outputs}


_reference: dict[str, Any] = {}


def differences(got: Any, outputs: list[random_graphs.Value], reach: dict[str, float]) -> str | None:
    """How an answer differs from onnxruntime's; None when it does not."""
    if isinstance(got, str):
        return got
    for value, array in zip(outputs, got, strict=True):
        want = _reference[value.name]
        if array.dtype != want.dtype or array.shape != want.shape:
            return f"{value.name} is {array.dtype} {array.shape}, expected {want.dtype} {want.shape}"
        if not want.size:
            continue
        if value.dtype != random_graphs.F32:
            if not np.array_equal(array, want):
                return f"{value.name} differs"
            continue
        if not np.array_equal(np.isnan(array), np.isnan(want)):
            return f"{value.name} has NaN elsewhere"
        with np.errstate(all="ignore"):
            error = float(np.nanmax(np.where(array == want, 0, np.abs(array - want)), initial=0))
        allowed = TOLERANCE * reach[value.name] + 1.01 * value.step
        if not error <= allowed:
            return f"{value.name} differs by {error:.3g}, allowed are {allowed:.3g}"
    return None


def check(seed: int, running: dict[str, Table]) -> tuple[bool, str | None]:
    """Whether the graph could be compared, and what went wrong."""
    model, feeds, outputs = random_graphs.make(seed)
    if not outputs:
        return False, None
    reach = magnitudes(model, feeds, [v.name for v in outputs])
    if reach is None:
        return False, None
    data = model.SerializeToString()
    for isa, table in running.items():
        answers = table.run(data, feeds, WAYS)
        for way, got in answers.items():
            wrong = differences(got, outputs, reach)
            if wrong:
                return True, f"{isa}, {way}: {wrong}"
    return True, None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--first", type=int, default=None, help="the first graph's number (default: the clock's)")
    parser.add_argument("--seed", type=int, default=None, help="this graph only")
    parser.add_argument("--keep", type=Path, default=Path("differential"), help="where a model that fails is written")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve_answers()
        return 0
    running = {isa: Table(isa) for isa in tables()}
    seed = args.seed if args.seed is not None else args.first if args.first is not None else int(time.time()) << 20
    end = time.monotonic() + args.seconds
    made = compared = 0
    status = 0
    while True:
        good, wrong = check(seed, running)
        made += 1
        compared += good
        if wrong:
            model, feeds, _ = random_graphs.make(seed)
            args.keep.mkdir(parents=True, exist_ok=True)
            onnx.save(model, args.keep / f"{seed}.onnx")
            np.savez(args.keep / f"{seed}.npz", **feeds)
            print(f"graph {seed}: {wrong}\nkept in {args.keep}")
            print(onnx.printer.to_text(model)[:4000])
            status = 1
            break
        if args.seed is not None or time.monotonic() > end:
            break
        seed += 1
    print(f"differential: {made} graphs made, {compared} compared in {len(WAYS)} ways on {', '.join(running)}")
    for table in running.values():
        table.process.kill()
    return status


if __name__ == "__main__":
    sys.exit(main())
