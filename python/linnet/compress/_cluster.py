"""Weight sharing: a tensor as a codebook and packed indices, put together again by standard ONNX operators."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from linnet import _errors, _measure
from linnet.compress import _graph, _kmeans, _layers, _select
from linnet.compress._metric import Metric, UserMetric, decibels
from linnet.compress._report import Bars, Section, Table
from linnet.compress._result import Progress, Result, metric_of, opened, samples_of, silent
from linnet.compress._select import Layer

Array = npt.NDArray[np.generic]

LEAST = 512
"""Tensors of fewer weights are only coded when they are asked for: they are a small part of a file, and sensitive."""

NIBBLE = 16
"""Up to that many codes an index takes four bits; more take eight."""


@dataclass(frozen=True)
class Coded:
    """A tensor in codes: ``indices`` uint8 of its shape, ``books`` [rows, codes]: a row a place along ``axis``."""

    indices: npt.NDArray[np.uint8]
    books: Array
    axis: int

    def array(self) -> Array:
        """The tensor again."""
        if len(self.books) == 1:
            return np.asarray(self.books[0][self.indices])
        return np.asarray(self.books[_along(np.arange(len(self.books)), self.indices.ndim, self.axis), self.indices])

    @property
    def packing(self) -> int | None:
        """The axis along which two indices share a byte; None when each takes a whole one."""
        even = [axis for axis, size in enumerate(self.indices.shape) if size % 2 == 0]
        return even[0] if even and self.books.shape[1] <= NIBBLE else None

    @property
    def nbytes(self) -> int:
        """Bytes in a file, about; the nodes that put the tensor together included."""
        packed = self.packing is not None
        offsets = 4 * len(self.books) if len(self.books) > 1 else 0
        nodes = 350 if packed else 150
        return self.indices.size // (2 if packed else 1) + self.books.nbytes + offsets + nodes


def cluster(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    output: str | os.PathLike[str] | None = None,
    *,
    codes: int = 16,
    per: str = "tensor",
    layers: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    data: Any = None,
    metric: str | Metric | UserMetric | None = None,
    labels: Any = None,
    progress: Progress = silent,
) -> Result:
    """Lets weights share few values, so that the file is smaller: about 4 times with 256 codes, 8 with 16.

    Each tensor becomes a codebook (by k-means) and indices of 8 or, up to 16 codes, 4 bits; Gather and integer
    arithmetic put it together again, so every ONNX runtime runs the file. Linnet does that once, when it loads the
    model. Zeros stay zeros. A tensor of integers (of a quantized model) is coded only where it has no more than that
    many different values, hence without loss.

    Args:
        model: a path, the bytes of a file, or an ``onnx.ModelProto``.
        output: where the model is written, if at all: under a temporary name that is then renamed.
        codes: how many values a codebook has, 2 to 256.
        per: "tensor" for one codebook each, "channel" for one for each output.
        layers: patterns for names, weights or kinds of what to code (``"Conv 3x3"``, ``"Gather"``); by default every
            weight of convolutions, dense and recurrent layers and every table that Gather reads, from `LEAST` elements
            on.
        exclude: patterns of what to leave alone.
        data, metric, labels: what the report measures, as for `linnet.compress.quantize`.
        progress: is called with what is being done and how much of it is (0..1).

    Raises:
        InvalidArgument: an option does not fit; there is nothing to code.
        NoSuchFile, InvalidProtobuf, InvalidGraph, Fail: as the message says.
    """
    if not 2 <= codes <= 256:
        raise _errors.InvalidArgument(f"codes {codes}: expected 2 to 256; 16 and 256 fill their bits")
    if per not in ("tensor", "channel"):
        raise _errors.InvalidArgument(f"per {per!r}: expected tensor or channel")
    source = opened(model)
    chosen, kept = _chosen(source.graph, layers, exclude)
    samples = samples_of(source, data)
    result = Result("Weights shared", source, source, {"codes": str(codes), "per": per}, kept=kept)
    result.samples, result.metric = samples, metric_of(source, metric, labels, samples)
    result.model = onnx.ModelProto()
    result.model.CopyFrom(source)
    coded: list[tuple[Layer, Coded, float]] = []
    known = _layers.initializers(result.model.graph)
    for number, layer in enumerate(chosen):
        progress(f"codebook {number + 1} of {len(chosen)}", number / len(chosen))
        array = _layers.values(known[layer.weight])
        found = encode(array, codes, layer.outputs if per == "channel" else None)
        if isinstance(found, str):
            kept[layer.name] = found
        else:
            wanted = array.astype(np.float64)
            noise = np.square(found.array().astype(np.float64) - wanted).sum()
            error = decibels(float(np.square(wanted).sum()), float(noise))
            coded.append((layer, found, error))
    if not coded:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(kept.items())[:5])
        raise _errors.InvalidArgument("nothing can be coded: " + (reasons or "the model has no large constant weights"))
    put(result.model, {layer.weight: found for layer, found, _ in coded})
    _describe(result, coded)
    if output is not None:
        result.save(output)
    return result


def pack(model: onnx.ModelProto, codes: int) -> None:
    """Store a quantized model's weights as codes, in place, where they have few different values: without loss."""
    known = _layers.initializers(model.graph)
    found: dict[str, Coded] = {}
    for layer in _chosen(model.graph, None, ())[0]:
        array = _layers.values(known[layer.weight])
        if array.dtype.kind in "iu":
            every = (encode(array, codes, axis) for axis in (None, layer.outputs))
            coded = min((c for c in every if isinstance(c, Coded)), key=lambda c: c.nbytes, default=None)
            if coded is not None:
                found[layer.weight] = coded
    put(model, found)


