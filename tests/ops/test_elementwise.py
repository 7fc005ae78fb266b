"""Elementwise operators against numpy and the ONNX reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from elementwise_model import FLOATS, INTS, SPECIAL, check, reference, run, values
from linnet import _core

UNARY: dict[str, Any] = {
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Log": np.log,
    "Reciprocal": lambda x: 1 / x,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.rint,
    "Sin": np.sin,
    "Cos": np.cos,
    "Tan": np.tan,
    "Asin": np.arcsin,
    "Acos": np.arccos,
    "Atan": np.arctan,
    "Sinh": np.sinh,
    "Cosh": np.cosh,
    "Tanh": np.tanh,
    "Asinh": np.arcsinh,
    "Acosh": np.arccosh,
    "Atanh": np.arctanh,
    "Abs": np.abs,
    "Neg": np.negative,
    "Sign": np.sign,
    "Sigmoid": lambda x: np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x)))),
    "Relu": lambda x: np.where(x < 0, 0, x),
    "LeakyRelu": lambda x: np.where(x < 0, x * np.float32(0.01), x),
    "Elu": lambda x: np.where(x < 0, np.expm1(x), x),
    "Celu": lambda x: np.where(x < 0, np.expm1(x), x),
    "Selu": lambda x: np.float32(1.0507009873554805) * np.where(x < 0, np.float32(1.6732632423543772) * np.expm1(x), x),
    "Softplus": lambda x: np.logaddexp(x, 0),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "HardSigmoid": lambda x: np.clip(np.float32(0.2) * x + 0.5, 0, 1),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "ThresholdedRelu": lambda x: np.where(x <= 1, 0, x),
    "Mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "Swish": lambda x: x / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("op", UNARY)
def test_unary_floats(op: str, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    for shape in [(), (0, 3), (1,), (7, 19), (70000,)]:
        x = values(rng, dtype, shape)
        with np.errstate(all="ignore"):
            want = UNARY[op](x.astype(np.float64)).astype(dtype)
        check(run(op, x), want, 4e-6)


@pytest.mark.parametrize("op", [op for op in UNARY if op not in ("HardSwish", "Mish", "Swish", "Softsign")])
def test_unary_special_values(op: str) -> None:
    # The four left out are inf - inf or inf / inf by their formula; see test_gates_at_infinity.
    x = np.array(SPECIAL, np.float32)
    if op in ("Sin", "Cos", "Tan"):
        x = x[np.isnan(x) | np.isinf(x) | (np.abs(x) < 200)]
    with np.errstate(all="ignore"):
        want = UNARY[op](x.astype(np.float64)).astype(np.float32)
    got = run(op, x)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(got, want, rtol=4e-6, atol=1e-37)


def test_gates_at_infinity() -> None:
    x = np.array([np.nan, 3e38, -3e38, 0, 100, -100], np.float32)
    for op in ("HardSwish", "Mish", "Swish"):
        np.testing.assert_allclose(run(op, x), np.array([np.nan, 3e38, 0, 0, 100, 0], np.float32), atol=1e-37)


@pytest.mark.parametrize("op", ["Abs", "Neg", "Sign", "Relu", "BitwiseNot"])
@pytest.mark.parametrize("dtype", INTS, ids=lambda d: np.dtype(d).name)
def test_unary_integers(op: str, dtype: Any) -> None:
    if op in ("Neg", "Relu") and np.dtype(dtype).kind == "u":
        pytest.skip("not in the specification")
    info = np.iinfo(dtype)
    x = np.array([info.min, info.max, 0, 1, info.max - 1, info.min + 1], dtype)
    want = {
        "Abs": np.abs,
        "Neg": np.negative,
        "Sign": np.sign,
        "Relu": lambda v: np.maximum(v, 0),
        "BitwiseNot": np.invert,
    }[op](x)
    check(run(op, x), want.astype(dtype))


def test_gelu() -> None:
    x = np.linspace(-6, 6, 1001, dtype=np.float32)
    for approximate in ("none", "tanh"):
        for dtype in FLOATS:
            check(
                run("Gelu", x.astype(dtype), approximate=approximate),
                reference("Gelu", x.astype(dtype).astype(np.float64), approximate=approximate).astype(dtype),
                1e-5,
                0.1,  # the left tail cancels
            )


def test_is_nan_is_inf() -> None:
    for dtype in FLOATS:
        with np.errstate(over="ignore"):
            x = np.array(SPECIAL, np.float32).astype(dtype)
        check(run("IsNaN", x), np.isnan(x))
        check(run("IsInf", x), np.isinf(x))
        check(run("IsInf", x, detect_negative=0), np.isposinf(x.astype(np.float32)))


BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum, "Min": np.minimum}
SHAPES = [
    ((), ()),
    ((3, 4), (3, 4)),
    ((2, 3, 4), (4,)),
    ((2, 3, 4), (3, 1)),
    ((4,), (2, 3, 4)),
    ((2, 1, 4), (1, 3, 1)),
    ((5, 1), (1, 7)),
    ((0, 3), (3,)),
    ((300, 3), (3,)),
    ((300, 3), (300, 1)),
    ((2, 40, 50), (40, 1)),
    ((1,), (5, 1)),
    ((3, 1, 2, 1, 5), (1, 4, 1, 6, 5)),
    ((100, 700), ()),
]


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("dtype", FLOATS + INTS, ids=lambda d: np.dtype(d).name)
def test_binary(op: str, dtype: Any) -> None:
    rng = np.random.default_rng(2)
    for a_shape, b_shape in SHAPES:
        a, b = values(rng, dtype, a_shape), values(rng, dtype, b_shape)
        with np.errstate(all="ignore"):
            check(run(op, a, b), np.asarray(BINARY[op](a, b)).astype(dtype))


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
def test_division_and_powers_of_floats(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    a, b = values(rng, dtype, (33, 5)), values(rng, dtype, (5,))
    check(run("Div", a, b), a / b)
    with np.errstate(over="ignore"):
        want = (np.abs(a).astype(np.float64) ** b.astype(np.float64)).astype(dtype)
    check(run("Pow", np.abs(a), b), want, 2e-5)
    for exponent in (0.5, 1, 2, 3, -1):
        e = np.array(exponent, dtype)
        with np.errstate(over="ignore"):
            want = (np.abs(a).astype(np.float64) ** exponent).astype(dtype)
        check(run("Pow", np.abs(a), e), want, 4e-6)
        check(run("Pow", np.abs(a), e, constants=(1,)), want, 4e-6)
    for fmod, fn in ((0, np.mod), (1, np.fmod)):
        check(run("Mod", a, b, fmod=fmod), fn(a.astype(np.float64), b.astype(np.float64)).astype(dtype), 1e-5)


@pytest.mark.parametrize("dtype", INTS, ids=lambda d: np.dtype(d).name)
def test_division_of_integers(dtype: Any) -> None:
    rng = np.random.default_rng(4)
    info = np.iinfo(dtype)
    a = np.concatenate([values(rng, dtype, (500,)), np.array([info.min, info.min, info.max, 0], dtype)])
    b = np.concatenate([values(rng, dtype, (500,)), np.array([info.max if info.min == 0 else -1, 0, 0, 0], dtype)])
    exact_a, exact_b = a.astype(object), b.astype(object)
    quotient = np.array(
        [
            0 if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
            for x, y in zip(exact_a, exact_b, strict=True)
        ],
        object,
    )
    wrapped = np.array([int(v) & (2**info.bits - 1) for v in quotient], np.uint64).astype(f"u{a.itemsize}").view(dtype)
    check(run("Div", a, b), wrapped)
    floor = np.array([0 if y == 0 else x % y for x, y in zip(exact_a, exact_b, strict=True)], object).astype(dtype)
    check(run("Mod", a, b), floor)
    trunc = np.array(
        [0 if y == 0 else abs(x) % abs(y) * (-1 if x < 0 else 1) for x, y in zip(exact_a, exact_b, strict=True)], object
    )
    check(run("Mod", a, b, fmod=1), trunc.astype(dtype))


@pytest.mark.parametrize("dtype", INTS, ids=lambda d: np.dtype(d).name)
def test_bits(dtype: Any) -> None:
    rng = np.random.default_rng(5)
    a, b = values(rng, dtype, (40, 3)), values(rng, dtype, (3,))
    for op, fn in (("BitwiseAnd", np.bitwise_and), ("BitwiseOr", np.bitwise_or), ("BitwiseXor", np.bitwise_xor)):
        check(run(op, a, b), fn(a, b))
    amount = np.arange(-2 if np.dtype(dtype).kind == "i" else 0, 70).astype(dtype)
    wide = np.resize(a.ravel(), amount.shape)
    for direction in ("LEFT", "RIGHT"):
        check(
            run("BitShift", wide, amount, direction=direction), reference("BitShift", wide, amount, direction=direction)
        )


def test_powers_of_mixed_types() -> None:
    for base, exponent in [
        (np.int32, np.int64),
        (np.int64, np.float32),
        (np.float32, np.int32),
        (np.float64, np.uint8),
        (np.float32, np.float64),
        (np.uint8, np.uint8),
        (np.float16, np.int64),
    ]:
        x, e = np.array([0, 1, 2, 3, 5], base), np.array([3, 0, 7, 2, 3], exponent)
        check(run("Pow", x, e), np.power(x.astype(np.float64), e.astype(np.float64)).astype(base))
    check(
        run("Pow", np.array([1, -1, 2, 0], np.int32), np.array([-3, -3, -3, -3], np.int32)),
        np.array([1, -1, 0, 0], np.int32),
    )


@pytest.mark.parametrize(
    "op,fn",
    [
        ("Equal", np.equal),
        ("Less", np.less),
        ("LessOrEqual", np.less_equal),
        ("Greater", np.greater),
        ("GreaterOrEqual", np.greater_equal),
    ],
)
def test_comparisons(op: str, fn: Any) -> None:
    rng = np.random.default_rng(6)
    for dtype in FLOATS + INTS:
        for a_shape, b_shape in SHAPES:
            a, b = values(rng, dtype, a_shape), values(rng, dtype, b_shape)
            check(run(op, a, b), fn(a, b))
    x = np.array(SPECIAL, np.float32)
    check(run(op, x[:, None], x[None, :]), fn(x[:, None], x[None, :]))


def test_logic_and_strings() -> None:
    a, b = np.array([[True], [False]]), np.array([True, False])
    for op, fn in (("And", np.logical_and), ("Or", np.logical_or), ("Xor", np.logical_xor), ("Equal", np.equal)):
        check(run(op, a, b), fn(a, b))
    check(run("Not", a), ~a)
    s, t = np.array(["a", "bc", ""], object), np.array(["bc"], object)
    check(run("Equal", s, t), np.array([False, True, False]))
    check(run("Where", np.array([True, False, True]), s, t), np.array(["a", "bc", ""], object))


@pytest.mark.parametrize("dtype", FLOATS + INTS, ids=lambda d: np.dtype(d).name)
def test_where(dtype: Any) -> None:
    rng = np.random.default_rng(7)
    for c, a, b in [
        ((3, 4), (3, 4), (3, 4)),
        ((4,), (3, 1), ()),
        ((3, 1), (4,), (2, 3, 4)),
        ((), (5,), (5,)),
        ((0,), (1,), ()),
    ]:
        cond, x, y = rng.random(c) < 0.5, values(rng, dtype, a), values(rng, dtype, b)
        check(run("Where", np.asarray(cond), x, y), np.where(cond, x, y))


def test_variadic() -> None:
    rng = np.random.default_rng(8)
    for dtype in FLOATS:
        xs = [values(rng, dtype, s) for s in [(3, 4), (4,), (2, 1, 1)]]
        wide = [x.astype(np.float64) for x in xs]
        total = wide[0] + wide[1] + wide[2]
        check(run("Sum", *xs), total.astype(dtype), absolute=10)  # partial sums are rounded to the dtype
        check(run("Mean", *xs), (total / 3).astype(dtype), absolute=10)
        check(run("Max", *xs), np.maximum(np.maximum(*wide[:2]), wide[2]).astype(dtype))
        check(run("Min", xs[0]), xs[0])
    x = np.array([np.nan, 1], np.float32)
    np.testing.assert_array_equal(run("Max", x, np.array([1, np.nan], np.float32)), [np.nan, np.nan])


def test_broadcasting_before_opset_7() -> None:
    a, b = np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.array([10, 20, 30], np.float32)
    check(run("Add", a, b, opset=6, broadcast=1, axis=1), a + b[:, None])
    check(run("Mul", a, a[0, 0], opset=6, broadcast=1), a * a[0, 0])
    check(run("Less", a, b, opset=1, broadcast=1, axis=1), a < b[:, None])
    check(run("PRelu", a - 12, b, opset=6), np.where(a < 12, (a - 12) * b[:, None], a - 12))


def test_clip() -> None:
    rng = np.random.default_rng(9)
    for dtype in FLOATS + INTS:
        x = values(rng, dtype, (5, 70))
        lo, hi = np.array(1, dtype), np.array(3, dtype)
        check(run("Clip", x, lo, hi), np.clip(x, lo, hi).astype(dtype))
        check(run("Clip", x, lo, None), np.maximum(x, lo))
        check(run("Clip", x, None, hi), np.minimum(x, hi))
        check(run("Clip", x), x)
        check(run("Clip", x, hi, lo), np.full_like(x, 1))
    x = np.array(SPECIAL, np.float32)
    np.testing.assert_array_equal(run("Clip", x, opset=6, min=-1.0, max=1.0), np.clip(x, -1, 1))


def test_shrink() -> None:
    x = np.array([-3, -1, 0, 1, 3], np.float32)
    for dtype in [np.float32, np.float64, np.float16, np.int8, np.int64]:
        check(run("Shrink", x.astype(dtype), lambd=1.5, bias=1.0), np.array([-2, 0, 0, 0, 2], dtype))


def test_dropout() -> None:
    x = np.ones((3, 50), np.float32)
    out, mask = run("Dropout", x, outputs=2)
    np.testing.assert_array_equal(out, x)
    assert mask.dtype == np.bool_ and mask.all()
    np.testing.assert_array_equal(run("Dropout", x, opset=6, outputs=2, is_test=1)[1], x)


@pytest.mark.parametrize(
    "op,inputs,more,message",
    [
        ("Exp", [np.ones(3, np.int64)], {}, "input 0 is int64, expected one of float32"),
        ("Add", [np.ones(3, np.float32), np.ones(3, np.int64)], {}, "one dtype, got float32 and int64"),
        ("Add", [np.ones(3, np.float32), np.ones(2, np.float32)], {}, "do not broadcast"),
        ("BitShift", [np.ones(3, np.uint8)] * 2, {"direction": "UP"}, "expected LEFT or RIGHT"),
        ("Gelu", [np.ones(3, np.float32)], {"approximate": "x"}, "expected 'none' or 'tanh'"),
        ("Where", [np.ones(3, np.float32)] * 3, {}, "expected one of bool"),
        ("Cast", [np.ones(3, np.float32)], {"to": 77}, "data type 77"),
        ("BitCast", [np.ones(3, np.float32)], {"to": TensorProto.DOUBLE}, "differ in width"),
        ("QuantizeLinear", [np.ones(3, np.float32), np.ones(2, np.float32)], {"axis": 0}, "one per index of axis 0"),
        (
            "QuantizeLinear",
            [np.ones((3, 4), np.float32), np.ones((3, 3), np.float32)],
            {"axis": 1, "block_size": 2},
            "expected 3x2 for blocks of 2",
        ),
        ("Clip", [np.ones(3, np.float32), np.ones(3, np.float32)], {}, "min must be a scalar"),
        ("PRelu", [np.ones(3, np.float32), np.ones((2, 3), np.float32)], {}, "does not broadcast"),
    ],
)
def test_errors(op: str, inputs: list[Any], more: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        run(op, *inputs, **more)


def sizes_after(*steps: tuple[str, list[Any]]) -> str:
    """The line of the dump for x [n, 12] reshaped to what the steps make of its shape (their first input "s")."""
    nodes = [helper.make_node("Shape", ["x"], ["s"])]
    constants = []
    last = "s"
    for i, (op, inputs) in enumerate(steps):
        names = []
        for value in inputs:
            if value is None or isinstance(value, str):
                names.append(last if value is None else value)
                continue
            names.append(f"c{len(constants)}")
            constants.append(numpy_helper.from_array(np.asarray(value), names[-1]))
        nodes.append(helper.make_node(op, names, [f"t{i}"], **({"to": TensorProto.INT64} if op == "Cast" else {})))
        last = f"t{i}"
    nodes.append(helper.make_node("Reshape", ["x", last], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = _core.Session.from_bytes(model.SerializeToString(), _core.SessionOptions())
    line = next((t for t in session.dump("simplify").splitlines() if "Reshape(" in t), "float32 nothing =")
    return line.split("float32 ")[1].split(" =")[0]


def test_sizes_stay_known_through_arithmetic() -> None:
    assert sizes_after(("Mul", [None, np.array([2, 1])]), ("Div", [None, np.array([1, 2])])) == "[n*2, 6]"
    assert sizes_after(("Mul", [None, np.array([3, 1])]), ("Div", [None, np.array([1, 3])])) == "[n*3, 4]"
    # A Reshape to the shape that is there vanishes.
    assert sizes_after(("Add", [None, np.array([0, 0])]), ("Sub", [None, np.array([0, 0])])) == "nothing"
    # What exporters write for Expand: -1 means the size that is there.
    equal = ("Equal", [None, np.array(-1)])
    assert sizes_after(("Identity", [None]), equal, ("Where", ["t1", np.array(5), "s"])) == "nothing"


@pytest.mark.parametrize("last", [(5000,), (1,), (3, 1)])
def test_mean_of_long_rows(last: tuple[int, ...]) -> None:
    source = np.random.default_rng(7)
    xs = [source.standard_normal(shape).astype(np.float32) for shape in ((3, 5000), (3, 5000), last)]
    np.testing.assert_allclose(run("Mean", *xs), sum(xs) / 3, rtol=1e-6, atol=1e-6)
