"""``linnet run``: run a model once on files or random inputs, show what comes out, check it."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from linnet import _measure
from linnet._cli import _common, _text
from linnet._cli._common import UsageError
from linnet._cli._compare import compare
from linnet._options import RunOptions
from linnet._session import InferenceSession, NodeArg

_EPILOG = """\
examples:
  linnet run model.onnx                                  random inputs, free dimensions 1
  linnet run model.onnx --shape image=8,3,224,224        eight pictures
  linnet run model.onnx --input image=cat.npy            a real input
  linnet run model.onnx --input image=cat.npy --check scores=expected.npy
  linnet run model.onnx --check test_data_set_0          inputs and expected outputs from one folder
  linnet run model.onnx --output-dir out                 keep the outputs as .npy files

A check passes when the largest difference is at most --tolerance of the largest expected magnitude, and integers,
booleans and strings are equal.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "run",
        help="run a model once, show and check its outputs",
        description="Run a model once and show its outputs. Inputs that are not given are random.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _common.add_model_arguments(parser)
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME=FILE", help="an input from a .npy or .pb file"
    )
    _common.add_seed(parser)
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="write every output there as NAME.npy")
    parser.add_argument(
        "--check",
        action="append",
        default=[],
        metavar="EXPECTED",
        help="an expected output, [NAME=]FILE.npy or .pb, or a folder with input_N.pb and output_N.pb",
    )
    parser.add_argument(
        "--tolerance", type=_common.positive, default=1e-4, metavar="T", help="of a check (default: 1e-4)"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="threads (default: all CPUs)")
    parser.add_argument(
        "--memory-limit", type=_common.size, default=0, metavar="SIZE", help="such as 500M (default: all there is)"
    )
    parser.add_argument(
        "--time-limit", type=_common.positive, metavar="SECONDS", help="of the run (default: as long as it takes)"
    )
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Does it; 1 when a check fails."""
    if args.threads < 0:
        raise UsageError("--threads starts at 1")
    started = time.perf_counter()
    session = _common.open_model(args.model, args.threads, memory_limit=args.memory_limit)
    loaded = time.perf_counter() - started
    given, expected = _files(session, args.input, args.check)
    shapes = _common.resolve_shapes(session, args.shape, given)
    feeds = _common.random_feeds(session, shapes, args.seed, given)
    started = time.perf_counter()
    limits = RunOptions()
    limits.time_limit_ms = int(1000 * args.time_limit) if args.time_limit else 0
    results = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds, limits), strict=True))
    taken = time.perf_counter() - started

    checks = {name: compare(results[name], value, args.tolerance) for name, value in expected.items()}
    passed = all(check.passed for check in checks.values())
    if args.output_dir:
        _write(args.output_dir, results)
    if args.json:
        _text.print_json(
            {
                "model": args.model,
                "load_seconds": loaded,
                "first_run_seconds": taken,
                "inputs": {n: {"given": n in given, **_describe(v)} for n, v in feeds.items()},
                "outputs": {n: _describe(v) for n, v in results.items()},
                "checks": {n: vars(c) for n, c in checks.items()},
                "assumed_free_dimensions": shapes.assumed,
                "passed": passed,
            }
        )
        return 0 if passed else 1
    print(f"{args.model}: loaded in {_measure.duration(loaded)}, first run {_measure.duration(taken)}")
    if _common.assumption_text(shapes):
        print(_common.assumption_text(shapes))
    print("\nInputs")
    print(_values_table({n: (v, "given" if n in given else f"random, seed {args.seed}") for n, v in feeds.items()}))
    print("\nOutputs")
    print(_values_table({n: (v, "") for n, v in results.items()}))
    if checks:
        print("\nChecks")
        rows = [[name, "ok" if c.passed else "FAILED", c.text] for name, c in checks.items()]
        print(_text.table(["output", "", ""], rows, left=(0, 1, 2)))
    if args.output_dir:
        print(f"\nOutputs written to {args.output_dir}")
    return 0 if passed else 1


def _files(session: InferenceSession, inputs: list[str], checks: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values given for inputs, and expected for outputs, by name."""
    ins = {arg.name: arg for arg in session.get_inputs()}
    outs = {arg.name: arg for arg in session.get_outputs()}
    given: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    for text in checks:
        if Path(text).is_dir():
            folder = Path(text)
            given |= _numbered(folder, "input", list(ins.values()))
            expected |= _numbered(folder, "output", list(outs.values()))
            if not expected:
                raise UsageError(f"--check {text}: the folder has no output_0.pb")
        else:
            name, file = _named(text, outs, "--check")
            expected[name] = _common.read_value(file, _common.kind_of(outs[name]))
    for text in inputs:
        name, file = _named(text, ins, "--input")
        given[name] = _common.read_value(file, _common.kind_of(ins[name]))
    return given, expected


