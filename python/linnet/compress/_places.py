"""Which values of a float graph become bytes: where the Q and DQ pairs of a statically quantized model stand.

A layer (convolution, Gemm, MatMul) that is quantized asks for its inputs as bytes. What can give bytes when it is
asked asks for its own inputs in turn, so that bytes flow from layer to layer: through residual additions, pools and
operators that only move elements. A value nobody asks for stays float, and with it all that only floats need (Softmax,
normalisations, the outputs).

No pair stands

* between a layer, an addition or a pool and the Relu or Clip behind it, nor between a layer and constants that are
  added or multiplied behind it: what counts is the range of what comes out in the end;
* inside a piece of elementwise operators that depend on one value (x * Sigmoid(x)): for bytes that is a table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from linnet.compress._graph import Graph, attribute

if TYPE_CHECKING:
    import onnx

LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# Elements are moved or chosen: input 0 and the outputs have one scale.
MOVES = {
    "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "Split", "DepthToSpace",
    "SpaceToDepth", "Expand", "Tile", "Identity", "Resize", "Pad",
}  # fmt: skip
JOINS = {"Add", "Mul", "Sub"}  # of two computed values
POOLS = {"AveragePool", "GlobalAveragePool", "ReduceMean"}
CLAMPS = {"Relu", "Clip"}
AFFINE = {"Add", "Sub", "Mul", "Div"}
ELEMENTWISE = {
    *CLAMPS, "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu", "Selu", "Celu", "ThresholdedRelu",
    "PRelu", "Softplus", "Softsign", "Mish", "Gelu", "Swish", "Erf", "Abs", "Neg", "Sqrt", "Exp", "Log", "Reciprocal",
    "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max",
}  # fmt: skip


@dataclass
class Places:
    """The plan: ``layers`` are quantized, ``skipped`` says why others are not (by node name), ``values`` become bytes.

    ``scale_of`` maps each of ``values`` to the one that stands for all that share its scale. ``constants`` are float
    constants that are joined to bytes, and the value whose scale they take. ``root`` is, for a value inside an
    elementwise piece, the value it depends on; ``out`` is where the float result of an operator ends that others are
    merged into.
    """

    layers: list[onnx.NodeProto] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    values: list[str] = field(default_factory=list)
    scale_of: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    root: dict[str, str] = field(default_factory=dict)
    out: dict[str, str] = field(default_factory=dict)


def layer_reason(graph: Graph, node: onnx.NodeProto, floats: Collection[str]) -> str | None:
    """Why a layer cannot be quantized; None when it can."""
    from onnx import TensorProto

    if node.op_type == "MatMul":
        operands = [n for n in node.input if not graph.is_constant(n)]
    else:
        operands = [node.input[0]]
        if not graph.is_constant(node.input[1]):
            return "its weights are computed while the model runs"
    if not operands or any(n not in floats for n in operands):
        return "its input is no computed float32 tensor"
    constants = [graph.initializers[n] for n in node.input[:2] if graph.is_constant(n)]
    if any(t.data_type != TensorProto.FLOAT for t in constants):
        return "its weights are not float32"
    for tensor in constants:
        weights = graph.constant(tensor.name)
        if weights is None or not weights.size:
            return "its weights are empty"
        if not np.isfinite(weights).all():
            return "its weights hold NaN or infinity"
    return None


def find(graph: Graph, floats: Collection[str], enabled: Collection[str], left_out: Collection[str]) -> Places:
    """Makes the plan.

    Args:
        floats: names of all float32 values.
        enabled: names of the layers to quantize, as far as they can be.
        left_out: names of the other nodes that stay float.
    """
    places = Places()
    nodes = list(graph.proto.node)
    for node in nodes:
        if node.op_type in LAYERS and node.name in enabled:
            if node.op_type == "MatMul" and not any(graph.is_constant(name) for name in node.input):
                continue  # of two computed values, as in attention: that is faster in float, as one step
            reason = layer_reason(graph, node, floats)
            if reason is None:
                places.layers.append(node)
            else:
                places.skipped[node.name] = reason
    layers = {node.name for node in places.layers}
    floats = frozenset(floats)
    inner = _merge(graph, floats, left_out, places)
    givers = {node.name for node in _givers(graph, layers, left_out, places)}

    wanted: set[str] = set()
    carriers: list[onnx.NodeProto] = []  # give bytes with the scale of what they take
    for node in reversed(nodes):
        results = [name for name in node.output if name]
        ends = [places.out.get(name, name) for name in results]
        operands = list(node.input[:1])
        if node.name in layers:
            operands = [n for n in node.input[:2] if not graph.is_constant(n)] if node.op_type == "MatMul" else operands
        elif node.name not in givers or not any(name in wanted for name in ends):
            continue
        elif results[0] in places.root:
            operands = [places.root[results[0]]]
        elif node.op_type in JOINS | {"Concat"}:
            operands = list(node.input)
        if node.op_type in MOVES | {"Concat"}:
            wanted |= set(results)
            carriers.append(node)
            for name in operands:
                if graph.is_constant(name):
                    places.constants[name] = results[0]
        wanted |= {name for name in operands if name in floats and name not in inner}
    order = [i.name for i in graph.proto.input] + [name for node in nodes for name in node.output]
    places.values = [name for name in order if name in wanted]
    _share_scales(carriers, places)
    return places


def _merge(graph: Graph, floats: Set[str], left_out: Collection[str], places: Places) -> set[str]:
    """Fills ``out`` and ``root``; gives the values between an operator and what is merged into it."""
    inner: set[str] = set()
    merged: set[str] = set()
    for node in graph.proto.node:
        value = node.output[0] if node.output else ""
        if value not in floats or node.name in left_out or node.name in merged:
            continue
        computed = [name for name in node.input if name and not graph.is_constant(name)]
        roots = {places.root.get(name, name) for name in computed}
        if node.op_type in ELEMENTWISE and len(roots) == 1 and roots <= floats:
            places.root[value] = roots.pop()
        elif node.op_type in LAYERS | JOINS | POOLS:
            end, user = value, _only_user(graph, value, left_out)
            while user is not None and node.op_type in LAYERS and _adds_constant(graph, user):
                inner.add(end)
                merged.add(user.name)
                end = user.output[0]
                user = _only_user(graph, end, left_out)
            if user is not None and user.op_type in CLAMPS and user.input[0] == end:
                inner.add(end)
                merged.add(user.name)
                end = user.output[0]
            places.out[value] = end
    return inner


def _only_user(graph: Graph, value: str, left_out: Collection[str]) -> onnx.NodeProto | None:
    if not graph.used_once(value):
        return None
    user = graph.consumers[value][0]
    return None if user.name in left_out else user


def _adds_constant(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether it combines a value with a scalar or with a vector along the last axis, which keeps the shape."""
    if node.op_type not in AFFINE:
        return False
    constants = [graph.constant(name) for name in node.input if graph.is_constant(name)]
    return len(constants) == 1 and constants[0] is not None and constants[0].size == (constants[0].shape or (1,))[-1]


