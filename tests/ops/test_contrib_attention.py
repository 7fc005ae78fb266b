"""com.microsoft's Attention, MultiHeadAttention, DecoderMaskedMultiHeadAttention and QAttention against onnxruntime."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from contrib import DOMAIN, compare, i32, normal
from one_node import check, linnet
from one_node import ort as plain_ort

B, S, H, D = 2, 5, 2, 8
W = H * D
BIASES = [(B, H), (1, H), (B, 1), (1, 1)]


def seeded(*parts: Any) -> np.random.Generator:
    return np.random.default_rng([hash(str(p)) % 2**31 if not isinstance(p, int) else p for p in parts])


def masks(rng: np.random.Generator, keys: int) -> dict[str, Any]:
    """Masks of each form for B x S queries; some batches have padding on the left, some on the right."""
    return {
        "none": None,
        "right padding": i32([[1] * (keys - 2) + [0] * 2, [1] * keys]),
        "left padding": i32([[0] * 3 + [1] * (keys - 3), [0] + [1] * (keys - 1)]),
        "random": (rng.random((B, keys)) > 0.3).astype(np.int32),
        "3-D": (rng.random((B, S, keys)) > 0.3).astype(np.int32),
        "lengths": i32([keys - 2, keys]),
        "lengths, offsets": i32([keys - 2, keys, 0, keys, 2 * keys, 0, keys, 2 * keys]),
    }


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("past", [0, 4])
@pytest.mark.parametrize("form", [*masks(seeded(0), 5), "ends and beginnings"])
def test_attention_masks(form: str, past: int, causal: int) -> None:
    rng = np.random.default_rng(1)
    keys = S + past
    mask = i32([keys - 1, keys, 1, 2]) if form.startswith("ends") else masks(rng, keys)[form]
    inputs = [normal(rng, B, S, W), normal(rng, W, 3 * W) / 4, normal(rng, 3 * W), mask]
    if past:
        inputs.append(normal(rng, 2, B, H, past, D))
    more = {"num_heads": H, "unidirectional": causal, "outputs": 2 if past else 1, "constants": (1, 2)}
    # Which of the forms a mask of one axis has cannot be told where the batch is not known.
    compare("Attention", *inputs, symbolic=mask is None or mask.ndim > 1, **more)


@pytest.mark.parametrize("seed", range(8))
def test_attention_options(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch, length, heads, head = (int(v) for v in rng.integers(1, 6, 4))
    width, values = int(rng.integers(4, 20)), heads * int(rng.integers(1, 6))
    sizes = [heads * head, heads * head, values] if seed % 2 else None
    total = sum(sizes) if sizes else 3 * heads * head
    mask = (rng.random((batch, length)) > 0.2).astype(np.int32) if rng.random() < 0.5 else None
    shape = (batch if rng.random() < 0.5 else 1, heads if rng.random() < 0.5 else 1, length, length)
    inputs = [
        normal(rng, batch, length, width),
        normal(rng, width, total) / 4,
        normal(rng, total) if rng.random() < 0.7 else None,
        mask,
        None,
        normal(rng, *shape) if rng.random() < 0.7 else None,
    ]
    more: dict[str, Any] = {"qkv_hidden_sizes": sizes} if sizes else {}
    if rng.random() < 0.5:
        more |= {"scale": 0.3, "mask_filter_value": -3.0}
    causal = int(rng.integers(0, 2))
    compare("Attention", *inputs, num_heads=heads, unidirectional=causal, symbolic=False, **more)
    compare("Attention", *inputs, num_heads=heads, unidirectional=causal, constants=(1, 2), **more)


def test_attention_makes_the_first_cache() -> None:
    rng = np.random.default_rng(2)
    inputs = normal(rng, B, S, W), normal(rng, W, 3 * W) / 4, normal(rng, 3 * W)
    compare("Attention", *inputs, num_heads=H, outputs=2, unidirectional=1, constants=(1, 2))


def test_attention_in_buffers_of_one_length() -> None:
    """onnxruntime has past_sequence_length for Attention on GPUs only: here it means what slicing the past means."""
    rng = np.random.default_rng(3)
    x, w, b, past = normal(rng, B, S, W), normal(rng, W, 3 * W) / 4, normal(rng, 3 * W), normal(rng, 2, B, H, 9, D)
    more = {"num_heads": H, "unidirectional": 1, "outputs": 2, "domain": DOMAIN}
    got = linnet("Attention", x, w, b, None, past, None, i32(2), past_present_share_buffer=1, **more)
    want = linnet("Attention", x, w, b, None, past[:, :, :, :2], **more)
    check(got[0], want[0])
    check(got[1], np.concatenate([want[1], past[:, :, :, 7:]], axis=3))


def test_attention_mask_of_four_axes() -> None:
    """onnxruntime has it on GPUs only: the rows of the queries out of a square of all positions."""
    rng = np.random.default_rng(4)
    x, w, b, past = normal(rng, B, S, W), normal(rng, W, 3 * W) / 4, normal(rng, 3 * W), normal(rng, 2, B, H, 3, D)
    mask = (rng.random((B, 1, 12, 12)) > 0.3).astype(np.int32)
    got = linnet("Attention", x, w, b, mask, past, num_heads=H, domain=DOMAIN)
    want = linnet("Attention", x, w, b, mask[:, 0, 3:8, :8], past, num_heads=H, domain=DOMAIN)
    check(got[0], want[0])


# ---- MultiHeadAttention ----------------------------------------------------------------------------------------------


def multi_head(q: Any, *inputs: Any, **more: Any) -> list[Any]:
    return compare("MultiHeadAttention", q, *inputs, **{"num_heads": H, **more})


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("values", [W, 24])
@pytest.mark.parametrize("outputs", [1, 3])
def test_multi_head_cross(biased: bool, values: int, outputs: int) -> None:
    rng = np.random.default_rng(5)
    q, k, v = normal(rng, B, S, W), normal(rng, B, 7, W), normal(rng, B, 7, values)
    bias = normal(rng, 2 * W + values) if biased else None
    multi_head(q, k, v, bias, outputs=outputs, constants=(3,) if biased else (), symbolic=not biased)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
def test_multi_head_of_cached_keys(biased: bool, outputs: int) -> None:
    """Key and value with four axes: they are used as they are, whatever the bias."""
    rng = np.random.default_rng(6)
    q, k, v = normal(rng, B, S, W), normal(rng, B, H, 7, D), normal(rng, B, H, 7, D)
    multi_head(q, k, v, normal(rng, 3 * W) if biased else None, outputs=outputs, symbolic=not biased)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("past", [0, 4])
@pytest.mark.parametrize("form", [*masks(seeded(0), 5)])
def test_multi_head_masks(form: str, past: int, causal: int) -> None:
    rng = np.random.default_rng(7)
    q, k, v = (normal(rng, B, S, W) for _ in range(3))
    mask = masks(rng, S + past)[form]
    cache = [normal(rng, B, H, past, D) for _ in "kv"] if past else []
    symbolic = mask is None or mask.ndim > 1
    multi_head(q, k, v, None, mask, None, *cache, unidirectional=causal, outputs=3, symbolic=symbolic)


@pytest.mark.parametrize("shape", BIASES, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_multi_head_attention_bias(shape: tuple[int, int], masked: bool) -> None:
    rng = np.random.default_rng(8)
    q, k, v = (normal(rng, B, S, W) for _ in range(3))
    mask = (rng.random((B, 9)) > 0.3).astype(np.int32) if masked else None
    cache = [normal(rng, B, H, 4, D) for _ in "kv"]
    multi_head(q, k, v, None, mask, normal(rng, *shape, S, 9), *cache, outputs=3, scale=0.4)


def test_multi_head_keys_that_no_query_may_see() -> None:
    """`unidirectional` of S queries and fewer or more keys: query i sees keys 0 to i.

    onnxruntime forgets the last query then (it sees every key), so that one is left out.
    """
    rng = np.random.default_rng(9)
    q, k, v = normal(rng, B, S, W), normal(rng, B, 7, W), normal(rng, B, 7, W)
    multi_head(q, k, v, unidirectional=1, valid={0: np.s_[:, :-1]})


@pytest.mark.parametrize("biased", [False, True])
def test_multi_head_packed(biased: bool) -> None:
    """onnxruntime has packed queries, keys and values on GPUs only: they mean what their parts mean."""
    rng = np.random.default_rng(10)
    qkv, bias = normal(rng, B, S, H, 3, D), normal(rng, 3 * W) if biased else None
    q, k, v = (qkv[:, :, :, i].reshape(B, S, W) for i in range(3))
    more = {"num_heads": H, "domain": DOMAIN, "outputs": 3}
    want = linnet("MultiHeadAttention", q, k, v, bias, **more)
    for packed in ([qkv, None, None], [q, qkv[:, :, :, 1:], None]):
        for got, expected in zip(linnet("MultiHeadAttention", *packed, bias, **more), want, strict=True):
            check(got, expected)


@pytest.mark.parametrize("length", [1, S])
def test_multi_head_in_buffers_of_one_length(length: int) -> None:
    """past_sequence_length: so many rows of the past are in use. onnxruntime's CPU kernel does not look at it outside
    of its beam search, so slicing the past is what is compared with."""
    rng = np.random.default_rng(11)
    q, k, v = (normal(rng, B, length, W) for _ in range(3))
    past = [normal(rng, B, H, 12, D) for _ in "kv"]
    more = {"num_heads": H, "domain": DOMAIN, "outputs": 3}
    got = linnet("MultiHeadAttention", q, k, v, None, None, None, *past, i32([4]), **more)
    want = linnet("MultiHeadAttention", q, k, v, None, None, None, *(p[:, :, :4] for p in past), **more)
    check(got[0], want[0])
    for i in (1, 2):
        check(got[i], np.concatenate([want[i], past[i - 1][:, :, 4 + length :]], axis=2))


@pytest.mark.parametrize("part", ["plain", "mask", "added", "bias"])
@pytest.mark.parametrize("cross", [False, True])
def test_decoder_masked_multi_head(part: str, cross: bool) -> None:
    rng = np.random.default_rng(12)
    q, bias = normal(rng, B, 1, W), normal(rng, 3 * W) if part == "bias" else None
    keys = 7 if cross else 5
    mask = (rng.random((B, keys)) > 0.3).astype(np.int32) if part == "mask" else None
    added = normal(rng, B, H, 1, keys) if part == "added" and not cross else None  # onnxruntime has it for one only
    op, more = "DecoderMaskedMultiHeadAttention", {"num_heads": H}
    if cross:
        k, v = (normal(rng, B, H, keys, D) for _ in "kv")
        unused = [None] * 5
        compare(op, q, k, v, mask, added, *unused, bias, symbolic=bias is None, **more)
    else:
        more["past_present_share_buffer"] = 1
        k, v = (normal(rng, B, 1, W) for _ in "kv")
        past = [normal(rng, B, H, 12, D) for _ in "kv"]
        tail = [i32([4]), None, None, bias] if bias is not None else [i32([4])]
        got = linnet(op, q, k, v, mask, added, *past, *tail, outputs=3, domain=DOMAIN, **more)
        rows = np.s_[:, :, :5]  # what is behind is memory that is not in use
        want = plain_ort(op, q, k, v, mask, added, *past, *tail, outputs=3, domain=DOMAIN, **more)
        check(got[0], want[0], 1e-5, 1e-5)
        for i in (1, 2):
            check(got[i][rows], want[i][rows])


# ---- QAttention ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize(("past", "masked", "causal"), itertools.product([0, 3], [False, True], [0, 1]))
def test_quantized_attention(kind: Any, per_column: bool, past: int, masked: bool, causal: int) -> None:
    rng = np.random.default_rng(13)
    low, high = (0, 255) if kind == np.uint8 else (-128, 127)
    x = rng.integers(0, 256, (B, S, W)).astype(np.uint8)
    w = rng.integers(low, high + 1, (W, 3 * W)).astype(kind)
    scales = (rng.random(3 * W if per_column else ()) * 0.004 + 0.002).astype(np.float32)
    zeros = rng.integers(low // 8, high // 8, 3 * W if per_column else ()).astype(kind)
    mask = (rng.random((B, S + past)) > 0.3).astype(np.int32) if masked else None
    cache = [normal(rng, 2, B, H, past, D)] if past else []
    scale = np.array(0.02, np.float32)
    inputs = [x, w, normal(rng, 3 * W), scale, scales, mask, np.array(120, np.uint8), zeros, *cache]
    more = {"num_heads": H, "unidirectional": causal, "outputs": 2 if past else 1}
    compare("QAttention", *inputs, tolerance=1e-4, absolute=1e-4, symbolic=False, constants=(1, 4, 7), **more)