def _named(text: str, known: Mapping[str, NodeArg], option: str) -> tuple[str, Path]:
    """``NAME=FILE``, or ``FILE`` alone for the first (of the inputs: the only) one."""
    name, equals, file = text.partition("=")
    while equals and name not in known and "=" in file:  # names may hold "="
        more, _, file = file.partition("=")
        name = f"{name}={more}"
    if not equals:
        if option == "--input" and len(known) != 1:
            raise UsageError(f"{option} {text}: say which input, NAME={text}; the model has {', '.join(known)}")
        return next(iter(known)), Path(text)
    if name not in known:
        raise UsageError(f"{option} {text}: the model has no {name!r} but {', '.join(known)}")
    return name, Path(file)


def _numbered(folder: Path, what: str, args: list[NodeArg]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in folder.iterdir():
        match = re.fullmatch(rf"{what}_(\d+)\.(pb|npy)", path.name)
        if match:
            if int(match[1]) >= len(args):
                raise UsageError(f"{path}: the model has {len(args)} {what}s")
            arg = args[int(match[1])]
            found[arg.name] = _common.read_value(path, _common.kind_of(arg))
    return found


def _describe(value: Any) -> dict[str, Any]:
    if not isinstance(value, np.ndarray):
        return {"kind": type(value).__name__, "length": len(value) if hasattr(value, "__len__") else 0}
    described: dict[str, Any] = {"dtype": value.dtype.name, "shape": list(value.shape)}
    numbers = _numbers(value)
    if numbers is not None and numbers.size:
        low, mean, high = _statistics(numbers)
        described |= {"min": low, "mean": mean, "max": high, "nan": int(np.isnan(numbers).sum())}
    described["first"] = [v if isinstance(v, (str, bytes)) else float(v) for v in value.ravel()[:6].tolist()]
    return described


def _numbers(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    if value.dtype.kind in "OUSc":
        return None
    return value.astype(np.float64)


def _statistics(numbers: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    with np.errstate(all="ignore"):
        return float(numbers.min()), float(numbers.mean()), float(numbers.max())


def _values_table(values: Mapping[str, tuple[Any, str]]) -> str:
    rows = []
    for name, (value, note) in values.items():
        if not isinstance(value, np.ndarray):
            length = f"{len(value)} items" if hasattr(value, "__len__") else str(value)
            rows.append([name, type(value).__name__, length, "", "", "", "", note])
            continue
        numbers = _numbers(value)
        statistics = ["", "", ""]
        if numbers is not None and numbers.size:
            statistics = [_text.number(v) for v in _statistics(numbers)]
            if np.isnan(numbers).any():
                note = (note + ", " if note else "") + f"{int(np.isnan(numbers).sum())} NaN"
        first = " ".join(_text.shorten(_text.number(v), 24) for v in value.ravel()[:6].tolist())
        more = " …" if value.size > 6 else ""
        rows.append([name, value.dtype.name, _common.shape_text(value.shape), *statistics, first + more, note])
    head = ["name", "dtype", "shape", "min", "mean", "max", "first values", ""]
    return _text.table(head, rows, left=(0, 1, 2, 6, 7))


def _write(folder: Path, results: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, (name, value) in enumerate(results.items()):
        if not isinstance(value, np.ndarray):
            continue
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".") or f"output_{index}"
        kept = value.astype(str) if value.dtype.kind == "O" else value
        np.save(folder / f"{safe}.npy", kept, allow_pickle=False)
