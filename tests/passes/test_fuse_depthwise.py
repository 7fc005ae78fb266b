"""A large 1x1 convolution and the depthwise one behind it run by bands of rows: the same bits as in turn."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import linnet
from linnet import _core

CASES = {  # images, channels, middle, height, width, depthwise attributes, activation
    "stride 1": (1, 16, 96, 56, 56, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, "Clip"),
    "stride 2": (1, 24, 100, 57, 61, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}, "Relu"),
    "5x5, images": (3, 8, 40, 100, 99, {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2]}, "SiLU"),
    "uneven pads": (1, 7, 33, 120, 90, {"kernel_shape": [5, 5], "pads": [1, 0, 4, 3], "strides": [2, 2]}, "SiLU"),
    "dilated": (2, 8, 64, 70, 66, {"kernel_shape": [3, 3], "pads": [4, 3, 4, 3], "dilations": [4, 3]}, "Clip"),
    "no pads, 7x3": (1, 9, 65, 80, 64, {"kernel_shape": [7, 3], "strides": [3, 1]}, "Relu"),
    "wide rows": (1, 4, 128, 9, 900, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, "Clip"),
}


def make(case: tuple, *, middle_is_output: bool, bias: bool = True) -> tuple[bytes, dict[str, np.ndarray]]:
    images, channels, middle, height, width, window, activation = case
    rng = np.random.default_rng(3)
    taps = window["kernel_shape"]
    constants = {
        "w1": (rng.standard_normal((middle, channels, 1, 1)) / np.sqrt(channels)).astype(np.float32),
        "b1": rng.standard_normal(middle).astype(np.float32),
        "w2": rng.standard_normal((middle, 1, *taps)).astype(np.float32),
        "b2": rng.standard_normal(middle).astype(np.float32),
        "low": np.float32(0),
        "high": np.float32(6),
    }

    def act(x: str, y: str) -> list:
        if activation == "Clip":
            return [helper.make_node("Clip", [x, "low", "high"], [y])]
        if activation == "Relu":
            return [helper.make_node("Relu", [x], [y])]
        return [helper.make_node("Sigmoid", [x], [y + "s"]), helper.make_node("Mul", [x, y + "s"], [y])]

    nodes = [helper.make_node("Conv", ["x", "w1", *(["b1"] if bias else [])], ["c"]), *act("c", "m")]
    nodes.append(helper.make_node("Conv", ["m", "w2", *(["b2"] if bias else [])], ["d"], group=middle, **window))
    nodes += act("d", "y")
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    if middle_is_output:
        outputs.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, None))
    shape = (images, channels, height, width)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        outputs,
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString(), {"x": rng.standard_normal(shape).astype(np.float32)}


def run(model: bytes, feeds: dict[str, np.ndarray], threads: int = 1) -> np.ndarray:
    options = linnet.SessionOptions()
    options.intra_op_num_threads = threads
    return linnet.InferenceSession(model, options).run(None, feeds)[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_bands_are_the_two_convolutions(name, bias):
    model, feeds = make(CASES[name], middle_is_output=False, bias=bias)
    assert "PointwiseDepthwise" in _core.Session.from_bytes(model, _core.SessionOptions()).dump("lower")
    apart, _ = make(CASES[name], middle_is_output=True, bias=bias)
    assert "PointwiseDepthwise" not in _core.Session.from_bytes(apart, _core.SessionOptions()).dump("lower")
    want = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
    both = run(apart, feeds)
    np.testing.assert_allclose(both, want, rtol=1e-4, atol=1e-4)
    for threads in (1, 2, 3, 4):
        assert np.array_equal(run(model, feeds, threads), both), f"{threads} threads"


def test_small_or_unknown_sizes_stay_apart():
    small = (1, 16, 96, 28, 28, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, "Clip")
    model, _ = make(small, middle_is_output=False)
    assert "PointwiseDepthwise" not in _core.Session.from_bytes(model, _core.SessionOptions()).dump("lower")
