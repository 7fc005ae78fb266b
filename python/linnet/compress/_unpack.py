"""Weights that a graph puts together from constants (codes and indices, a transpose) become constants themselves."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import helper, numpy_helper

from linnet import _core
from linnet.compress import _graph, _layers

WEIGHTS = {
    **dict.fromkeys(["Conv", "ConvTranspose", "Gemm", "MatMul"], (1,)),
    **dict.fromkeys(["LSTM", "GRU", "RNN"], (1, 2, 3)),
    "DequantizeLinear": (0,),
}
"""Where operators take their weights."""

KEPT = ("DequantizeLinear", "QuantizeLinear", "RandomNormal", "RandomUniform")
"""Operators that are not computed: they say what a number stands for, or give another one each time."""


def unpack_weights(model: onnx.ModelProto) -> bool:
    """Compute, in place, every weight that depends on constants only; the nodes that did it go. False: none does."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output if name}
    constants = {tensor.name for tensor in graph.initializer}
    chains: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in (node.input[place] for place in WEIGHTS.get(node.op_type, ()) if place < len(node.input)):
            if name in makers and name not in chains and (chain := _chain(name, makers, constants)):
                chains[name] = chain
    if not chains:
        return False
    for name, chain in chains.items():
        graph.initializer.append(numpy_helper.from_array(_value(model, name, chain), name))
        graph.node.remove(makers[name])
    read = _read(graph)
    for node in reversed([node for chain in chains.values() for node in chain]):
        if node in graph.node and not read & set(node.output):
            graph.node.remove(node)
            read = _read(graph)
    _graph.Graph(model).drop_unused()
    return True


def _chain(name: str, makers: dict[str, onnx.NodeProto], constants: set[str]) -> list[onnx.NodeProto]:
    """The nodes, in order, that make the value from constants alone; none when something else goes in."""
    found: list[onnx.NodeProto] = []
    waiting = [name]
    while waiting:
        at = waiting.pop()
        if not at or at in constants:
            continue
        node = makers.get(at)
        if node is None or node.op_type in KEPT or len(node.output) != 1 or _layers.captured(node):
            return []
        if node not in found:
            found.append(node)
        waiting += node.input
    order = {id(node): i for i, node in enumerate(makers.values())}
    return sorted(found, key=lambda node: order[id(node)])


def _value(model: onnx.ModelProto, name: str, chain: list[onnx.NodeProto]) -> Any:
    """What the chain makes."""
    inputs = {given for node in chain for given in node.input}
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in inputs]
    output = onnx.ValueInfoProto(name=name)
    part = helper.make_model(
        helper.make_graph(chain, "weight", [], [output], tensors),
        opset_imports=list(model.opset_import),
        ir_version=max(model.ir_version, 4),
    )
    return _core.Session.from_bytes(part.SerializeToString(), _core.SessionOptions()).run({})[0]


def _read(graph: onnx.GraphProto) -> set[str]:
    """Every value that something reads."""
    return {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
