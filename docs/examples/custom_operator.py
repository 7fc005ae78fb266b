"""An operator of one's own in Python: a model that calls it is made, loaded and run."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

import linnet


def infer(x: linnet.TensorInfo, *, pieces: int, **_: Any) -> linnet.TensorInfo:
    """[n, channels] becomes [pieces * n, channels / pieces], whether n is a number or a name."""
    rows, channels = x.shape
    return linnet.TensorInfo(x.dtype, (rows * pieces, channels // pieces))


@linnet.register_operator("my.domain", "CutRows", since_version=1, infer=infer)
def cut_rows(x: np.ndarray, *, pieces: int, scale: float = 1.0) -> np.ndarray:
    """The function that runs: arrays in, attributes by name, an array out."""
    return x.reshape(x.shape[0] * pieces, -1) * np.float32(scale)


def model() -> bytes:
    """CutRows, then Relu."""
    nodes = [
        helper.make_node("CutRows", ["x"], ["c"], "cut", domain="my.domain", pieces=2, scale=10.0),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", 2])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.domain", 1)]
    graph = helper.make_graph(nodes, "example", [x], [y])
    data: bytes = onnx.ModelProto.SerializeToString(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    return data


if __name__ == "__main__":
    loaded = linnet.load(model())
    print(loaded(np.array([[1, -2, 3, 4]], np.float32)))
