"""Models of a few nodes for the tests of the Python face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def model(
    nodes: Sequence[Any],
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    constants: dict[str, Any] | None = None,
    **more: Any,
) -> bytes:
    """A serialized model; inputs and outputs are (element type, shape) or a TypeProto by name."""

    def port(name: str, kind: Any) -> Any:
        if isinstance(kind, tuple):
            return helper.make_tensor_value_info(name, *kind)
        return helper.make_value_info(name, kind)

    graph = helper.make_graph(
        list(nodes),
        more.pop("name", "small"),
        [port(n, k) for n, k in inputs.items()],
        [port(n, k) for n, k in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()],
    )
    opset = more.pop("opset", 21)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10, **more)
    return made.SerializeToString()


def relu(shape: Sequence[Any] = ("n", 4), element_type: int = TensorProto.FLOAT) -> bytes:
    """y = max(x, 0)."""
    kind = (element_type, list(shape))
    return model([helper.make_node("Relu", ["x"], ["y"], name="clip_it")], {"x": kind}, {"y": kind})


def identity(element_type: int, shape: Sequence[Any] | None) -> bytes:
    """y = x."""
    kind = (element_type, shape)
    return model([helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, {"y": kind})


def two_outputs() -> bytes:
    """sum = a + b, product = a * b."""
    kind = (TensorProto.FLOAT, ["n", 3])
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])]
    return model(nodes, {"a": kind, "b": kind}, {"sum": kind, "product": kind})


def small_cnn() -> bytes:
    """Conv, Relu, MaxPool, Flatten, Gemm, Softmax on [batch, 1, size, 16]."""
    r = np.random.default_rng(0)
    constants = {
        "w": r.standard_normal((8, 1, 3, 3), dtype=np.float32),
        "b": r.standard_normal(8, dtype=np.float32),
        "dense": r.standard_normal((8, 10), dtype=np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("MatMul", ["f", "dense"], ["d"], name="dense_layer"),
        helper.make_node("Softmax", ["d"], ["y"], name="softmax"),
    ]
    shape = (TensorProto.FLOAT, ["batch", 1, "height", 16])
    return model(nodes, {"x": shape}, {"y": (TensorProto.FLOAT, ["batch", 10])}, constants)


def long_loop() -> bytes:
    """A Loop that adds 1 to a scalar, `count` times."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["carried", "one"], ["next"]),
            helper.make_node("Identity", ["go_on"], ["still"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
    )
    loop = helper.make_node("Loop", ["count", "", "zero"], ["y"], name="for_ever", body=body)
    return model(
        [loop],
        {"count": (TensorProto.INT64, [])},
        {"y": (TensorProto.FLOAT, [])},
        {"zero": np.float32(0), "one": np.float32(1)},
    )


def parse(data: bytes) -> onnx.ModelProto:
    """The model as a proto, to change it."""
    return onnx.ModelProto.FromString(data)
