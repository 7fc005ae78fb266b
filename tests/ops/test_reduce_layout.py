"""Operators along axes between convolutions, where the layout pass makes them work channels-last."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
from onnx import TensorProto, helper

from linnet import InferenceSession
from one_node import check

C = 12
PARAMETERS = [np.random.default_rng(i).uniform(0.5, 1.5, C).astype(np.float32) for i in range(4)]
# name: (operator, constants behind the input, attributes, opset, keeps [n, C, h, w])
CASES: dict[str, tuple[str, list[Any], dict[str, Any], int, bool]] = {
    "batch_norm": ("BatchNormalization", PARAMETERS, {}, 15, True),
    "instance_norm": ("InstanceNormalization", PARAMETERS[:2], {}, 15, True),
    "group_norm": ("GroupNormalization", PARAMETERS[:2], {"num_groups": 3}, 21, True),
    "group_norm_18": ("GroupNormalization", [p[:4] for p in PARAMETERS[:2]], {"num_groups": 4}, 18, True),
    "lrn": ("LRN", [], {"size": 5, "alpha": 0.1}, 15, True),
    "lp_norm": ("LpNormalization", [], {"axis": 1}, 15, True),
    "mean_variance": ("MeanVarianceNormalization", [], {}, 15, True),
    "softmax": ("Softmax", [], {"axis": 1}, 15, True),
    "log_softmax": ("LogSoftmax", [], {"axis": 2}, 15, True),
    "cum_sum": ("CumSum", [np.array(1, np.int64)], {}, 15, True),
    "mean_kept": ("ReduceMean", [np.array([2, 3], np.int64)], {}, 18, True),
    "max_of_channels": ("ReduceMax", [np.array([1], np.int64)], {}, 18, True),
    "global_average": ("GlobalAveragePool", [], {}, 15, True),
    "global_max": ("GlobalMaxPool", [], {}, 15, True),
    "mean_dropped": ("ReduceMean", [np.array([2, 3], np.int64)], {"keepdims": 0}, 18, False),
    "sum_of_rows": ("ReduceSum", [np.array([-1], np.int64)], {"keepdims": 0}, 18, False),
    "all": ("ReduceL2", [], {"keepdims": 0}, 18, False),
    "arg_max": ("ArgMax", [], {"axis": 1}, 15, False),
    "arg_max_dropped": ("ArgMax", [], {"axis": 1, "keepdims": 0}, 15, False),
    "top_k": ("TopK", [np.array([3], np.int64)], {"axis": 1}, 15, False),
}


@pytest.mark.parametrize("name", CASES)
def test_between_convolutions(name: str) -> None:
    op, constants, attributes, opset, kept = CASES[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 9, 8)).astype(np.float32)
    weights = {"w": (rng.normal(size=(C, 5, 3, 3)) * 0.1).astype(np.float32)}
    weights |= {f"c{i}": c for i, c in enumerate(constants)}
    outputs = ["y", "indices"] if op == "TopK" else ["y"]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["a"], ["t"]),
        helper.make_node(op, ["t", *(f"c{i}" for i in range(len(constants)))], outputs, **attributes),
    ]
    result = "y"
    if kept:
        channels = 1 if name == "max_of_channels" else C
        weights["v"] = rng.normal(size=(4, channels, 1, 1)).astype(np.float32)
        nodes.append(helper.make_node("Conv", ["y", "v"], ["z"]))
        result = "z"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(result, TensorProto.INT64 if "arg" in name else TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    if op == "LRN":  # the reference evaluator takes the batch for the channels
        want = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    else:
        want = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})[0]
    session = InferenceSession(model.SerializeToString())
    check(session.run(None, {"x": x})[0], want, 2e-5, 2e-5)
    if kept and "mean_variance" not in name:
        lines = [line for line in session.dump().splitlines() if " = Transpose(" in line]
        assert len(lines) <= 2, lines  # in and out
