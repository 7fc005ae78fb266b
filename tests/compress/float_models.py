"""Small float models with everything that a quantizer must treat with care, and runs of them in onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

Feeds = dict[str, Any]


def model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any],
    inputs: dict[str, list[Any]],
    outputs: dict[str, list[Any]],
    opset: int = 17,
) -> onnx.ModelProto:
    """A checked model of float inputs and outputs."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def weights(rng: np.random.Generator, *shape: int) -> Any:
    """Normal, with another scale for each channel (axis 0)."""
    scale = np.exp(rng.normal(0, 0.7, (shape[0],) + (1,) * (len(shape) - 1)))
    fan = max(1, int(np.prod(shape[1:])))
    return (rng.standard_normal(shape) * scale / np.sqrt(fan)).astype(np.float32)


def matrix(rng: np.random.Generator, inputs: int, outputs: int) -> Any:
    """Weights of a MatMul."""
    return np.ascontiguousarray(weights(rng, outputs, inputs).T)


def convolutional(opset: int = 17, seed: int = 0) -> onnx.ModelProto:
    """Convolutions (one depthwise, one transposed), SiLU, a residual, pools, Concat, Resize, Gemm with its factors."""
    rng = np.random.default_rng(seed)
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        make("Relu", ["c1"], ["r1"], "relu1"),
        make("Conv", ["r1", "w2", "b2"], ["c2"], "depthwise", pads=[1, 1, 1, 1], group=8),
        make("Sigmoid", ["c2"], ["s2"], "sigmoid"),
        make("Mul", ["c2", "s2"], ["m2"], "silu"),
        make("Conv", ["m2", "w3"], ["c3"], "conv3"),
        make("Add", ["c3", "r1"], ["a3"], "residual"),
        make("Relu", ["a3"], ["r3"], "relu3"),
        make("MaxPool", ["r3"], ["p3"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        make("ConvTranspose", ["p3", "w4", "b4"], ["c4"], "transposed", strides=[2, 2]),
        make("Concat", ["c4", "r3"], ["j4"], "concat", axis=1),
        make("Resize", ["j4", "roi", "factors"], ["z4"], "resize", mode="nearest"),
        make("Conv", ["z4", "w5", "b5"], ["c5"], "conv5", strides=[2, 2]),
        make("Clip", ["c5", "low", "high"], ["k5"], "clip"),
        make("GlobalAveragePool", ["k5"], ["g5"], "average"),
        make("Flatten", ["g5"], ["f5"], "flatten"),
        make("Gemm", ["f5", "w6", "b6"], ["y"], "gemm", alpha=0.5, beta=2.0, transB=1),
    ]
    constants = {
        "w1": weights(rng, 8, 3, 3, 3),
        "b1": weights(rng, 8),
        "w2": weights(rng, 8, 1, 3, 3),
        "b2": weights(rng, 8),
        "w3": weights(rng, 8, 8, 1, 1),
        "w4": weights(rng, 8, 4, 2, 2),
        "b4": weights(rng, 4),
        "roi": np.zeros(0, np.float32),
        "factors": np.array([1, 1, 2, 2], np.float32),
        "w5": weights(rng, 16, 12, 1, 1),
        "b5": weights(rng, 16),
        "low": np.float32(0),
        "high": np.float32(6),
        "w6": weights(rng, 5, 16),
        "b6": weights(rng, 5),
    }
    return model(nodes, constants, {"x": ["n", 3, 12, 12]}, {"y": ["n", 5]}, opset)


def moving(seed: int = 0) -> onnx.ModelProto:
    """One-dimensional convolutions around Split, Slice, Pad, Transpose, Concat with a constant, AveragePool."""
    rng = np.random.default_rng(seed)
    make = helper.make_node
    nodes = [
        make("MaxPool", ["x"], ["p0"], "input_pool", kernel_shape=[2], strides=[2]),
        make("Conv", ["p0", "w1"], ["c1"], "conv1"),
        make("LeakyRelu", ["c1"], ["l1"], "leaky", alpha=0.1),
        make("Split", ["l1", "parts"], ["s1", "s2"], "split", axis=1),
        make("Slice", ["s1", "starts", "ends", "axes"], ["t1"], "slice"),
        make("Pad", ["t1", "pads"], ["d1"], "pad"),
        make("Sub", ["d1", "s2"], ["a1"], "difference"),
        make("Concat", ["a1", "fixed", "s2"], ["j1"], "concat", axis=1),
        make("Transpose", ["j1"], ["t2"], "turn", perm=[0, 2, 1]),
        make("Transpose", ["t2"], ["t3"], "turn_back", perm=[0, 2, 1]),
        make("AveragePool", ["t3"], ["v1"], "average", kernel_shape=[2], strides=[2]),
        make("Conv", ["v1", "w2", "b2"], ["c2"], "conv2"),
        make("HardSigmoid", ["c2"], ["h2"], "hard_sigmoid"),
        make("Mul", ["c2", "h2"], ["m2"], "hard_swish"),
        make("Mul", ["m2", "factor"], ["m3"], "half"),
        make("Conv", ["m3", "w3"], ["y"], "conv3"),
        make("Softmax", ["c2"], ["z"], "chances", axis=1),
    ]
    constants = {
        "w1": weights(rng, 8, 3, 3),
        "parts": np.array([4, 4]),
        "starts": np.array([1]),
        "ends": np.array([13]),
        "axes": np.array([2]),
        "pads": np.array([0, 0, 1, 0, 0, 1]),
        "fixed": rng.standard_normal((1, 2, 14)).astype(np.float32) * 3,
        "w2": weights(rng, 6, 10, 2),
        "b2": weights(rng, 6),
        "factor": np.float32(0.5),
        "w3": weights(rng, 5, 6, 1),
    }
    return model(nodes, constants, {"x": [1, 3, 32]}, {"y": [1, 5, 6], "z": [1, 6, 6]})


def attention(seed: int = 0) -> onnx.ModelProto:
    """A transformer's block: normalisation, two heads of attention, a network with a gate; outlier channels within."""
    rng = np.random.default_rng(seed)
    make = helper.make_node
    gain = np.ones(16, np.float32)
    gain[[3, 11]] = 10
    nodes = [
        make("LayerNormalization", ["x", "gain", "shift"], ["n1"], "norm1"),
        *(make("MatMul", ["n1", f"w{p}"], [f"m{p}"], f"project_{p}") for p in "qkv"),
        *(make("Add", [f"m{p}", f"b{p}"], [f"a{p}"], f"bias_{p}") for p in "qkv"),
        *(make("Reshape", [f"a{p}", "heads"], [f"h{p}"], f"split_{p}") for p in "qkv"),
        make("Transpose", ["hq"], ["tq"], "turn_q", perm=[0, 2, 1, 3]),
        make("Transpose", ["hk"], ["tk"], "turn_k", perm=[0, 2, 3, 1]),
        make("Transpose", ["hv"], ["tv"], "turn_v", perm=[0, 2, 1, 3]),
        make("MatMul", ["tq", "tk"], ["scores"], "scores"),
        make("Mul", ["scores", "factor"], ["scaled"], "scale"),
        make("Softmax", ["scaled"], ["shares"], "softmax", axis=-1),
        make("MatMul", ["shares", "tv"], ["mixed"], "mix"),
        make("Transpose", ["mixed"], ["back"], "turn_back", perm=[0, 2, 1, 3]),
        make("Reshape", ["back", "flat"], ["joined"], "join"),
        make("MatMul", ["joined", "wo"], ["out"], "project_out"),
        make("Add", ["out", "x"], ["x2"], "residual"),
        make("LayerNormalization", ["x2", "gain", "shift"], ["n2"], "norm2"),
        make("MatMul", ["n2", "w1"], ["m1"], "up"),
        make("Add", ["b1", "m1"], ["u1"], "bias_up"),
        make("Erf", ["u1"], ["e1"], "erf"),
        make("Mul", ["u1", "e1"], ["g1"], "gate"),
        make("MatMul", ["g1", "w2"], ["m2"], "down"),
        make("Add", ["m2", "x2"], ["y"], "residual2"),
    ]
    constants: dict[str, Any] = {
        "gain": gain,
        "shift": weights(rng, 16),
        **{f"w{p}": matrix(rng, 16, 16) / (gain[:, None] if p in "qkv" else 1) for p in "qkvo"},
        **{f"b{p}": weights(rng, 16) for p in "qkv"},
        "heads": np.array([0, 0, 2, 8]),
        "flat": np.array([0, 0, 16]),
        "factor": np.float32(0.35),
        "w1": matrix(rng, 16, 40) / gain[:, None],
        "b1": weights(rng, 40),
        "w2": matrix(rng, 40, 16),
    }
    return model(nodes, constants, {"x": ["n", 6, 16]}, {"y": ["n", 6, 16]})


def recurrent(seed: int = 0) -> onnx.ModelProto:
    """An LSTM both ways, then a MatMul."""
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r", "b"], ["h"], "lstm", hidden_size=6, direction="bidirectional"),
        helper.make_node("ReduceSum", ["h", "axes"], ["s"], "sum", keepdims=0),
        helper.make_node("MatMul", ["s", "wm"], ["y"], "product"),
    ]
    constants = {
        "w": rng.standard_normal((2, 24, 5)).astype(np.float32),
        "r": rng.standard_normal((2, 24, 6)).astype(np.float32),
        "b": rng.standard_normal((2, 48)).astype(np.float32),
        "axes": np.array([1]),
        "wm": matrix(rng, 6, 4),
    }
    return model(nodes, constants, {"x": [7, 1, 5]}, {"y": [7, 1, 4]})


def samples(made: onnx.ModelProto, count: int, seed: int = 1) -> list[Feeds]:
    """Normal inputs; free dimensions are 1."""
    rng = np.random.default_rng(seed)
    shapes = {
        i.name: [d.dim_value if d.HasField("dim_value") else 1 for d in i.type.tensor_type.shape.dim]
        for i in made.graph.input
    }
    return [{n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()} for _ in range(count)]


def reference(made: onnx.ModelProto, extra: list[str] | None = None) -> Any:
    """``run(feeds) -> {output: array}`` in onnxruntime without its optimisations; ``extra`` inner values, too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    copy.graph.output.extend(onnx.ValueInfoProto(name=n) for n in extra or [])
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(None, feeds), strict=True))


def constants(made: onnx.ModelProto) -> dict[str, Any]:
    """All initializers by name."""
    return {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}


def node(made: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """The node of that name."""
    (found,) = [n for n in made.graph.node if n.name == name]
    return found


def maker(made: onnx.ModelProto, value: str) -> onnx.NodeProto | None:
    """The node that makes the value."""
    found = [n for n in made.graph.node if value in n.output]
    return found[0] if found else None
