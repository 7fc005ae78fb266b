"""Reductions, softmax, arg, top-k, cumulative operators, NonMaxSuppression and Det."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from one_node import check, linnet, ort, reference

REDUCTIONS = {
    "ReduceSum": lambda x, axes, keep: x.sum(axis=axes, keepdims=keep),
    "ReduceMean": lambda x, axes, keep: x.mean(axis=axes, keepdims=keep),
    "ReduceMax": lambda x, axes, keep: x.max(axis=axes, keepdims=keep),
    "ReduceMin": lambda x, axes, keep: x.min(axis=axes, keepdims=keep),
    "ReduceProd": lambda x, axes, keep: x.prod(axis=axes, keepdims=keep),
    "ReduceL1": lambda x, axes, keep: np.abs(x).sum(axis=axes, keepdims=keep),
    "ReduceL2": lambda x, axes, keep: np.sqrt((x * x).sum(axis=axes, keepdims=keep)),
    "ReduceLogSum": lambda x, axes, keep: np.log(x.sum(axis=axes, keepdims=keep)),
    "ReduceLogSumExp": lambda x, axes, keep: np.log(np.exp(x).sum(axis=axes, keepdims=keep)),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(axis=axes, keepdims=keep),
}
FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]


def positive(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(dtype)


def normal(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_every_set_of_axes(op: str, keep: int) -> None:
    x = positive((3, 5, 2, 7))
    for count in range(1, 5):
        for axes in itertools.combinations(range(4), count):
            want = REDUCTIONS[op](x.astype(np.float64), axes, bool(keep)).astype(np.float32)
            given = np.array([a - 4 if i % 2 else a for i, a in enumerate(axes)], np.int64)
            for constants in ((), (1,)):
                check(linnet(op, x, given, keepdims=keep, constants=constants)[0], want)
            if op != "ReduceSum":
                check(linnet(op, x, opset=13, axes=given.tolist(), keepdims=keep)[0], want)


@pytest.mark.parametrize(
    "shape,axes",
    [
        ((70000,), (0,)),
        ((3, 5000), (1,)),
        ((5000, 3), (0,)),
        ((300, 517), (0,)),
        ((2, 50, 60, 33), (1, 2)),
        ((2, 33, 50, 60), (2, 3)),
        ((9, 40, 8, 30), (0, 2)),
        ((4, 1, 6), (1,)),
        ((1, 1), (0, 1)),
    ],
)
@pytest.mark.parametrize("op", REDUCTIONS)
def test_large(op: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    x = normal(shape) if op not in ("ReduceLogSum", "ReduceProd") else positive(shape) ** 0.01
    want = REDUCTIONS[op](x.astype(np.float64), axes, True).astype(np.float32)
    check(linnet(op, x, np.array(axes, np.int64))[0], want, 1e-5, absolute=2e-5)


@pytest.mark.parametrize("dtype", [*FLOATS, np.int32, np.int64, np.uint32, np.uint64])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_dtypes(op: str, dtype: Any) -> None:
    x = np.random.default_rng(1).integers(1, 5, (4, 3, 6)).astype(dtype)
    with np.errstate(all="ignore"):
        for axes in ((0,), (1,), (2,), (0, 2)):
            want = REDUCTIONS[op](x.astype(np.float64), axes, True).astype(dtype)
            check(linnet(op, x, np.array(axes, np.int64))[0], want)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.bool_])
def test_extremes_of_small_types(op: str, dtype: Any) -> None:
    x = np.random.default_rng(2).integers(-100, 100, (4, 9)).astype(dtype)
    x[0] = 0
    want = REDUCTIONS[op](x, (1,), False)
    check(linnet(op, x, np.array([1], np.int64), opset=20, keepdims=0)[0], want)


@pytest.mark.parametrize("op", REDUCTIONS)
def test_without_axes(op: str) -> None:
    x = positive((3, 4))
    want = REDUCTIONS[op](x.astype(np.float64), (0, 1), True).astype(np.float32)
    check(linnet(op, x)[0], want)
    check(linnet(op, x, np.array([], np.int64))[0], want)
    check(linnet(op, x, opset=11)[0], want)
    element = REDUCTIONS[op](x.astype(np.float64)[None], (0,), False).astype(np.float32)
    check(linnet(op, x, noop_with_empty_axes=1)[0], element)
    check(linnet(op, x, np.array([], np.int64), noop_with_empty_axes=1)[0], element)
    check(linnet(op, np.float32(0.75), keepdims=0)[0], REDUCTIONS[op](np.float32([0.75]), 0, False))


@pytest.mark.parametrize(
    "op,value",
    [
        ("ReduceSum", 0),
        ("ReduceProd", 1),
        ("ReduceMax", -np.inf),
        ("ReduceMin", np.inf),
        ("ReduceL1", 0),
        ("ReduceL2", 0),
        ("ReduceSumSquare", 0),
        ("ReduceLogSum", -np.inf),
        ("ReduceLogSumExp", -np.inf),
    ],
)
def test_empty_set(op: str, value: float) -> None:
    for shape, axes in (((2, 0, 4), [1]), ((3, 0), [1]), ((0, 3), [0]), ((2, 0, 0, 3), [1, 2])):
        got = linnet(op, np.zeros(shape, np.float32), np.array(axes, np.int64), keepdims=0)[0]
        want = np.full([s for i, s in enumerate(shape) if i not in axes], value, np.float32)
        check(got, want)
    assert linnet(op, np.zeros((0, 3), np.float32), np.array([1], np.int64))[0].shape == (0, 1)


def test_extremes_of_nothing() -> None:
    for dtype in (np.int32, np.uint8):
        empty = np.zeros((2, 0), dtype)
        check(linnet("ReduceMax", empty, np.array([1], np.int64))[0], np.full((2, 1), np.iinfo(dtype).min, dtype))
        check(linnet("ReduceMin", empty, np.array([1], np.int64))[0], np.full((2, 1), np.iinfo(dtype).max, dtype))


def test_infinities_and_nans() -> None:
    x = np.array([[np.inf, 1], [-np.inf, -np.inf], [np.nan, 1], [1, np.nan], [88, 89], [1000, 1000]], np.float32)
    with np.errstate(invalid="ignore"):
        want = np.logaddexp.reduce(x.astype(np.float64), axis=1, keepdims=True).astype(np.float32)
    check(linnet("ReduceLogSumExp", x, np.array([1], np.int64))[0], want)
    check(linnet("ReduceLogSumExp", np.ascontiguousarray(x.T), np.array([0], np.int64))[0], want.T)
    check(linnet("ReduceMax", x, np.array([1], np.int64))[0], x.max(1, keepdims=True))


def test_bad_axes() -> None:
    x = positive((2, 3))
    for axes in ([2], [-3], [0, 0], [0, -2]):
        with pytest.raises(Exception, match="axis"):
            linnet("ReduceSum", x, np.array(axes, np.int64), constants=(1,))
        with pytest.raises(Exception, match="axis"):
            linnet("ReduceSum", x, np.array(axes, np.int64))


SHAPES = [(7,), (3, 10), (2, 3, 40), (2, 37, 5, 3), (4, 1000), (2, 19, 30, 30), (1, 1), (0, 3), (3, 0)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax(op: str, dtype: Any) -> None:
    for shape in SHAPES:
        x = normal(shape, dtype) * dtype(3)
        if x.size == 0:
            assert linnet(op, x)[0].shape == shape
            continue
        for axis in range(-len(shape), len(shape)):
            want = reference(op, x.astype(np.float64), axis=axis)[0].astype(dtype)
            check(
                linnet(op, x, axis=axis)[0],
                want,
                5e-6,
                absolute=None if dtype == np.float64 else 2e-6 + (dtype in (np.float16, ml_dtypes.bfloat16)) * 2e-2,
            )


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_matrix_form(op: str) -> None:
    for shape in SHAPES[:-2]:
        x = normal(shape)
        axes = [None, *range(len(shape))] if len(shape) > 1 else [0]
        for axis in axes:
            first = 1 if axis is None else axis
            flat = x.reshape(int(np.prod(shape[:first])), -1)
            want = reference(op, flat, axis=1)[0].reshape(shape)
            more = {} if axis is None else {"axis": axis}
            check(linnet(op, x, opset=9, **more)[0], want, 5e-6, absolute=2e-6)


def test_softmax_of_extremes() -> None:
    x = np.array([[1e30, 1e30, 0], [-1e30, 0, 1], [-np.inf, 0, 0]], np.float32)
    check(linnet("Softmax", x)[0], np.array([[0.5, 0.5, 0], [0, 0.26894143, 0.7310586], [0, 0.5, 0.5]], np.float32))
    assert np.isnan(linnet("Softmax", np.full((1, 3), -np.inf, np.float32))[0]).all()


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize(
    "dtype", [*FLOATS, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
)
def test_arg(op: str, dtype: Any) -> None:
    x = np.random.default_rng(3).integers(0, 6, (5, 30, 70)).astype(dtype)
    for axis, keep, last in itertools.product((-1, 0, 1), (0, 1), (0, 1)):
        flipped = np.flip(x.astype(np.float64), axis) if last else x.astype(np.float64)
        want = (np.argmax if op == "ArgMax" else np.argmin)(flipped, axis)
        if last:
            want = x.shape[axis] - 1 - want
        want = np.expand_dims(want, axis) if keep else want
        check(linnet(op, x, axis=axis, keepdims=keep, select_last_index=last)[0], want)


def test_arg_takes_nan_as_the_extreme() -> None:
    x = np.array([[1, np.nan, 3, np.nan], [1, 2, 5, 5]], np.float32)
    for y in (x, x.astype(np.float64)):
        assert linnet("ArgMax", y, axis=1, keepdims=0)[0].tolist() == [1, 2]
        assert linnet("ArgMax", y, axis=1, keepdims=0, select_last_index=1)[0].tolist() == [3, 3]
        assert linnet("ArgMin", y, axis=1, keepdims=0)[0].tolist() == [1, 0]
        assert linnet("ArgMax", np.ascontiguousarray(y.T), axis=0, keepdims=0)[0].tolist() == [1, 2]


@pytest.mark.parametrize(
    "dtype", [*FLOATS, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
)
@pytest.mark.parametrize("k", [0, 1, 5, 40, 100])
def test_top_k(dtype: Any, k: int) -> None:
    x = np.random.default_rng(4).integers(0, 30, (3, 100, 4)).astype(dtype)  # many ties
    for largest, axis in itertools.product((0, 1), (1,)):
        order = x.astype(np.float64) * (-1 if largest else 1)
        indices = np.argsort(order, axis=axis, kind="stable").take(range(k), axis)
        got = linnet("TopK", x, np.array([k], np.int64), axis=axis, largest=largest, outputs=2)
        check(got[1], indices)
        check(got[0], np.take_along_axis(x, indices, axis))


@pytest.mark.parametrize("dtype", [*FLOATS, np.int8, np.int64, np.uint32, np.uint64])
def test_top_k_orders_the_whole_range(dtype: Any) -> None:
    if np.issubdtype(dtype, np.integer):
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        x = np.array([[1, low, high, 0, low + 1, high - 1, high, low, high // 2 + 1]], dtype)
    else:
        x = np.array([[0.0, -0.0, -np.inf, 1e-7, -1e-7, np.inf, -3, -2, -0.0, 65504, -65504]], dtype)
    for largest in (0, 1):
        order = sorted(range(x.size), key=lambda i: -x[0, i].item() if largest else x[0, i].item())  # stable
        got = linnet("TopK", x, np.array([x.size], np.int64), largest=largest, outputs=2)
        assert got[1].tolist() == [order]
        check(got[0], x[:, order])


def test_top_k_forms() -> None:
    x = normal((3, 7))
    want = np.argsort(-x, 1, kind="stable")[:, :2]
    check(linnet("TopK", x, opset=9, k=2, outputs=2)[1], want)
    check(linnet("TopK", x, np.array([2], np.int64), opset=10, outputs=2)[1], want)
    check(linnet("TopK", x, np.array([2], np.int64), opset=24, outputs=2, constants=(1,), sorted=0)[1], want)
    nans = np.array([[1, np.nan, 3, np.nan]], np.float32)
    assert linnet("TopK", nans, np.array([3], np.int64), outputs=2)[1].tolist() == [[1, 3, 2]]
    assert linnet("TopK", nans, np.array([4], np.int64), largest=0, outputs=2)[1].tolist() == [[0, 2, 1, 3]]
    for k in (-1, 8):
        with pytest.raises(Exception, match="k is"):
            linnet("TopK", x, np.array([k], np.int64), outputs=2)


@pytest.mark.parametrize("dtype", [*FLOATS, np.int32, np.int64, np.uint32, np.uint64])
@pytest.mark.parametrize("op", ["CumSum", "CumProd"])
def test_cumulative(op: str, dtype: Any) -> None:
    x = np.random.default_rng(5).integers(1, 4, (3, 6, 40)).astype(dtype)
    for axis, exclusive, reverse in itertools.product((0, 1, -1), (0, 1), (0, 1)):
        y = np.flip(x, axis) if reverse else x
        start = 0 if op == "CumSum" else 1
        if exclusive:
            y = np.concatenate([np.full_like(y.take([0], axis), start), y.take(range(y.shape[axis] - 1), axis)], axis)
        wide = y.astype(np.float64) if np.dtype(dtype).kind not in "iu" else y
        want = (np.cumsum if op == "CumSum" else np.cumprod)(wide, axis=axis, dtype=wide.dtype)
        with np.errstate(over="ignore"):
            want = (np.flip(want, axis) if reverse else want).astype(dtype)
        got = linnet(op, x, np.array(axis, np.int32), opset=26, exclusive=exclusive, reverse=reverse)[0]
        check(got, want)


def test_non_max_suppression() -> None:
    rng = np.random.default_rng(6)
    corners = rng.uniform(0, 1, (2, 60, 4)).astype(np.float32)
    scores = np.round(rng.uniform(0, 1, (2, 3, 60)), 2).astype(np.float32)
    for form, iou, least in itertools.product((0, 1), (0.0, 0.3, 0.7), (None, 0.5)):
        inputs = [corners, scores, np.array([7], np.int64), np.array([iou], np.float32)]
        if least is not None:
            inputs.append(np.array([least], np.float32))
        want = ort("NonMaxSuppression", *inputs, opset=11, center_point_box=form)[0]
        check(linnet("NonMaxSuppression", *inputs, opset=11, center_point_box=form)[0], want)
    assert linnet("NonMaxSuppression", corners, scores)[0].shape == (0, 3)


@pytest.mark.parametrize("shape", [(3, 3), (5, 4, 4), (2, 3, 1, 1), (2, 0, 0), (0, 2, 2)])
def test_det(shape: tuple[int, ...]) -> None:
    x = normal(shape)
    check(linnet("Det", x)[0], np.asarray(np.linalg.det(x.astype(np.float64))).astype(np.float32), 1e-5)


EQUATIONS = [
    ("ij->ji", [(3, 4)]),
    ("ii->i", [(4, 4)]),
    ("ii", [(4, 4)]),
    ("ij->", [(3, 4)]),
    ("...ij->...ji", [(2, 3, 4)]),
    ("ij,jk->ik", [(3, 4), (4, 5)]),
    ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
    ("i,j->ij", [(3,), (4,)]),
    ("ij,ij->ij", [(3, 4), (3, 4)]),
    ("i,i", [(5,), (5,)]),
    ("bhwc,hkc->bhwk", [(2, 3, 4, 5), (3, 6, 5)]),
    ("bqhd,bkhd->bhqk", [(2, 3, 4, 5), (2, 6, 4, 5)]),
    ("bhqk,bkhd->bqhd", [(2, 4, 3, 6), (2, 6, 4, 5)]),
    ("abc,cde->abde", [(2, 3, 4), (4, 5, 6)]),
    ("abcd,cdef->abef", [(2, 3, 4, 5), (4, 5, 2, 3)]),
    ("...qc,...kc->...qk", [(2, 1, 3, 4), (5, 6, 4)]),
    ("ijk,k->ij", [(2, 3, 4), (4,)]),
    ("k,ijk->ij", [(4,), (2, 3, 4)]),
    ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
    ("a,b,c->cba", [(2,), (3,), (4,)]),
    ("ab,bc", [(2, 3), (3, 4)]),
    ("...ii->...i", [(2, 3, 3)]),
    ("Ab,bA->b", [(2, 3), (3, 2)]),
    ("ij,kl->", [(2, 3), (4, 5)]),
    ("b i j , b j k -> b i k", [(2, 3, 4), (2, 4, 5)]),
    ("ij,j->i", [(0, 3), (3,)]),
    ("ij,jk->ik", [(2, 0), (0, 3)]),
]


@pytest.mark.parametrize("equation,shapes", EQUATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.int8])
def test_einsum(equation: str, shapes: list[tuple[int, ...]], dtype: Any) -> None:
    inputs = [np.random.default_rng(i).integers(-3, 4, shape).astype(dtype) for i, shape in enumerate(shapes)]
    want = np.einsum(equation.replace(" ", ""), *[x.astype(np.float64) for x in inputs]).astype(dtype)
    for symbolic in (False, True):
        check(linnet("Einsum", *inputs, opset=12, equation=equation, symbolic=symbolic)[0], want)


def test_einsum_of_many() -> None:
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRS"
    vectors = [np.ones(2, np.float32) for _ in letters]
    (total,) = linnet("Einsum", *vectors, opset=12, equation=",".join(letters) + "->")
    assert total == 2.0 ** len(letters)


@pytest.mark.parametrize("equation", ["ij,jk->il", "ij->ii", "ij", "i..j,jk->ik", "i1,jk->ik", "ijk,jk->i", ".."])
def test_einsum_refuses(equation: str) -> None:
    with pytest.raises(Exception, match="equation"):
        linnet("Einsum", normal((2, 3)), normal((3, 4)), opset=12, equation=equation)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_of_rows(metric: str, dtype: Any) -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(37, 19)).astype(dtype), rng.normal(size=(23, 19)).astype(dtype)
    want = ((a[:, None].astype(np.float64) - b) ** 2).sum(-1)
    want = np.sqrt(want) if metric == "euclidean" else want
    ms = {"domain": "com.microsoft", "metric": metric}
    check(linnet("CDist", a, b, **ms)[0], want.astype(dtype))
    assert linnet("CDist", a[:0], b, **ms)[0].shape == (0, 23)
    with pytest.raises(Exception, match="columns"):
        linnet("CDist", a, b[:, 1:], **ms)
