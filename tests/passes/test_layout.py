"""How many layout changes remain, and that moving them changes no result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from linnet import _core

ort = pytest.importorskip("onnxruntime")
ort.set_default_logger_severity(4)


class Net:
    """A chain of nodes with random constants; every method gives the new value's name."""

    def __init__(self, *shape: int) -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.shape = shape

    def constant(self, *shape: int) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(self.random.standard_normal(shape).astype(np.float32), name))
        return name

    def ints(self, *values: int) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def conv(self, x: str, channels: int, filters: int, kernel: int = 3) -> str:
        weights = self.constant(filters, channels, kernel, kernel)
        return self.add("Conv", x, weights, pads=[kernel // 2] * 4)

    @staticmethod
    def tensor(name: str, values: np.ndarray) -> Any:
        return numpy_helper.from_array(values, name)

    def run(self, *outputs: str, dumped: list[str] | None = None) -> int:
        """Compares with onnxruntime; gives the number of Transposes that are left."""
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 18)]
        data = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
        feeds = {"x": self.random.standard_normal(self.shape).astype(np.float32)}
        session = _core.Session.from_bytes(data, _core.SessionOptions())
        plain = ort.SessionOptions()
        plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        wanted = ort.InferenceSession(data, plain, providers=["CPUExecutionProvider"]).run(None, feeds)
        for got, want in zip(session.run(feeds), wanted, strict=True):
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * float(np.abs(want).max()))
        text = session.dump("lower")
        if dumped is not None:
            dumped.append(text)
        return text.count("= Transpose(")


def test_elementwise_chain_with_residual() -> None:
    net = Net(1, 8, 6, 6)
    a = net.add("Relu", net.conv("x", 8, 16))
    b = net.add("Mul", net.conv(a, 16, 16), net.constant(16, 1, 1))
    c = net.add("Add", a, net.add("HardSigmoid", b))
    assert net.run(net.conv(net.add("Sub", c, net.constant(1, 16, 6, 6)), 16, 4)) == 2


def test_diamond_moves_as_a_whole() -> None:
    net = Net(1, 8, 6, 6)
    a = net.conv("x", 8, 16)
    gate = net.add("Mul", net.add("Erf", a), net.add("Exp", net.add("Neg", net.add("Abs", a))))
    assert net.run(net.conv(net.add("Mul", a, gate), 16, 4)) == 2


def test_concat_split_slice_pad_resize() -> None:
    net = Net(1, 8, 6, 6)
    a = net.conv("x", 8, 16)
    b = net.add("Concat", a, net.conv(a, 16, 4), axis=1)
    c = net.add("Slice", b, net.ints(2, 1), net.ints(18, 6), net.ints(1, 3))
    d = net.add("Pad", c, net.ints(0, 0, 1, 0, 0, 0, 0, 2), mode="edge")
    scales = net.constant(4)
    net.constants[-1] = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), scales)
    e = net.add("Resize", d, "", scales, mode="nearest")
    assert net.run(net.conv(net.add("Softmax", e, axis=1), 16, 4)) == 2


def test_squeeze_and_excite() -> None:
    net = Net(1, 8, 6, 6)
    a = net.conv("x", 8, 16)
    gate = net.add("GlobalAveragePool", a)
    gate = net.add("Sigmoid", net.conv(net.add("Relu", net.conv(gate, 16, 4, 1)), 4, 16, 1))
    assert net.run(net.conv(net.add("Mul", a, gate), 16, 4)) == 2


def test_classifier_head_needs_no_change_behind() -> None:
    net = Net(1, 3, 8, 8)
    a = net.add("MaxPool", net.add("Relu", net.conv("x", 3, 10)), kernel_shape=[2, 2], strides=[2, 2])
    flat = net.add("Flatten", a)
    assert net.run(net.add("Gemm", flat, net.constant(7, 160), net.constant(7), transB=1)) == 1


def test_global_pool_head() -> None:
    net = Net(1, 3, 8, 8)
    a = net.add("ReduceMean", net.conv("x", 3, 10), net.ints(2, 3), keepdims=0)
    assert net.run(net.add("MatMul", a, net.constant(10, 5))) == 1


def test_channel_shuffle() -> None:
    net = Net(1, 8, 6, 6)
    a = net.add("Reshape", net.conv("x", 8, 12), net.ints(1, 3, 4, 6, 6))
    a = net.add("Reshape", net.add("Transpose", a, perm=[0, 2, 1, 3, 4]), net.ints(1, 12, 6, 6))
    assert net.run(net.conv(a, 12, 4)) == 3  # in, out, and the shuffle


def test_heads_that_are_flattened_and_joined() -> None:
    net = Net(1, 3, 8, 8)
    a, b = net.conv("x", 3, 10), net.conv("x", 3, 10, 1)
    flat = [net.add("Reshape", v, net.ints(1, 10, -1)) for v in (a, b)]
    assert net.run(net.add("Transpose", net.add("Concat", *flat, axis=2), perm=[0, 2, 1])) == 1


def test_anchors() -> None:
    net = Net(1, 3, 8, 8)
    a = net.add("Reshape", net.conv("x", 3, 18), net.ints(1, 3, 6, 8, 8))
    assert net.run(net.add("Sigmoid", net.add("Transpose", a, perm=[0, 1, 3, 4, 2]))) == 2


def test_one_channel_costs_nothing() -> None:
    net = Net(1, 1, 8, 8)
    a = net.add("Flatten", net.add("Relu", net.conv("x", 1, 10)))
    assert net.run(net.add("MatMul", a, net.constant(640, 5))) == 0


def test_channels_last_model() -> None:
    net = Net(1, 8, 8, 3)
    a = net.conv(net.add("Transpose", "x", perm=[0, 3, 1, 2]), 3, 10)
    a = net.add("Relu", net.add("Transpose", a, perm=[0, 2, 3, 1]))
    b = net.conv(net.add("Transpose", a, perm=[0, 3, 1, 2]), 10, 10)
    assert net.run(net.add("Add", a, net.add("Transpose", b, perm=[0, 2, 3, 1]))) == 0


def test_one_dimension() -> None:
    net = Net(2, 4, 20)
    a = net.add("Relu", net.add("Conv", "x", net.constant(6, 4, 3), pads=[1, 1]))
    b = net.add("Add", a, net.add("Conv", a, net.constant(6, 6, 5), pads=[2, 2]))
    assert net.run(net.add("AveragePool", b, kernel_shape=[2], strides=[2])) == 2


def test_values_that_leave_are_kept() -> None:
    net = Net(1, 8, 6, 6)
    a = net.conv("x", 8, 16)
    b = net.add("Relu", a)
    net.run(a, b, net.add("Sigmoid", net.conv(b, 16, 4)))


def test_batch_normalization_between_convolutions_goes_along() -> None:
    """DenseNet's order: normalisation, activation, convolution, which cannot be folded."""
    net = Net(1, 8, 6, 6)
    pooled = net.add("MaxPool", "x", kernel_shape=[2, 2], strides=[1, 1])
    statistics = [net.constant(8) for _ in range(3)]
    variance = net.tensor("variance", np.linspace(0.5, 2, 8).astype(np.float32))
    net.constants.append(variance)
    normal = net.add("BatchNormalization", pooled, *statistics, "variance")
    assert net.run(net.conv(net.add("Relu", normal), 8, 4)) == 2
