"""Activations spelled out in arithmetic are recognised, whatever the grouping, and give the same values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from linnet import _core


class Writer:
    """Writes a graph as one writes an expression."""

    def __init__(self, dtype: Any = np.float32) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.dtype = dtype

    def __call__(self, op: str, *inputs: Any, **attributes: Any) -> str:
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        self.nodes.append(helper.make_node(op, names, [f"v{len(self.nodes)}"], **attributes))
        return self.nodes[-1].output[0]

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        array = np.asarray(value, self.dtype if np.asarray(value).dtype.kind == "f" else None)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def model(self, result: str, opset: int) -> onnx.ModelProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", kind, ["n", 33])],
            [helper.make_tensor_value_info(result, kind, ["n", 33])],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def outcome(write: Callable[[Writer], str], opset: int = 17, dtype: Any = np.float32) -> tuple[list[str], float]:
    """Names of the operators that are left, and the largest difference from the model as it stands."""
    w = Writer(dtype)
    model = w.model(write(w), opset)
    session = _core.Session.from_bytes(model.SerializeToString(), _core.SessionOptions())
    text = session.dump("lower")
    ops = [line.split(" = ")[1].split("(")[0] for line in text.splitlines() if " = " in line and line[:1] not in "io"]
    x = np.linspace(-7, 7, 66, dtype=np.float64).reshape(2, 33).astype(dtype)
    got = session.run({"x": x})[0].astype(np.float64)
    want = ReferenceEvaluator(model).run(None, {"x": x})[0].astype(np.float64)
    return ops, float(np.abs(got - want).max())


SQRT2, SCALE = 1.4142135623730951, 0.7978845608028654


def cube(w: Writer) -> str:
    return w("Pow", "x", 3.0)


GELU_ERF: list[Callable[[Writer], str]] = [
    lambda w: w("Mul", w("Mul", "x", w("Add", w("Erf", w("Div", "x", SQRT2)), 1.0)), 0.5),
    lambda w: w("Mul", w("Mul", "x", 0.5), w("Add", 1.0, w("Erf", w("Mul", "x", 1 / SQRT2)))),
    lambda w: w("Mul", "x", w("Mul", 0.5, w("Add", w("Erf", w("Div", "x", [SQRT2])), 1.0))),
    lambda w: w("Div", w("Mul", w("Add", w("Erf", w("Mul", 1 / SQRT2, "x")), 1.0), "x"), 2.0),
    lambda w: w("Mul", "x", w("Add", 0.5, w("Mul", 0.5, w("Erf", w("Div", "x", SQRT2))))),
    lambda w: w("Mul", "x", w("Sub", 0.5, w("Mul", -0.5, w("Erf", w("Div", "x", SQRT2))))),
]
GELU_TANH: list[Callable[[Writer], str]] = [
    lambda w: w(
        "Mul", w("Mul", 0.5, "x"), w("Add", 1.0, w("Tanh", w("Mul", SCALE, w("Add", "x", w("Mul", 0.044715, cube(w))))))
    ),
    lambda w: w(
        "Mul", "x", w("Mul", w("Add", w("Tanh", w("Mul", w("Add", w("Mul", cube(w), 0.044715), "x"), SCALE)), 1.0), 0.5)
    ),
    lambda w: w(
        "Mul",
        w("Mul", "x", 0.5),
        w("Add", 1.0, w("Tanh", w("Mul", w("Mul", "x", SCALE), w("Add", 1.0, w("Mul", w("Mul", "x", 0.044715), "x"))))),
    ),
    lambda w: w(
        "Mul",
        "x",
        w("Sigmoid", w("Mul", 2 * SCALE, w("Add", "x", w("Mul", 0.044715, w("Mul", w("Mul", "x", "x"), "x"))))),
    ),
]
OTHERS: list[tuple[str, Callable[[Writer], str]]] = [
    ("Swish", lambda w: w("Mul", "x", w("Sigmoid", "x"))),
    ("Swish", lambda w: w("Mul", w("Sigmoid", "x"), "x")),
    ("Swish", lambda w: w("Mul", "x", w("Sigmoid", w("Mul", "x", 1.702)))),
    ("HardSwish", lambda w: w("Mul", "x", w("HardSigmoid", "x", alpha=1 / 6, beta=0.5))),
    ("HardSwish", lambda w: w("Div", w("Mul", "x", w("Clip", w("Add", "x", 3.0), 0.0, 6.0)), 6.0)),
    ("HardSwish", lambda w: w("Mul", "x", w("Mul", w("Clip", w("Add", "x", [3.0]), 0.0, 6.0), 1 / 6))),
    ("HardSwish", lambda w: w("Mul", "x", w("Div", w("Clip", w("Add", 3.0, "x"), 0.0, 6.0), 6.0))),
    ("HardSigmoid", lambda w: w("Div", w("Clip", w("Add", "x", 3.0), 0.0, 6.0), 6.0)),
    ("Mish", lambda w: w("Mul", "x", w("Tanh", w("Softplus", "x")))),
    ("Mish", lambda w: w("Mul", "x", w("Tanh", w("Log", w("Add", w("Exp", "x"), 1.0))))),
    ("Softplus", lambda w: w("Log", w("Add", 1.0, w("Exp", "x")))),
    ("Relu", lambda w: w("Clip", w("Relu", "x"), 0.0)),
]


@pytest.mark.parametrize("write", GELU_ERF + GELU_TANH)
@pytest.mark.parametrize("opset", [13, 20])
def test_gelu(write: Callable[[Writer], str], opset: int) -> None:
    ops, error = outcome(write, opset)
    assert ops == ["Gelu"] and error < 3e-6


@pytest.mark.parametrize("name,write", OTHERS)
def test_others(name: str, write: Callable[[Writer], str]) -> None:
    ops, error = outcome(write)
    assert ops == [name] and error < 3e-6


def test_in_half_precision() -> None:
    ops, error = outcome(GELU_TANH[0], 17, np.float16)
    assert "Gelu" in ops and error < 2e-2


@pytest.mark.parametrize(
    "write",
    [
        lambda w: w("Mul", w("Mul", "x", w("Add", w("Erf", w("Div", "x", 1.5)), 1.0)), 0.5),
        lambda w: w("Mul", w("Mul", "x", w("Add", w("Erf", w("Div", "x", SQRT2)), 1.0)), 0.6),
        lambda w: w("Mul", "x", w("Clip", w("Add", "x", 2.0), 0.0, 6.0)),
        lambda w: w("Mul", w("Exp", "x"), w("Sigmoid", "x")),
    ],
)
def test_lookalikes_are_left_alone(write: Callable[[Writer], str]) -> None:
    ops, error = outcome(write)
    assert not {"Gelu", "HardSwish", "Swish", "HardSigmoid"} & set(ops) and error < 1e-3


@pytest.mark.parametrize(
    "count,write",
    [
        (0, lambda w: w("Identity", w("Add", w("Mul", "x", 1.0), [0.0]))),
        (0, lambda w: w("Sub", w("Div", w("Pow", "x", 1.0), 1.0), 0.0)),
        (1, lambda w: w("Pow", "x", 2.0)),
        (1, lambda w: w("Clip", w("Clip", "x", -1.0, 5.0), 0.0, 3.0)),
        (0, lambda w: w("Cast", w("Cast", "x", to=TensorProto.DOUBLE), to=TensorProto.FLOAT)),
        (2, lambda w: w("Cast", w("Cast", "x", to=TensorProto.FLOAT16), to=TensorProto.FLOAT)),
        (0, lambda w: w("Dropout", "x")),
        (1, lambda w: w("Add", "x", np.zeros((4, 1, 1), np.float32))),
    ],
)
def test_what_does_nothing_is_removed(count: int, write: Callable[[Writer], str]) -> None:
    ops, error = outcome(write)
    assert len(ops) == count and error < 1e-6