def encode(array: Array, codes: int, axis: int | None) -> Coded | str:
    """The tensor in codes, or why it stays as it is.

    Args:
        array: the tensor, of floats or integers.
        codes: at most that many values in a codebook.
        axis: one codebook for each place along it; None for one codebook altogether.
    """
    floating = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    if floating and not np.isfinite(array.astype(np.float32)).all():
        return "it holds NaN or infinity"
    rows: list[Array] = [array] if axis is None else [np.take(array, i, axis) for i in range(array.shape[axis])]
    if not floating and any(len(np.unique(row)) > codes for row in rows):
        return f"it holds integers, more than {codes} different ones"
    books = [_kmeans.codebook(row, codes) for row in rows]
    width = max(len(book) for book in books)
    # Rows of fewer codes repeat their last one.
    table = np.stack([np.pad(book, (0, width - len(book)), mode="edge") for book in books]).astype(array.dtype)
    if axis is None:
        indices = _kmeans.nearest(books[0], array)
    else:
        indices = np.stack([_kmeans.nearest(b, row) for b, row in zip(books, rows, strict=True)], axis)
    found = Coded(indices, table, axis or 0)
    return found if found.nbytes < array.nbytes else "it would not become smaller"


def _along(values: npt.NDArray[np.integer], rank: int, axis: int) -> npt.NDArray[np.integer]:
    return values.reshape([-1 if i == axis else 1 for i in range(rank)])


def put(model: onnx.ModelProto, tensors: dict[str, Coded]) -> None:
    """Replace initializers by their codes and the nodes that put them together, at the graph's beginning."""
    names = _graph.Graph(model)
    sixteen = ""
    if any(coded.packing is not None for coded in tensors.values()):
        sixteen = names.add_initializer("sixteen", np.array(NIBBLE, np.int32))
    nodes = [node for name, coded in tensors.items() for node in _nodes(names, name, coded, sixteen)]
    graph = model.graph
    for field in (graph.initializer, graph.input, graph.value_info):
        for item in [item for item in field if item.name in tensors]:
            field.remove(item)
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def _nodes(names: _graph.Graph, name: str, coded: Coded, sixteen: str) -> Iterator[onnx.NodeProto]:
    """Integer arithmetic that every opset from 7 on has: two indices in a byte come apart by a division by 16.

    The names are short, as they are a good part of what a small tensor takes in the file.
    """
    indices, axis = coded.indices, coded.packing
    book = names.add_initializer("codes", np.ravel(coded.books))
    index = names.unique("index")
    if axis is None:
        stored = names.add_initializer("indices", indices)
        yield helper.make_node("Cast", [stored], [index], to=onnx.TensorProto.INT32)
    else:
        first, second = np.split(indices, 2, axis)
        stored = names.add_initializer("pairs", first | (second << 4))
        pair, high, above, low = (names.unique(what) for what in ("pair", "high", "above", "low"))
        yield helper.make_node("Cast", [stored], [pair], to=onnx.TensorProto.INT32)
        yield helper.make_node("Div", [pair, sixteen], [high])
        yield helper.make_node("Mul", [high, sixteen], [above])
        yield helper.make_node("Sub", [pair, above], [low])
        yield helper.make_node("Concat", [low, high], [index], axis=axis)
    if len(coded.books) > 1:
        starts = np.arange(len(coded.books), dtype=np.int32) * coded.books.shape[1]
        place = names.unique("place")
        start = names.add_initializer("starts", _along(starts, indices.ndim, coded.axis))
        yield helper.make_node("Add", [index, start], [place])
        index = place
    yield helper.make_node("Gather", [book, index], [name], axis=0)


