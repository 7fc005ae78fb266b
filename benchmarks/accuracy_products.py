"""How far sums are from the exact result: products, convolutions, pools, norms, recurrent layers, attention.

The exact result is the operator's by the ONNX reference evaluator on float64. Errors are in units of the element type's
rounding (2^-24 for float32) of what the unit names: for a sum, the sum of its terms' magnitudes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
TERMS = "the sum of magnitudes"


@dataclass(frozen=True)
class Product:
    """One operator with operands of `shapes`.

    `exact(operands)` is used where the evaluator has another formula. `magnitude(operands)`, in float64, is what the
    error is one of; without it, the operator of the operands' magnitudes, which is the sum of its terms' magnitudes
    where it is linear in each operand.
    """

    op: str
    shapes: tuple[tuple[int, ...], ...]
    bound: float
    name: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 24
    exact: Callable[..., Any] | None = None
    magnitude: Callable[..., Any] | None = None
    unit: str = TERMS
    positive: tuple[int, ...] = ()  # operands that are variances
    scale: float = 1.0  # of operands that are weights
    double: bool = False  # float64 is computed in double

    @property
    def label(self) -> str:
        return f"{self.op} {self.name}".rstrip()


def _ones(*_: Array) -> Array:
    return np.ones(1)


def _normalized(x: Array, gain: Array, bias: Array, *_: Array) -> Array:
    shape = (-1,) + (1,) * (x.ndim - 2)
    return 4 * np.abs(gain).reshape(shape) + np.abs(bias).reshape(shape)


def _batch_norm(x: Array, gain: Array, bias: Array, mean: Array, variance: Array) -> Array:
    a, b, m, v = (p.reshape(-1, 1, 1) for p in (gain, bias, mean, variance))
    return np.asarray((np.abs(x) + np.abs(m)) * np.abs(a) / np.sqrt(v + 1e-5) + np.abs(b))


def _lrn(x: Array) -> Array:
    sums = [np.square(x[:, max(0, c - 2) : c + 3]).sum(1) for c in range(x.shape[1])]
    return np.asarray(x / (1 + float(np.float32(1e-4)) / 5 * np.stack(sums, 1)) ** 0.75)


def _attention(q: Array, k: Array, v: Array) -> Array:
    scores = np.abs(q) @ np.abs(k).swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    return np.asarray(np.abs(v).max(-2, keepdims=True) * (1 + scores.max(-1, keepdims=True)))


K3 = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
K2 = {"kernel_shape": [2, 2], "strides": [2, 2]}
GATES = "1"  # outputs are between -1 and 1
PRODUCTS = [
    Product("MatMul", ((64, 256), (256, 96)), 8, "64 x 256 x 96", double=True),
    Product("MatMul", ((1, 4096), (4096, 64)), 16, "1 x 4096 x 64", double=True),
    Product("MatMul", ((3, 17, 33), (3, 33, 1)), 4, "3 x 17 x 33 x 1", double=True),
    Product("Gemm", ((33, 64), (40, 64), (40,)), 6, attributes={"transB": 1, "alpha": 0.5, "beta": 2.0}, double=True),
    Product("Einsum", ((5, 7, 31), (31, 7, 9)), 6, attributes={"equation": "abk,kbc->abc"}, double=True),
    Product("Conv", ((1, 32, 20, 20), (64, 32, 1, 1), (64,)), 8, "1 x 1"),
    Product("Conv", ((1, 16, 20, 20), (24, 16, 5, 5), (24,)), 12, "5 x 5", {"pads": [2, 2, 2, 2]}),
    Product("Conv", ((1, 32, 9, 9), (32, 1, 3, 3), (32,)), 4, "depthwise", {"group": 32, **K3}),
    Product("Conv", ((1, 3, 32, 32), (16, 3, 3, 3), (16,)), 8, "3 channels", {"strides": [2, 2], **K3}),
    Product("Conv", ((1, 64, 28, 28), (64, 64, 3, 3), (64,)), 96, "Winograd", K3),
    Product("ConvTranspose", ((1, 16, 9, 9), (16, 12, 3, 3), (12,)), 8, attributes={"strides": [2, 2]}),
    Product("AveragePool", ((2, 19, 15, 15),), 4, attributes=K2),
    Product("AveragePool", ((2, 19, 15, 15),), 4, "padded", K3),
    Product("MaxPool", ((2, 19, 15, 15),), 0, attributes=K3, double=True),
    Product("LpPool", ((2, 19, 15, 15),), 4, attributes={"p": 2, **K2}),
    Product("GlobalAveragePool", ((2, 19, 40, 40),), 2, double=True),
    Product("LRN", ((2, 19, 8, 8),), 8, attributes={"size": 5}, exact=_lrn, magnitude=lambda x: np.abs(_lrn(x)),
            unit="abs(y)", double=True),
    Product("BatchNormalization", ((2, 19, 9, 9), (19,), (19,), (19,), (19,)), 4, magnitude=_batch_norm, positive=(4,),
            unit="(abs(x) + abs(mean)) abs(gain) / deviation + abs(bias)", double=True),
    Product("InstanceNormalization", ((2, 19, 9, 9), (19,), (19,)), 4, magnitude=_normalized,
            unit="4 abs(gain) + abs(bias)", double=True),
    Product("GroupNormalization", ((2, 20, 9, 9), (20,), (20,)), 4, attributes={"num_groups": 4}, magnitude=_normalized,
            unit="4 abs(gain) + abs(bias)"),
    Product("ReduceSum", ((3, 70_000),), 0.1, "of 70,000", {"keepdims": 1}, double=True),
    Product("CumSum", ((4, 1000), ()), 4, "of 1,000", double=True),
    Product("RNN", ((20, 3, 24), (1, 32, 24), (1, 32, 32)), 16, attributes={"hidden_size": 32}, magnitude=_ones,
            unit=GATES, scale=0.2),
    Product("GRU", ((20, 3, 24), (1, 96, 24), (1, 96, 32)), 16, attributes={"hidden_size": 32}, magnitude=_ones,
            unit=GATES, scale=0.2),
    Product("LSTM", ((20, 3, 24), (1, 128, 24), (1, 128, 32)), 16, attributes={"hidden_size": 32}, magnitude=_ones,
            unit=GATES, scale=0.2),
    Product("Attention", ((1, 4, 40, 32), (1, 4, 50, 32), (1, 4, 50, 32)), 3, magnitude=_attention,
            unit="max abs(v) (1 + max of the sums of abs(q k))"),
]  # fmt: skip


def operands_of(case: Product, dtype: Any = np.float32) -> list[Array]:
    """Random operands, standard normal but for variances (0.5 to 2) and for what is an axis."""
    source = np.random.default_rng(len(case.label))
    made: list[Array] = []
    for i, shape in enumerate(case.shapes):
        if case.op == "CumSum" and i == 1:
            made.append(np.array(1))
            continue
        x = source.uniform(0.5, 2, shape) if i in case.positive else source.standard_normal(shape)
        made.append((x * (case.scale if i else 1)).astype(np.float32).astype(dtype))
    return made


def model_of(case: Product, operands: list[Array]) -> Any:
    """The operator as a model; all operands but the first are its weights, but for Attention's."""
    from onnx import ModelProto, helper, numpy_helper

    names = [f"x{i}" for i in range(len(operands))]
    free = len(operands) if case.op == "Attention" else 1
    outputs = ["", "y"] if case.op in ("RNN", "GRU", "LSTM") else ["y"]  # the last state
    node = helper.make_node(case.op, names, outputs, **case.attributes)
    kinds = [helper.np_dtype_to_tensor_dtype(x.dtype) for x in operands]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(names[i], kinds[i], operands[i].shape) for i in range(free)],
        [helper.make_tensor_value_info("y", kinds[0], None)],
        [numpy_helper.from_array(operands[i], names[i]) for i in range(free, len(operands))],
    )
    made: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=10)
    return made


