"""Graphs from quantization-aware training, as PyTorch and tf2onnx write them, load and run as integers."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import linnet
from graphs import Builder
from linnet import _core
from linnet._cli._inspect import _INTEGER

X = np.random.default_rng(7).normal(size=(2, 4, 12, 12)).astype(np.float32)


def tf2onnx_style(channels_last_weights: bool = False) -> onnx.ModelProto:
    """Float weights, quantized to int8 and back in the graph; NHWC input; int8 activations; biases in float.

    With ``channels_last_weights`` they are [height, width, inputs, outputs], and Reshape (of depthwise ones) and
    Transpose stand between DequantizeLinear and Conv.
    """
    b = Builder(["n", 12, 12, 4])
    rng = b.rng

    def pair(x: str, scale: Any, dtype: Any, zero: int = 0, axis: int | None = None) -> str:
        scales = b.constant(np.asarray(scale, np.float32))
        zeros = b.constant(np.full(np.shape(scale), zero, dtype))
        more = {} if axis is None else {"axis": axis}
        quantized = b.node("QuantizeLinear", x, scales, zeros, **more)
        return b.node("DequantizeLinear", quantized, scales, zeros, **more)

    def conv(x: str, inputs: int, outputs: int, groups: int, out_scale: float) -> str:
        weight = rng.normal(0, 0.3, (outputs, inputs // groups, 3, 3)).astype(np.float32)
        scales = np.abs(weight).max((1, 2, 3)) / 127
        if channels_last_weights:
            last = weight.transpose(2, 3, 0, 1) if groups > 1 else weight.transpose(2, 3, 1, 0)
            held = pair(b.constant(last), scales, np.int8, axis=2 if groups > 1 else 3)
            if groups > 1:
                held = b.node("Reshape", held, b.constant(np.array([3, 3, 1, outputs])))
            held = b.node("Transpose", held, perm=[3, 2, 0, 1])
        else:
            held = pair(b.constant(weight), scales, np.int8, axis=0)
        bias = b.constant(rng.normal(0, 0.1, outputs).astype(np.float32))
        return pair(b.node("Relu", b.node("Conv", x, held, bias, pads=[1] * 4, group=groups)), out_scale, np.int8, -128)

    y = pair(b.node("Transpose", "x", perm=[0, 3, 1, 2]), 0.03, np.int8, 3)
    y = conv(y, 4, 16, 1, 0.02)
    y = conv(y, 16, 16, 16, 0.01)
    y = conv(y, 16, 24, 1, 0.015)
    y = pair(b.node("GlobalAveragePool", y), 0.01, np.int8, -128)
    y = b.node("Flatten", y)
    dense = rng.normal(0, 0.3, (24, 10)).astype(np.float32)
    y = b.node("MatMul", y, pair(b.constant(dense), np.abs(dense).max() / 127, np.int8))
    y = b.node("Add", y, b.constant(rng.normal(size=10).astype(np.float32)))
    return b.model(pair(y, 0.05, np.int8, 0))


def channels_last_weights() -> onnx.ModelProto:
    return tf2onnx_style(channels_last_weights=True)


def torch_export() -> onnx.ModelProto:
    """A model after a few steps of PyTorch's own quantization-aware training, written by PyTorch's own exporter."""
    torch = pytest.importorskip("torch")
    quantization = pytest.importorskip("torch.ao.quantization")
    nn = torch.nn

    class Net(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = quantization.QuantStub(), quantization.DeQuantStub()
            self.a, self.ra = nn.Conv2d(4, 16, 3, padding=1), nn.ReLU()
            self.b, self.rb = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU()
            self.pool, self.flat, self.c = nn.MaxPool2d(12), nn.Flatten(), nn.Linear(16, 10)

        def forward(self, x: Any) -> Any:
            y = self.rb(self.b(self.ra(self.a(self.quant(x)))))
            return self.dequant(self.c(self.flat(self.pool(y))))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        net = Net().train()
        net = quantization.fuse_modules_qat(net, [["a", "ra"], ["b", "rb"]])
        activation = quantization.FakeQuantize.with_args(
            observer=quantization.MovingAverageMinMaxObserver, quant_min=0, quant_max=255
        )
        net.qconfig = quantization.QConfig(activation, quantization.default_per_channel_weight_fake_quant)
        quantization.prepare_qat(net, inplace=True)
        optimizer = torch.optim.SGD(net.parameters(), 1e-2)
        for _ in range(3):
            loss = net(torch.from_numpy(X)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval().apply(quantization.disable_observer)
        file = io.BytesIO()
        torch.onnx.export(
            net, (torch.from_numpy(X),), file, opset_version=17, dynamo=False, input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


@pytest.mark.parametrize("made", [tf2onnx_style, channels_last_weights, torch_export])
def test_it_runs_as_integers(made: Any) -> None:
    model = made()
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= {node.op_type for node in model.graph.node}
    session = linnet.InferenceSession(model.SerializeToString())
    given = session.get_inputs()[0]
    x = X if given.shape[1] == 4 else np.ascontiguousarray(X.transpose(0, 2, 3, 1))
    plan = _core.plan(session._core, {given.name: list(x.shape)})
    heavy = ("Conv", "MatMul", "Gemm")
    products = [s["op"] for s in plan["nodes"] if any(word in s["op"] for word in heavy)]
    assert len(products) == sum(node.op_type in heavy for node in model.graph.node)
    assert [n for n in plan["float_nodes"] if n["op"] in heavy] == []
    # A dense layer whose bias is float keeps its weights in bytes, and computes in floats.
    assert all(_INTEGER.match(op) or op == "MatMulBits" for op in products), products
    assert [op for op in products if "Conv" in op] == ["QLinearConv"] * sum(
        n.op_type == "Conv" for n in model.graph.node
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    reference = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (want,), (got,) = (s.run(None, {given.name: x}) for s in (reference, session))
    last = next(n for n in reversed(model.graph.node) if n.op_type == "DequantizeLinear")
    scale = next(t for t in model.graph.initializer if t.name == last.input[1]) if made is not torch_export else None
    step = float(onnx.numpy_helper.to_array(scale)) if scale is not None else float(np.ptp(want)) / 64
    assert np.abs(got - want).max() <= 1.01 * step
    assert np.ptp(want) > 4 * step
