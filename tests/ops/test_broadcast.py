"""Operands that meet by broadcasting, in rows too short for a kernel."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import linnet


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("width", [2, 3, 5, 31, 33])
def test_rows_that_all_meet_the_same_operand(width: int, threads: int) -> None:
    rng = np.random.default_rng(width)
    x = rng.standard_normal((211, 97, width)).astype(np.float32)
    row = rng.standard_normal(width).astype(np.float32)
    each = rng.standard_normal((97, width)).astype(np.float32)
    options = linnet.SessionOptions()
    options.intra_op_num_threads = threads
    for a, b in ((x, row), (row, x), (x, each), (x, x[:, :, :1])):
        graph = helper.make_graph(
            [helper.make_node("Sub", ["a", "b"], ["y"])],
            "g",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in (("a", a), ("b", b))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        session = linnet.InferenceSession(model.SerializeToString(), options)
        np.testing.assert_array_equal(session.run(None, {"a": a, "b": b})[0], a - b)
