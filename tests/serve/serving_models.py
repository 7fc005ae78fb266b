"""Models that the server is tested with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DATATYPES = {
    "BOOL": TensorProto.BOOL,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[tuple[str, int, Sequence[str | int] | None]],
    outputs: list[tuple[str, int, Sequence[str | int] | None]],
    initializers: Sequence[tuple[str, np.ndarray]] = (),
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*port) for port in inputs],
        [helper.make_tensor_value_info(*port) for port in outputs],
        [numpy_helper.from_array(array, name) for name, array in initializers],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)
    return path


def identity(path: Path, datatype: str, shape: Sequence[str | int] | None = None) -> Path:
    """x -> y, of any shape unless one is given."""
    dtype = DATATYPES[datatype]
    return save(path, [helper.make_node("Identity", ["x"], ["y"])], [("x", dtype, shape)], [("y", dtype, shape)])


def sum_and_difference(path: Path) -> Path:
    """a [n, 4], b [n, 4] -> sum, difference."""
    port = (TensorProto.FLOAT, ["n", 4])
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    return save(path, nodes, [("a", *port), ("b", *port)], [("sum", *port), ("difference", *port)])


def constant(path: Path, value: float, ballast_bytes: int = 0) -> Path:
    """x [n, 1] -> y [n, 1]: the value, whatever x is. Its weights take ``ballast_bytes``."""
    side = max(1, int((ballast_bytes / 4) ** 0.5))
    weights = np.random.default_rng(int(value)).standard_normal((side, side)).astype(np.float32)
    nodes = [
        helper.make_node("Mul", ["x", "zero"], ["nothing"]),
        helper.make_node("Gather", ["weights", "first"], ["row"], axis=0),
        helper.make_node("Gather", ["row", "first"], ["element"], axis=1),
        helper.make_node("Mul", ["element", "zero"], ["none"]),
        helper.make_node("Add", ["nothing", "none"], ["nil"]),
        helper.make_node("Add", ["nil", "value"], ["y"]),
    ]
    port = (TensorProto.FLOAT, ["n", 1])
    initializers = [
        ("weights", weights),
        ("first", np.zeros(1, np.int64)),
        ("zero", np.zeros(1, np.float32)),
        ("value", np.full(1, value, np.float32)),
    ]
    return save(path, nodes, [("x", *port)], [("y", *port)], initializers)


def heavy(path: Path, layers: int = 24, side: int = 192) -> Path:
    """x [n, side] -> y [n, side]; a row takes about ``layers`` * side^3 * 2 operations (24 x 192: 5 to
    20 ms on one core).

    Each row is made a matrix, multiplied by ``layers`` matrices, and summed to a row again.
    """
    rng = np.random.default_rng(0)
    weights = [(rng.standard_normal((side, side)) / side**0.5).astype(np.float32) for _ in range(2)]
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis1"], ["row"]),
        helper.make_node("Mul", ["row", "spread"], ["h0"]),
    ]
    for i in range(layers):
        nodes.append(helper.make_node("MatMul", [f"h{i}", f"w{i % 2}"], [f"m{i}"]))
        nodes.append(helper.make_node("Tanh" if i % 8 == 7 else "Relu", [f"m{i}"], [f"h{i + 1}"]))
    nodes.append(helper.make_node("ReduceSum", [f"h{layers}", "axis1"], ["y"], keepdims=0))
    port = (TensorProto.FLOAT, ["n", side])
    initializers = [
        ("axis1", np.array([1], np.int64)),
        ("spread", rng.standard_normal((1, side, 1)).astype(np.float32)),
        ("w0", weights[0]),
        ("w1", weights[1]),
    ]
    return save(path, nodes, [("x", *port)], [("y", *port)], initializers)


def lookup(path: Path) -> Path:
    """indices [n] int64 -> y [n]: 10 * index for 0 <= index < 8; others fail when the model runs."""
    node = helper.make_node("Gather", ["table", "indices"], ["y"])
    return save(
        path,
        [node],
        [("indices", TensorProto.INT64, ["n"])],
        [("y", TensorProto.FLOAT, ["n"])],
        [("table", np.arange(8, dtype=np.float32) * 10)],
    )


def column_sums(path: Path) -> Path:
    """x [n, 3] -> y [3]: the rows of a batch cannot be taken apart."""
    node = helper.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=0)
    return save(
        path,
        [node],
        [("x", TensorProto.FLOAT, ["n", 3])],
        [("y", TensorProto.FLOAT, [3])],
        [("axis", np.array([0], np.int64))],
    )


def mlp(path: Path) -> Path:
    """x [n, 40] -> probabilities [n, 10]."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w1"], ["l"]),
        helper.make_node("Softmax", ["l"], ["probabilities"], axis=1),
    ]
    initializers = [
        ("w0", rng.standard_normal((40, 64)).astype(np.float32)),
        ("w1", rng.standard_normal((64, 10)).astype(np.float32) / 4),
    ]
    inputs = [("x", TensorProto.FLOAT, ["n", 40])]
    return save(path, nodes, inputs, [("probabilities", TensorProto.FLOAT, ["n", 10])], initializers)


def hold(path: Path) -> Path:
    """x [1] -> y [1] through the operator Hold of the domain `test`."""
    port = (TensorProto.INT64, [1])
    return save(path, [helper.make_node("Hold", ["x"], ["y"], domain="test")], [("x", *port)], [("y", *port)])


def square(path: Path) -> Path:
    """x [n, k, k] -> y [n, k, k]: x times x; the cost of a row grows with k."""
    port = (TensorProto.FLOAT, ["n", "k", "k"])
    return save(path, [helper.make_node("MatMul", ["x", "x"], ["y"])], [("x", *port)], [("y", *port)])
