"""Sizes that cannot be: products that overflow, claims of terabytes, ranks and axes beyond all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import linnet
import small_models
from bounded import attempt

I64, F32 = TensorProto.INT64, TensorProto.FLOAT
HUGE = [2**31, 2**40, 2**61, 2**62, 2**63 - 1]


def run(data: bytes, feeds: dict[str, Any], after: dict[str, Any] | None = None) -> Any:
    """The first output, or the error; with `after`, the session must then run these feeds."""

    def work() -> Any:
        options = linnet.SessionOptions()
        options.memory_limit = 100 << 20
        session = linnet.InferenceSession(data, options)
        limits = linnet.RunOptions()
        limits.time_limit_ms = 500
        try:
            return session.run(None, feeds, limits)[0]
        finally:
            if after is not None:
                session.run(None, after)

    return attempt(work)


def initializer_of(dims: list[int], raw: bytes = b"", dtype: int = F32) -> bytes:
    proto = small_models.parse(small_models.relu())
    proto.graph.node[0].input[0] = "w"
    proto.graph.initializer.append(TensorProto(name="w", data_type=dtype, dims=dims, raw_data=raw))
    return proto.SerializeToString()


@pytest.mark.parametrize(
    "dims",
    [[2**62, 4], [2**32, 2**32], [2**31, 2**31, 4], [2**63 - 1, 2], [2**40], [2**20, 2**20], [2**50, 0], [-1],
     [-1, -1], [2, -(2**63)], [1] * 65, [1] * 100_000, [3] * 50],
    ids=lambda dims: str(dims[:4]),
)  # fmt: skip
@pytest.mark.parametrize("dtype", [F32, TensorProto.BOOL, TensorProto.INT4, TensorProto.STRING])
def test_weights(dims: list[int], dtype: int) -> None:
    message = run(initializer_of(dims, b"\0\0\0\0", dtype), {"x": np.ones((1, 4), np.float32)})
    assert message.startswith("InvalidProtobuf: loading model bytes: "), message
    assert "initializer 'w': " in message or "graph.initializer[0]: " in message


def test_sparse_weights() -> None:
    proto = small_models.parse(small_models.relu())
    proto.graph.node[0].input[0] = "w"
    made = proto.graph.sparse_initializer.add()
    made.values.CopyFrom(helper.make_tensor("w", F32, [1], [1.0]))
    made.indices.CopyFrom(helper.make_tensor("i", I64, [1], [0]))
    for dims in ([2**40], [2**62, 4], [2**29], [-1], [0]):
        made.dims[:] = dims
        message = run(proto.SerializeToString(), {"x": np.ones((1, 4), np.float32)})
        assert isinstance(message, str) and "initializer 'w'" in message, message
    made.dims[:] = [4]
    for index in (-1, 4, 2**62, -(2**63)):
        made.indices.int64_data[:] = [index]
        message = run(proto.SerializeToString(), {"x": np.ones((1, 4), np.float32)})
        assert message.startswith("InvalidProtobuf: ") and "index" in message, message


@pytest.mark.parametrize("dims", [[2**62, 4], [2**40, 2**40], [2**63 - 1], [2**31, 2**31]], ids=str)
def test_declared_inputs(dims: list[int]) -> None:
    kind = (F32, dims)
    data = small_models.model([helper.make_node("Relu", ["x"], ["y"], "r")], {"x": kind}, {"y": kind})
    message = run(data, {"x": np.ones((1, 4), np.float32)})
    assert message.startswith("InvalidArgument: "), message


GENERATORS = {
    "ConstantOfShape": lambda n: ([helper.make_node("ConstantOfShape", ["s"], ["y"], "bad")], {"s": [n]}),
    "ConstantOfShape2": lambda n: ([helper.make_node("ConstantOfShape", ["s"], ["y"], "bad")], {"s": [n, 2**20]}),
    "Expand": lambda n: ([helper.make_node("Expand", ["x", "s"], ["y"], "bad")], {"s": [n, 1]}),
    "Tile": lambda n: ([helper.make_node("Tile", ["x", "s"], ["y"], "bad")], {"s": [n]}),
    "Range": lambda n: ([helper.make_node("Range", ["a", "s", "b"], ["y"], "bad")], {"a": 0, "s": n, "b": 1}),
    "Pad": lambda n: ([helper.make_node("Pad", ["x", "s"], ["y"], "bad")], {"s": [n, 0]}),
    "Pad2": lambda n: ([helper.make_node("Pad", ["x", "s"], ["y"], "bad")], {"s": [n, n]}),
    "Resize": lambda n: ([helper.make_node("Resize", ["x", "", "", "s"], ["y"], "bad")], {"s": [n]}),
    "OneHot": lambda n: ([helper.make_node("OneHot", ["i", "s", "v"], ["y"], "bad")], {"i": [0], "s": n, "v": [0, 1]}),
    "TopK": lambda n: ([helper.make_node("TopK", ["x", "s"], ["y", "_i"], "bad")], {"s": [n]}),
    "Reshape": lambda n: ([helper.make_node("Reshape", ["x", "s"], ["y"], "bad")], {"s": [n]}),
    "Reshape0": lambda n: ([helper.make_node("Reshape", ["x", "s"], ["y"], "bad", allowzero=1)], {"s": [n, 0]}),
    "HannWindow": lambda n: ([helper.make_node("HannWindow", ["s"], ["y"], "bad")], {"s": n}),
    "CenterCropPad": lambda n: ([helper.make_node("CenterCropPad", ["x", "s"], ["y"], "bad")], {"s": [n]}),
    "Unsqueeze": lambda n: ([helper.make_node("Unsqueeze", ["x", "s"], ["y"], "bad")], {"s": [n]}),
    "Squeeze": lambda n: ([helper.make_node("Squeeze", ["x", "s"], ["y"], "bad")], {"s": [n]}),
    "ReduceSum": lambda n: ([helper.make_node("ReduceSum", ["x", "s"], ["y"], "bad")], {"s": [n]}),
    "Trilu": lambda n: ([helper.make_node("Unsqueeze", ["x", "z"], ["u"]),
                         helper.make_node("Trilu", ["u", "s"], ["y"], "bad")], {"s": n, "z": [0]}),
    "Slice": lambda n: ([helper.make_node("Slice", ["x", "a", "s"], ["y"], "bad")], {"a": [-n], "s": [n]}),
    "SliceStep": lambda n: ([helper.make_node("Slice", ["x", "a", "b", "z", "s"], ["y"], "bad")],
                            {"a": [0], "b": [3], "z": [0], "s": [n]}),
    "SliceBack": lambda n: ([helper.make_node("Slice", ["x", "a", "b", "z", "s"], ["y"], "bad")],
                            {"a": [n], "b": [-n - 1], "z": [0], "s": [-n]}),
    "Split": lambda n: ([helper.make_node("Split", ["x", "s"], ["y", "_b"], "bad")], {"s": [n, min(3 - n, 2**63 - 1)]}),
    "CumSum": lambda n: ([helper.make_node("CumSum", ["x", "s"], ["y"], "bad")], {"s": n}),
    "BlackmanWindow": lambda n: ([helper.make_node("BlackmanWindow", ["s"], ["y"], "bad")], {"s": n}),
    "MelWeightMatrix": lambda n: ([helper.make_node("MelWeightMatrix", ["s", "t", "r", "l", "h"], ["y"], "bad")],
                                  {"s": n, "t": 16, "r": 8000}),
    "MelWeightMatrix2": lambda n: ([helper.make_node("MelWeightMatrix", ["a", "s", "r", "l", "h"], ["y"], "bad")],
                                   {"a": 8, "s": n, "r": 8000}),
    "DFT": lambda n: ([helper.make_node("Unsqueeze", ["x", "z"], ["u"]),
                       helper.make_node("DFT", ["u", "s"], ["y"], "bad")], {"s": n, "z": [0, 2]}),
    "AffineGrid": lambda n: ([helper.make_node("AffineGrid", ["t", "s"], ["y"], "bad")], {"s": [1, 1, n, 2]}),
    "Col2Im": lambda n: ([helper.make_node("Col2Im", ["c", "s", "k"], ["y"], "bad")], {"s": [n, n], "k": [1, 1]}),
    "Col2ImBlock": lambda n: ([helper.make_node("Col2Im", ["c", "k", "s"], ["y"], "bad")], {"s": [n, n], "k": [1, 1]}),
}  # fmt: skip
ERRORS = ("InvalidArgument", "InvalidGraph", "RuntimeException", "NotImplementedOp", "Cancelled")
RIGHT_ANSWERS = {"Slice", "SliceStep", "SliceBack", "Trilu"}


@pytest.mark.parametrize("early", [True, False], ids=["constant", "input"])
@pytest.mark.parametrize("name", GENERATORS)
def test_operands_that_give_sizes(name: str, early: bool) -> None:
    reals = {"t": np.ones((1, 2, 3), np.float32), "c": np.ones((1, 1, 1), np.float32),
             "l": np.float32(0), "h": np.float32(4000)}  # fmt: skip
    x = np.ones(3, np.float32)
    for n in [*HUGE, -1, -(2**31), -(2**62), -(2**63) + 1]:
        nodes, operands = GENERATORS[name](n)
        arrays = {k: np.array(v, np.int64) for k, v in operands.items()}
        used = {i for node in nodes for i in node.input}
        given = {k: v for k, v in reals.items() if k in used}
        inputs: dict[str, Any] = {"x": (F32, ["n"])} if "x" in used else {}
        feeds: dict[str, Any] = {"x": x} if "x" in used else {}
        if not early:
            inputs |= {k: (I64, [None] * v.ndim) for k, v in arrays.items()}
            feeds |= arrays
        data = small_models.model(nodes, inputs, {"y": (F32, None)}, given | (arrays if early else {}))
        proto = small_models.parse(data)
        proto.graph.output[0].ClearField("type")
        said = run(proto.SerializeToString(), feeds)
        if isinstance(said, str):
            assert said.split(":")[0] in ERRORS, said
            assert "'bad' (" in said or said.startswith("Cancelled"), said
        else:
            assert name in RIGHT_ANSWERS or said.size == 0 or n < 0, f"{n}: shape {said.shape}"


@pytest.mark.parametrize("rank", [63, 64, 65, 1000, 100_000])
def test_ranks(rank: int) -> None:
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"], "shape")]
    data = small_models.model(nodes, {"x": (F32, ["n"])}, {"y": (F32, None)}, {"s": np.ones(rank, np.int64)})
    said = run(data, {"x": np.ones(1, np.float32)})
    if rank <= 64:
        assert said.shape == (1,) * rank
    else:
        assert "node 'shape' (Reshape)" in said and "max_rank" in said, said


@pytest.mark.parametrize("rank", [64, 5000])
@pytest.mark.parametrize("op", ["Add", "Transpose", "ReduceSum", "Softmax", "Concat", "Gather", "Pad", "Tile"])
def test_operators_at_the_highest_rank(op: str, rank: int) -> None:
    shape = np.ones(rank, np.int64)
    operands = {"s": shape, "zeros": np.zeros(2 * rank, np.int64), "ones": shape, "i": np.zeros(1, np.int64)}
    second = {"Add": ["t"], "Concat": ["t"], "Gather": ["i"], "Pad": ["zeros"], "Tile": ["ones"]}.get(op, [])
    axis = {"axis": rank - 1} if op in ("Softmax", "Concat", "Gather") else {}
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["t"], "shape"),
        helper.make_node(op, ["t", *second], ["y"], "deep", **axis),
    ]
    data = small_models.model(nodes, {"x": (F32, ["n"])}, {"y": (F32, None)}, operands)
    said = run(data, {"x": np.ones(1, np.float32)})
    if rank <= 64:
        assert said.size in (1, 2), said
    else:
        assert "max_rank" in said, said


def test_sizes_that_a_run_gives() -> None:
    """The same session answers what can be answered, before and after."""
    nodes = [helper.make_node("Expand", ["x", "s"], ["y"], "grow")]
    data = small_models.model(nodes, {"x": (F32, ["n"]), "s": (I64, ["m"])}, {"y": (F32, None)})
    x = np.ones(1, np.float32)
    for sizes in ([2**40], [2**62, 2], [2**31, 2**31, 2**31], [-5], [2**25]):
        message = run(data, {"x": x, "s": np.array(sizes)}, after={"x": x, "s": np.array([7])})
        assert "node 'grow' (Expand)" in message, message


def test_empty_tensors_of_many_rows() -> None:
    """Nothing to do, 2^40 times."""
    rows = np.empty((2**40, 0), np.float32)
    for op in (
        "Relu", "Softmax", "ReduceSum", "Transpose", "Flatten", "LpNormalization", "Identity", "Shape", "ArgMax",
    ):  # fmt: skip
        node = helper.make_node(op, ["x"], ["y"], "n")
        data = small_models.model([node], {"x": (F32, None)}, {"y": (F32, None)})
        proto = small_models.parse(data)
        proto.graph.output[0].ClearField("type")
        said = run(proto.SerializeToString(), {"x": rows}, after={"x": np.ones((2, 3), np.float32)})
        assert not isinstance(said, str) or "'n' (" in said, said


@pytest.mark.parametrize(
    ("op", "shape", "operand", "said"),
    [
        ("Squeeze", (3,), [0], "axis 0 of size 3"),
        ("Squeeze", (3,), [2**31], "outside"),
        ("Squeeze", (0,), [0], "size 0"),
        ("Squeeze", (2, 3), [0, 0], "given twice"),
        ("ReduceSum", (2, 3), [0, 0], "given twice"),
        ("ReduceMax", (3,), [1], "outside"),
        ("Reshape", (3,), [], "3"),
    ],
)
def test_operands_that_a_run_gives_where_the_result_is_a_scalar(
    op: str, shape: tuple[int, ...], operand: list[int], said: str
) -> None:
    """The result's shape is known before its operand is: the operand is looked at nevertheless."""
    more = {"keepdims": 0} if op.startswith("Reduce") else {}
    node = helper.make_node(op, ["x", "s"], ["y"], "bad", **more)
    data = small_models.model([node], {"x": (F32, None), "s": (I64, [len(operand)])}, {"y": (F32, [])})
    message = run(data, {"x": np.ones(shape, np.float32), "s": np.array(operand, np.int64)})
    assert isinstance(message, str) and f"'bad' ({op})" in message and said in message, message


def test_a_slice_of_a_scalar() -> None:
    starts = np.zeros(2000, np.int64)
    node = helper.make_node("Slice", ["x", "s", "s"], ["y"], "bad")
    data = small_models.model([node], {"x": (F32, []), "s": (I64, ["n"])}, {"y": (F32, [])})
    message = run(data, {"x": np.float32(1), "s": starts})
    assert isinstance(message, str) and "'bad' (Slice)" in message, message
