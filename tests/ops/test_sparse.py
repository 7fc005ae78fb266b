"""Constant weights with zeros: right results, the way that is chosen, the same bits for any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import linnet
from linnet import _core

rng = np.random.default_rng(11)


def pruned(rows: int, columns: int, zeros: float, blocks: bool) -> np.ndarray:
    """[rows, columns]; the rows are output channels, and blocks are four of them at the same column."""
    w = rng.standard_normal((rows, columns)).astype(np.float32)
    keep = rng.random((-(-rows // 4) if blocks else rows, columns)) >= zeros
    return w * (np.repeat(keep, 4, axis=0)[:rows] if blocks else keep)


def model_of(nodes: list[Any], feeds: dict[str, np.ndarray], weights: dict[str, np.ndarray]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, v.shape) for name, v in feeds.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def ways(model: bytes, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """The algorithm texts of the steps that have one."""
    plan = _core.plan(linnet.InferenceSession(model)._core, {name: list(shape) for name, shape in shapes.items()})
    return [node["algorithm"] for node in plan["nodes"] if node["algorithm"]]


def check(model: bytes, feeds: dict[str, np.ndarray], want: np.ndarray, way: str) -> None:
    text = " / ".join(ways(model, {name: x.shape for name, x in feeds.items()}))
    assert (f"sparse {way}" in text) if way else ("sparse" not in text), text
    results = []
    for threads in (1, 2, 3, 5):
        options = linnet.SessionOptions()
        options.intra_op_num_threads = threads
        results.append(linnet.InferenceSession(model, options).run(None, feeds)[0])
    assert np.abs(results[0] - want).max() < 3e-6 * np.abs(want).max() + 1e-6
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


CASES = [  # zeros, in blocks, the way
    (0.8, True, "4x1 blocks"),
    (0.9, False, "columns"),
    (0.1, True, ""),
    (0.0, False, ""),
]


@pytest.mark.parametrize("epilogue", ["none", "relu6", "residual", "silu"])
@pytest.mark.parametrize(("zeros", "blocks", "way"), CASES)
@pytest.mark.parametrize("shape", [(1, 200, 128, 7, 7), (3, 96, 130, 13, 11)], ids=str)
def test_convolution(shape: tuple[int, ...], zeros: float, blocks: bool, way: str, epilogue: str) -> None:
    images, k, n, h, w = shape
    weights = pruned(n, k, zeros, blocks)
    bias = rng.standard_normal(n).astype(np.float32)
    feeds = {"x": rng.standard_normal((images, k, h, w)).astype(np.float32)}
    want = np.einsum("bkhw,nk->bnhw", feeds["x"].astype(np.float64), weights.astype(np.float64))
    want += bias[:, None, None]
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y" if epilogue == "none" else "c"])]
    constants = {"w": weights[:, :, None, None], "b": bias}
    if epilogue == "relu6":
        constants |= {"lo": np.float32(0), "hi": np.float32(6)}
        nodes.append(helper.make_node("Clip", ["c", "lo", "hi"], ["y"]))
        want = want.clip(0, 6)
    elif epilogue == "residual":
        feeds["r"] = rng.standard_normal(want.shape).astype(np.float32)
        nodes.append(helper.make_node("Add", ["c", "r"], ["y"]))
        want += feeds["r"]
    elif epilogue == "silu":
        nodes += [helper.make_node("Sigmoid", ["c"], ["s"]), helper.make_node("Mul", ["c", "s"], ["y"])]
        want /= 1 + np.exp(-want)
    check(model_of(nodes, feeds, constants), feeds, want, way)


@pytest.mark.parametrize(("zeros", "blocks", "way"), CASES)
@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("transposed", [False, True])
def test_gemm(rows: int, zeros: float, blocks: bool, way: str, transposed: bool) -> None:
    n, k = 322, 515
    weights, bias = pruned(n, k, zeros, blocks), rng.standard_normal(n).astype(np.float32)
    feeds = {"x": rng.standard_normal((rows, k)).astype(np.float32)}
    want = np.maximum(feeds["x"].astype(np.float64) @ weights.T + bias, 0)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["c"], transB=int(transposed)),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    constants = {"w": weights if transposed else weights.T, "b": bias}
    check(model_of(nodes, feeds, constants), feeds, want, way)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_rows_from_half_zeros_on(rows: int) -> None:
    """Weights that a core's own cache does not hold: what is read counts."""
    n, k = 1003, 517
    weights = pruned(n, k, 0.5, False)
    feeds = {"x": rng.standard_normal((rows, k)).astype(np.float32)}
    want = feeds["x"].astype(np.float64) @ weights.T
    way = "bits" if _core.isa() in ("avx2", "avx512", "amx") else ""
    check(model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], feeds, {"w": weights.T}), feeds, want, way)


