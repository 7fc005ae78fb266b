"""Graphs that are no graphs: nested too deep, in circles, with names twice, attributes of the wrong kind, wild text."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper

import linnet
import small_models
from bounded import attempt

FLOATS = (TensorProto.FLOAT, ["n"])
X = np.ones(3, np.float32)


def load(data: bytes, **options: Any) -> Any:
    def work() -> Any:
        chosen = linnet.SessionOptions()
        for name, value in options.items():
            setattr(chosen, name, value)
        session = linnet.InferenceSession(data, chosen)
        return session.run(None, {i.name: X for i in session.get_inputs()})[0]

    return attempt(work)


def one_input(*nodes: onnx.NodeProto, **more: Any) -> bytes:
    return small_models.model(nodes, {"x": FLOATS}, {"y": FLOATS}, **more)


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def length_prefixed(field: int, payload: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def nested(levels: int) -> bytes:
    """If nodes in If nodes, made from the innermost, without a protobuf library's own limit on depth."""
    graph = length_prefixed(1, length_prefixed(2, b"y") + length_prefixed(4, b"Identity") + length_prefixed(1, b"x"))
    pieces = [graph + length_prefixed(12, length_prefixed(1, b"y"))]
    size = len(pieces[0])
    for _ in range(levels):  # from inside out: only heads and tails are written
        attribute = b"\x0a\x0bthen_branch\xa0\x01\x05"
        head = b"\x32" + varint(size)
        attribute_size = len(attribute) + len(head) + size
        node_head = b"\x12\x01y\x22\x02If\x0a\x01c\x2a" + varint(attribute_size) + attribute + head
        tail = b"\x62\x03\x0a\x01y"
        node_size = len(node_head) + size
        graph_head = b"\x0a" + varint(node_size)
        pieces.append(tail)
        pieces.insert(0, graph_head + node_head)
        size = len(graph_head) + node_size + len(tail)
    return b"\x08\x0a\x42\x02\x10\x15" + b"\x3a" + varint(size) + b"".join(pieces)


@pytest.mark.parametrize("levels", [40, 1000, 20_000])
def test_nested_subgraphs(levels: int) -> None:
    message = load(nested(levels))
    assert message.startswith("InvalidProtobuf: loading model bytes: ") and "nested more than" in message, message


def test_a_million_nested_messages() -> None:
    """Only lengths that claim to hold one another."""
    data = b"\x3a" + varint(2**30) + (b"\x0a" + varint(2**29) + b"\x2a" + varint(2**28) + b"\x32") * 10**6
    assert load(data).startswith("InvalidProtobuf: "), "a length beyond the file"
    inner = b""
    for _ in range(3000):
        inner = length_prefixed(6, length_prefixed(1, length_prefixed(5, inner)))
    message = load(length_prefixed(7, length_prefixed(1, length_prefixed(5, inner))))
    assert message.startswith("InvalidProtobuf: ") and "nested more than" in message


@pytest.mark.parametrize("levels", [5, 30])
def test_subgraphs_that_are_deep_enough_run(levels: int) -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["b"])], "b", [], [helper.make_value_info("b", onnx.TypeProto())]
    )
    for i in range(levels):
        choose = helper.make_node("If", ["c"], ["b"], f"if{i}", then_branch=branch, else_branch=branch)
        if len(choose.SerializeToString()) > 2**20:
            break
        branch = helper.make_graph([choose], "b", [], [helper.make_value_info("b", onnx.TypeProto())])
    data = one_input(*branch.node, helper.make_node("Identity", ["b"], ["y"]), constants={"c": np.array(True)})
    np.testing.assert_array_equal(load(data), X)


def calling(functions: list[onnx.FunctionProto], first: str) -> bytes:
    graph = helper.make_graph(
        [helper.make_node(first, ["x"], ["y"], "call", domain="f")],
        "g",
        [helper.make_tensor_value_info("x", *FLOATS)],
        [helper.make_tensor_value_info("y", *FLOATS)],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("f", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions).SerializeToString()


def function(name: str, *nodes: onnx.NodeProto) -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, ["a"], ["b"], list(nodes), opsets)


