"""How far float operators are from the exact result, for every kernel table that this CPU runs.

``python -m benchmarks.accuracy`` writes docs/accuracy.md. Each operator is a model of one node, run over a sweep of its
whole domain: both signs, every exponent of its element type, denormals, zeros, infinities, NaN, and the range where its
values are interesting, and compared with numpy's float64 (float64 itself: with its long double). Sums of products are
in accuracy_products.py.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from benchmarks.accuracy_products import PRODUCTS, ROUNDING, bound_of, with_linnet, with_onnxruntime, worst

F32 = np.float32
EPSILON = float(F32(1e-5))  # the attribute is a float32
TINY = float(np.finfo(F32).tiny)
LARGEST = float(np.finfo(F32).max)
SPECIAL = np.array(
    [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, -1.1754942e-38, TINY, -TINY, 1e-30, 0.5,
     1.0, -1.0, 2.0, LARGEST, -LARGEST],
    F32,
)  # fmt: skip
_erf = np.vectorize(math.erf, otypes=[np.float64])
Array = np.ndarray[Any, Any]


TYPES: dict[str, Any] = {
    "float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64
}  # fmt: skip


def sweep(count: int, low: float = -20, high: float = 20, kind: str = "float32") -> Array:
    """Numbers: the special ones, all exponents of both signs (every 16-bit number), and `low` to `high` evenly."""
    source = np.random.default_rng(0)
    if kind == "float64":
        wide = source.integers(0, 2047 << 52, count // 2, dtype=np.int64).view(np.float64)
        wide[::2] *= -1
        largest = np.finfo(np.float64).max
        edges = [*SPECIAL.astype(np.float64), 5e-324, -5e-324, 2.3e-308, largest, -largest]
        return np.concatenate([edges, wide, np.linspace(low, high, count // 2)])
    if kind != "float32":
        return np.arange(2**16, dtype=np.uint16).view(TYPES[kind])
    bits = source.integers(0, 2**31 - 2**23, count // 2, dtype=np.int64)  # finite numbers, even in the exponent
    numbers = bits.astype(np.uint32).view(F32)
    numbers[::2] *= -1
    return np.concatenate([SPECIAL, numbers, np.linspace(low, high, count // 2).astype(F32)])


@dataclass(frozen=True)
class Case:
    """One operator: its float64 formula, and what its error is measured in.

    `bound` is held by a test: a multiple of the unit, which is float32's last place at the exact result (ULP), or of
    `scale(inputs)` * 2^-24 where results cancel and the error is one of the operands.
    """

    op: str
    exact: Callable[..., Any]
    bound: float
    attributes: dict[str, Any] = field(default_factory=dict)
    low: float = -20
    high: float = 20
    kind: str = "unary"  # or "binary", "rows": [n, 64]
    scale: Callable[..., Any] | None = None
    unit: str = "ULP"
    opset: int = 24
    axes: bool = False  # a reduction: the axis is an input
    double: float | None = 4  # the bound in float64; None: the formula has no more digits

    @property
    def name(self) -> str:
        shown = [f"{k}={v}" for k, v in self.attributes.items() if k in ("approximate", "fmod")]
        return " ".join([self.op, *shown])


def _sigmoid(x: Array) -> Array:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _log_softmax(x: Array) -> Array:
    d = x - x.max(-1, keepdims=True)
    return d - np.log(np.exp(d).sum(-1, keepdims=True))


def _log_sum_exp(x: Array) -> Array:
    m = x.max(-1, keepdims=True)
    return m + np.log(np.exp(x - m).sum(-1, keepdims=True))


def _layer_norm(x: Array, gain: Array) -> Array:
    d = x - x.mean(-1, keepdims=True)
    return d / np.sqrt((d * d).mean(-1, keepdims=True) + EPSILON) * gain


def _rms_norm(x: Array, gain: Array) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * gain


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _magnitude(x: Array, *_: Array) -> Array:
    return np.abs(x)


def _floor(x: Array) -> Array:
    return np.full(x.shape, 2.0**-96)


def _gate(x: Array) -> Array:
    return np.abs(x) * 2.0**-126


def _distance(x: Array) -> Array:
    return x.max(-1, keepdims=True) - x


def _sum_of(function: Callable[[Array], Array]) -> Callable[..., Array]:
    return lambda x, *_: function(x).sum(-1, keepdims=True)


def _reduction(
    op: str, exact: Callable[..., Any], bound: float, scale: Any = None, unit: str = "ULP", double: float = 4
) -> Case:
    return Case(op, exact, bound, kind="rows", axes=True, scale=scale, unit=unit, low=-8, high=8, double=double)


SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}
OF_X = "2^-24 of abs(x)"
AT_LEAST = "ULP, at least 2^-120"
OF_SUM = "2^-24 of the sum of magnitudes"
CASES = [
    Case("Exp", np.exp, 3, low=-104, high=89),
    Case("Log", np.log, 3, low=0.5, high=2),
    Case("Sqrt", np.sqrt, 0.5),
    Case("Reciprocal", lambda x: 1 / x, 0.5),
    Case("Tanh", np.tanh, 4.5, low=-10, high=10),
    Case("Sigmoid", _sigmoid, 6, low=-104, high=20),
    Case("Erf", _erf, 9, low=-5, high=5, double=None),
    Case("Sin", np.sin, 3),
    Case("Cos", np.cos, 3),
    Case("Tan", np.tan, 4),
    Case("Asin", np.arcsin, 2, low=-1, high=1),
    Case("Acos", np.arccos, 2, low=-1, high=1),
    Case("Atan", np.arctan, 3),
    Case("Sinh", np.sinh, 3, low=-90, high=90),
    Case("Cosh", np.cosh, 3, low=-90, high=90),
    Case("Asinh", np.arcsinh, 2),
    Case("Acosh", np.arccosh, 2, low=1, high=20),
    Case("Atanh", np.arctanh, 3, low=-1, high=1),
    Case("Softplus", _softplus, 5, low=-104, high=20),
    Case("Softsign", lambda x: x / (1 + np.abs(x)), 2),
    Case("Gelu", lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))), 4, scale=_magnitude, unit=OF_X, double=None),
    Case("Gelu", _gelu_tanh, 4, {"approximate": "tanh"}, scale=_magnitude, unit=OF_X),
    Case("Swish", lambda x: x * _sigmoid(x), 6, low=-104, scale=_floor, unit=AT_LEAST),
    Case("Mish", lambda x: x * np.tanh(_softplus(x)), 6, low=-104, scale=_gate,
         unit="ULP, at least 2^-150 of abs(x)"),
    Case("Elu", lambda x: np.where(x > 0, x, np.expm1(x)), 5),
    Case("Celu", lambda x: np.maximum(x, 0) + np.minimum(0, np.expm1(x)), 5),
    Case("Selu", lambda x: SELU["gamma"] * np.where(x > 0, x, SELU["alpha"] * np.expm1(x)), 5),
    Case("HardSwish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1), 4, scale=_magnitude, unit=OF_X),
    Case("Add", np.add, 0.5, kind="binary"),
    Case("Sub", np.subtract, 0.5, kind="binary"),
    Case("Mul", np.multiply, 0.5, kind="binary"),
    Case("Div", np.divide, 0.5, kind="binary"),
    Case("Mod", np.fmod, 0.5, {"fmod": 1}, kind="binary"),
    Case("Pow", np.power, 1, kind="binary", low=0.01),
    Case("Softmax", _softmax, 8, kind="rows", low=-40, high=40, scale=lambda x: _softmax(x) * (1 + _distance(x)),
         unit="2^-24 of y (1 + max - x)", double=8),
    Case("LogSoftmax", _log_softmax, 8, kind="rows", low=-40, high=40, scale=lambda x: 1 + _distance(x),
         unit="2^-24 of 1 + max - x", double=8),
    Case("LayerNormalization", _layer_norm, 4, kind="rows", low=-8, high=8, scale=lambda x, g: np.abs(g) * 4,
         unit="2^-24 of 4 abs(gain)"),
    Case("RMSNormalization", _rms_norm, 6, kind="rows", low=-8, high=8, double=6),
    _reduction("ReduceSum", lambda x: x.sum(-1, keepdims=True), 4, _sum_of(np.abs), OF_SUM),
    _reduction("ReduceMean", lambda x: x.mean(-1, keepdims=True), 4, lambda x: np.abs(x).mean(-1, keepdims=True),
               "2^-24 of the mean of magnitudes"),
    _reduction("ReduceMax", lambda x: x.max(-1, keepdims=True), 0),
    _reduction("ReduceMin", lambda x: x.min(-1, keepdims=True), 0),
    _reduction("ReduceL1", lambda x: np.abs(x).sum(-1, keepdims=True), 4),
    _reduction("ReduceL2", lambda x: np.sqrt((x * x).sum(-1, keepdims=True)), 4),
    _reduction("ReduceSumSquare", lambda x: (x * x).sum(-1, keepdims=True), 4, double=8),
    _reduction("ReduceLogSumExp", _log_sum_exp, 4),
]  # fmt: skip


def inputs_of(case: Case, count: int, kind: str = "float32") -> list[Array]:
    """What the operator is run on."""
    if case.kind == "rows":
        source = np.random.default_rng(1)
        x = source.uniform(case.low, case.high, (max(count // 64, 8), 64)).astype(F32)
        x[1] = F32(case.low)  # all equal
        x[2] *= F32(1e-3)
        rows = [x]
        if case.op in ("LayerNormalization", "RMSNormalization"):
            rows.append(source.uniform(0.5, 2, 64).astype(F32))
        return [r.astype(TYPES[kind]) for r in rows]
    x = sweep(count, case.low, case.high, kind)
    if case.kind == "unary":
        return [x]
    with np.errstate(over="ignore"):
        special = SPECIAL.astype(TYPES[kind])
    left, right = np.meshgrid(special, special)
    shuffled = np.random.default_rng(2).permutation(x)
    return [np.concatenate([left.ravel(), x]), np.concatenate([right.ravel(), shuffled])]


def model_of(case: Case, inputs: list[Array]) -> Any:
    """The operator as a model of one node."""
    import onnx
    from onnx import helper, numpy_helper

    names = [f"x{i}" for i in range(len(inputs))]
    weights = [numpy_helper.from_array(np.array([-1], np.int64), "axes")] if case.axes else []
    node = helper.make_node(case.op, [*names, *(w.name for w in weights)], ["y"], **case.attributes)
    kinds = [helper.np_dtype_to_tensor_dtype(x.dtype) for x in inputs]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, k, x.shape) for n, k, x in zip(names, kinds, inputs, strict=True)],
        [helper.make_tensor_value_info("y", kinds[0], None)],
        weights,
    )
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=10)


Runner = Callable[[Any, dict[str, Array]], Array]


def run(case: Case, inputs: list[Array], runner: Runner = with_linnet) -> Array:
    """The operator's output, through a session of one node."""
    return runner(model_of(case, inputs), {f"x{i}": x for i, x in enumerate(inputs)})


