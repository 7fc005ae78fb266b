"""A squeeze-and-excite gate in front of a 1x1 convolution scales its weights where those are fewer than the pixels."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import linnet
from linnet import _core


def make(images: int, channels: int, filters: int, size: int, gate_shape: tuple, epilogue: str) -> tuple:
    rng = np.random.default_rng(5)
    feeds = {
        "x": rng.standard_normal((images, channels, size, size)).astype(np.float32),
        "g": rng.standard_normal(gate_shape).astype(np.float32),
    }
    weights = {
        "w": (rng.standard_normal((filters, channels, 1, 1)) / np.sqrt(channels)).astype(np.float32),
        "b": rng.standard_normal(filters).astype(np.float32),
    }
    weights["d"] = rng.standard_normal((channels, 1, 3, 3)).astype(np.float32)
    # As in such blocks: a depthwise convolution, whose result is both pooled and scaled.
    nodes = [
        helper.make_node("Conv", ["x", "d"], ["h"], group=channels, pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["h"], ["p"]),
        helper.make_node("Add", ["p", "g"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Mul", ["s", "h"] if epilogue == "residual" else ["h", "s"], ["m"]),
    ]
    nodes.append(helper.make_node("Conv", ["m", "w", *([] if epilogue == "no bias" else ["b"])], ["c"]))
    if epilogue == "residual":
        feeds["r"] = rng.standard_normal((images, filters, size, size)).astype(np.float32)
        nodes.append(helper.make_node("Add", ["c", "r"], ["y"]))
    else:
        nodes.append(helper.make_node("Relu", ["c"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v.shape) for k, v in feeds.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString(), feeds


def lowered(model: bytes) -> str:
    return _core.Session.from_bytes(model, _core.SessionOptions()).dump("lower")


@pytest.mark.parametrize("epilogue", ["relu", "no bias", "residual"])
@pytest.mark.parametrize("images", [1, 3])
def test_gate_scales_the_weights(images, epilogue):
    model, feeds = make(images, 33, 20, 17, (images, 33, 1, 1), epilogue)
    assert " gate=" in lowered(model) and " Mul(" not in lowered(model)
    want = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
    first = None
    for threads in (1, 2, 3):
        options = linnet.SessionOptions()
        options.intra_op_num_threads = threads
        got = linnet.InferenceSession(model, options).run(None, feeds)[0]
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
        first = got if first is None else first
        assert np.array_equal(got, first)


@pytest.mark.parametrize(
    "case",
    [
        (1, 16, 64, 8, (1, 16, 1, 1)),  # fewer pixels than it pays for
        (1, 16, 8, 16, (1, 1, 16, 16)),  # a factor per pixel
    ],
)
def test_what_is_no_gate_stays(case):
    model, feeds = make(*case, "relu")
    assert " gate=" not in lowered(model)
    want = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
    np.testing.assert_allclose(linnet.InferenceSession(model).run(None, feeds)[0], want, rtol=1e-5, atol=1e-5)