def _givers(
    graph: Graph, layers: Collection[str], left_out: Collection[str], places: Places
) -> Iterator[onnx.NodeProto]:
    """Operators that give bytes when they are asked: those that get them from a quantized layer, directly or not."""
    able: set[str] = set()
    for node in graph.proto.node:
        results = [name for name in node.output if name]
        if not results or node.name in left_out:
            continue
        if node.name not in layers:
            if results[0] in places.root:
                sources = [places.root[results[0]]]
            elif node.op_type in JOINS | {"Concat"}:
                sources = list(node.input)
            elif _moves_bytes(graph, node) or _pools(graph, node):
                sources = list(node.input[:1])
            else:
                continue
            if not able.intersection(sources):
                continue
        able |= {places.out.get(name, name) for name in results}
        yield node


def _moves_bytes(graph: Graph, node: onnx.NodeProto) -> bool:
    if node.op_type == "Resize":
        extrapolates = attribute(node, "coordinate_transformation_mode", b"") == b"tf_crop_and_resize"
        return attribute(node, "mode", b"nearest") in (b"nearest", b"linear") and not extrapolates
    if node.op_type == "Pad":
        if attribute(node, "mode", b"constant") != b"constant" or len(node.input) < 3 or not node.input[2]:
            return True
        value = graph.constant(node.input[2])
        return value is not None and not value.any()
    return node.op_type in MOVES and (len(node.output) == 1 or node.op_type == "Split")


def _pools(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether it is a pool, as a ReduceMean over the last two axes of pictures is, too."""
    if node.op_type != "ReduceMean":
        return node.op_type in POOLS
    axes = attribute(node, "axes", None)
    if axes is None and len(node.input) > 1:
        constant = graph.constant(node.input[1])
        axes = None if constant is None else constant.tolist()
    return axes is not None and sorted(axes) in ([2, 3], [-2, -1])


def _share_scales(carriers: list[onnx.NodeProto], places: Places) -> None:
    parent = {name: name for name in places.values}

    def top(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in carriers:
        members = [*(node.input if node.op_type == "Concat" else node.input[:1]), *node.output]
        found = [name for name in members if name in parent]
        for name in found[1:]:
            parent[top(name)] = top(found[0])
    places.scale_of = {name: top(name) for name in places.values}
    places.constants = {name: places.scale_of[value] for name, value in places.constants.items()}