def case_bound(case: Case, kind: str) -> float | None:
    """The bound for an element type: 16-bit floats are computed in float32 and rounded once. None: not measured."""
    if kind == "float32":
        return case.bound
    if kind == "float64":
        return case.double if case.double is None or case.bound > 0.5 else case.bound
    return min(case.bound, 0.51)


def measure(case: Case, count: int = 200_000, kind: str = "float32", runner: Runner = with_linnet) -> dict[str, Any]:
    """The largest error in the case's unit, where it is, and results of the wrong kind (NaN, infinite) by input."""
    inputs = inputs_of(case, count, kind)
    dtype, bound = TYPES[kind], case_bound(case, kind) or case.bound
    limits = ml_dtypes.finfo(dtype)
    digits, tiny, largest = limits.nmant, float(limits.smallest_normal), float(limits.max)
    exacter = np.longdouble if kind == "float64" else np.float64
    with np.errstate(all="ignore"):
        wide = [x.astype(exacter) for x in inputs]
        exact = np.asarray(case.exact(*wide))
        nearest = exact.astype(dtype)
        y = run(case, inputs, runner)
        near = np.abs(nearest.astype(np.float64))
        _, exponent = np.frexp(np.maximum(np.where(np.isfinite(near), near, 1), tiny))
        unit = np.ldexp(exacter(1), exponent - 1 - digits)
        if case.scale is not None:
            unit = np.maximum(unit, np.broadcast_to(case.scale(*wide), exact.shape) * ROUNDING[kind])
        # Next to overflow either neighbour is right.
        edge = np.abs(exact) > exacter(largest) * (1 - exacter(bound + 1) * 2.0 ** (-digits))
        given = y.astype(exacter)
        finite = np.isfinite(near) & np.isfinite(given)
        error = np.where(finite, np.abs(given - exact) / unit, 0)
        wrong = (np.isnan(given) != np.isnan(near)) | ((np.isinf(given) != np.isinf(near)) & ~edge)
        wrong |= np.isinf(given) & np.isinf(near) & (np.sign(given) != np.sign(exact))
    at = np.unravel_index(int(np.argmax(error)), error.shape)
    places = [np.broadcast_to(x, y.shape) if case.kind != "rows" else x for x in inputs]
    where = [float(p[at]) for p in places] if case.kind != "rows" else []
    bad = np.argwhere(wrong.reshape(y.shape))[:5]
    return {
        "worst": float(error[at]),
        "at": where,
        "wrong": [
            {"inputs": [float(p[tuple(i)]) for p in places] if case.kind != "rows" else [], "given": float(y[tuple(i)]),
             "expected": float(nearest[tuple(i)])}
            for i in bad
        ],
    }  # fmt: skip


