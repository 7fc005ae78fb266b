"""Models of one elementwise operator, operands for them, and comparisons."""

from __future__ import annotations

import warnings
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from linnet import backend

FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
INTS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
SPECIAL = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    1e-40,
    -1e-40,
    3.4e38,
    -3.4e38,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.5,
    -3.5,
    88.0,
    -104.0,
]


def proto_type(array: Any) -> int:
    return TensorProto.STRING if array.dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(array.dtype)


def model_of(
    op: str,
    inputs: list[Any],
    opset: int,
    domain: str = "",
    outputs: int = 1,
    constants: tuple[int, ...] = (),
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node; absent inputs are None, those in `constants` are initialisers."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, domain=domain, **attributes)
    given = [(n, x) for i, (n, x) in enumerate(zip(names, inputs, strict=True)) if x is not None and i not in constants]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, proto_type(x), x.shape) for n, x in given],
        [helper.make_tensor_value_info(r, TensorProto.UNDEFINED, None) for r in results],
        [helper.make_tensor(names[i], proto_type(inputs[i]), inputs[i].shape, inputs[i].ravel()) for i in constants],
    )
    for value in graph.output:
        value.ClearField("type")
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(op: str, *inputs: Any, opset: int = 28, outputs: int = 1, **more: Any) -> Any:
    model = model_of(op, list(inputs), opset, outputs=outputs, **more)
    constants = more.get("constants", ())
    got = backend.prepare(model).run([x for i, x in enumerate(inputs) if x is not None and i not in constants])
    return got[0] if outputs == 1 else got


def reference(op: str, *inputs: Any, opset: int = 28, **attributes: Any) -> Any:
    model = model_of(op, list(inputs), opset, **attributes)
    feeds = {f"x{i}": x for i, x in enumerate(inputs) if x is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ReferenceEvaluator(model).run(None, feeds)[0]


def check(got: Any, want: Any, tolerance: float = 2e-6, absolute: float = 0.01) -> None:
    """Equal but for rounding; `absolute` is in units of the relative tolerance."""
    want = np.asarray(want)
    assert got.dtype == want.dtype and got.shape == want.shape
    if want.dtype.kind in "biuOUS" or str(want.dtype) in ("int4", "uint4", "int2", "uint2"):
        np.testing.assert_array_equal(got, want)
        return
    scale = {"float16": 2e-3, "bfloat16": 1.6e-2}.get(str(want.dtype), tolerance)
    got, want = got.astype(np.float64), want.astype(np.float64)
    np.testing.assert_allclose(got, want, rtol=scale, atol=scale * absolute)


def values(rng: np.random.Generator, dtype: Any, shape: tuple[int, ...]) -> Any:
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        small = rng.integers(max(info.min, -4), 5, shape).astype(dtype)
        return np.where(rng.random(shape) < 0.5, x, small)
    return rng.normal(0, 3, shape).astype(dtype)
