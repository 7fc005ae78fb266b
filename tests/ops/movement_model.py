"""Models of one node, and data of any type, for the tests of operators that move data."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from linnet import _core

INT_MAX, INT_MIN = 2**63 - 1, -(2**63)
DTYPES = [
    np.float32,
    np.float64,
    np.float16,
    ml_dtypes.bfloat16,
    np.int8,
    np.uint8,
    np.int16,
    np.uint32,
    np.int64,
    np.bool_,
    np.complex64,
    np.complex128,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.int4,
    object,
]


def onnx_type(array: Any) -> int:
    return TensorProto.STRING if array.dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(array.dtype)


def data(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 7, shape)
    if dtype is object:
        return np.array([f"text {i}, rather long" for i in numbers.ravel()], dtype=object).reshape(shape)
    return numbers.astype(np.float32).astype(dtype) if dtype is not np.bool_ else numbers % 2 == 0


def session_of(
    nodes: list[Any],
    feeds: dict[str, Any],
    outputs: list[str],
    constants: dict[str, Any] | None = None,
    opset: int = 21,
    shapes: dict[str, Any] | None = None,
    threads: int = 2,
    optimize: int = 99,
) -> Any:
    given = [helper.make_tensor_value_info(k, onnx_type(v), (shapes or {}).get(k, v.shape)) for k, v in feeds.items()]
    values = []
    for k, v in (constants or {}).items():
        values.append(
            helper.make_tensor(k, TensorProto.STRING, v.shape, [s.encode() for s in v.ravel()])
            if v.dtype == object
            else numpy_helper.from_array(v, k)
        )
    graph = helper.make_graph(nodes, "g", given, [helper.make_empty_tensor_value_info(o) for o in outputs], values)
    for out in graph.output:
        out.ClearField("type")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    options = _core.SessionOptions()
    options.threads = threads
    return _core.Session.from_bytes(model.SerializeToString(), options)


def run(op: str, inputs: list[Any], opset: int = 21, late: bool = True, outputs: int = 1, **attributes: Any) -> Any:
    """One node. `late`: every operand comes when it is run; else all but the first are constants."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    pairs = [(n, np.asarray(x)) for n, x in zip(names, inputs, strict=True) if x is not None]
    feeds = dict(pairs if late else pairs[:1])
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, **attributes)
    session = session_of([node], feeds, results, dict(pairs[len(feeds) :]), opset)
    first = session.run(feeds)
    again = session.run(feeds)
    for a, b in zip(first, again, strict=True):
        assert same(a, b)
    return first[0] if outputs == 1 else first


def same(got: Any, want: Any) -> bool:
    want = np.asarray(want)
    if got.dtype.kind in "OUS" or want.dtype.kind in "OUS":
        return got.shape == want.shape and [str(s) for s in got.ravel()] == [str(s) for s in want.ravel()]
    return got.dtype == want.dtype and got.shape == want.shape and got.tobytes() == np.ascontiguousarray(want).tobytes()


both = pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