HEAD = """\
# Accuracy of float operators

Made by `python -m benchmarks.accuracy`; do not edit. Each operator ran over {count:,} inputs against numpy's float64
(float64 against its 80-bit long double): half of them spread evenly over all exponents of both signs, denormals
included, half over the range where its values are interesting; then zeros, denormals, infinities, NaN, the largest and
the smallest numbers, for two operands each with each; float16 and bfloat16 over all their numbers. Rows (softmax,
normalisations, reductions) have 64 elements.

The figure is the largest error over the sweep. A unit in the last place (ULP) is the element type's at the exact
result, at least that of the smallest normal number; 0.5 is a correctly rounded result. Where terms cancel the unit is
that of the operands, 2^-24 standing for the type's rounding (2^-11, 2^-8, 2^-53). `tests/measuring/test_accuracy.py`
holds every table and type to the bound, and every infinity and NaN to where it belongs.

float32 by kernel table and by onnxruntime{version}, then its bound; the other types, with their bounds, are with the
first table. An onnxruntime figure in the millions is a result that is 0, or has cancelled, where the exact one is a
small number.

| operator | unit | {tables} | onnxruntime | bound | float16 | bfloat16 | float64 |
|---|---|{lines}---|---|---|---|---|
"""
SUMS = """
## Sums of products

Operators on standard normal operands, against the ONNX reference evaluator in float64. The unit is the element type's
rounding (2^-24, 2^-11, 2^-8, 2^-53) of what is named; the sum of magnitudes is that of the terms: of |a b| over all
products for a convolution. float16 and bfloat16 are computed in float32 and rounded once: at most 1.1. float64 is
against another float64 result, so that 0 means the same bits; operators that compute it in float32
([numeric-contract.md](numeric-contract.md)) have a dash.

| operator | unit | {tables} | onnxruntime | bound | float16 | bfloat16 | float64 |
|---|---|{lines}---|---|---|---|---|
"""


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _page(by_table: dict[str, dict[str, Any]], count: int) -> str:
    import onnxruntime

    tables = list(by_table)
    first = by_table[tables[0]]
    parts = {"tables": " | ".join(tables), "lines": "---|" * len(tables)}
    text = HEAD.format(count=count, version=f" {onnxruntime.__version__}", **parts)
    for i, case in enumerate(CASES):
        cells = [_cell(by_table[t]["operators"][i]["float32"]["worst"]) for t in tables]
        cells += [_cell(first["onnxruntime"][i]), f"{case.bound:g}"]
        for kind in list(TYPES)[1:]:
            limit = case_bound(case, kind)
            cells.append("-" if limit is None else f"{first['operators'][i][kind]['worst']:.3g} of {limit:g}")
        text += f"| {case.name} | {case.unit} | " + " | ".join(cells) + " |\n"
    text += SUMS.format(**parts)
    for i, product in enumerate(PRODUCTS):
        cells = [_cell(by_table[t]["products"][i]["float32"]) for t in tables]
        cells += [_cell(first["onnxruntime_products"][i]), f"{product.bound:g}"]
        cells += [_cell(first["products"][i][kind]) for kind in ("float16", "bfloat16")]
        cells.append(_cell(first["products"][i]["float64"]) if product.double else "-")
        text += f"| {product.label} | {product.unit} | " + " | ".join(cells) + " |\n"
    return text


