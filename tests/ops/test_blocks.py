"""Operators that work block by block, at sizes around their blocks' edges, against formulas in numpy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from one_node import check, linnet, ort

rng = np.random.default_rng(5)
NUMBERS = [np.float32, np.float64, np.float16, np.int8, np.uint8, np.int32, np.uint64, np.int64]


def draw(dtype: Any, *shape: int) -> Any:
    x = rng.standard_normal(shape) * 9
    return (abs(x) if np.dtype(dtype).kind == "u" else x).astype(dtype)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("shape", [(9, 70), (17, 5, 3), (8, 3), (1, 40), (3, 1), (2, 4, 33)], ids=str)
def test_cumulative_sums(shape: tuple[int, ...], reverse: int, exclusive: int) -> None:
    for dtype in (np.float32, np.float64, np.int32, np.uint64, np.int8):
        x = draw(dtype, *shape)
        for axis in range(len(shape)):
            turned = np.flip(x, axis) if reverse else x
            sums = np.cumsum(turned, axis, dtype=np.float64 if x.dtype.kind == "f" else dtype)
            if exclusive:
                sums = sums - turned
            want = (np.flip(sums, axis) if reverse else sums).astype(dtype)
            got = linnet("CumSum", x, np.int64(axis), exclusive=exclusive, reverse=reverse)[0]
            check(got, want, absolute=1e-5)


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_places_of_extremes(op: str, last: int) -> None:
    best = np.argmax if op == "ArgMax" else np.argmin
    for n in (1, 2, 255, 256, 257, 300, 513, 1000):
        for dtype in (np.float32, np.int32):
            x = rng.integers(0, 3 if n % 2 else 9, (5, n)).astype(dtype)  # with many equals
            if dtype == np.float32 and n > 2:
                x[1, n // 2] = x[1, n - 2] = x[2, 0] = np.nan
                x[3] = np.nan
            want = n - 1 - best(x[:, ::-1], 1) if last else best(x, 1)
            for given, axis in ((x, 1), (np.ascontiguousarray(x.T), 0)):
                check(linnet(op, given, axis=axis, keepdims=0, select_last_index=last)[0], want)


def test_hardmax_takes_the_first_of_equals() -> None:
    for n in (1, 255, 257, 700):
        x = rng.integers(0, 4, (6, n)).astype(np.float32)
        want = (np.arange(n) == x.argmax(1)[:, None]).astype(np.float32)
        check(linnet("Hardmax", x, axis=1)[0], want)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("dtype", [*NUMBERS, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name)
def test_top_k_at_every_k(dtype: Any, largest: int) -> None:
    lowest = np.iinfo(dtype).min if np.dtype(dtype).kind in "iu" else -np.inf
    for n in (1, 15, 16, 17, 100, 600, 2000):
        x = draw(dtype, 2, n)
        x[0, : n // 2] = lowest  # equals, more than k of them
        keys = x.astype(np.float64)
        order = np.argsort(-keys if largest else keys, 1, kind="stable")
        for k in {0, 1, 2, 16, 17, 40, n // 3, n - 1, n}:
            if k > n:
                continue
            values, indices = linnet("TopK", x, np.array([k], np.int64), outputs=2, largest=largest)
            check(indices, order[:, :k].astype(np.int64))
            check(values, np.take_along_axis(x, order[:, :k], 1))


def test_top_k_of_sorted_rows() -> None:
    for x in (np.arange(3000, dtype=np.float32), -np.arange(3000, dtype=np.float32), np.zeros(3000, np.float32)):
        x[7] = np.nan
        order = np.argsort(-np.nan_to_num(x, nan=np.inf), kind="stable")[:100]
        check(linnet("TopK", x, np.array([100], np.int64), outputs=2)[1], order)


@pytest.mark.parametrize("index_type", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32, np.float64, np.complex128, object])
def test_gathered_and_scattered_rows(dtype: Any, index_type: Any) -> None:
    for shape, axis in (((5, 300), 0), ((3, 257), 1), ((4, 3, 7), 1), ((700,), 0), ((2, 3, 1), 0), ((3, 0), 0)):
        x = draw(np.float64, *shape)
        x = x.astype("U4").astype(object) if dtype is object else x.astype(dtype)
        index = np.argsort(rng.random(shape), axis).astype(index_type)  # none twice
        index[index % 2 == 1] -= shape[axis]
        places = index % max(1, shape[axis])
        if dtype != np.complex128:
            check_any(linnet("GatherElements", x, index, axis=axis)[0], np.take_along_axis(x, places, axis))
            want = x.copy()
            updates = np.flip(x).copy()
            np.put_along_axis(want, places, updates, axis)
            check_any(linnet("ScatterElements", x, index, updates, axis=axis)[0], want)


def check_any(got: Any, want: Any) -> None:
    assert got.shape == want.shape
    assert (got == want).all()


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
def test_scatter_reductions_of_long_rows(reduction: str) -> None:
    x, updates = draw(np.int32, 4, 600), draw(np.int32, 9, 600)
    index = rng.integers(-4, 4, (9, 600))
    fn = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[reduction]
    want = x.copy()
    for i in range(9):
        for j in range(600):
            want[index[i, j], j] = fn(want[index[i, j], j], updates[i, j])
    check(linnet("ScatterElements", x, index, updates, axis=0, reduction=reduction, opset=18)[0], want)


@pytest.mark.parametrize("at", [0, 255, 256, 599])
@pytest.mark.parametrize("bad", [-5, 4, 2**62, -(2**63), 2**63 - 1])
def test_indices_outside_are_refused(at: int, bad: int) -> None:
    import linnet as package

    index = np.zeros((2, 600), np.int64)
    index[1, at] = bad
    x = np.zeros((4, 600), np.float32)
    with pytest.raises(package.InvalidArgument, match=f"index {bad} is outside"):
        linnet("GatherElements", x, index, axis=0)
    with pytest.raises(package.InvalidArgument, match=f"index {bad} is outside"):
        linnet("ScatterElements", x, index, np.zeros((2, 600), np.float32), axis=0)
    with pytest.raises(package.InvalidArgument, match=f"index {bad} is outside"):
        linnet("GatherND", x, index.reshape(1200, 1))


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32, np.float64])
def test_gather_nd_in_parts(dtype: Any) -> None:
    x = draw(dtype, 7, 5, 3)
    index = np.stack([rng.integers(-7, 7, 1000), rng.integers(-5, 5, 1000), rng.integers(-3, 3, 1000)], 1)
    for depth in (1, 2, 3):
        check(linnet("GatherND", x, index[:, :depth])[0], x[tuple(index[:, :depth].T)])
    batched = rng.integers(-5, 5, (7, 40, 1))
    want = np.stack([x[i][batched[i, :, 0]] for i in range(7)])
    check(linnet("GatherND", x, batched, batch_dims=1)[0], want)


@pytest.mark.parametrize("dtype", [*NUMBERS, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name)
def test_unique_of_many(dtype: Any) -> None:
    for n in (1, 2, 3000):
        x = draw(dtype, n)
        if n > 10 and np.dtype(dtype).kind not in "iu":
            x[[3, 2000]] = np.nan
            x[[5, 9]] = 0, -0.0
            x[[7, 8]] = np.inf, -np.inf
        if n > 10 and np.dtype(dtype).kind in "iu":
            x[[3, 6]] = np.iinfo(dtype).min, np.iinfo(dtype).max
        keys = x.astype(np.float64) if np.dtype(dtype).kind not in "iu" else x
        values, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        got = linnet("Unique", x, outputs=4)
        check(got[0].astype(keys.dtype), values)
        for result, want in zip(got[1:], (first, inverse, counts), strict=True):
            check(result, want.astype(np.int64))


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32, np.float64, object])
def test_tiles(dtype: Any) -> None:
    for shape, repeats in (
        ((3, 5), (2, 3)), ((3, 5), (1, 3)), ((3, 5), (3, 1)), ((4, 1), (1, 70)), ((1, 1, 3), (2, 5, 1)),
        ((2, 3, 4), (1, 2, 1)), ((2, 3, 4), (2, 1, 2)), ((2, 3, 4), (1, 1, 1)), ((2, 0), (2, 2)), ((1,), (0,)),
        ((64, 30, 20), (1, 2, 2)),
    ):  # fmt: skip
        x = draw(np.float64, *shape)
        x = x.astype("U4").astype(object) if dtype is object else x.astype(dtype)
        check_any(linnet("Tile", x, np.array(repeats, np.int64))[0], np.tile(x, repeats))


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 3, 15, 16, 17, 63, 64, 65, 130, 5000])
def test_expanded_numbers(dtype: Any, width: int) -> None:
    x = draw(dtype, 3, 1)
    check(linnet("Expand", x, np.array([3, width], np.int64))[0], np.repeat(x, width, 1))


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [-9, -1, 0, 2, 9])
def test_triangles_of_wide_and_high_matrices(k: int, upper: int) -> None:
    for shape in ((2, 3, 5), (5, 3), (1, 1), (4, 200)):
        x = draw(np.float32, *shape)
        check(linnet("Trilu", x, np.int64(k), upper=upper)[0], np.triu(x, k) if upper else np.tril(x, k))


def test_nonzero_and_compress_of_long_rows() -> None:
    for shape in ((3, 600), (2, 3, 1), (1, 257), (256,), (2, 2, 300), (0, 3)):
        x = rng.integers(0, 2, shape).astype(np.float32)
        check(linnet("NonZero", x)[0], np.array(np.nonzero(x)))
        check(linnet("NonZero", np.ones(shape, np.int8))[0], np.array(np.nonzero(np.ones(shape))))
    for pattern in ([0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [0, 1, 1], [1, 0, 1, 0, 1]):
        keep = np.array(pattern, bool)
        x = draw(np.float32, 5, 4)
        check(linnet("Compress", x, keep, axis=0)[0], np.compress(keep, x, 0))
        check(linnet("Compress", x.T.copy(), keep, axis=1)[0], np.compress(keep, x.T, 1))


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("rotary", [0, 2, 6, 18, 30])
def test_rotary_halves(rotary: int, interleaved: int) -> None:
    head = 34
    half = (rotary or head) // 2
    for dtype in (np.float32, np.float64):
        x = draw(dtype, 2, 3, 5, head)
        angles = rng.random((2, 5, half))
        cos, sin = np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
        more = {"interleaved": interleaved, "rotary_embedding_dim": rotary}
        want = x.copy()
        a = slice(0, 2 * half, 2) if interleaved else slice(0, half)
        b = slice(1, 2 * half, 2) if interleaved else slice(half, 2 * half)
        c, s = cos[:, None], sin[:, None]
        want[..., a], want[..., b] = c * x[..., a] - s * x[..., b], s * x[..., a] + c * x[..., b]
        check(linnet("RotaryEmbedding", x, cos, sin, opset=23, **more)[0], want, absolute=1e-5)


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("kind", [1, 11])
def test_windows(op: str, kind: int) -> None:
    coefficients = {"HannWindow": (0.5, 0.5, 0.0), "HammingWindow": (25 / 46, 21 / 46, 0.0)}
    a, b, c = coefficients.get(op, (0.42, 0.5, 0.08))
    for size in (0, 1, 2, 3, 8, 9):
        for periodic in (0, 1):
            period = size if periodic else size - 1
            angle = 2 * np.pi * np.arange(size) / max(1, period)
            want = a - b * np.cos(angle) + c * np.cos(2 * angle) if period > 0 else np.ones(size)
            got = linnet(op, np.int64(size), periodic=periodic, output_datatype=kind)[0]
            check(got.astype(np.float64), want, 1e-6, 1e-7 if kind == 1 else 1e-15)


@pytest.mark.parametrize("queries,keys", [(1, 1), (1, 77), (2, 40), (4, 33), (5, 33)])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_of_few_queries(queries: int, keys: int, kv_heads: int) -> None:
    for depth, width in ((64, 64), (24, 10), (5, 70)):
        q, k, v = draw(np.float32, 2, 4, queries, depth) / 9, draw(np.float32, 2, kv_heads, keys, depth) / 9, None
        v = draw(np.float32, 2, kv_heads, keys, width)
        for causal in (0, 1):
            mask = (rng.random((queries, keys)) < 0.8) | (np.arange(keys) == 0)
            got = linnet("Attention", q, k, v, mask, opset=23, is_causal=causal)[0]
            scores = q @ np.repeat(k, 4 // kv_heads, 1).swapaxes(-1, -2) / np.sqrt(np.float64(depth))
            seen = mask & np.tri(queries, keys, dtype=bool) if causal else mask
            scores = np.where(seen, scores, -np.inf)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            want = (weights @ np.repeat(v, 4 // kv_heads, 1)).astype(np.float32)
            check(got, want, 1e-4, 1e-4)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int64])
def test_products_at_the_edges_of_tiles(dtype: Any) -> None:
    for m, n, k in ((1, 1, 1), (1, 70, 300), (9, 17, 129), (8, 16, 128), (40, 33, 257), (3, 5, 0), (0, 3, 2)):
        a, b = draw(dtype, m, k), draw(dtype, k, n)
        check(linnet("MatMul", a, b)[0], a @ b, 1e-12, 1e-10)
        check(linnet("Gemm", a.T.copy(), b.T.copy(), transA=1, transB=1)[0], a @ b, 1e-12, 1e-10)


def test_softmax_rows_of_every_length() -> None:
    for n in [*range(1, 40), 63, 64, 65, 127, 128, 129, 5000]:
        x = draw(np.float32, 3, n)
        for op in ("Softmax", "LogSoftmax"):
            check(linnet(op, x, axis=1)[0], ort(op, x, axis=1)[0], 3e-6, 3e-6)
