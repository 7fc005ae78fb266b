"""ai.onnx.preview.training: optimizers by their formulas, Gradient by torch's derivatives and by differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from linnet import _core, backend

torch = pytest.importorskip("torch")

TRAINING = "ai.onnx.preview.training"


def model_of(nodes: list[Any], feeds: dict[str, Any], outputs: list[str], opset: int = 21, **more: Any) -> Any:
    symbolic, constants = more.get("symbolic", False), more.get("constants", {})
    given = [
        helper.make_tensor_value_info(
            n, helper.np_dtype_to_tensor_dtype(x.dtype), [f"{n}{i}" for i in range(x.ndim)] if symbolic else x.shape
        )
        for n, x in feeds.items()
    ]
    results = [helper.make_empty_tensor_value_info(o) for o in outputs]
    for r in results:
        r.ClearField("type")
    initializers = [numpy_helper.from_array(np.asarray(x), n) for n, x in constants.items()]
    graph = helper.make_graph(nodes, "g", given, results, initializers)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(TRAINING, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(model: Any, feeds: dict[str, Any], optimization: int = 2, threads: int = 2) -> list[Any]:
    options = _core.SessionOptions()
    options.optimization = optimization
    options.threads = threads
    return list(_core.Session.from_bytes(model.SerializeToString(), options).run(feeds))


# ---- optimizers -----------------------------------------------------------------------------------------------------


def adagrad(r: float, t: int, x: Any, g: Any, h: Any, norm: float, decay: float, epsilon: float) -> Any:
    g = norm * x + g
    h = h + g * g
    return x - r / (1 + t * decay) * g / (np.sqrt(h) + epsilon), h


def adam(
    r: float,
    t: int,
    x: Any,
    g: Any,
    v: Any,
    h: Any,
    alpha: float,
    beta: float,
    norm: float,
    after: float,
    epsilon: float,
) -> Any:
    g = norm * x + g
    v = alpha * v + (1 - alpha) * g
    h = beta * h + (1 - beta) * g * g
    r = r * np.sqrt(1 - beta**t) / (1 - alpha**t) if t > 0 else r
    return (1 - after) * (x - r * v / (np.sqrt(h) + epsilon)), v, h


def momentum(r: float, t: int, x: Any, g: Any, v: Any, alpha: float, beta: float, norm: float, nesterov: bool) -> Any:
    g = norm * x + g
    v = alpha * v + (beta if t > 0 else 1) * g
    return x - r * (g + alpha * v if nesterov else v), v


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("t", [0, 3])
@pytest.mark.parametrize("rate", [np.float32, np.float64])
def test_optimizers(dtype: Any, t: int, rate: Any) -> None:
    rng = np.random.default_rng(t)
    shapes = [(3, 5), (20000,), (), (0, 4)]

    def tensors(low: float) -> list[Any]:
        return [np.asarray(rng.uniform(low, 1, s)).astype(dtype) for s in shapes]

    x, g, v, h = tensors(-1), tensors(-1), tensors(-1), tensors(0)
    r, step = np.array(0.1, rate), np.array(t, np.int64)
    n = len(shapes)
    cases: list[tuple[str, list[Any], dict[str, Any], Any]] = [
        (
            "Adagrad",
            [x, g, h],
            {"norm_coefficient": 0.01, "decay_factor": 0.1, "epsilon": 1e-5},
            lambda i: adagrad(0.1, t, x[i], g[i], h[i], 0.01, 0.1, 1e-5),
        ),
        (
            "Adam",
            [x, g, v, h],
            {"alpha": 0.95, "beta": 0.85, "norm_coefficient": 0.01, "norm_coefficient_post": 0.05, "epsilon": 1e-4},
            lambda i: adam(0.1, t, x[i], g[i], v[i], h[i], 0.95, 0.85, 0.01, 0.05, 1e-4),
        ),
    ]
    for mode in ("standard", "nesterov"):
        cases.append(
            (
                "Momentum",
                [x, g, v],
                {"alpha": 0.95, "beta": 0.9, "norm_coefficient": 0.02, "mode": mode},
                lambda i, mode=mode: momentum(0.1, t, x[i], g[i], v[i], 0.95, 0.9, 0.02, mode == "nesterov"),
            )
        )
    for op, groups, attributes, formula in cases:
        feeds = {"r": r, "t": step}
        for j, group in enumerate(groups):
            feeds |= {f"i{j}_{i}": a for i, a in enumerate(group)}
        outputs = [f"o{j}_{i}" for j in range(len(groups) - 1) for i in range(n)]
        node = helper.make_node(op, list(feeds), outputs, domain=TRAINING, **attributes)
        model = model_of([node], feeds, outputs)
        got = run(model, feeds)
        for a, b in zip(got, run(model, feeds, threads=1), strict=True):
            assert a.tobytes() == b.tobytes()
        for i in range(n):
            want = formula(i)
            for j, w in enumerate(want):
                assert got[j * n + i].dtype == dtype and got[j * n + i].shape == shapes[i]
                np.testing.assert_allclose(got[j * n + i], w, rtol=2e-5, atol=1e-6, err_msg=op)


@pytest.mark.parametrize(
    ("op", "count", "attributes", "message"),
    [
        ("Adagrad", 4, {}, "multiple of 3"),
        ("Adam", 3, {}, "multiple of 4"),
        ("Momentum", 3, {"alpha": 1.0, "beta": 1.0, "norm_coefficient": 0.0, "mode": "x"}, "mode is 'x'"),
        ("Momentum", 3, {"alpha": 1.0, "norm_coefficient": 0.0, "mode": "standard"}, "'beta' is missing"),
    ],
)
def test_optimizer_errors(op: str, count: int, attributes: dict[str, Any], message: str) -> None:
    feeds: dict[str, Any] = {"r": np.float32(1), "t": np.int64(0)}
    feeds = {k: np.asarray(v) for k, v in feeds.items()}
    feeds |= {f"x{i}": np.zeros(2, np.float32) for i in range(count)}
    node = helper.make_node(op, list(feeds), ["y"], domain=TRAINING, **attributes)
    with pytest.raises(Exception, match=message):
        run(model_of([node], feeds, ["y"]), feeds)


def test_optimizer_shapes() -> None:
    feeds = {"r": np.array(1, np.float32), "t": np.array(0)}
    feeds |= {"x": np.zeros(2, np.float32), "g": np.zeros(3, np.float32), "h": np.zeros(2, np.float32)}
    with pytest.raises(Exception, match="has shape"):
        run(model_of([helper.make_node("Adagrad", list(feeds), ["y"], domain=TRAINING)], feeds, ["y"]), feeds)


# ---- Gradient -------------------------------------------------------------------------------------------------------


def gradient(xs: list[str], y: str, zs: list[str] | None = None, inputs: list[str] | None = None) -> Any:
    names = xs + (zs or [])
    more = {"zs": zs} if zs else {}
    return helper.make_node("Gradient", inputs or names, [f"d{x}" for x in xs], domain=TRAINING, xs=xs, y=y, **more)


def node(op: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), [output], **attributes)


def differences(model: Any, feeds: dict[str, Any], name: str) -> Any:
    """Derivatives of the sum of output 0 by central differences, in float64."""
    session = backend.prepare(model)
    x = feeds[name]
    d = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        sides = []
        for step in (1e-5, -1e-5):
            moved = x.copy()
            moved[i] += step
            sides.append(float(np.sum(session.run({**feeds, name: moved})[0])))
        d[i] = (sides[0] - sides[1]) / 2e-5
    return d


def compare(nodes: list[Any], feeds: dict[str, Any], xs: list[str], y: str = "y", opset: int = 21, **more: Any) -> None:
    """All derivatives, optimized and not, with sizes known and not, against differences."""
    zs = [f for f in feeds if f not in xs]
    for symbolic in (False, True):
        whole = model_of(
            [*nodes, gradient(xs, y, zs)], feeds, [y, *[f"d{x}" for x in xs]], opset, symbolic=symbolic, **more
        )
        got = [run(whole, feeds, optimization) for optimization in (0, 2)]
        for i, x in enumerate(xs):
            want = differences(model_of(nodes, feeds, [y], opset, **more), feeds, x)
            for g in got:
                assert g[i + 1].shape == feeds[x].shape and g[i + 1].dtype == feeds[x].dtype
                np.testing.assert_allclose(g[i + 1], want, rtol=2e-5, atol=2e-6)


UNARY = {
    "Abs": (0.1, 2),
    "Acos": (-0.9, 0.9),
    "Acosh": (1.1, 3),
    "Asin": (-0.9, 0.9),
    "Asinh": (-2, 2),
    "Atan": (-2, 2),
    "Atanh": (-0.9, 0.9),
    "Cos": (-2, 2),
    "Cosh": (-2, 2),
    "Elu": (-2, 2),
    "Erf": (-2, 2),
    "Exp": (-2, 2),
    "HardSigmoid": (-4, 4),
    "Identity": (-1, 1),
    "LeakyRelu": (-2, 2),
    "Log": (0.2, 3),
    "Neg": (-1, 1),
    "Reciprocal": (0.3, 2),
    "Relu": (-2, 2),
    "Sigmoid": (-3, 3),
    "Sin": (-2, 2),
    "Sinh": (-2, 2),
    "Softplus": (-2, 2),
    "Softsign": (-2, 2),
    "Sqrt": (0.2, 3),
    "Tan": (-1, 1),
    "Tanh": (-2, 2),
}


@pytest.mark.parametrize("op", sorted(UNARY))
def test_gradient_unary(op: str) -> None:
    x = np.random.default_rng(0).uniform(*UNARY[op], (3, 4))
    compare([node(op, "x", "y")], {"x": x}, ["x"])


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "PRelu"])
@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 3, 4), (3, 1)), ((3, 4), ())])
def test_gradient_binary(op: str, shapes: tuple[Any, Any]) -> None:
    rng = np.random.default_rng(1)
    a, b = (np.asarray(rng.uniform(0.3, 2, s)) for s in shapes)
    compare([node(op, "a b", "y")], {"a": a, "b": b}, ["a", "b"])


def test_gradient_of_squeeze() -> None:
    x = np.random.default_rng(2).uniform(-1, 1, (3, 1, 4))
    nodes = [node("Squeeze", "x k", "u"), node("Exp", "u", "y")]
    compare(nodes, {"x": x}, ["x"], constants={"k": np.array([1])})


def test_gradient_of_broadcast_to_the_left() -> None:
    rng = np.random.default_rng(2)
    feeds = {"a": rng.uniform(0.5, 1, (1, 4)), "b": rng.uniform(0.5, 1, (2, 3, 1))}
    for op in ("Mul", "Div", "Pow"):
        compare([node(op, "a b", "y")], feeds, ["a", "b"])


@pytest.mark.parametrize(
    ("op", "attributes", "constants"),
    [
        ("ReduceSum", {}, {"k": [1]}),
        ("ReduceSum", {"keepdims": 0}, {"k": [0, -1]}),
        ("ReduceMean", {"keepdims": 0}, {"k": [1]}),
        ("ReduceMean", {}, {}),
        ("ReduceSumSquare", {"keepdims": 0}, {"k": [1]}),
        ("ReduceL2", {}, {"k": [1, 2]}),
        ("ReduceLogSumExp", {"keepdims": 0}, {"k": [2]}),
        ("Reshape", {}, {"k": [4, -1]}),
        ("Unsqueeze", {}, {"k": [0, 2]}),
        ("Flatten", {"axis": 2}, {}),
        ("Transpose", {}, {}),
        ("Transpose", {"perm": [1, 2, 0]}, {}),
        ("Expand", {}, {"k": [5, 1, 3, 4]}),
        ("Softmax", {"axis": 1}, {}),
        ("LogSoftmax", {}, {}),
        ("Tile", {}, {"k": [2, 1, 3]}),
        ("Gather", {"axis": 1}, {"k": [[0, 2], [2, 2]]}),
        ("Slice", {}, {"k": [0, 1], "l": [2, 4], "m": [1, 2], "o": [1, 2]}),
        ("Clip", {}, {"k": -0.4, "l": 0.5}),
    ],
)
def test_gradient_shapes(op: str, attributes: dict[str, Any], constants: dict[str, Any]) -> None:
    x = np.random.default_rng(3).uniform(-1, 1, (2, 3, 4))
    weight = np.random.default_rng(4).uniform(-1, 1, 240)
    arrays = {k: np.asarray(v) for k, v in constants.items()}
    nodes = [
        node(op, " ".join(["x", *arrays]), "u", **attributes),
        node("Shape", "u", "s"),
        node("Size", "u", "n"),
        node("Reshape", "n one", "n1"),
        node("Slice", "w zero n1", "some"),
        node("Reshape", "some s", "v"),
        node("Mul", "u v", "y"),
    ]
    arrays |= {"w": weight, "zero": np.array([0]), "one": np.array([1])}
    compare(nodes, {"x": x}, ["x"], constants=arrays)


@pytest.mark.parametrize(
    "shapes",
    [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,))],
)
def test_gradient_matmul(shapes: tuple[Any, Any]) -> None:
    rng = np.random.default_rng(5)
    feeds = {"a": rng.uniform(-1, 1, shapes[0]), "b": rng.uniform(-1, 1, shapes[1])}
    compare([node("MatMul", "a b", "m"), node("Sin", "m", "y")], feeds, ["a", "b"])


@pytest.mark.parametrize("turn", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gradient_gemm(turn: tuple[int, int]) -> None:
    rng = np.random.default_rng(6)
    a, b = rng.uniform(-1, 1, (3, 4)), rng.uniform(-1, 1, (4, 5))
    feeds = {"a": a.T.copy() if turn[0] else a, "b": b.T.copy() if turn[1] else b, "c": rng.uniform(-1, 1, (1, 5))}
    nodes = [node("Gemm", "a b c", "m", transA=turn[0], transB=turn[1], alpha=0.5, beta=2.0), node("Sin", "m", "y")]
    compare(nodes, feeds, ["a", "b", "c"])


def test_gradient_joins() -> None:
    rng = np.random.default_rng(7)
    feeds = {"a": rng.uniform(-1, 1, (2, 3)), "b": rng.uniform(-1, 1, (2, 2)), "c": rng.uniform(0, 1, (2, 5)) > 0.5}
    nodes = [
        node("Concat", "a b", "j", axis=1),
        node("Exp", "j", "e"),
        node("Where", "c j e", "w"),
        helper.make_node("Split", ["w"], ["p", "q"], axis=1, num_outputs=2),
        node("ReduceSum", "p", "ps"),
        node("Mul", "ps q", "y"),
    ]
    compare(nodes, feeds, ["a", "b"])


def test_gradient_at_other_values() -> None:
    """Inputs other than the values that are named: the function is the same, the place another."""
    a, b, p, q = (np.array(v, np.float32) for v in (1, 2, 5, 7))
    nodes = [
        node("Add", "a b", "c"),
        node("Mul", "c a", "y"),
        gradient(["a"], "y", ["b"], ["p", "q"]),
    ]
    feeds = {"a": a, "b": b, "p": p, "q": q}
    y, da = run(model_of(nodes, feeds, ["y", "da"]), feeds)
    assert float(y) == 3.0 and float(da) == 2 * 5 + 7


def test_gradient_of_an_intermediate_value_and_of_none() -> None:
    """By a value in the middle, which ends the path; by one that y does not depend on."""
    feeds = {"x": np.array([2.0, 3.0], np.float32), "u": np.ones((2, 3), np.float32)}
    nodes = [node("Mul", "x x", "h"), node("Mul", "h h", "y"), gradient(["h", "u"], "y")]
    _, dh, du = run(model_of(nodes, feeds, ["y", "dh", "du"]), feeds)
    np.testing.assert_allclose(dh, 2 * feeds["x"] ** 2)
    np.testing.assert_array_equal(du, np.zeros((2, 3), np.float32))


def test_gradient_of_a_gradient() -> None:
    x = np.array([0.5, -1.5], np.float64)
    nodes = [
        node("Mul", "x x", "s"),
        node("Mul", "s x", "y"),
        helper.make_node("Gradient", ["x"], ["first"], domain=TRAINING, xs=["x"], y="y"),
        helper.make_node("Gradient", ["x"], ["second"], domain=TRAINING, xs=["x"], y="first"),
    ]
    _, first, second = run(model_of(nodes, {"x": x}, ["y", "first", "second"]), {"x": x})
    np.testing.assert_allclose(first, 3 * x**2)
    np.testing.assert_allclose(second, 6 * x)


def test_gradient_by_weights() -> None:
    """Initializers are weights like any other, though their values are known early."""
    w = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    x = np.array([[1.0, -1.0]], np.float32)
    nodes = [node("MatMul", "x w", "m"), node("Relu", "m", "y"), gradient(["w"], "y", ["x"])]
    _, dw = run(model_of(nodes, {"x": x}, ["y", "dw"], constants={"w": w}), {"x": x})
    np.testing.assert_array_equal(dw, np.zeros((2, 2), np.float32))
    nodes[1] = node("Neg", "m", "y")
    _, dw = run(model_of(nodes, {"x": x}, ["y", "dw"], constants={"w": w}), {"x": x})
    np.testing.assert_array_equal(dw, [[-1, -1], [1, 1]])


def test_gradient_through_functions_and_old_opsets() -> None:
    x = np.random.default_rng(8).uniform(-1, 1, (3, 4)).astype(np.float32)
    nodes = [node("Sigmoid", "x", "s"), node("Mul", "s x", "m"), node("ReduceMean", "m", "y", keepdims=0)]
    whole = model_of([*nodes, gradient(["x"], "y")], {"x": x}, ["y", "dx"], opset=12)
    _, dx = run(whole, {"x": x})
    t = torch.tensor(x, requires_grad=True)
    torch.nn.functional.silu(t).mean().backward()
    np.testing.assert_allclose(dx, t.grad.numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [None, 1])
@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 2)])
def test_gradient_of_losses(reduction: str, weighted: bool, ignore: int | None, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(9)
    x, labels = rng.standard_normal(shape), rng.integers(0, 4, (shape[0], *shape[2:]))
    weight = rng.uniform(0.5, 2, 4)
    more = {} if ignore is None else {"ignore_index": ignore}
    for op in ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"):
        feeds = {"x": x, "t": labels} | ({"w": weight} if weighted else {})
        nodes = [node(op, " ".join(feeds), "y", reduction=reduction, **more)]
        got = run(model_of([*nodes, gradient(["x"], "y", list(feeds)[1:])], feeds, ["y", "dx"]), feeds)
        t = torch.tensor(x, requires_grad=True)
        loss = torch.nn.functional.cross_entropy if op[0] == "S" else torch.nn.functional.nll_loss
        want = loss(
            t,
            torch.tensor(labels),
            weight=torch.tensor(weight) if weighted else None,
            reduction=reduction,
            ignore_index=-100 if ignore is None else ignore,
        )
        want.sum().backward()
        np.testing.assert_allclose(got[1], t.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("stride", "pad", "dilation", "size"), [(1, 1, 1, 7), (2, 1, 1, 8), (2, 0, 1, 7), (1, 2, 2, 9), (3, 1, 2, 11)]
)
def test_gradient_of_a_network(stride: int, pad: int, dilation: int, size: int) -> None:
    """Convolution, pools, dense layer and loss, as torch differentiates them."""
    rng = np.random.default_rng(10)
    x, w1 = rng.standard_normal((2, 3, size, size)), rng.standard_normal((4, 3, 3, 3))
    b1, w2 = rng.standard_normal(4), rng.standard_normal((4, 5))
    labels = rng.integers(0, 5, 2)
    nodes = [
        node("Conv", "x w1 b1", "c", strides=[stride] * 2, pads=[pad] * 4, dilations=[dilation] * 2),
        node("Relu", "c", "r"),
        node("MaxPool", "r", "p", kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
        node("GlobalAveragePool", "p", "a"),
        node("Flatten", "a", "f"),
        node("MatMul", "f w2", "l"),
        node("SoftmaxCrossEntropyLoss", "l t", "y"),
    ]
    names = ["x", "w1", "b1", "w2"]
    feeds = {"x": x, "w1": w1, "b1": b1, "w2": w2, "t": labels}
    feeds = {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in feeds.items()}
    model = model_of([*nodes, gradient(names, "y", ["t"])], feeds, ["y", *[f"d{n}" for n in names]])
    got = run(model, feeds)
    t = {n: torch.tensor(feeds[n], requires_grad=True) for n in names}
    f = torch.nn.functional
    h = f.relu(f.conv2d(t["x"], t["w1"], t["b1"], stride=stride, padding=pad, dilation=dilation))
    h = f.max_pool2d(f.pad(h, (0, 1, 0, 1), value=-1e30), 2, 1).mean((2, 3))
    loss = f.cross_entropy(h @ t["w2"], torch.tensor(labels))
    loss.backward()
    np.testing.assert_allclose(got[0], loss.detach().numpy(), rtol=1e-5)
    for n, g in zip(names, got[1:], strict=True):
        want = t[n].grad.numpy()
        np.testing.assert_allclose(g, want, rtol=1e-4, atol=1e-5 * float(np.abs(want).max()), err_msg=n)


def test_training_step_converges() -> None:
    """A loop in Python around a model that gives new weights: loss goes down to nothing."""
    rng = np.random.default_rng(11)
    x = rng.standard_normal((32, 3)).astype(np.float32)
    want = (x @ np.array([[1.0], [-2.0], [0.5]])).astype(np.float32)
    nodes = [
        node("MatMul", "x w", "p"),
        node("Sub", "p t", "e"),
        node("Mul", "e e", "q"),
        node("ReduceMean", "q", "y", keepdims=0),
        gradient(["w"], "y", ["x", "t"]),
        helper.make_node(
            "Adam", ["r", "n", "w", "dw", "v", "h"], ["w1", "v1", "h1"], domain=TRAINING, alpha=0.9, beta=0.99
        ),
    ]
    w = np.zeros((3, 1), np.float32)
    feeds = {"x": x, "t": want, "w": w, "r": np.array(0.1, np.float32), "n": np.array(0), "v": w, "h": w}
    session = backend.prepare(model_of(nodes, feeds, ["y", "w1", "v1", "h1"]))
    for step in range(1, 300):
        feeds["n"] = np.array(step)
        loss, feeds["w"], feeds["v"], feeds["h"] = session.run(feeds)
    assert float(loss) < 1e-6


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Gelu", "x", "y"), gradient(["x"], "y")], "derivative of.*Gelu.*: not known"),
        ([node("Exp", "x", "y"), gradient(["x"], "z")], "no value 'z'"),
        ([node("Exp", "x", "y"), gradient(["x"], "y", ["q"], ["x", "x"])], "no value 'q'"),
        ([node("Exp", "x", "y"), gradient(["x"], "y", None, ["x", "x"])], "xs and zs name 1"),
        ([node("Shape", "x", "y"), gradient(["x"], "y")], "expected a float type"),
    ],
)
def test_gradient_errors(nodes: list[Any], message: str) -> None:
    feeds = {"x": np.ones((2, 2), np.float32)}
    with pytest.raises(Exception, match=message):
        run(model_of(nodes, feeds, ["y", "dx"]), feeds)