def test_functions_that_call_themselves() -> None:
    own = function("F", helper.make_node("F", ["a"], ["b"], "again", domain="f"))
    message = load(calling([own], "F"))
    assert message.startswith("InvalidGraph: ") and "function 'F' calls itself" in message, message
    first = function("F", helper.make_node("G", ["a"], ["b"], "again", domain="f"))
    second = function("G", helper.make_node("F", ["a"], ["b"], "again", domain="f"))
    message = load(calling([first, second], "F"))
    assert message.startswith("InvalidGraph: ") and "calls itself" in message, message


def test_functions_that_multiply() -> None:
    """Thirty lines that would be 2^30 nodes."""
    functions = [function("F0", helper.make_node("Neg", ["a"], ["b"]))]
    for i in range(1, 30):
        calls = [
            helper.make_node(f"F{i - 1}", ["a"], ["m"], "first", domain="f"),
            helper.make_node(f"F{i - 1}", ["m"], ["b"], "second", domain="f"),
        ]
        functions.append(function(f"F{i}", *calls))
    message = load(calling(functions, "F29"), max_nodes=10_000)
    assert message.startswith("InvalidGraph: ") and "more than 10000 nodes (option max_nodes)" in message, message
    np.testing.assert_array_equal(load(calling(functions, "F6")), X)


def test_cycles() -> None:
    for nodes in (
        [helper.make_node("Add", ["x", "y"], ["y"], "own")],
        [helper.make_node("Add", ["x", "b"], ["a"], "n1"), helper.make_node("Relu", ["a"], ["b"], "n2"),
         helper.make_node("Relu", ["b"], ["y"], "n3")],
        [helper.make_node("Add", ["x", f"v{(i + 1) % 5000}"], [f"v{i}"], f"n{i}") for i in range(5000)]
        + [helper.make_node("Relu", ["v0"], ["y"], "last")],
    ):  # fmt: skip
        message = load(one_input(*nodes))
        assert message.startswith("InvalidGraph: loading model bytes: ") and "cycle" in message, message
        assert "'own'" in message or "'n" in message


def test_a_cycle_through_a_subgraph() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["y"], ["b"])], "b", [], [helper.make_value_info("b", onnx.TypeProto())]
    )
    choose = helper.make_node("If", ["c"], ["y"], "choose", then_branch=branch, else_branch=branch)
    message = load(one_input(choose, constants={"c": np.array(True)}))
    assert message.startswith("InvalidGraph: ") and "'choose'" in message, message


@pytest.mark.parametrize(
    "twice", ["outputs", "one node", "input and output", "initializer", "input", "subgraph", "graph output"]
)
def test_names_that_are_given_twice(twice: str) -> None:
    data = small_models.parse(one_input(helper.make_node("Relu", ["x"], ["y"], "first")))
    graph = data.graph
    if twice == "outputs":
        graph.node.append(helper.make_node("Abs", ["x"], ["y"], "second"))
    elif twice == "one node":
        graph.node[0].CopyFrom(helper.make_node("Split", ["x"], ["y", "y"], "first", num_outputs=2))
    elif twice == "input and output":
        graph.node.append(helper.make_node("Abs", ["y"], ["x"], "second"))
    elif twice == "initializer":
        for _ in range(2):
            graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0]))
    elif twice == "input":
        graph.input.append(graph.input[0])
        assert np.array_equal(load(data.SerializeToString()), X)
        return
    elif twice == "subgraph":
        inner = [helper.make_node("Relu", ["x"], ["b"], "first"), helper.make_node("Abs", ["x"], ["b"], "second")]
        branch = helper.make_graph(inner, "b", [], [helper.make_value_info("b", onnx.TypeProto())])
        graph.node[0].CopyFrom(helper.make_node("If", ["c"], ["y"], "if", then_branch=branch, else_branch=branch))
        graph.initializer.append(helper.make_tensor("c", TensorProto.BOOL, [], [True]))
    else:
        graph.output.append(graph.output[0])  # one value for two outputs is harmless
        assert np.array_equal(load(data.SerializeToString()), X)
        return
    message = load(data.SerializeToString())
    assert message.startswith("InvalidGraph: loading model bytes: ") and "two values" in message, message