def _worst(case: Case, **more: Any) -> float:
    return float(measure(case, **more)["worst"])


def _by_onnxruntime(measured: Callable[[], float]) -> float | None:
    try:
        return measured()
    except Exception:  # not every operator and type is there
        return None


def measure_all(count: int, every_type: bool, peer: bool) -> dict[str, Any]:
    """Every case with the kernel table in use: by element type, and by onnxruntime if asked."""
    kinds = list(TYPES) if every_type else ["float32"]
    results: dict[str, Any] = {
        "operators": [
            {kind: measure(case, count, kind) for kind in kinds if case_bound(case, kind) is not None} for case in CASES
        ],
        "products": [{kind: worst(case, with_linnet, TYPES[kind]) for kind in kinds} for case in PRODUCTS],
    }
    if peer:
        results["onnxruntime"] = [
            _by_onnxruntime(partial(_worst, case, count=count, runner=with_onnxruntime)) for case in CASES
        ]
        results["onnxruntime_products"] = [_by_onnxruntime(partial(worst, case, with_onnxruntime)) for case in PRODUCTS]
    return results


def problems_of(results: dict[str, Any]) -> list[str]:
    """What is beyond its bound, or of the wrong kind."""
    problems = []
    for case, kinds in zip(CASES, results["operators"], strict=True):
        for kind, result in kinds.items():
            if result["wrong"] or not result["worst"] <= (case_bound(case, kind) or 0):
                problems.append(f"{case.name}, {kind}: {result}")
    for product, errors in zip(PRODUCTS, results["products"], strict=True):
        for kind, error in errors.items():
            if not error <= bound_of(product, TYPES[kind]):
                problems.append(f"{product.label}, {kind}: {error:.3g}, bound {bound_of(product, TYPES[kind]):.3g}")
    return problems


