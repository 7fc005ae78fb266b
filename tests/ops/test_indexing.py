"""Operators that pick, scatter, make and choose elements: against numpy, over types and opsets."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from movement_model import DTYPES, INT_MAX, INT_MIN, both, data, run, same, session_of


# ---- indices ---------------------------------------------------------------------------------------------------------
@both
@pytest.mark.parametrize("index_type", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_gather(dtype: Any, index_type: Any, late: bool) -> None:
    x = data((4, 5, 6), dtype)
    for axis, shape in [(0, (3, 2)), (1, ()), (-1, (7,)), (1, (0,))]:
        picks = np.random.default_rng(3).integers(-x.shape[axis], x.shape[axis], shape).astype(index_type)
        assert same(run("Gather", [x, picks], late=late, axis=axis), np.take(x, picks, axis))


@pytest.mark.parametrize(
    "op,indices",
    [
        ("Gather", [4]),
        ("Gather", [-5]),
        ("GatherElements", [[0, INT_MAX]]),
        ("GatherND", [[0, 3]]),
        ("GatherND", [[INT_MIN, 0]]),
    ],
)
def test_gather_refuses_indices(op: str, indices: Any) -> None:
    with pytest.raises(Exception, match=r"index -?\d+ is outside \[-\d, \d\]"):
        run(op, [data((4, 3)), np.array(indices, np.int64)])


def test_gather_elements() -> None:
    rng = np.random.default_rng(4)
    for axis in (0, 1, -1):
        for dtype in (np.float32, np.uint8, object, np.complex128):
            x = data((4, 5, 6), dtype)
            picks = rng.integers(-x.shape[axis], x.shape[axis], (3, 5, 6) if axis else (9, 5, 6))
            want = np.take_along_axis(x[:3] if axis else x, picks, axis)
            assert same(run("GatherElements", [x, picks], axis=axis), want)
    # Fewer places than data in the other axes.
    x = data((4, 5))
    assert same(run("GatherElements", [x, np.array([[1], [0]])], axis=0), np.array([[x[1, 0]], [x[0, 0]]]))


def test_gather_nd() -> None:
    x = data((2, 3, 4), np.int32)
    assert same(run("GatherND", [x, np.array([[0, 1], [1, -1]])]), np.stack([x[0, 1], x[1, -1]]))
    assert same(run("GatherND", [x, np.array([[0, 1, 2]])]), x[0, 1, 2:3])
    assert same(run("GatherND", [x, np.array([[1], [2]])], batch_dims=1), np.stack([x[0, 1], x[1, 2]]))
    assert same(run("GatherND", [x, np.zeros((0, 2), np.int64)]), np.zeros((0, 4), np.int32))


REDUCTIONS: dict[str, Any] = {
    "none": lambda a, b: b,
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.uint16, np.int64, np.bool_]
)
def test_scatter(dtype: Any, reduction: str) -> None:
    rng = np.random.default_rng(7)
    combine = REDUCTIONS[reduction]
    for axis in (0, 1, -1):
        x = data((4, 5, 6), dtype)
        indices = rng.integers(0, x.shape[axis], (4, 5, 6))
        if reduction == "none":  # without duplicates
            indices = np.argsort(rng.random((4, 5, 6)), axis)
        indices = indices - x.shape[axis] * rng.integers(0, 2, indices.shape)
        updates = data((4, 5, 6), dtype, 9)
        want = x.copy()
        for at in np.ndindex(*indices.shape):
            to = list(at)
            to[axis] = indices[at]
            want[tuple(to)] = combine(want[tuple(to)], updates[at])
        assert same(run("ScatterElements", [x, indices, updates], axis=axis, reduction=reduction), want)
    x, updates = data((4, 3), dtype), data((3, 3), dtype, 5)
    rows = np.array([[2], [0], [2 if reduction != "none" else -1]])
    want = x.copy()
    for row, update in zip(rows[:, 0], updates, strict=True):
        want[row] = combine(want[row], update)
    assert same(run("ScatterND", [x, rows, updates], reduction=reduction), want)


def test_scatter_strings_and_old_name() -> None:
    x, updates = data((3, 3), object), np.array([["a", "b"]], object)
    want = x.copy()
    want[1, 0], want[2, 1] = "a", "b"
    assert same(run("ScatterElements", [x, np.array([[1, 2]]), updates]), want)
    assert same(run("Scatter", [x, np.array([[1, 2]]), updates], opset=9), want)
    with pytest.raises(Exception, match="index 3 is outside"):
        run("ScatterND", [x, np.array([[3]]), x[:1]])


# ---- making tensors --------------------------------------------------------------------------------------------------
@both
def test_range(late: bool) -> None:
    for dtype in (np.int16, np.int32, np.int64, np.float32, np.float64):
        for start, limit, delta in [(0, 10, 3), (10, 0, -4), (5, 5, 1), (3, 1, 1), (-3, 100, 1)]:
            got = run("Range", [dtype(start), dtype(limit), dtype(delta)], late=late)
            assert same(got, np.arange(start, limit, delta).astype(dtype))
    with pytest.raises(Exception, match="delta of 0"):
        run("Range", [np.int64(0), np.int64(3), np.int64(0)], late=late)
    with pytest.raises(Exception, match="too many"):
        run("Range", [np.int64(INT_MIN), np.int64(INT_MAX), np.int64(1)], late=late)


@both
def test_one_hot(late: bool) -> None:
    indices, values = np.array([[0, 2, -1], [3, -4, 7]]), np.array([5, 9], np.int8)
    for axis in (0, 1, -1):
        got = run("OneHot", [indices, np.int64(4), values], late=late, axis=axis)
        on = np.expand_dims(np.where(indices < 0, indices + 4, indices), axis) == np.arange(4).reshape(
            [4 if i == axis % 3 else 1 for i in range(3)]
        )
        assert same(got, np.where(on, values[1], values[0]))
    old = run("OneHot", [indices, np.int64(4), values], opset=9, late=late)
    assert (old[0, 2] == 5).all()
    with pytest.raises(Exception, match="depth"):
        run("OneHot", [indices, np.int64(-1), values], late=late)


@both
def test_triangles(late: bool) -> None:
    x = data((2, 4, 6), np.int64)
    for k in (0, 1, -2, 100, -100, INT_MAX, INT_MIN):
        bounded = int(np.clip(k, -50, 50))
        assert same(run("Trilu", [x, np.int64(k)], late=late), np.triu(x, bounded))
        assert same(run("Trilu", [x, np.int64(k)], late=late, upper=0), np.tril(x, bounded))
    for k in (0, 2, -3, 90):
        assert same(run("EyeLike", [x[0]], k=k, dtype=TensorProto.FLOAT16), np.eye(4, 6, k, np.float16))


def test_constants() -> None:
    assert same(run("ConstantOfShape", [np.array([2, 3])]), np.zeros((2, 3), np.float32))
    value = helper.make_tensor("v", TensorProto.INT32, [1], [7])
    assert same(run("ConstantOfShape", [np.array([], np.int64)], value=value), np.int32(7))
    with pytest.raises(Exception, match="size -1"):
        run("ConstantOfShape", [np.array([-1])])
    with pytest.raises(Exception, match=r"memory|overflow|too"):
        run("ConstantOfShape", [np.array([2**40, 2**40])])
    for name, given in [
        ("value_float", 1.5),
        ("value_ints", [1, 2]),
        ("value_string", "a"),
        ("value_strings", ["a", "b"]),
        ("value_int", 3),
        ("value_floats", [1.0]),
    ]:
        got = session_of([helper.make_node("Constant", [], ["y"], **{name: given})], {}, ["y"]).run({})[0]
        assert got.tolist() == given


# ---- choosing --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int8, np.int64, np.bool_, object])
def test_nonzero_and_compress(dtype: Any) -> None:
    x = data((3, 4, 5), dtype)
    if dtype is not object:
        assert same(run("NonZero", [x]), np.stack(np.nonzero(np.asarray(x, np.float64))).astype(np.int64))
        assert run("NonZero", [x[0, 0, 0]]).shape[0] == 0
    for axis in (None, 0, -1):
        picked = np.array([True, False, True])
        more = {} if axis is None else {"axis": axis}
        assert same(run("Compress", [x, picked], **more), np.compress(picked, x, axis))
    with pytest.raises(Exception, match="condition 3 is set"):
        run("Compress", [x, np.ones(4, bool)], axis=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint64, np.bool_, object])
def test_unique(dtype: Any) -> None:
    x = data((6, 7), dtype)
    for axis in (None, 0, 1):
        more = {} if axis is None else {"axis": axis}
        source = x if dtype is not object else x.astype(str)
        if axis == 0:
            source = source[[0, 1, 0, 2, 1, 1]]
        want = np.unique(source, True, True, True, axis=axis)
        got = run("Unique", [source.astype(dtype)], outputs=4, **more)
        assert same(got[0], want[0])
        for a, b in zip(got[1:], want[1:], strict=True):
            assert a.tolist() == np.ravel(b).tolist()
    x = np.array([np.nan, 2, 1, 2, np.nan, -0.0, 0.0], np.float32)
    y, first, inverse, counts = run("Unique", [x], outputs=4, sorted=0)
    assert (
        first.tolist() == [0, 1, 2, 5] and inverse.tolist() == [0, 1, 2, 1, 0, 3, 3] and counts.tolist() == [2, 2, 1, 2]
    )
    assert np.isnan(y[0])
