"""Float operators against float64: the bounds of docs/accuracy.md, for every kernel table that this CPU runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from benchmarks import accuracy
from benchmarks import accuracy_products as products

from linnet import _core

TABLES = [name for name, runs in _core.kernel_tables() if runs]


@pytest.mark.parametrize("table", TABLES)
def test_errors_are_within_their_bounds(table: str) -> None:
    """float32 with every table, the other types with the first: float64 takes no kernels, the 16-bit ones float32's."""
    results = accuracy.measure_in(table, 40_000, every_type=table == TABLES[0])
    assert len(results["operators"]) == len(accuracy.CASES)
    assert len(results["products"]) == len(accuracy.PRODUCTS)
    assert accuracy.problems_of(results) == []


def test_an_error_is_found() -> None:
    exp = next(case for case in accuracy.CASES if case.op == "Exp")
    off = accuracy.Case("Exp", lambda x: np.exp(x) * (1 + 2e-6), exp.bound, low=exp.low, high=exp.high)
    assert accuracy.measure(off, 2000)["worst"] > exp.bound
    nan = accuracy.Case("Exp", lambda x: np.where(x == 1, np.nan, np.exp(x)), exp.bound)
    assert accuracy.measure(nan, 2000)["wrong"][0]["inputs"] == [1.0]


def test_an_error_of_a_product_is_found() -> None:
    case = next(case for case in accuracy.PRODUCTS if case.op == "Conv")

    def off(model: Any, feeds: dict[str, Any]) -> Any:
        return accuracy.with_linnet(model, feeds) * np.float32(1 + 2e-5)

    assert accuracy.worst(case, off) > case.bound
    exact = accuracy.measure_all(200, every_type=False, peer=False)
    exact["products"][0]["float32"] = float("nan")
    exact["operators"][0]["float32"]["worst"] = 1e9
    assert len(accuracy.problems_of(exact)) == 2


@pytest.mark.parametrize("kind", accuracy.TYPES)
@pytest.mark.parametrize("case", accuracy.CASES, ids=lambda case: case.name)
def test_empty_tensors(case: accuracy.Case, kind: str) -> None:
    full = accuracy.inputs_of(case, 64, kind)
    empty = [full[0][:0], *(x[:0] if case.kind == "binary" else x for x in full[1:])]
    y = accuracy.run(case, empty)
    assert y.dtype == accuracy.TYPES[kind]
    assert y.size == 0


def test_every_case_is_on_the_page() -> None:
    page = (accuracy.Path(accuracy.__file__).parents[1] / "docs" / "accuracy.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    for label, unit, bound in [(c.name, c.unit, c.bound) for c in accuracy.CASES] + [
        (p.label, p.unit, p.bound) for p in accuracy.PRODUCTS
    ]:
        assert any(row[0] == f"| {label}" and row[1] == unit and f"{bound:g}" in row[-4] for row in rows), label


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-40, 1.2e-38, 1e15], np.float32)


# Of NaN in windows that reach over the edge, and in what is compared, the evaluator has ideas of its own.
JUDGED = ("MatMul", "Gemm", "Conv", "ConvTranspose", "ReduceSum", "CumSum", "BatchNormalization", "Attention")


@pytest.mark.parametrize("case", [p for p in accuracy.PRODUCTS if p.op in JUDGED], ids=lambda case: case.label)
def test_special_values_in_sums(case: Any) -> None:
    """NaN and infinities come out where float64 has them. Winograd's sums of neighbours spread them within a tile."""
    if case.name == "Winograd":
        pytest.skip("spreads them: that is what exact is for")
    operands = products.operands_of(case)
    source = np.random.default_rng(5)
    for i in range(2 if case.op in ("MatMul", "Gemm") else 1):
        flat = operands[i].reshape(-1)
        if flat.dtype == np.float32:
            flat[source.choice(flat.size, len(SPECIAL), replace=False)] = SPECIAL
    model = products.model_of(case, operands)
    y = accuracy.with_linnet(model, products.feeds_of(model, operands))
    with np.errstate(all="ignore"):
        exact = products.evaluated(case, operands).astype(np.float32)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(exact))
    np.testing.assert_array_equal(np.isposinf(y), np.isposinf(exact))
    np.testing.assert_array_equal(np.isneginf(y), np.isneginf(exact))
    assert np.isnan(y).any() or np.isinf(y).any()


