"""Small ONNX graphs for the tests of compression, with random weights from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import linnet


class Builder:
    """Nodes one after the other; every method gives the name of its output."""

    def __init__(self, shape: list[int | str], seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shape = shape
        self.count = 0

    def constant(self, value: Any, name: str = "") -> str:
        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        self.count += 1
        self.nodes.append(
            helper.make_node(op, list(inputs), [f"v{self.count}"], f"{op.lower()}{self.count}", **attributes)
        )
        return f"v{self.count}"

    def weight(self, *shape: int) -> str:
        return self.constant(self.rng.normal(0, 1, shape).astype(np.float32), f"w{self.count + 1}")

    def conv(self, x: str, inputs: int, outputs: int, size: int = 1, groups: int = 1) -> str:
        weight = self.weight(outputs, inputs // groups, size, size)
        bias = self.constant(self.rng.normal(0, 1, outputs).astype(np.float32))
        return self.node("Conv", x, weight, bias, pads=[size // 2] * 4, group=groups)

    def normalisation(self, x: str, channels: int) -> str:
        positive = [self.rng.uniform(0.5, 2, channels).astype(np.float32) for _ in range(4)]
        return self.node("BatchNormalization", x, *(self.constant(p) for p in positive))

    def model(self, output: str, opset: int = 17, shape: list[int | str] | None = None) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
            self.constants,
        )
        ir = helper.find_min_ir_version_for([helper.make_opsetid("", opset)])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
        made = onnx.shape_inference.infer_shapes(made, strict_mode=True)
        onnx.checker.check_model(made, full_check=True)
        return made


def run_both(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    """onnxruntime's outputs, after Linnet's have been found to agree with them and the checker has passed."""
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    want = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, feeds)
    got = linnet.InferenceSession(data).run(None, feeds)
    for w, g in zip(want, got, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-4 * float(np.abs(w).max()))
    return list(want)


def weights(model: onnx.ModelProto) -> dict[str, Any]:
    """The initializers as arrays."""
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