_PLACES = {
    "Gather": (0,),
    "DequantizeLinear": (0,),
    **dict.fromkeys(["LSTM", "GRU", "RNN"], (1, 2, 3)),
}
"""Where operators that are no convolution or product take what can be coded."""


def _chosen(
    graph: onnx.GraphProto, wanted: Iterable[str] | None, exclude: Iterable[str]
) -> tuple[list[Layer], dict[str, str]]:
    """What to code."""
    found = {layer.weight: layer for layer in _layers.layers(graph)}
    known = _layers.initializers(graph)
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        for place in _PLACES.get(node.op_type, ()):
            tensor = known.get(node.input[place]) if place < len(node.input) else None
            fits = tensor is not None and (
                tensor.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
                if node.op_type == "DequantizeLinear"
                else tensor.data_type in _layers.FLOATS
            )
            if tensor is None or not fits or tensor.name in found:
                continue
            shape = tuple(tensor.dims)
            axis = 0 if node.op_type != "DequantizeLinear" else _layers.attribute(node, "axis", 1) % max(len(shape), 1)
            axis = axis if node.op_type != "DequantizeLinear" or _per_axis(known, node) else 0
            if len(shape) >= 2:
                name = tensor.name if place >= 2 else node.name or node.output[0]
                found[tensor.name] = Layer(name, node.op_type, node.op_type, tensor.name, shape, axis, 1)
    every = [layer for layer in found.values() if layer.weight not in outputs]
    chosen, kept = _select.chosen(every, ["*"] if wanted is None and every else wanted, exclude)
    small = [layer for layer in chosen if wanted is None and layer.size < LEAST]
    kept |= {layer.name: f"it has fewer than {LEAST} weights" for layer in small}
    return [layer for layer in chosen if layer not in small], kept


def _per_axis(known: dict[str, onnx.TensorProto], node: onnx.NodeProto) -> bool:
    scale = known.get(node.input[1])
    return scale is not None and len(scale.dims) == 1


def _describe(result: Result, coded: list[tuple[Layer, Coded, float]]) -> None:
    before = sum(int(np.prod(layer.shape)) * found.books.dtype.itemsize for layer, found, _ in coded)
    after = sum(found.nbytes for _, found, _ in coded)
    result.figures |= {"weight_bytes_before": before, "weight_bytes_after": after}
    result.title = f"Weights shared: {len(coded)} tensors {before / after:.1f} times smaller"
    rows = []
    for layer, found, error in coded:
        size = layer.size * found.books.dtype.itemsize
        count = f"{len(found.books)} × {found.books.shape[1]}" if len(found.books) > 1 else f"{found.books.shape[1]}"
        rows.append(
            [layer.name, layer.kind, count, _measure.size(size), _measure.size(found.nbytes), f"{error:.1f} dB"]
        )
    table = Table(["layer", "kind", "codes", "before", "after", "signal to noise"], rows)
    errors = [error for _, _, error in coded]
    bars = Bars([row[0] for row in rows], errors, [row[-1] for row in rows])
    text = "How well the codes stand for the weights; more decibels are better."
    result.sections.append(Section("Layers", text, [bars, table]))
    if result.kept:
        stayed = Table(["layer", "why"], [[name, why] for name, why in result.kept.items()])
        result.sections.append(Section("What stayed as it was", parts=[stayed]))
