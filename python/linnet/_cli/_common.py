"""What the subcommands share: opening a model, shapes for its free dimensions, inputs, reading values from files."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from linnet import _core, _dimensions, _values
from linnet._options import SessionOptions
from linnet._session import InferenceSession, NodeArg


class UsageError(Exception):
    """The command line asks for something that cannot be."""


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, shapes, --json and --debug."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX file")
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME=1,3,224,224",
        help="shape of an input with free dimensions; or the size of a symbol (--shape batch=4). "
        "What is left free is 1",
    )
    add_output_arguments(parser)


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """--json and --debug."""
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_seed(parser: argparse.ArgumentParser) -> None:
    """--seed."""
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random inputs (default: 0)")


def thread_counts(text: str) -> list[int]:
    """``"1,2"`` as numbers of threads, for argparse."""
    try:
        counts = [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 1,2") from None
    if not counts or min(counts) < 1:
        raise argparse.ArgumentTypeError("numbers of threads start at 1")
    return counts


def positive(text: str) -> float:
    """A number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not value > 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def count(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def share(text: str) -> float:
    """``"0.5%"`` or ``"0.005"`` as 0.005, for argparse."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 0.5% or 0.005") from None
    if not value >= 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def size(text: str) -> int:
    """``"500M"`` (10^6) or ``"2Gi"`` (2^30) as bytes, for argparse."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([kKMGT]?)(i?)B?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 500M or 2Gi")
    power = " KMGT".index(match[2].upper() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def open_model(path: str, threads: int = 0, profile: bool = False, memory_limit: int = 0) -> InferenceSession:
    """A session for the model."""
    options = SessionOptions()
    options.memory_limit = memory_limit
    options.intra_op_num_threads = threads
    options.enable_profiling = profile
    return InferenceSession(path, options)


@dataclass
class Shapes:
    """A shape in numbers for every tensor input, and what was assumed to get there."""

    by_input: dict[str, list[int]] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)  # what is 1 for want of a number: "batch", "dimension 0 of 'x'"


def resolve_shapes(session: InferenceSession, given: Sequence[str], values: Mapping[str, Any] | None = None) -> Shapes:
    """Numbers for all free dimensions: as ``--shape`` says or as ``values`` have them, 1 otherwise."""
    inputs = {arg.name: arg for arg in session.get_inputs()}
    symbols = {
        name for arg in inputs.values() for dim in arg.shape if isinstance(dim, str) for name in _dimensions.names(dim)
    }
    exact: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    for text in given:
        name, equals, numbers = text.rpartition("=")
        if not equals and len(inputs) == 1:
            name = next(iter(inputs))
        try:
            dims = [int(n) for n in numbers.replace("x", ",").split(",") if n.strip()]
        except ValueError:
            dims = [-1]
        if any(d < 0 for d in dims):
            raise UsageError(f"--shape {text}: expected sizes such as {name or 'NAME'}=1,3,224,224")
        if name in inputs:
            exact[name] = dims
        elif name in symbols and len(dims) == 1:
            sizes[name] = dims[0]
        else:
            known = ", ".join([_described(a) for a in inputs.values()])
            raise UsageError(f"--shape {text}: the model has no input {name!r}; its inputs are {known}")
    for name, value in (values or {}).items():
        shape = getattr(value, "shape", ())
        if name in inputs and len(shape) == len(inputs[name].shape):
            exact[name] = list(shape)
            sizes = {d: n for d, n in zip(inputs[name].shape, shape, strict=True) if isinstance(d, str)} | sizes
    shapes = Shapes()
    for arg in inputs.values():
        if not arg.type.startswith("tensor("):
            continue
        if arg.name in exact:
            if arg.name not in (values or {}):
                _check_shape(arg, exact[arg.name])
            shapes.by_input[arg.name] = exact[arg.name]
            continue
        numbers_ = []
        for axis, dim in enumerate(arg.shape):
            if isinstance(dim, int):
                numbers_.append(dim)
                continue
            numbers_.append(_dimensions.size(dim, sizes) if isinstance(dim, str) else 1)
            free = (
                [n for n in _dimensions.names(dim) if n not in sizes] if dim else [f"dimension {axis} of {arg.name!r}"]
            )
            shapes.assumed += [name for name in free if name not in shapes.assumed]
        shapes.by_input[arg.name] = numbers_
    return shapes


def _described(arg: NodeArg) -> str:
    return f"{arg.name!r} {shape_text(arg.shape)}"


def _check_shape(arg: NodeArg, dims: list[int]) -> None:
    if arg.shape and (
        len(dims) != len(arg.shape) or any(isinstance(a, int) and a != b for a, b in zip(arg.shape, dims, strict=True))
    ):
        raise UsageError(f"--shape {arg.name}={','.join(map(str, dims))}: the model takes {shape_text(arg.shape)}")


def shape_text(shape: Sequence[int | str | None]) -> str:
    """``[batch, 3, 224, 224]``."""
    return "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"


def assumption_text(shapes: Shapes) -> str:
    """A sentence about the free dimensions, or nothing."""
    if not shapes.assumed:
        return ""
    return f"Free dimensions taken as 1 (--shape sets them): {', '.join(shapes.assumed)}"


def random_value(arg: NodeArg, shape: Sequence[int], rng: np.random.Generator) -> Any:
    """A tensor for an input: normal floats, any bytes, other integers 0 or 1 (they are often indices or masks)."""
    kind = arg.type.removeprefix("optional(").rstrip(")")
    if kind.startswith("seq("):
        return []
    name = kind.removeprefix("tensor(")
    if name == "string":
        return rng.choice(np.array(["a", "b"], dtype=object), size=tuple(shape))
    dtype = _values.dtype_named(name)
    if dtype.kind == "f" or name.startswith(("bfloat", "float")):
        return rng.standard_normal(tuple(shape), dtype=np.float32).astype(dtype)
    if dtype.kind == "c":
        return (rng.standard_normal(tuple(shape)) + 1j * rng.standard_normal(tuple(shape))).astype(dtype)
    if name in ("uint8", "int8"):
        return rng.integers(0, 256, tuple(shape), dtype=np.uint8).view(dtype)
    return rng.integers(0, 2, tuple(shape)).astype(dtype)


def random_feeds(session: InferenceSession, shapes: Shapes, seed: int, given: dict[str, Any]) -> dict[str, Any]:
    """``given`` and random values for all other inputs, in the model's order."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Any] = {}
    for arg in session.get_inputs():
        value = random_value(arg, shapes.by_input.get(arg.name, []), rng)
        feeds[arg.name] = given.get(arg.name, value)
    return feeds


def read_value(path: Path, kind: str = "tensor") -> Any:
    """A value from a ``.npy`` or ``.pb`` (serialized TensorProto, or SequenceProto with ``kind`` "sequence") file."""
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix == ".pb":
        return _core.read_value(path.read_bytes(), kind)
    raise UsageError(f"{path}: expected a .npy or .pb file")


def kind_of(arg: NodeArg) -> str:
    """The kind of value that ``read_value`` takes."""
    for start, kind in (("optional(", "optional"), ("seq(", "sequence"), ("map(", "map")):
        if arg.type.startswith(start):
            return kind
    return "tensor"
