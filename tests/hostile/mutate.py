"""Small models with something in them that no sane model has: attributes, integer operands and shapes of the ONNX
suite's node models are set to extreme values one at a time."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, numpy_helper

NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    -7,
    64,
    1000,
    2**20,
    2**31 - 1,
    -(2**31),
    2**31,
    2**32 + 1,
    2**40,
    2**62,
    2**63 - 1,
    -(2**63),
]
FLOATS = [0.0, -1.0, 1e-45, 1e30, -1e38, float("inf"), float("-inf"), float("nan")]
TEXTS = [b"", b"\xff\xfe", b"linear", b"SAME_UPPER", b"x" * 1000]
SIZES = [0, 1, 3, 70]

Case = tuple[str, onnx.ModelProto, list[Any]]


def _changed(model: onnx.ModelProto, node: int, name: str) -> tuple[onnx.ModelProto, AttributeProto]:
    copied = copy.deepcopy(model)
    attribute = next(a for a in copied.graph.node[node].attribute if a.name == name)
    return copied, attribute


def _attributes(model: onnx.ModelProto, feeds: list[Any]) -> Iterator[Case]:
    for n, node in enumerate(model.graph.node):
        for a in node.attribute:
            label = f"{node.op_type}[{n}].{a.name}"
            if a.type == AttributeProto.INT:
                for number in NUMBERS:
                    changed, at = _changed(model, n, a.name)
                    at.i = number
                    yield f"{label} = {number}", changed, feeds
            elif a.type == AttributeProto.INTS:
                for number in NUMBERS:
                    for i in range(min(len(a.ints), 4)):
                        changed, at = _changed(model, n, a.name)
                        at.ints[i] = number
                        yield f"{label}[{i}] = {number}", changed, feeds
                    changed, at = _changed(model, n, a.name)
                    at.ints[:] = [number] * len(a.ints)
                    yield f"{label}[:] = {number}", changed, feeds
                for size in (0, len(a.ints) - 1, len(a.ints) + 1, 65, 5000):
                    changed, at = _changed(model, n, a.name)
                    at.ints[:] = (list(a.ints) + [1] * 5000)[: max(size, 0)]
                    yield f"len({label}) = {size}", changed, feeds
            elif a.type == AttributeProto.FLOAT:
                for real in FLOATS:
                    changed, at = _changed(model, n, a.name)
                    at.f = real
                    yield f"{label} = {real}", changed, feeds
            elif a.type == AttributeProto.FLOATS:
                for real in FLOATS:
                    changed, at = _changed(model, n, a.name)
                    at.floats[:] = [real] * len(a.floats)
                    yield f"{label}[:] = {real}", changed, feeds
                for size in (0, len(a.floats) - 1, len(a.floats) + 1):
                    changed, at = _changed(model, n, a.name)
                    at.floats[:] = ([*list(a.floats), 1.0])[: max(size, 0)]
                    yield f"len({label}) = {size}", changed, feeds
            elif a.type == AttributeProto.STRING:
                for text in TEXTS:
                    changed, at = _changed(model, n, a.name)
                    at.s = text
                    yield f"{label} = {text[:9]!r}", changed, feeds
            elif a.type == AttributeProto.STRINGS:
                for size in (0, len(a.strings) - 1, len(a.strings) + 1):
                    changed, at = _changed(model, n, a.name)
                    at.strings[:] = ([*list(a.strings), b"more"])[: max(size, 0)]
                    yield f"len({label}) = {size}", changed, feeds
            elif a.type == AttributeProto.TENSOR:
                for i in (0, 7, 2**40, 2**62):
                    changed, at = _changed(model, n, a.name)
                    at.t.dims[:] = [*at.t.dims, i]
                    yield f"{label}.dims += {i}", changed, feeds
            # Another kind than the operator expects.
            changed, at = _changed(model, n, a.name)
            at.CopyFrom(onnx.helper.make_attribute(a.name, 7 if a.type != AttributeProto.INT else [7, 8]))
            yield f"kind of {label}", changed, feeds
            changed = copy.deepcopy(model)
            del changed.graph.node[n].attribute[list(node.attribute).index(a)]
            yield f"without {label}", changed, feeds


def _is_int(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind in "iu" and array.dtype.itemsize >= 4


def _ports(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    known = {t.name for t in model.graph.initializer}
    return [p for p in model.graph.input if p.name not in known]


def any_shape(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with inputs and outputs of no stated shape, so that runs may be given any."""
    changed = copy.deepcopy(model)
    for port in [*changed.graph.input, *changed.graph.output]:
        if port.type.HasField("tensor_type"):
            port.type.tensor_type.ClearField("shape")
    return changed