def feeds_of(model: Any, operands: list[Array]) -> dict[str, Array]:
    return {port.name: operands[i] for i, port in enumerate(model.graph.input)}


def evaluated(case: Product, operands: list[Array]) -> Array:
    """The reference evaluator's result on float64."""
    from onnx.reference import ReferenceEvaluator

    wide = [x if x.dtype.kind in "iu" else x.astype(np.float64) for x in operands]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = model_of(case, wide)
        return np.asarray(ReferenceEvaluator(model).run(None, feeds_of(model, wide))[0])


ROUNDING = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def worst(case: Product, run: Callable[[Any, dict[str, Array]], Array], dtype: Any = np.float32) -> float:
    """The largest error of `run(model, feeds)` in the case's unit times the type's rounding."""
    operands = operands_of(case, dtype)
    model = model_of(case, operands)
    y = run(model, feeds_of(model, operands))
    wide = [x if x.dtype.kind in "iu" else x.astype(np.float64) for x in operands]
    exact = evaluated(case, operands) if case.exact is None else case.exact(*wide)
    size = evaluated(case, [np.abs(x) for x in operands]) if case.magnitude is None else case.magnitude(*wide)
    if y.shape != exact.shape or y.dtype != operands[0].dtype:
        raise ValueError(f"{case.label}: {y.dtype} {y.shape}, expected {operands[0].dtype} {exact.shape}")
    unit = np.broadcast_to(size, exact.shape) * ROUNDING[str(np.dtype(dtype))]
    return float((np.abs(y.astype(np.float64) - exact) / unit).max())


def bound_of(case: Product, dtype: Any) -> float:
    """16-bit floats are computed in float32 and rounded once; so is float64 by operators that have no double."""
    kind = str(np.dtype(dtype))
    if kind in ("float16", "bfloat16"):
        return 1.1 if case.bound else 0
    if kind == "float64" and not case.double:
        return case.bound * 2.0**29
    return case.bound


def with_linnet(model: Any, feeds: dict[str, Array]) -> Array:
    import linnet

    result: Array = linnet.InferenceSession(model.SerializeToString()).run(None, feeds)[0]
    return result


def with_onnxruntime(model: Any, feeds: dict[str, Array]) -> Array:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, feeds)[0]
    return result
