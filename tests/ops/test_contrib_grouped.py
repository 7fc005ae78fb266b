"""com.microsoft's GroupQueryAttention, SparseAttention and RotaryEmbedding against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import linnet as runtime
from contrib import DOMAIN, compare, i32, normal
from one_node import check, linnet, model_of, ort

B, S, H, K, D = 2, 5, 4, 2, 16


def number(value: int) -> Any:
    return np.array(value, np.int32)


def angles(rng: np.random.Generator, rows: int = 32, half: int = D // 2) -> list[Any]:
    turn = rng.random((rows, half)) * 6
    return [np.cos(turn).astype(np.float32), np.sin(turn).astype(np.float32)]


def prompt(rng: np.random.Generator, counts: tuple[int, ...] = (S, S), rows: int = 0) -> list[Any]:
    """Inputs 0 to 6 of a first step; batch b has counts[b] tokens, the rest is padding on the right."""
    batch = len(counts)
    q, k, v = (normal(rng, batch, S, n * D) for n in (H, K, K))
    cache = [normal(rng, batch, K, rows, D) for _ in "kv"]
    return [q, k, v, *cache, i32([n - 1 for n in counts]), number(S)]


def decoding(rng: np.random.Generator, counts: tuple[int, ...] = (4, 7), rows: int = 12, length: int = 1) -> list[Any]:
    """Inputs 0 to 6 of a later step; batch b has counts[b] tokens after it."""
    batch = len(counts)
    q, k, v = (normal(rng, batch, length, n * D) for n in (H, K, K))
    cache = [normal(rng, batch, K, rows, D) for _ in "kv"]
    return [q, k, v, *cache, i32([n - 1 for n in counts]), number(max(counts))]


def grouped(*inputs: Any, **more: Any) -> list[Any]:
    more = {"num_heads": H, "kv_num_heads": K, "outputs": 3, **more}
    length, counts = inputs[0].shape[1], inputs[5] + 1
    if "valid" not in more and length > 1 and inputs[6] == length:  # outputs of padding are not specified
        rows = np.arange(length) < counts[:, None]
        heads = more["num_heads"]
        more["valid"] = {0: rows, 3: np.broadcast_to(rows[:, None], (len(rows), heads, length))}
    return compare("GroupQueryAttention", *inputs, **more)


STEPS: dict[str, Any] = {
    "prompt": lambda rng: prompt(rng),
    "padded prompt": lambda rng: prompt(rng, (3, 5)),
    "prompt into a buffer": lambda rng: prompt(rng, (3, 5), 9),
    "one more token": lambda rng: decoding(rng, (7, 7), 6),
    "one more in a buffer": lambda rng: decoding(rng),
    "several more": lambda rng: decoding(rng, (9,), 12, 4),
    "several more behind a full cache": lambda rng: decoding(rng, (9,), 5, 4),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rotary": {"do_rotary": 1},
    "interleaved": {"do_rotary": 1, "rotary_interleaved": 1},
    "scale": {"scale": 0.7},
    "softcap": {"softcap": 2.0},
    "window of one": {"local_window_size": 1},
    "window": {"local_window_size": 3},
    "smooth": {"smooth_softmax": 1, "local_window_size": 4, "softcap": 3.0},
    "not causal": {"causal": 0},
    "no smooth": {"smooth_softmax": 0, "do_rotary": 0, "causal": 1},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("step", STEPS)
def test_grouped(step: str, options: str) -> None:
    rng = np.random.default_rng(1)
    inputs, more = STEPS[step](rng), OPTIONS[options]
    if step.startswith("several more behind"):
        inputs[4], inputs[3] = (normal(rng, 1, K, 5, D) for _ in "kv")
    grouped(*inputs, *(angles(rng) if more.get("do_rotary") else []), **more)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("positions", [False, True])
def test_grouped_packed(step: str, positions: bool) -> None:
    rng = np.random.default_rng(2)
    q, k, v, *rest = STEPS[step](rng)
    packed = np.concatenate([q, k, v], axis=2)
    more = [rng.integers(0, 20, q.shape[:2])] if positions else []
    grouped(packed, None, None, *rest, *angles(rng), *more, do_rotary=1)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("shape", [(True, True), (True, False), (False, True), (False, False)], ids=str)
@pytest.mark.parametrize("sink", [False, True])
def test_grouped_bias_and_sink(step: str, shape: tuple[bool, bool], sink: bool) -> None:
    rng = np.random.default_rng(3)
    inputs = STEPS[step](rng)
    batch, length = inputs[0].shape[:2]
    bias = normal(rng, batch if shape[0] else 1, H if shape[1] else 1, length, int(inputs[6]))
    heads = [normal(rng, H)] if sink else []
    grouped(*inputs, None, None, None, bias, *heads, softcap=4.0 if shape[0] else 0.0)


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("step", STEPS)
def test_grouped_scores(step: str, mode: int) -> None:
    rng = np.random.default_rng(4)
    inputs = STEPS[step](rng)
    bias = normal(rng, 1, H, inputs[0].shape[1], int(inputs[6]))
    grouped(*inputs, None, None, None, bias, outputs=4, qk_output=mode, softcap=2.0, local_window_size=3)


def test_grouped_without_a_cache() -> None:
    rng = np.random.default_rng(5)
    q, k, v, _, _, *lengths = prompt(rng, (3, 5))
    for outputs in (1, 3):
        grouped(q, k, v, None, None, *lengths, *angles(rng), do_rotary=1, outputs=outputs)


@pytest.mark.parametrize("rotary", [0, 1])
def test_grouped_padded_chunks(rotary: int) -> None:
    """query_seqlens: only so many of the new tokens are there."""
    rng = np.random.default_rng(6)
    inputs = decoding(rng, (5, 9), 12, S)
    inputs[6] = number(12)
    tail = [*(angles(rng) if rotary else [None] * 2), *[None] * 7, i32([3, 5])]
    valid = np.arange(S) < i32([[3], [5]])
    grouped(*inputs, *tail, do_rotary=rotary, valid={0: valid})


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("counts", "length"), [((3, 5), 1), ((9, 10), 1), ((14, 11), 1), ((12,), 4)], ids=str)
@pytest.mark.parametrize("window", [2, 3, 4])
def test_grouped_window_sized_cache(window: int, counts: tuple[int, ...], length: int, bias: bool) -> None:
    """Rows behind those that the window holds are not specified."""
    rng = np.random.default_rng(7)
    inputs = decoding(rng, counts, 4, length)
    added = [None] * 3 + [normal(rng, 1, H, length, max(counts))] if bias else []
    more = {"num_heads": H, "kv_num_heads": K, "sliding_window_cache": 1, "local_window_size": window, "outputs": 3}
    got = linnet("GroupQueryAttention", *inputs, *added, domain=DOMAIN, **more)
    want = ort("GroupQueryAttention", *inputs, *added, domain=DOMAIN, **more)
    check(got[0], want[0], 1e-5, 1e-5)
    step = 4 - window + 1
    for b, count in enumerate(counts):
        held = count if count <= 4 else count - step * -(-(count - 4) // step)
        for i in (1, 2):
            check(got[i][b, :, :held], want[i][b, :, :held])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_grouped_quantized_cache(bits: int, per_channel: bool, first: bool, kind: Any) -> None:
    rng = np.random.default_rng(8)
    inputs = prompt(rng, (3, 5), 12) if first else decoding(rng)
    inputs[:3] = [x.astype(kind) for x in inputs[:3]]
    if bits == 8:
        inputs[3:5] = [rng.integers(-100, 100, (B, K, 12, D)).astype(np.int8) for _ in "kv"]
    else:
        inputs[3:5] = [rng.integers(0, 256, (B, K, 12, D // 2)).astype(np.uint8) for _ in "kv"]
    size = K * D if per_channel else 1
    scales = [(rng.random(size) * 0.02 + (0.02 if bits == 8 else 0.3)).astype(np.float32) for _ in "kv"]
    scheme = "PER_CHANNEL" if per_channel else "PER_TENSOR"
    grouped(
        *inputs,
        *[None] * 5,
        *scales,
        k_quant_type=scheme,
        v_quant_type=scheme,
        kv_cache_bit_width=bits,
        absolute=1e-4,
    )


@pytest.mark.parametrize("step", ["padded prompt", "one more in a buffer"])
def test_grouped_half(step: str) -> None:
    rng = np.random.default_rng(9)
    inputs = [x.astype(np.float16) if x.dtype == np.float32 else x for x in STEPS[step](rng)]
    grouped(*inputs, *(a.astype(np.float16) for a in angles(rng)), do_rotary=1, local_window_size=3)


def test_grouped_normalised_heads() -> None:
    """q_norm_weight and k_norm_weight, which onnxruntime has on GPUs only: an RMS normalisation of each head."""
    rng = np.random.default_rng(10)
    q, k, *rest = prompt(rng)
    wq, wk = normal(rng, D), normal(rng, D)
    more = {"num_heads": H, "kv_num_heads": K, "outputs": 3, "domain": DOMAIN, "do_rotary": 1}
    turn = angles(rng)

    def normalised(x: Any, weight: Any) -> Any:
        heads = x.reshape(*x.shape[:2], -1, D)
        return (heads / np.sqrt(np.mean(heads**2, -1, keepdims=True) + 1e-6) * weight).reshape(x.shape)

    got = linnet("GroupQueryAttention", q, k, *rest, *turn, *[None] * 5, wq, wk, **more)
    want = ort("GroupQueryAttention", normalised(q, wq), normalised(k, wk), *rest, *turn, **more)
    for one, other in zip(got, want, strict=True):
        check(one, other, 1e-5, 1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_grouped_of_many_sizes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    heads = int(rng.integers(1, 4))
    many, size = heads * int(rng.integers(1, 4)), 8 * int(rng.integers(1, 5))
    past, length = int(rng.integers(0, 40)), int(rng.integers(1, 40))
    batch = 1 if past else 3
    q, k, v = (normal(rng, batch, length, n * size) for n in (many, heads, heads))
    cache = [normal(rng, batch, heads, past, size) for _ in "kv"]
    total = past + length
    counts = i32(rng.integers(1, total + 1, batch) - 1) if not past else i32([total - 1])
    window = int(rng.integers(1, total + 1)) if seed % 2 else -1
    grouped(q, k, v, *cache, counts, number(total), num_heads=many, kv_num_heads=heads, local_window_size=window)


def test_grouped_refuses_what_does_not_fit() -> None:
    rng = np.random.default_rng(11)
    more = {"num_heads": H, "kv_num_heads": K, "outputs": 3, "domain": DOMAIN}
    inputs = decoding(rng)
    for i, value, message in (
        (5, i32([3, 12]), "a cache of 12 rows"),
        (5, i32([3, -1]), "0 tokens"),
        (5, i32([3]), "lengths: 1 elements, expected 2"),
        (6, number(-4), "total_sequence_length is -4"),
        (1, normal(rng, B, 1, 3 * D), "key or value"),
        (3, normal(rng, B, K, 12, D).astype(np.int8), "past_key is int8"),
    ):
        wrong = [*inputs]
        wrong[i] = value
        with pytest.raises(runtime.LinnetError, match=message):
            linnet("GroupQueryAttention", *wrong, **more)
    with pytest.raises(runtime.LinnetError, match="position 6, cos_cache has rows: 5"):
        linnet("GroupQueryAttention", *inputs, *angles(rng, 5), do_rotary=1, **more)
    with pytest.raises(runtime.LinnetError, match="position_ids"):
        linnet("GroupQueryAttention", *inputs, *angles(rng), np.zeros((1, 1), np.int64), do_rotary=1, **more)


# ---- SparseAttention -------------------------------------------------------------------------------------------------


def blocks(rng: np.random.Generator, layouts: int, count: int) -> tuple[Any, Any]:
    """Lower triangles of blocks of which some are left out, in CSR form."""
    keep = np.tril(rng.random((layouts, count, count)) < 0.5) | np.eye(count, dtype=bool)
    rows = np.concatenate([np.zeros((layouts, 1)), keep.sum(2).cumsum(1)], 1).astype(np.int32)
    columns = np.full((layouts, int(rows.max())), -1, np.int32)
    for i in range(layouts):
        found = np.nonzero(keep[i])[1]
        columns[i, : len(found)] = found
    return rows, columns


def in_place(op: str, inputs: list[Any], **more: Any) -> list[Any]:
    """onnxruntime, which asks for inputs 3 and 4 and outputs 1 and 2 in the same memory."""
    model = onnx.shape_inference.infer_shapes(model_of(op, inputs, **more)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_output("y0", "cpu")
    for i, x in enumerate(inputs):
        if x is not None and i not in (3, 4):
            binding.bind_cpu_input(f"x{i}", x)
    for i in (3, 4):
        cache = onnxruntime.OrtValue.ortvalue_from_numpy(inputs[i].copy())
        binding.bind_ortvalue_input(f"x{i}", cache)
        binding.bind_ortvalue_output(f"y{i - 2}", cache)
    session.run_with_iobinding(binding)
    return list(binding.copy_outputs_to_cpu())


@pytest.mark.parametrize("layouts", [1, 2])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("step", ["prompt", "padded prompt", "later"])
def test_sparse(layouts: int, packed: bool, step: str) -> None:
    """Each batch against onnxruntime by itself: of batches of unequal lengths it computes the first head only right."""
    rng = np.random.default_rng(12)
    rows, length = 96, 1 if step == "later" else 40
    counts = {"prompt": [40, 40], "padded prompt": [25, 40], "later": [33, 70]}[step]
    q, k, v = (normal(rng, B, length, n * D) for n in (H, K, K))
    cache = [normal(rng, B, K, rows, D) for _ in "kv"]
    head = [np.concatenate([q, k, v], axis=2), None, None] if packed else [q, k, v]
    layout, turn = blocks(rng, layouts, rows // 16), angles(rng, rows)
    more = {"num_heads": H, "kv_num_heads": K, "sparse_block_size": 16, "do_rotary": 1, "outputs": 3, "domain": DOMAIN}
    got = linnet("SparseAttention", *head, *cache, *layout, number(max(counts)), i32(counts), *turn, **more)
    for b, count in enumerate(counts):
        new = min(length, count)
        one = [None if x is None else x[b : b + 1, :new] for x in head] + [c[b : b + 1] for c in cache]
        want = in_place("SparseAttention", [*one, *layout, number(count), i32([count]), *turn], **more)
        check(got[0][b, :new], want[0][0], 1e-5, 1e-5)
        for i in (1, 2):
            check(got[i][b, :, :count], want[i][0, :, :count], 1e-5, 1e-5)


# ---- RotaryEmbedding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("form", ["heads apart", "side by side", "heads from the cache", "part of the head"])
@pytest.mark.parametrize("first", [False, True])
def test_rotary(form: str, first: bool, kind: Any, interleaved: int) -> None:
    rng = np.random.default_rng(13)
    part = form == "part of the head"
    x = normal(rng, B, H, S, D) if form == "heads apart" else normal(rng, B, S, H * D)
    positions = np.array([7]) if first else rng.integers(0, 20, (B, S))
    caches = [a.astype(kind) for a in angles(rng, 32, 4 if part else D // 2)]
    more = {"num_heads": H, "rotary_embedding_dim": 8} if part else {}
    if form == "side by side":
        more = {"num_heads": H}
    compare("RotaryEmbedding", x.astype(kind), positions, *caches, interleaved=interleaved, **more)