def as_constant(model: onnx.ModelProto, index: int, array: np.ndarray[Any, Any]) -> onnx.ModelProto:
    changed = copy.deepcopy(model)
    port = _ports(changed)[index]
    changed.graph.initializer.append(numpy_helper.from_array(array, port.name))
    changed.graph.input.remove(port)
    return changed


def _integers(model: onnx.ModelProto, feeds: list[Any]) -> Iterator[Case]:
    free = any_shape(model)
    for i, array in enumerate(feeds):
        if not _is_int(array):
            continue
        name = f"input {i}"
        info = np.iinfo(array.dtype)
        for number in NUMBERS:
            if not info.min <= number <= info.max:
                continue
            places = [*range(min(array.size, 3)), None]
            for place in places:
                changed = array.copy()
                if place is None:
                    changed[...] = number
                else:
                    changed.reshape(-1)[place] = number
                fed = [*feeds[:i], changed, *feeds[i + 1 :]]
                label = f"{name}[{':' if place is None else place}] = {number}"
                yield label, free, fed
                yield label + " constant", as_constant(free, i, changed), [*feeds[:i], *feeds[i + 1 :]]


def _shapes(model: onnx.ModelProto, feeds: list[Any]) -> Iterator[Case]:
    free = any_shape(model)
    for i, array in enumerate(feeds):
        if not isinstance(array, np.ndarray) or array.dtype.kind in "OSU":
            continue
        shapes: list[tuple[int, ...]] = [(), (0,), (1,) * array.ndim, (1,) * (array.ndim + 1), (2,) * 9]
        for d in range(min(array.ndim, 5)):
            for size in SIZES:
                shapes.append((*array.shape[:d], size, *array.shape[d + 1 :]))
        if array.ndim:
            shapes += [array.shape[1:], array.shape[::-1], (0,) * array.ndim, (0, 2**40), (2**31, 0)]
        for shape in dict.fromkeys(shapes):
            if shape == array.shape or np.prod([float(s) for s in shape]) > 1e5:
                continue
            try:
                changed = np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)
            except ValueError:
                continue
            yield f"shape of input {i} = {shape}", free, [*feeds[:i], changed, *feeds[i + 1 :]]
            yield f"shape of constant {i} = {shape}", as_constant(free, i, changed), [*feeds[:i], *feeds[i + 1 :]]


def _reals(model: onnx.ModelProto, feeds: list[Any]) -> Iterator[Case]:
    for i, array in enumerate(feeds):
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.size == 0:
            continue
        for real in FLOATS:
            changed = array.copy()
            with np.errstate(all="ignore"):
                changed[...] = real
            yield f"input {i}[:] = {real}", model, [*feeds[:i], changed, *feeds[i + 1 :]]


def _nodes(model: onnx.ModelProto, feeds: list[Any]) -> Iterator[Case]:
    for n, node in enumerate(model.graph.node):
        for i in range(len(node.input)):
            changed = copy.deepcopy(model)
            changed.graph.node[n].input[i] = ""
            yield f"{node.op_type}[{n}] without input {i}", changed, feeds
            changed = copy.deepcopy(model)
            del changed.graph.node[n].input[i:]
            yield f"{node.op_type}[{n}] with {i} inputs", changed, feeds
            if i:
                changed = copy.deepcopy(model)
                changed.graph.node[n].input[i] = node.input[0]
                yield f"{node.op_type}[{n}] input {i} = input 0", changed, feeds
        for i in range(len(node.output)):
            changed = copy.deepcopy(model)
            changed.graph.node[n].output[i] = ""
            yield f"{node.op_type}[{n}] without output {i}", changed, feeds


def mutations(model: onnx.ModelProto, feeds: list[Any], share: float = 1.0, seed: int = 0) -> Iterator[Case]:
    """Changed models with what to feed them in the order of their inputs; `share` of all that there are."""
    chosen = random.Random(seed)
    for source in (_attributes, _integers, _shapes, _reals, _nodes):
        for case in source(model, feeds):
            if share >= 1 or chosen.random() < share:
                yield case


def feeds_of(model: onnx.ModelProto, feeds: list[Any]) -> dict[str, Any]:
    return {p.name: v for p, v in zip(_ports(model), feeds, strict=False) if v is not None}
