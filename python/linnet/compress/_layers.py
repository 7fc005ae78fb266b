"""The layers of an ONNX graph whose weights can be pruned or shared."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from linnet._errors import InvalidArgument
from linnet.compress._select import Layer

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16)

QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """An integer attribute."""
    return next((a.i for a in node.attribute if a.name == name), default)


def constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes that hold tensors into initializers, the one form that everything else here looks for."""
    for node in [n for n in graph.node if n.op_type == "Constant" and n.domain in ("", "ai.onnx")]:
        if node.attribute[0].name == "value":
            tensor = graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            graph.node.remove(node)


def initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The constant tensors by name."""
    return {tensor.name: tensor for tensor in graph.initializer}


def values(tensor: onnx.TensorProto) -> npt.NDArray[np.generic]:
    """The tensor's values."""
    return numpy_helper.to_array(tensor)


def replace(tensor: onnx.TensorProto, array: npt.NDArray[np.generic]) -> None:
    """Give the tensor other values (and shape), in its own element type."""
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


def layers(graph: onnx.GraphProto) -> list[Layer]:
    """The convolutions and dense layers with constant floating-point weights, in the graph's order.

    A weight that several nodes use appears once; one that they use along different axes does not appear.
    """
    known = initializers(graph)
    found: dict[str, Layer] = {}
    clash: set[str] = set()
    for node in graph.node:
        layer = _layer(node, known)
        if layer is None:
            continue
        first = found.setdefault(layer.weight, layer)
        if (first.outputs, first.inputs, first.groups) != (layer.outputs, layer.inputs, layer.groups):
            clash.add(layer.weight)
    return [layer for layer in found.values() if layer.weight not in clash]


def _layer(node: onnx.NodeProto, known: dict[str, onnx.TensorProto]) -> Layer | None:
    if node.domain not in ("", "ai.onnx") or len(node.input) < 2 or node.input[1] not in known:
        return None
    tensor = known[node.input[1]]
    shape = tuple(tensor.dims)
    name = node.name or node.output[0]
    if tensor.data_type not in FLOATS or 0 in shape:
        return None
    if node.op_type in ("Conv", "ConvTranspose") and len(shape) >= 3:
        groups = attribute(node, "group", 1)
        kind = f"{node.op_type} {'x'.join(map(str, shape[2:]))}"
        if node.op_type == "ConvTranspose":
            return Layer(name, kind, node.op_type, node.input[1], shape, 1, 0, groups)
        if groups > 1:
            kind += " depthwise" if shape[1] == 1 else " grouped"
        return Layer(name, kind, node.op_type, node.input[1], shape, 0, 1, groups)
    if node.op_type == "Gemm" and len(shape) == 2:
        axes = (0, 1) if attribute(node, "transB", 0) else (1, 0)
        return Layer(name, "Gemm", "Gemm", node.input[1], shape, *axes)
    if node.op_type == "MatMul" and len(shape) == 2:
        return Layer(name, "MatMul", "MatMul", node.input[1], shape, 1, 0)
    return None


def refuse_quantized(graph: onnx.GraphProto, doing: str) -> None:
    """Raise InvalidArgument if the model holds integers already."""
    found = [n.op_type for n in graph.node if n.op_type in QUANTIZED or n.op_type.startswith("QLinear")]
    if found:
        raise InvalidArgument(f"the model is quantized already (it has {found[0]}): {doing} before it is quantized")


def consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that read each value, once for each time they do; a subgraph's node counts as the outer node."""
    out: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in [*node.input, *captured(node)]:
            if name:
                out[name].append(node)
    return out


def captured(node: onnx.NodeProto) -> list[str]:
    """Names that the subgraphs of a node read (their own values among them: harmless to who asks for outer ones)."""
    out: list[str] = []
    for a in node.attribute:
        for graph in [a.g, *a.graphs] if a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) else []:
            for inner in graph.node:
                out += [*inner.input, *captured(inner)]
            out += [value.name for value in graph.output]
    return out