def measure_in(table: str, count: int, every_type: bool = False, peer: bool = False) -> dict[str, Any]:
    """`measure_all` with that kernel table, in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.accuracy", "--one-table", "--count", str(count)]
    words += ["--types"] * every_type + ["--peer"] * peer
    root = Path(__file__).resolve().parents[1]
    env = {**os.environ, "LINNET_ISA": table}
    done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=root, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{table}: {done.stderr}")
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def main() -> None:
    """Measures, and writes the page."""
    from linnet import _core

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=200_000, help="inputs of each operator (200,000)")
    parser.add_argument("--one-table", action="store_true", help="print the results of the table in use as JSON")
    parser.add_argument("--types", action="store_true", help="with --one-table: of every element type")
    parser.add_argument("--peer", action="store_true", help="with --one-table: of onnxruntime too")
    arguments = parser.parse_args()
    if arguments.one_table:
        print(json.dumps(measure_all(arguments.count, arguments.types, arguments.peer)))
        return
    tables = [name for name, runs in _core.kernel_tables() if runs]
    by_table = {t: measure_in(t, arguments.count, i == 0, i == 0) for i, t in enumerate(tables)}
    for table, results in by_table.items():
        for problem in problems_of(results):
            print(f"{table}: {problem}")
    page = Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"
    page.write_text(_page(by_table, arguments.count), encoding="utf-8")


if __name__ == "__main__":
    main()
