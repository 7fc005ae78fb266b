"""Runs without end: a time limit stops them, and so does another thread; the session then runs on."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import linnet
import small_models
from bounded import SANITIZED, attempt

PATIENCE = 10.0 if SANITIZED else 0.9  # seconds of computing


def scan_or_loop(body: list[Any], count: int) -> bytes:
    """A Loop over a scalar that starts as x; the body makes "w" of "v"."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), *body],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, []),
        ],
    )
    loop = helper.make_node("Loop", ["count", "", "x"], ["y"], name="for_ever", body=graph)
    return small_models.model(
        [loop],
        {"x": (TensorProto.FLOAT, []), "count": (TensorProto.INT64, [])},
        {"y": (TensorProto.FLOAT, [])},
    )


def bodies() -> dict[str, list[Any]]:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["go2"], ["still2"]), helper.make_node("Neg", ["v2"], ["w2"])],
        "inner",
        [
            helper.make_tensor_value_info("i2", TensorProto.INT64, []),
            helper.make_tensor_value_info("go2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v2", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("still2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w2", TensorProto.FLOAT, []),
        ],
    )
    return {
        "nothing": [helper.make_node("Identity", ["v"], ["w"])],
        "a step": [helper.make_node("Neg", ["v"], ["w"])],
        "a loop": [helper.make_node("Loop", ["count", "", "v"], ["w"], body=inner)],
    }


@pytest.mark.parametrize("body", bodies())
def test_time_limit(body: str) -> None:
    data = scan_or_loop(bodies()[body], 2**62)

    def work() -> Any:
        session = linnet.InferenceSession(data)
        options = linnet.RunOptions()
        options.time_limit_ms = 50
        start = time.process_time()
        try:
            session.run(None, {"x": np.float32(1), "count": np.array(2**62)}, options)
        except linnet.Cancelled as problem:
            message = str(problem)
        assert time.process_time() - start < PATIENCE
        return message, session.run(None, {"x": np.float32(1), "count": np.array(2)})[0]

    message, after = attempt(work)
    assert "running model bytes: " in message and "time limit" in message
    assert after == 1


@pytest.mark.parametrize("body", bodies())
def test_another_thread(body: str) -> None:
    data = scan_or_loop(bodies()[body], 2**62)

    def work() -> Any:
        session = linnet.InferenceSession(data)
        options = linnet.RunOptions()
        timer = threading.Timer(0.05, lambda: setattr(options, "terminate", True))
        timer.start()
        try:
            session.run(None, {"x": np.float32(1), "count": np.array(2**62)}, options)
        except linnet.Cancelled as problem:
            message = str(problem)
        timer.join()
        options.terminate = False
        return message, session.run(None, {"x": np.float32(1), "count": np.array(3)}, options)[0]

    message, after = attempt(work)
    assert "stopped by its caller" in message
    assert abs(after) == 1


def test_a_loop_that_stacks_its_state_meets_the_memory_limit() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Identity", ["x"], ["each"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("each", TensorProto.FLOAT, ["n"]),
        ],
    )
    loop = helper.make_node("Loop", ["count", ""], ["y"], name="stack", body=body)
    data = small_models.model(
        [loop],
        {"x": (TensorProto.FLOAT, ["n"]), "count": (TensorProto.INT64, [])},
        {"y": (TensorProto.FLOAT, None)},
    )
    x = np.ones(2**18, np.float32)

    def work() -> Any:
        options = linnet.SessionOptions()
        options.memory_limit = 64 << 20
        session = linnet.InferenceSession(data, options)
        try:
            session.run(None, {"x": x, "count": np.array(2**62)})
        except linnet.RuntimeException as problem:
            message = str(problem)
        return message, session.run(None, {"x": x[:2], "count": np.array(3)})[0].shape

    message, shape = attempt(work)
    assert "node 'stack' (Loop)" in message and "limit of 67108864 bytes" in message
    assert shape == (3, 2)


@pytest.mark.parametrize(
    ("op", "shapes", "attributes"),
    [
        ("MatMul", [(20000, 3000), (3000, 20000)], {}),
        ("Conv", [(1, 64, 1000, 1000), (64, 64, 9, 9)], {"pads": [4] * 4}),
        ("ConvTranspose", [(1, 64, 500, 500), (64, 32, 9, 9)], {}),
        ("Einsum", [(3000, 3000), (3000, 3000)], {"equation": "ij,jk->ik"}),
        ("MaxPool", [(1, 1, 3000, 3000)], {"kernel_shape": [999, 999]}),
        ("AveragePool", [(1, 1, 3000, 3000)], {"kernel_shape": [999, 999]}),
        ("LpPool", [(1, 1, 3000, 3000)], {"kernel_shape": [999, 999]}),
        ("LRN", [(1, 40000, 20, 20)], {"size": 39999}),
        ("Det", [(2, 3000, 3000)], {}),
        ("CumSum", [(30000, 1000), ()], {}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_step_of_minutes(op: str, shapes: list[tuple[int, ...]], attributes: dict[str, Any]) -> None:
    """The time limit does not wait for a step that takes long by itself."""
    ones = [np.zeros(s, np.float32 if s else np.int64) for s in shapes]
    names = [f"x{i}" for i in range(len(ones))]
    node = helper.make_node(op, names, ["y"], "long", **attributes)
    kinds = {
        n: (TensorProto.FLOAT if a.dtype == np.float32 else TensorProto.INT64, a.shape)
        for n, a in zip(names, ones, strict=True)
    }
    proto = small_models.parse(small_models.model([node], kinds, {"y": (TensorProto.FLOAT, None)}))
    proto.graph.output[0].ClearField("type")
    session = linnet.InferenceSession(proto.SerializeToString())
    options = linnet.RunOptions()
    options.time_limit_ms = 50
    start = time.process_time()
    try:
        session.run(None, dict(zip(names, ones, strict=True)), options)
    except (linnet.Cancelled, linnet.NotImplementedOp) as problem:
        assert "time limit" in str(problem) or "too large" in str(problem)
    assert time.process_time() - start < PATIENCE
