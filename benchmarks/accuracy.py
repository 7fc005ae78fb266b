"""How far float operators are from the exact result, for every kernel table that this CPU runs.

``python -m benchmarks.accuracy`` writes docs/accuracy.md. Each operator is a model of one node, run over a sweep of its
whole domain: both signs, every exponent of float32, denormals, zeros, infinities, NaN, and the range where its values
are interesting, and compared with numpy's float64.
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
from pathlib import Path
from typing import Any

import numpy as np

F32 = np.float32
TINY = float(np.finfo(F32).tiny)
LARGEST = float(np.finfo(F32).max)
SPECIAL = np.array(
    [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, -1.1754942e-38, TINY, -TINY, 1e-30, 0.5,
     1.0, -1.0, 2.0, LARGEST, -LARGEST],
    F32,
)  # fmt: skip
_erf = np.vectorize(math.erf, otypes=[np.float64])
Array = np.ndarray[Any, Any]


def sweep(count: int, low: float = -20, high: float = 20) -> Array:
    """float32 numbers: the special ones, all exponents of both signs, and `low` to `high` evenly."""
    source = np.random.default_rng(0)
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
    return d / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-5) * gain


def _rms_norm(x: Array, gain: Array) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * gain


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _magnitude(x: Array, *_: Array) -> Array:
    return np.abs(x)


def _floor(x: Array) -> Array:
    return np.full(x.shape, 2.0**-96)


def _distance(x: Array) -> Array:
    return x.max(-1, keepdims=True) - x


def _sum_of(function: Callable[[Array], Array]) -> Callable[..., Array]:
    return lambda x, *_: function(x).sum(-1, keepdims=True)


def _reduction(op: str, exact: Callable[..., Any], bound: float, scale: Any = None, unit: str = "ULP") -> Case:
    return Case(op, exact, bound, kind="rows", axes=True, scale=scale, unit=unit, low=-8, high=8)


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
    Case("Sigmoid", _sigmoid, 6, low=-104, high=20, scale=_floor, unit=AT_LEAST),
    Case("Erf", _erf, 9, low=-5, high=5),
    Case("Sin", np.sin, 3),
    Case("Cos", np.cos, 3),
    Case("Tan", np.tan, 2),
    Case("Asin", np.arcsin, 2, low=-1, high=1),
    Case("Acos", np.arccos, 2, low=-1, high=1),
    Case("Atan", np.arctan, 2),
    Case("Sinh", np.sinh, 2, low=-90, high=90),
    Case("Cosh", np.cosh, 2, low=-90, high=90),
    Case("Asinh", np.arcsinh, 2),
    Case("Acosh", np.arccosh, 2, low=1, high=20),
    Case("Atanh", np.arctanh, 2, low=-1, high=1),
    Case("Softplus", _softplus, 5, low=-104, high=20),
    Case("Softsign", lambda x: x / (1 + np.abs(x)), 2),
    Case("Gelu", lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))), 4, scale=_magnitude, unit=OF_X),
    Case("Gelu", _gelu_tanh, 4, {"approximate": "tanh"}, scale=_magnitude, unit=OF_X),
    Case("Swish", lambda x: x * _sigmoid(x), 6, low=-104, scale=_floor, unit=AT_LEAST),
    Case("Mish", lambda x: x * np.tanh(_softplus(x)), 6, low=-104, scale=_floor, unit=AT_LEAST),
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
         unit="2^-24 of y (1 + max - x)"),
    Case("LogSoftmax", _log_softmax, 8, kind="rows", low=-40, high=40, scale=lambda x: 1 + _distance(x),
         unit="2^-24 of 1 + max - x"),
    Case("LayerNormalization", _layer_norm, 4, kind="rows", low=-8, high=8, scale=lambda x, g: np.abs(g) * 4,
         unit="2^-24 of 4 abs(gain)"),
    Case("RMSNormalization", _rms_norm, 6, kind="rows", low=-8, high=8),
    _reduction("ReduceSum", lambda x: x.sum(-1, keepdims=True), 4, _sum_of(np.abs), OF_SUM),
    _reduction("ReduceMean", lambda x: x.mean(-1, keepdims=True), 4, lambda x: np.abs(x).mean(-1, keepdims=True),
               "2^-24 of the mean of magnitudes"),
    _reduction("ReduceMax", lambda x: x.max(-1, keepdims=True), 0),
    _reduction("ReduceMin", lambda x: x.min(-1, keepdims=True), 0),
    _reduction("ReduceL1", lambda x: np.abs(x).sum(-1, keepdims=True), 4),
    _reduction("ReduceL2", lambda x: np.sqrt((x * x).sum(-1, keepdims=True)), 4),
    _reduction("ReduceSumSquare", lambda x: (x * x).sum(-1, keepdims=True), 4),
    _reduction("ReduceLogSumExp", _log_sum_exp, 4),
]  # fmt: skip


def inputs_of(case: Case, count: int) -> list[Array]:
    """What the operator is run on."""
    if case.kind == "rows":
        source = np.random.default_rng(1)
        x = source.uniform(case.low, case.high, (max(count // 64, 8), 64)).astype(F32)
        x[1] = F32(case.low)  # all equal
        x[2] *= F32(1e-3)
        if case.op in ("LayerNormalization", "RMSNormalization"):
            return [x, source.uniform(0.5, 2, 64).astype(F32)]
        return [x]
    x = sweep(count, case.low, case.high)
    if case.kind == "unary":
        return [x]
    left, right = np.meshgrid(SPECIAL, SPECIAL)
    shuffled = np.random.default_rng(2).permutation(x)
    return [np.concatenate([left.ravel(), x]), np.concatenate([right.ravel(), shuffled])]


def run(case: Case, inputs: list[Array]) -> Array:
    """The operator's output, through a session of one node."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    import linnet

    names = [f"x{i}" for i in range(len(inputs))]
    attributes = dict(case.attributes)
    weights = []
    if case.axes:
        weights.append(numpy_helper.from_array(np.array([-1], np.int64), "axes"))
    node = helper.make_node(case.op, [*names, *(w.name for w in weights)], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n, x in zip(names, inputs, strict=True)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", case.opset)], ir_version=10)
    session = linnet.InferenceSession(model.SerializeToString())
    (y,) = session.run(None, dict(zip(names, inputs, strict=True)))
    result: Array = y
    return result


def measure(case: Case, count: int = 200_000) -> dict[str, Any]:
    """The largest error in the case's unit, where it is, and results of the wrong kind (NaN, infinite) by input."""
    inputs = inputs_of(case, count)
    with np.errstate(all="ignore"):
        wide = [x.astype(np.float64) for x in inputs]
        exact = np.asarray(case.exact(*wide))
        nearest = exact.astype(F32)
        y = run(case, inputs)
        unit = np.spacing(np.maximum(np.abs(nearest), F32(TINY))).astype(np.float64)
        if case.scale is not None:
            unit = np.maximum(unit, np.broadcast_to(case.scale(*wide), exact.shape) * 2.0**-24)
        # Next to overflow either neighbour is right.
        edge = np.abs(exact) > LARGEST * (1 - case.bound * 2.0**-23)
        finite = np.isfinite(nearest) & np.isfinite(y)
        error = np.where(finite, np.abs(y.astype(np.float64) - exact) / unit, 0)
        wrong = (np.isnan(y) != np.isnan(nearest)) | ((np.isinf(y) != np.isinf(nearest)) & ~edge)
        wrong |= np.isinf(y) & np.isinf(nearest) & (np.sign(y) != np.sign(nearest))
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


def _page(rows: list[tuple[Case, dict[str, dict[str, Any]]]], tables: list[str], count: int) -> str:
    head = [
        "# Accuracy of float operators",
        "",
        f"Made by `python -m benchmarks.accuracy`; do not edit. Each operator ran in float32 over {count:,} inputs",
        "against numpy's float64: half of them spread evenly over all exponents of both signs, denormals included,",
        "half over the range where its values are interesting; then zeros, denormals, infinities, NaN, the largest",
        "and the smallest numbers, for two operands each with each. Rows (softmax, normalisations, reductions) have",
        "64 elements.",
        "",
        "The figure is the largest error over the sweep. A unit in the last place (ULP) is float32's at the exact",
        "result, at least that of the smallest normal number; 0.5 is a correctly rounded result. Where terms cancel",
        "the unit is that of the operands. `tests/measuring/test_accuracy.py` holds every table to the bound, and",
        "every infinity and NaN to where it belongs. Sigmoid, Swish and Mish end at 0 where exp(-x) would overflow.",
        "",
        "| operator | unit | " + " | ".join(tables) + " | bound |",
        "|---|---|" + "---|" * len(tables) + "---|",
    ]
    for case, results in rows:
        cells = [f"{results[t]['worst']:.3g}" for t in tables]
        head.append(f"| {case.name} | {case.unit} | " + " | ".join(cells) + f" | {case.bound:g} |")
    return "\n".join(head) + "\n"


def measure_in(table: str, count: int) -> list[dict[str, Any]]:
    """Every case with that kernel table, in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.accuracy", "--one-table", "--count", str(count)]
    root = Path(__file__).resolve().parents[1]
    env = {**os.environ, "LINNET_ISA": table}
    done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=root, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{table}: {done.stderr}")
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def main() -> None:
    """Measures, and writes the page."""
    from linnet import _core

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=200_000, help="inputs of each operator (200,000)")
    parser.add_argument("--one-table", action="store_true", help="print the results of the table in use as JSON")
    arguments = parser.parse_args()
    if arguments.one_table:
        print(json.dumps([measure(case, arguments.count) for case in CASES]))
        return
    tables = [name for name, runs in _core.kernel_tables() if runs]
    by_table = {table: measure_in(table, arguments.count) for table in tables}
    rows = [(case, {table: by_table[table][i] for table in tables}) for i, case in enumerate(CASES)]
    for case, results in rows:
        for table, result in results.items():
            if result["wrong"] or result["worst"] > case.bound:
                print(f"{case.name} with {table}: {result}")
    page = Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"
    page.write_text(_page(rows, tables, arguments.count), encoding="utf-8")


if __name__ == "__main__":
    main()
