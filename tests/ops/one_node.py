"""Models of one operator, run by Linnet, onnxruntime and the ONNX reference evaluator."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from linnet import backend


def model_of(
    op: str,
    inputs: list[Any],
    opset: int = 21,
    outputs: int = 1,
    constants: tuple[int, ...] = (),
    domain: str = "",
    symbolic: bool = False,
    attributes: dict[str, Any] | None = None,
    **more: Any,
) -> onnx.ModelProto:
    """A model of one node. Absent inputs are None; those in `constants` are initialisers.

    `more` are the node's attributes; those whose names are parameters here stand in `attributes`.
    """
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, domain=domain)
    node.attribute.extend(helper.make_attribute(n, v) for n, v in (more | (attributes or {})).items())
    given, initialisers = [], []
    for i, (name, x) in enumerate(zip(names, inputs, strict=True)):
        if x is None:
            continue
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
        if i in constants:
            initialisers.append(helper.make_tensor(name, kind, x.shape, x.ravel()))
        else:
            shape = [f"d{i}_{j}" for j in range(x.ndim)] if symbolic else x.shape
            given.append(helper.make_tensor_value_info(name, kind, shape))
    graph = helper.make_graph(
        [node],
        "g",
        given,
        [helper.make_tensor_value_info(r, TensorProto.UNDEFINED, None) for r in results],
        initialisers,
    )
    for value in graph.output:
        value.ClearField("type")
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def feeds(inputs: list[Any], constants: tuple[int, ...] = ()) -> dict[str, Any]:
    return {f"x{i}": x for i, x in enumerate(inputs) if x is not None and i not in constants}


def linnet(op: str, *inputs: Any, constants: tuple[int, ...] = (), **more: Any) -> list[Any]:
    model = model_of(op, list(inputs), constants=constants, **more)
    return list(backend.prepare(model).run(list(feeds(list(inputs), constants).values())))


def reference(op: str, *inputs: Any, **more: Any) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(ReferenceEvaluator(model_of(op, list(inputs), **more)).run(None, feeds(list(inputs))))


def ort(op: str, *inputs: Any, **more: Any) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    model = onnx.shape_inference.infer_shapes(model_of(op, list(inputs), **more))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds(list(inputs), more.get("constants", ()))))


def check(got: Any, want: Any, tolerance: float = 2e-6, absolute: float | None = None) -> None:
    """Equal but for rounding: `tolerance` relative, and `absolute` (1 % of it) where values are small."""
    want = np.asarray(want)
    assert got.dtype == want.dtype and got.shape == want.shape, (got.dtype, want.dtype, got.shape, want.shape)
    if want.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want)
        return
    relative = {"float16": 2e-3, "bfloat16": 1.6e-2}.get(str(want.dtype), tolerance)
    np.testing.assert_allclose(
        got.astype(np.float64),
        want.astype(np.float64),
        rtol=relative,
        atol=relative * 1e-2 if absolute is None else absolute,
    )
