"""numpy arrays in every state of memory: the answer is that of a plain copy, or a clear error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import linnet
import small_models
from bounded import attempt

PLAIN = np.arange(24, dtype=np.float32).reshape(4, 6) - 7


def unaligned(array: np.ndarray[Any, Any], by: int = 1) -> np.ndarray[Any, Any]:
    memory = np.zeros(array.nbytes + 64, np.uint8)
    view = memory[by : by + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def made(how: str) -> np.ndarray[Any, Any]:
    x = PLAIN
    if how.startswith("unaligned"):
        return unaligned(x, int(how[-1]))
    if how == "strided":
        return np.repeat(x, 2, axis=1)[:, ::2]
    if how == "reversed":
        return x[::-1, ::-1].copy()[::-1, ::-1]
    if how == "read-only":
        y = x.copy()
        y.flags.writeable = False
        return y
    if how == "Fortran":
        return np.asfortranarray(x)
    if how == "transposed":
        return x.T.copy().T
    if how == "byte-swapped":
        return x.astype(">f4")
    if how == "byte-swapped, strided":
        return np.repeat(x, 3, axis=0)[::3].astype(">f4")[:, :]
    if how == "broadcast":
        return np.broadcast_to(x[0], (4, 6))
    if how == "zero strides":
        return np.lib.stride_tricks.as_strided(x, (4, 6), (0, 0))
    if how == "overlapping":
        return np.lib.stride_tricks.as_strided(x, (4, 6), (4, 4))
    if how == "subclass":
        return x.view(np.matrix)
    if how == "masked":
        return np.ma.masked_array(x, mask=False)
    if how == "record field":
        records = np.zeros((4, 6), [("pad", "u1"), ("value", "<f4")])
        records["value"] = x
        return records["value"]
    if how == "memmap":
        import tempfile

        with tempfile.NamedTemporaryFile() as file:
            y = np.memmap(file.name, np.float32, "w+", shape=(4, 6))
            y[...] = x
            return y
    raise ValueError(how)


HOW = [
    "unaligned 1", "unaligned 2", "unaligned 3", "strided", "reversed", "read-only", "Fortran", "transposed",
    "byte-swapped", "byte-swapped, strided", "broadcast", "zero strides", "overlapping", "subclass", "masked",
    "record field", "memmap",
]  # fmt: skip


@pytest.mark.parametrize("op", ["Relu", "Identity", "Transpose", "Softmax"])
@pytest.mark.parametrize("how", HOW)
def test_memory(how: str, op: str) -> None:
    kind = (TensorProto.FLOAT, ["a", "b"])
    data = small_models.model([helper.make_node(op, ["x"], ["y"])], {"x": kind}, {"y": kind})
    array = made(how)
    plain = np.array(array, np.float32, order="C")

    def work() -> Any:
        session = linnet.InferenceSession(data)
        return session.run(None, {"x": array})[0], session.run(None, {"x": plain})[0]

    got = attempt(work)
    assert not isinstance(got, str), got
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_array_equal(np.asarray(array), plain)  # the caller's memory is as it was


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16"])
@pytest.mark.parametrize("how", ["plain", "unaligned", "swapped", "strided"])
def test_element_types(dtype: str, how: str) -> None:
    array = np.arange(10).astype(dtype)
    plain = array.copy()
    if how == "unaligned":
        array = unaligned(array)
    elif how == "swapped":
        array = array.astype(array.dtype.newbyteorder(">"))
    elif how == "strided":
        array = np.repeat(array, 3)[::3]
    kind = (helper.np_dtype_to_tensor_dtype(plain.dtype), ["n"])
    data = small_models.model([helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, {"y": kind})
    got = attempt(lambda: linnet.InferenceSession(data).run(None, {"x": array})[0])
    assert not isinstance(got, str), got
    assert got.dtype == plain.dtype
    np.testing.assert_array_equal(got, plain)


@pytest.mark.parametrize("shape", [(0,), (0, 6), (4, 0), (0, 0), (2**40, 0), (0, 2**62), (2**31, 0, 2**20)])
@pytest.mark.parametrize("op", ["Relu", "Transpose", "Softmax", "ReduceSum", "ReduceMax", "Concat", "Shape", "Cast"])
def test_nothing_in_it(shape: tuple[int, ...], op: str) -> None:
    inputs = ["x", "x"] if op == "Concat" else ["x"]
    more = {"Concat": {"axis": 0}, "Cast": {"to": TensorProto.INT64}}.get(op, {})
    proto = small_models.parse(small_models.model(
        [helper.make_node(op, inputs, ["y"], "n", **more)],
        {"x": (TensorProto.FLOAT, None)}, {"y": (TensorProto.FLOAT, None)},
    ))  # fmt: skip
    proto.graph.output[0].ClearField("type")
    data = proto.SerializeToString()
    try:
        array = np.empty(shape, np.float32)
    except ValueError:
        pytest.skip("numpy refuses")
    got = attempt(lambda: linnet.InferenceSession(data).run(None, {"x": array})[0])
    if isinstance(got, str):
        assert got.startswith(("InvalidArgument: running", "InvalidGraph: running", "RuntimeException: running")), got
    elif op in ("Relu", "Softmax"):
        assert got.shape == shape
    elif op == "Transpose":
        assert got.shape == shape[::-1]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.ones((1, 1, 1), np.float32), "rank"),
        (np.ones((2, 2)), "element type"),
        (np.ones((2, 2), np.complex64), "element type"),
        (np.array([["a", "b"]]), "element type"),
        (np.array([[object()]]), "'x'"),
        (np.zeros((2, 2), [("a", "f4")]), "'x'"),
        (np.zeros((2, 2), "M8[s]"), "'x'"),
        (np.zeros((2, 2), "V4"), "'x'"),
        (np.zeros((2, 2), np.longdouble), "'x'"),
        ([[1, 2], [3]], "'x'"),
        ({}, "'x'"),
        (None, "'x'"),
        (object(), "'x'"),
    ],
    ids=lambda v: (getattr(v, "dtype", None) and str(v.dtype)) or str(v)[:12],
)
def test_what_is_no_such_tensor(value: Any, said: str) -> None:
    kind = (TensorProto.FLOAT, ["a", "b"])
    data = small_models.model([helper.make_node("Relu", ["x"], ["y"])], {"x": kind}, {"y": kind})

    def work() -> Any:
        session = linnet.InferenceSession(data)
        try:
            return session.run(None, {"x": value})[0]
        finally:
            assert session.run(None, {"x": PLAIN})[0].shape == (4, 6)

    message = attempt(work)
    assert isinstance(message, str) and message.startswith(("InvalidArgument: ", "TypeError: ")), message
    assert said in message, message


@pytest.mark.parametrize("how", ["read-only", "strided", "byte-swapped", "wrong shape", "wrong type"])
def test_memory_for_results(how: str) -> None:
    kind = (TensorProto.FLOAT, [4, 6])
    data = small_models.model([helper.make_node("Relu", ["x"], ["y"])], {"x": kind}, {"y": kind})
    target: Any = np.zeros((4, 6), np.float32)
    if how == "read-only":
        target.flags.writeable = False
    elif how == "strided":
        target = np.zeros((4, 12), np.float32)[:, ::2]
    elif how == "byte-swapped":
        target = target.astype(">f4")
    elif how == "wrong shape":
        target = np.zeros((6, 4), np.float32)
    else:
        target = np.zeros((4, 6), np.float64)

    def work() -> Any:
        session = linnet.InferenceSession(data)
        return session._core.run({"x": PLAIN}, None, None, 0, {"y": target})[0]

    message = attempt(work)
    assert isinstance(message, str) and "InvalidArgument" in message and "'y'" in message, message
    assert not np.any(target)