def test_batched_matmul_of_transposed_rows() -> None:
    weights = pruned(64, 96, 0.8, True)
    feeds = {"x": rng.standard_normal((2, 96, 30)).astype(np.float32)}
    want = np.swapaxes(feeds["x"].astype(np.float64), 1, 2) @ weights.T
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "w"], ["y"]),
    ]
    check(model_of(nodes, feeds, {"w": weights.T}), feeds, want, "4x1 blocks")


@pytest.mark.parametrize("blocks", [True, False])
def test_gate_before_convolution(blocks: bool) -> None:
    """A squeeze-and-excite gate scales the sparse weights of each image."""
    weights = pruned(24, 144, 0.9, blocks)
    feeds = {
        "x": rng.standard_normal((2, 144, 28, 28)).astype(np.float32),
        "g": rng.random((2, 144, 1, 1)).astype(np.float32),
    }
    want = np.einsum("bkhw,nk->bnhw", (feeds["x"] * feeds["g"]).astype(np.float64), weights.astype(np.float64))
    nodes = [helper.make_node("Mul", ["x", "g"], ["m"]), helper.make_node("Conv", ["m", "w"], ["y"])]
    check(model_of(nodes, feeds, {"w": weights[:, :, None, None]}), feeds, want, "4x1 blocks" if blocks else "columns")


@pytest.mark.parametrize("blocks", [True, False])
def test_depthwise_behind_sparse_convolution(blocks: bool) -> None:
    weights = pruned(96, 64, 0.9, blocks)
    taps = rng.standard_normal((96, 1, 3, 3)).astype(np.float32)
    feeds = {"x": rng.standard_normal((1, 64, 66, 66)).astype(np.float32)}
    middle = np.maximum(np.einsum("bkhw,nk->bnhw", feeds["x"].astype(np.float64), weights.astype(np.float64)), 0)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(middle, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
    want = np.einsum("bnhwij,nij->bnhw", windows, taps[:, 0].astype(np.float64))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["m"]),
        helper.make_node("Conv", ["m", "taps"], ["y"], group=96, pads=[1, 1, 1, 1]),
    ]
    model = model_of(nodes, feeds, {"w": weights[:, :, None, None], "taps": taps})
    check(model, feeds, want, "4x1 blocks" if blocks else "columns")


def test_zero_weights_alone() -> None:
    """Everything pruned: the bias is what remains."""
    feeds = {"x": rng.standard_normal((64, 64)).astype(np.float32)}
    bias = rng.standard_normal(32).astype(np.float32)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
    constants = {"w": np.zeros((64, 32), np.float32), "b": bias}
    check(model_of(nodes, feeds, constants), feeds, np.tile(bias, (64, 1)), "4x1 blocks, 100 % zeros")


@pytest.mark.parametrize("shape", [(1, 200, 128, 14, 14), (2, 66, 50, 13, 11)], ids=str)
def test_int8_convolution(shape: tuple[int, ...]) -> None:
    """Blocks of four filters by four channels, to the bit."""
    images, k, n, h, w = shape
    keep = np.arange(-(-n // 4) * -(-k // 4)).reshape(-(-n // 4), -1) % 20 == 0
    weights = rng.integers(-128, 128, (n, k)) * np.repeat(np.repeat(keep, 4, 0), 4, 1)[:n, :k]
    feeds = {"x": rng.integers(0, 256, (images, k, h, w)).astype(np.uint8)}
    bias = rng.integers(-1000, 1000, n).astype(np.int32)
    x_scale, y_scale = np.float32(0.02), np.float32(0.7)
    w_scale = rng.uniform(0.01, 0.05, n).astype(np.float32)
    sums = np.einsum("bkhw,nk->bnhw", feeds["x"].astype(np.int64) - 131, weights) + bias[:, None, None]
    scaled = sums.astype(np.float32) * (x_scale * w_scale / y_scale)[:, None, None]
    want = (np.rint(scaled) + 120).clip(0, 255).astype(np.uint8)
    constants = {
        "w": weights.astype(np.int8)[:, :, None, None],
        "b": bias,
        "xs": x_scale,
        "ws": w_scale,
        "ys": y_scale,
        "xz": np.uint8(131),
        "wz": np.int8(0),
        "yz": np.uint8(120),
    }
    given = [helper.make_tensor_value_info("x", TensorProto.UINT8, feeds["x"].shape)]
    inputs = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    nodes = [helper.make_node("QLinearConv", inputs, ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        given,
        [helper.make_tensor_value_info("y", TensorProto.UINT8, want.shape)],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    for threads in (1, 2, 5):
        options = linnet.SessionOptions()
        options.intra_op_num_threads = threads
        np.testing.assert_array_equal(linnet.InferenceSession(model, options).run(None, feeds)[0], want)
    text = " / ".join(ways(model, {"x": feeds["x"].shape}))
    if _core.isa() != "amx":  # whose dense product is hard to beat
        assert "sparse int8 4x4 blocks, 95 % zeros" in text, text