def test_subnormal_products() -> None:
    a = np.ldexp(np.random.default_rng(0).uniform(1, 2, (5, 32)), -80).astype(np.float32)
    b = np.ldexp(np.random.default_rng(1).uniform(1, 2, (32, 40)), -62).astype(np.float32)
    case = accuracy.PRODUCTS[0]
    y = accuracy.with_linnet(products.model_of(case, [a, b]), {"x0": a})
    exact = a.astype(np.float64) @ b.astype(np.float64)
    assert np.abs(exact).max() < np.finfo(np.float32).tiny
    np.testing.assert_allclose(y, exact, rtol=0, atol=33 * 2.0**-149)


def test_largest_products() -> None:
    """A sum that overflows is infinite; one that does not is right, to the last power of two."""
    a = np.array([[2.0**64, 0], [2.0**63, 2.0**62], [-(2.0**64), -(2.0**64)]], np.float32)
    b = np.array([[2.0**64], [2.0**64]], np.float32)
    case = accuracy.PRODUCTS[0]
    y = accuracy.with_linnet(products.model_of(case, [a, b]), {"x0": a})
    np.testing.assert_array_equal(y, np.array([[np.inf], [1.5 * 2.0**127], [-np.inf]], np.float32))


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "want"),
    [
        ("MatMul", [(0, 3), (3, 4)], {}, (0, 4)),
        ("MatMul", [(2, 0), (0, 4)], {}, (2, 4)),
        ("MatMul", [(2, 3), (3, 0)], {}, (2, 0)),
        ("MatMul", [(0, 2, 3), (3, 4)], {}, (0, 2, 4)),
        ("Gemm", [(2, 0), (0, 4)], {}, (2, 4)),
        ("Conv", [(0, 3, 5, 5), (4, 3, 3, 3)], {}, (0, 4, 3, 3)),
        ("Conv", [(1, 3, 5, 5), (0, 3, 3, 3)], {}, (1, 0, 3, 3)),
        ("ConvTranspose", [(0, 3, 5, 5), (3, 2, 3, 3)], {}, (0, 2, 7, 7)),
        ("AveragePool", [(0, 3, 4, 4)], {"kernel_shape": [2, 2]}, (0, 3, 3, 3)),
        ("MaxPool", [(2, 0, 4, 4)], {"kernel_shape": [2, 2]}, (2, 0, 3, 3)),
        ("GlobalAveragePool", [(0, 3, 4, 4)], {}, (0, 3, 1, 1)),
        ("LRN", [(0, 3, 4, 4)], {"size": 3}, (0, 3, 4, 4)),
        ("BatchNormalization", [(0, 3, 4), (3,), (3,), (3,), (3,)], {}, (0, 3, 4)),
        ("InstanceNormalization", [(0, 3, 4), (3,), (3,)], {}, (0, 3, 4)),
        ("Attention", [(1, 2, 0, 8), (1, 2, 3, 8), (1, 2, 3, 8)], {}, (1, 2, 0, 8)),
        ("LSTM", [(4, 0, 3), (1, 8, 3), (1, 8, 2)], {"hidden_size": 2}, (1, 0, 2)),
        ("GRU", [(4, 0, 3), (1, 6, 3), (1, 6, 2)], {"hidden_size": 2}, (1, 0, 2)),
        ("RNN", [(4, 0, 3), (1, 2, 3), (1, 2, 2)], {"hidden_size": 2}, (1, 0, 2)),
    ],
)
@pytest.mark.parametrize("kind", accuracy.TYPES)
def test_sizes_of_zero(
    op: str, shapes: list[tuple[int, ...]], attributes: dict[str, Any], want: tuple[int, ...], kind: str
) -> None:
    operands = [np.ones(shape, accuracy.TYPES[kind]) for shape in shapes]
    case = products.Product(op, tuple(shapes), 0, attributes=attributes)
    model = products.model_of(case, operands)
    y = accuracy.with_linnet(model, products.feeds_of(model, operands))
    assert y.shape == want and y.dtype == accuracy.TYPES[kind]
    assert (y == 0).all()
