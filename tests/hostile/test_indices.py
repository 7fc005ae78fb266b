"""Indices and sizes in the data: out of range, extreme, not a number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import linnet
import small_models
from bounded import attempt

I64, F32 = TensorProto.INT64, TensorProto.FLOAT
X = np.arange(12, dtype=np.float32).reshape(3, 4)
OPS: dict[str, tuple[dict[str, Any], list[str], dict[str, np.ndarray[Any, Any]], dict[str, Any]]] = {
    # operands besides x; which is the indices; their good values; attributes
    "Gather": ({}, ["x", "i"], {"i": np.array([0, 1])}, {}),
    "GatherElements": ({}, ["x", "i"], {"i": np.zeros((3, 4), np.int64)}, {}),
    "GatherND": ({}, ["x", "i"], {"i": np.zeros((2, 2), np.int64)}, {}),
    "ScatterElements": ({"u": np.ones((3, 4), np.float32)}, ["x", "i", "u"], {"i": np.zeros((3, 4), np.int64)}, {}),
    "ScatterND": ({"u": np.ones(2, np.float32)}, ["x", "i", "u"], {"i": np.zeros((2, 2), np.int64)}, {}),
    "TensorScatter": ({"u": np.ones((3, 1), np.float32)}, ["x", "u", "i"], {"i": np.zeros(3, np.int64)}, {"axis": 1}),
    "ReverseSequence": ({}, ["x", "i"], {"i": np.ones(4, np.int64)}, {}),
    "SequenceAt": ({}, ["q", "i"], {"i": np.array(0)}, {}),
    "MaxUnpool": ({}, ["p", "i"], {"i": np.zeros((1, 1, 2, 2), np.int64)}, {"kernel_shape": [2, 2]}),
    "Compress": ({}, [], {}, {}),
}


@pytest.mark.parametrize("early", [True, False], ids=["constant", "input"])
@pytest.mark.parametrize("value", [3, 100, -5, -100, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("op", [op for op in OPS if OPS[op][1]])
def test_out_of_range(op: str, value: int, early: bool) -> None:
    more, names, indices, attributes = OPS[op]
    nodes = [helper.make_node(op, names, ["y"], "pick", **attributes)]
    constants: dict[str, Any] = dict(more)
    feeds: dict[str, Any] = {"x": X}
    if "q" in names:
        nodes.insert(0, helper.make_node("SequenceConstruct", ["x"], ["q"]))
    if "p" in names:
        constants["p"] = np.ones((1, 1, 2, 2), np.float32)
    bad = indices["i"].copy()
    bad.reshape(-1)[-1] = value
    inputs: dict[str, Any] = {"x": (F32, ["a", "b"])}
    if early:
        constants["i"] = bad
    else:
        inputs["i"] = (I64, bad.shape)
        feeds["i"] = bad
    opset = 24 if op == "TensorScatter" else 21
    proto = small_models.parse(small_models.model(nodes, inputs, {"y": (F32, None)}, constants, opset=opset))
    proto.graph.output[0].ClearField("type")
    data = proto.SerializeToString()

    def work() -> Any:
        session = linnet.InferenceSession(data)
        try:
            return session.run(None, feeds)[0]
        finally:
            if not early:
                session.run(None, feeds | {"i": indices["i"]})

    said = attempt(work)
    if op == "MaxUnpool" and value == 3:  # the output has nine places
        assert said.size == 9
        return
    if value == 3 and op in ("ScatterND", "GatherND", "ReverseSequence", "TensorScatter"):
        assert not isinstance(said, str) or "'pick'" in said
        return
    assert isinstance(said, str) and f"node 'pick' ({op})" in said, said
    assert str(value) in said, said


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-30, 1e30, 3e38, 1e-45])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("early", [True, False], ids=["constant", "input"])
def test_resize_scales(value: float, mode: str, early: bool) -> None:
    scales = np.array([1, value], np.float32)
    nodes = [helper.make_node("Resize", ["x", "", "s"], ["y"], "zoom", mode=mode)]
    inputs: dict[str, Any] = {"x": (F32, ["a", "b"])}
    feeds: dict[str, Any] = {"x": X}
    if not early:
        inputs["s"] = (F32, [2])
        feeds["s"] = scales
    data = small_models.model(nodes, inputs, {"y": (F32, ["c", "d"])}, {"s": scales} if early else {})

    def work() -> Any:
        options = linnet.SessionOptions()
        options.memory_limit = 100 << 20
        session = linnet.InferenceSession(data, options)
        try:
            return session.run(None, feeds)[0]
        finally:
            if not early:
                assert session.run(None, feeds | {"s": np.array([1, 2], np.float32)})[0].shape == (3, 8)

    said = attempt(work)
    if isinstance(said, str):
        assert "node 'zoom' (Resize)" in said, said
    else:
        assert said.size == 0 and 0 < value < 1, (value, said.shape)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_coordinates(value: float) -> None:
    """Where to look in a picture: nowhere. Any result but no crash; NaN stays NaN or 0."""
    picture = np.ones((1, 1, 4, 4), np.float32)
    grid = np.full((1, 2, 2, 2), value, np.float32)
    boxes = np.full((1, 4), value, np.float32)
    cases = [
        ([helper.make_node("GridSample", ["x", "g"], ["y"], "look", mode=m, padding_mode=p)], {"g": grid})
        for m in ("linear", "nearest", "cubic")
        for p in ("zeros", "border", "reflection")
    ] + [
        ([helper.make_node("RoiAlign", ["x", "b", "i"], ["y"], "look", mode=m, output_height=2, output_width=2,
                           sampling_ratio=r)], {"b": boxes, "i": np.array([0])})
        for m in ("avg", "max") for r in (0, 2)
    ] + [
        ([helper.make_node("DeformConv", ["x", "w", "o"], ["y"], "look", kernel_shape=[1, 1])],
         {"w": np.ones((1, 1, 1, 1), np.float32), "o": np.full((1, 2, 4, 4), value, np.float32)}),
        ([helper.make_node("NonMaxSuppression", ["n", "s", "c", "t", "t"], ["y"], "look")],
         {"n": np.full((1, 3, 4), value, np.float32), "s": np.ones((1, 1, 3), np.float32), "c": np.array([5]),
          "t": np.array([value], np.float32)}),
        ([helper.make_node("Range", ["a", "b", "c"], ["y"], "look")],
         {"a": np.float32(0), "b": np.float32(value), "c": np.float32(1)}),
        ([helper.make_node("Cast", ["v"], ["y"], "look", to=I64)], {"v": np.array([value], np.float32)}),
        ([helper.make_node("Cast", ["v"], ["y"], "look", to=TensorProto.INT8)], {"v": np.array([value], np.float32)}),
        ([helper.make_node("QuantizeLinear", ["v", "s", "z"], ["y"], "look")],
         {"v": np.array([value], np.float32), "s": np.float32(1e-30), "z": np.int8(0)}),
        ([helper.make_node("DynamicQuantizeLinear", ["v"], ["y", "s", "z"], "look")],
         {"v": np.array([value, 1], np.float32)}),
    ]  # fmt: skip
    for nodes, operands in cases:
        used = {i for node in nodes for i in node.input}
        arrays = {k: v for k, v in (operands | {"x": picture}).items() if k in used}
        kinds = {k: (helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in arrays.items()}
        proto = small_models.parse(small_models.model(nodes, kinds, {"y": (F32, None)}))
        proto.graph.output[0].ClearField("type")
        data = proto.SerializeToString()

        def work(data: bytes = data, arrays: dict[str, Any] = arrays) -> Any:
            options = linnet.SessionOptions()
            options.memory_limit = 100 << 20
            return linnet.InferenceSession(data, options).run(None, arrays)[0]

        said = attempt(work)
        assert not isinstance(said, str) or "node 'look'" in said, said
