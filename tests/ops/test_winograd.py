"""Winograd's convolution against float64 and against the direct way (`linnet.exact`)."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import linnet

# channels in, filters, height, width, images, pads; all of them are expected to take Winograd's way
SHAPES = [
    (64, 64, 56, 56, 1, (1, 1, 1, 1)),
    (128, 96, 28, 28, 1, (1, 1, 1, 1)),
    (128, 128, 7, 7, 2, (1, 1, 1, 1)),
    (20, 36, 13, 17, 1, (1, 1, 1, 1)),
    (16, 16, 30, 31, 2, (0, 0, 0, 0)),
    (64, 100, 9, 50, 3, (2, 1, 0, 3)),
]
EPILOGUES = ["none", "residual relu", "silu", "gate"]

rng = np.random.default_rng(7)


def make(shape: tuple, epilogue: str) -> tuple[bytes, dict[str, np.ndarray], np.ndarray]:
    """A model, its inputs, and its output in float64."""
    k, n, h, w, images, pads = shape
    weights = (rng.standard_normal((n, k, 3, 3)) / np.sqrt(9 * k)).astype(np.float32)
    bias = rng.standard_normal(n).astype(np.float32)
    feeds = {"x": rng.standard_normal((images, k, h, w)).astype(np.float32)}
    padded = np.pad(feeds["x"].astype(np.float64), ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    want = np.einsum("bkhwij,nkij->bnhw", windows, weights.astype(np.float64), optimize=True)
    want = want + bias.astype(np.float64)[:, None, None]
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=pads)]
    if epilogue == "residual relu":
        feeds["r"] = rng.standard_normal(want.shape).astype(np.float32)
        nodes += [helper.make_node("Add", ["c", "r"], ["s"]), helper.make_node("Relu", ["s"], ["y"])]
        want = np.maximum(want + feeds["r"], 0)
    elif epilogue == "silu":
        nodes += [helper.make_node("Sigmoid", ["c"], ["s"]), helper.make_node("Mul", ["c", "s"], ["y"])]
        want = want / (1 + np.exp(-want))
    elif epilogue == "gate":  # another factor for each image
        feeds["r"] = rng.standard_normal((images, n, 1, 1)).astype(np.float32)
        nodes.append(helper.make_node("Mul", ["c", "r"], ["y"]))
        want = want * feeds["r"]
    else:
        nodes[0].output[0] = "y"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, v.shape) for name, v in feeds.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, want.shape)],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString(), feeds, want


def run(model: bytes, feeds: dict[str, np.ndarray], threads: int = 1, exact: bool = False) -> np.ndarray:
    options = linnet.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("linnet.exact", str(int(exact)))
    return linnet.InferenceSession(model, options).run(None, feeds)[0]


@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_error_and_bits(shape: tuple, epilogue: str) -> None:
    """The error against float64 is bounded; the bits are the same for any number of threads."""
    model, feeds, want = make(shape, epilogue)
    got, direct = run(model, feeds), run(model, feeds, exact=True)
    assert not np.array_equal(got, direct), "not Winograd's way, or `exact` is not obeyed"
    largest = np.abs(want).max()
    error, direct_error = np.abs(got - want).max() / largest, np.abs(direct - want).max() / largest
    print(f"{shape}: {error:.1e}, directly {direct_error:.1e}")
    assert direct_error < 5e-6
    assert error < 2e-5
    for threads in (2, 3, 4):
        np.testing.assert_array_equal(run(model, feeds, threads), got)


def test_other_filters_are_direct() -> None:
    """Strides and few channels are not Winograd's."""
    for attributes, k in (({"strides": (2, 2)}, 32), ({"dilations": (2, 2)}, 32), ({}, 8)):
        x = rng.standard_normal((1, k, 20, 20)).astype(np.float32)
        weights = rng.standard_normal((32, k, 3, 3)).astype(np.float32)
        graph = helper.make_graph(
            [helper.make_node("Conv", ["x", "w"], ["y"], **attributes)],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(weights, "w")],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        model = made.SerializeToString()
        np.testing.assert_array_equal(run(model, {"x": x}), run(model, {"x": x}, exact=True))
