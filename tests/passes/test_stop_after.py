"""`linnet.stop_after` bisects: any number of changes leaves a graph that runs and gives the same answer."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import linnet

rng = np.random.default_rng(5)
X = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
W = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> bytes:
    """float64 at the end, so that required passes have work; convolution, SiLU and a residual to fuse."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["silu"]),
        helper.make_node("Conv", ["silu", "v"], ["d"]),
        helper.make_node("Add", ["d", "x"], ["sum"]),
        helper.make_node("Identity", ["sum"], ["same"]),
        helper.make_node("Cast", ["same"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Softplus", ["wide"], ["y"]),
    ]
    v = rng.standard_normal((3, 4, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)],
        [numpy_helper.from_array(W, "w"), numpy_helper.from_array(v, "v")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def session(model: bytes, changes: int) -> linnet.InferenceSession:
    options = linnet.SessionOptions()
    options.add_session_config_entry("linnet.stop_after", str(changes))
    return linnet.InferenceSession(model, options)


def test_every_prefix_of_changes_runs(model: bytes) -> None:
    want = session(model, -1).run(None, {"x": X})[0]
    dumps = []
    for changes in range(40):
        stopped = session(model, changes)
        np.testing.assert_allclose(stopped.run(None, {"x": X})[0], want, rtol=1e-5, atol=1e-5)
        dumps.append(stopped.dump("lower"))
    assert dumps[-1] == session(model, -1).dump("lower")
    assert len(set(dumps)) > 5  # the changes come one by one
