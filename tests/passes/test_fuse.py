"""Epilogue fusion and absorbed layouts: what the lowered graph keeps, and that results stay those of onnxruntime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from linnet import _core

F = TensorProto.FLOAT


def check(nodes, feeds, constants=None, expect_ops=None, opset=20, symbolic=False, tolerance=1e-5):
    """Runs nodes that end in "y" on both runtimes; the lowered graph must hold exactly `expect_ops` (sorted names)."""
    inputs = [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(v.dtype),
            [f"{name}{i}" for i in range(v.ndim)] if symbolic else v.shape,
        )
        for name, v in feeds.items()
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        inputs,
        [helper.make_tensor_value_info("y", F, None)],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    expected = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
    for threads in (1, 3):
        options = _core.SessionOptions()
        options.threads = threads
        session = _core.Session.from_bytes(model, options)
        if expect_ops is not None:
            assert lowered_ops(session) == sorted(expect_ops), session.dump("lower")
        y = session.run(feeds)[0]
        assert y.shape == expected.shape
        np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
    return session


def lowered_ops(session):
    """Names of the operators of the lowered graph, one per node."""
    names = []
    for line in session.dump("lower").splitlines():
        if " = " in line and "(" in line:
            names.append(line.split(" = ", 1)[1].split("(", 1)[0].strip())
    return sorted(names)


rng = np.random.default_rng(0)
X = rng.standard_normal((2, 5, 8)).astype(np.float32)
W = rng.standard_normal((8, 12)).astype(np.float32)
BIAS = rng.standard_normal(12).astype(np.float32)
R = rng.standard_normal((2, 5, 12)).astype(np.float32)
MATMUL = helper.make_node("MatMul", ["x", "w"], ["m"])
INTERNAL = "linnet.MatMul"


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], **attributes)


@pytest.mark.parametrize(
    "activation",
    [
        ("Relu", {}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("Elu", {"alpha": 1.5}),
        ("Selu", {}),
        ("Celu", {"alpha": 0.7}),
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("Softplus", {}),
        ("Softsign", {}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("HardSwish", {}),
        ("Mish", {}),
        ("Gelu", {}),
        ("Gelu", {"approximate": "tanh"}),
        ("ThresholdedRelu", {"alpha": 0.5}),
        ("Erf", {}),
        ("Neg", {}),
        ("Abs", {}),
    ],
    ids=str,
)
def test_bias_and_activation(activation):
    op, attributes = activation
    nodes = [MATMUL, node("Add", ["m", "b"], "s"), node(op, ["s"], "y", **attributes)]
    check(nodes, {"x": X}, {"w": W, "b": BIAS}, [INTERNAL], opset=22)


def test_clip():
    nodes = [MATMUL, node("Clip", ["m", "low", "high"], "y")]
    check(nodes, {"x": X}, {"w": W, "low": np.float32(-0.5), "high": np.float32(1)}, [INTERNAL])
    check([MATMUL, node("Clip", ["m", "", "high"], "y")], {"x": X}, {"w": W, "high": np.float32(1)}, [INTERNAL])


@pytest.mark.parametrize("symbolic", [False, True])
def test_residual(symbolic):
    nodes = [
        node("Identity", ["x"], "x2"),
        MATMUL,
        node("Add", ["b", "m"], "s"),
        node("MatMul", ["x2", "w2"], "r"),
        node("Add", ["r", "s"], "t"),
        node("Relu", ["t"], "y"),
    ]
    check(nodes, {"x": X}, {"w": W, "w2": W[::-1].copy(), "b": BIAS}, [INTERNAL] * 2, symbolic=symbolic)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("kind", ["scalar", "vector", "full", "column", "wider"])
def test_binary(op, order, kind):
    other = {
        "scalar": np.float32(1.7),
        "vector": BIAS + 3,
        "full": np.abs(R) + 1,
        "column": np.abs(R[:, :, :1]) + 1,
        "wider": np.abs(rng.standard_normal((3, 1, 5, 12))).astype(np.float32) + 1,
    }[kind]
    pair = ["m", "o"] if order == 0 else ["o", "m"]
    weights = np.abs(W)
    x = np.abs(X)
    fused = {"scalar": True, "vector": True, "full": True}.get(kind, False)
    if op == "Div" and order == 1:
        fused = False
    expect = [INTERNAL] if fused else [INTERNAL, op]
    check([MATMUL, node(op, pair, "y")], {"x": x}, {"w": weights, "o": other}, expect)


def test_product_used_twice_stays():
    nodes = [MATMUL, node("Relu", ["m"], "r"), node("Add", ["r", "m"], "y")]
    check(nodes, {"x": X}, {"w": W})


def test_gate_that_depends_on_the_product():
    nodes = [MATMUL, node("Sigmoid", ["m"], "g"), node("Mul", ["m", "g"], "y")]
    check(nodes, {"x": X}, {"w": W})


def test_prelu():
    check([MATMUL, node("PRelu", ["m", "s"], "y")], {"x": X}, {"w": W, "s": BIAS}, [INTERNAL])


def test_gemm_with_reshapes():
    nodes = [
        node("Reshape", ["x", "flat"], "x2"),
        node("Gemm", ["x2", "w", "b"], "m"),
        node("Reshape", ["m", "back"], "g"),
        node("Gelu", ["g"], "a"),
        node("Add", ["a", "r"], "y"),
    ]
    constants = {"w": W, "b": BIAS, "flat": np.array([-1, 8]), "back": np.array([2, 5, 12])}
    check(nodes, {"x": X, "r": R}, constants, [INTERNAL])


def test_gemm_behind_merged_heads():
    heads = rng.standard_normal((2, 5, 4, 2)).astype(np.float32)
    nodes = [
        node("Reshape", ["h", "flat"], "x2"),
        node("Gemm", ["x2", "w", "b"], "m"),
        node("Reshape", ["m", "back"], "g"),
        node("Add", ["g", "r"], "y"),
    ]
    constants = {"w": W, "b": BIAS, "flat": np.array([-1, 8]), "back": np.array([2, 5, 12])}
    check(nodes, {"h": heads, "r": R}, constants, ["Reshape", INTERNAL])


@pytest.mark.parametrize("symbolic", [False, True])
def test_heads(symbolic):
    """Splitting and merging heads around products costs no Transpose."""
    q = rng.standard_normal((2, 5, 4, 6)).astype(np.float32)
    nodes = [
        node("Transpose", ["q"], "qt", perm=[0, 2, 1, 3]),
        node("Transpose", ["k"], "kt", perm=[0, 2, 3, 1]),
        node("MatMul", ["qt", "kt"], "s"),
        node("Transpose", ["v"], "vt", perm=[0, 2, 1, 3]),
        node("MatMul", ["s", "vt"], "o"),
        node("Transpose", ["o"], "y", perm=[0, 2, 1, 3]),
    ]
    feeds = {"q": q, "k": q[:, ::-1].copy(), "v": q * 2}
    check(nodes, feeds, expect_ops=[INTERNAL] * 2, symbolic=symbolic, tolerance=1e-4)


@pytest.mark.parametrize("perm", [[1, 0, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0], [2, 0, 1]], ids=str)
@pytest.mark.parametrize("side", ["a", "b", "y"])
def test_any_permutation(side, perm):
    cube = rng.standard_normal((5, 5, 5)).astype(np.float32)
    a, b = ("t", "b") if side == "a" else ("a", "t") if side == "b" else ("a", "b")
    nodes = [node("Transpose", [side], "t", perm=perm)] if side != "y" else []
    nodes.append(node("MatMul", [a, b], "y" if side != "y" else "m"))
    if side == "y":
        nodes.append(node("Transpose", ["m"], "y", perm=perm))
    check(nodes, {"a": cube, "b": cube + 1}, tolerance=1e-4)