KINDS: dict[str, Any] = {
    "float": 1.5,
    "int": 3,
    "string": "text",
    "floats": [1.5, 2.5],
    "ints": [3, 4],
    "strings": ["a", "b"],
    "tensor": helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0]),
    "graph": helper.make_graph([], "g", [], []),
    "tensors": [helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0])] * 2,
    "type": helper.make_tensor_type_proto(TensorProto.FLOAT, [1]),
}


@pytest.mark.parametrize("given", KINDS)
@pytest.mark.parametrize("op", ["Softmax", "Concat", "Transpose", "LeakyRelu", "Cast", "If", "ConstantOfShape", "Pad"])
def test_attributes_of_the_wrong_kind(op: str, given: str) -> None:
    name, right = {
        "Softmax": ("axis", "int"),
        "Concat": ("axis", "int"),
        "Transpose": ("perm", "ints"),
        "LeakyRelu": ("alpha", "float"),
        "Cast": ("to", "int"),
        "If": ("then_branch", "graph"),
        "ConstantOfShape": ("value", "tensor"),
        "Pad": ("mode", "string"),
    }[op]
    if given == right:
        return
    node = helper.make_node(op, ["x"], ["y"], "bad")
    node.attribute.append(helper.make_attribute(name, KINDS[given]))
    message = load(one_input(node))
    assert message.split(":")[0] in ("InvalidGraph", "NotImplementedOp"), message
    assert f"node 'bad' ({op})" in message


def test_attributes_without_a_value() -> None:
    for kind in range(1, 15):
        node = helper.make_node("Softmax", ["x"], ["y"], "bad")
        node.attribute.append(AttributeProto(name="axis", type=kind))
        said = load(one_input(node))
        assert not isinstance(said, str) or "node 'bad' (Softmax)" in said or "graph.node[0].attribute[0]" in said, said


def test_text_that_is_not_utf_8() -> None:
    data = one_input(helper.make_node("Relu", ["x"], ["yy"], "nn"), helper.make_node("Abs", ["yy"], ["y"], "n2"))
    for old, new in ((b"nn", b"\xff\xfe"), (b"yy", b"\xc3\x28"), (b"Relu", b"\xf0\x28\x8c\x28")):
        said = load(data.replace(old, new))
        if old == b"Relu":
            assert said.startswith("NotImplementedOp: ") and "\\xf0(\\x8c(" in said, said
        else:
            np.testing.assert_array_equal(said, X)
    proto = small_models.parse(small_models.model(
        [helper.make_node("StringConcat", ["x", "w"], ["y"], "join")],
        {"x": (TensorProto.STRING, ["n"])}, {"y": (TensorProto.STRING, ["n"])}, opset=20,
    ))  # fmt: skip
    proto.graph.initializer.append(TensorProto(name="w", data_type=8, dims=[1], string_data=[b"\xff\x00\xfe"]))

    def work() -> Any:
        session = linnet.InferenceSession(proto.SerializeToString())
        return session.run(None, {"x": np.array(["a"], object)})[0].tolist()

    assert attempt(work) in (["a\\xff\x00\\xfe"], [b"a\xff\x00\xfe"])


def test_a_million_of_nothing() -> None:
    """Empty messages: two bytes each in the file, hundreds in memory."""
    for field in (1, 5, 11, 12, 13):  # node, initializer, input, output, value_info
        data = b"\x08\x0a\x42\x02\x10\x15" + length_prefixed(7, bytes([field << 3 | 2, 0]) * 2**20)
        message = load(data)
        known = ("Invalid", "NotImplementedOp", "IndexError")  # where nothing is left: a model without outputs
        assert message.startswith(known), message


@pytest.mark.parametrize("share", np.linspace(0.01, 0.99, 12))
def test_truncated(share: float) -> None:
    data = small_models.small_cnn()
    message = load(data[: int(len(data) * share)])
    assert message.startswith("InvalidProtobuf: "), message
