"""com.microsoft's fused convolutions, products, activations and normalisations against onnxruntime."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import linnet as runtime
from contrib import DOMAIN, compare, normal
from one_node import check, linnet, ort, reference

ACTIVATIONS: dict[str, list[float]] = {
    "": [],
    "Relu": [],
    "Tanh": [],
    "Sigmoid": [],
    "LeakyRelu": [0.3],
    "Clip": [-0.5, 0.7],
    "HardSigmoid": [0.3, 0.4],
}
CONVOLUTIONS: list[dict[str, Any]] = [
    {},
    {"strides": [2, 1], "pads": [1, 0, 1, 2]},
    {"dilations": [2, 2], "pads": [2, 1, 2, 1]},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"group": 2, "auto_pad": "SAME_LOWER"},
    {"group": 4, "auto_pad": "VALID"},
]


def convolution(rng: np.random.Generator, more: dict[str, Any]) -> tuple[Any, Any, Any, tuple[int, ...]]:
    x, w = normal(rng, 2, 4, 9, 8), normal(rng, 8, 4 // more.get("group", 1), 3, 2)
    y = reference("Conv", x, w, **more)[0]
    return x, w, normal(rng, 8), y.shape


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("more", CONVOLUTIONS, ids=str)
def test_fused_conv(more: dict[str, Any], activation: str) -> None:
    rng = np.random.default_rng(1)
    x, w, b, shape = convolution(rng, more)
    if activation:
        more = more | {"activation": activation}
    if ACTIVATIONS[activation]:
        more = more | {"activation_params": ACTIVATIONS[activation]}
    for bias, added in itertools.product([b, None], [None, normal(rng, *shape)]):
        inputs = [x, w, bias, added]
        while inputs[-1] is None:
            inputs.pop()
        compare("FusedConv", *inputs, **more)
    compare("FusedConv", x, w, b, constants=(1, 2), **more)


def test_fused_conv_of_one_axis() -> None:
    rng = np.random.default_rng(2)
    compare("FusedConv", normal(rng, 2, 4, 9), normal(rng, 6, 4, 3), normal(rng, 6), activation="Relu")


@pytest.mark.parametrize("op", ["NhwcFusedConv", "NhwcConv"])
@pytest.mark.parametrize("more", CONVOLUTIONS, ids=str)
def test_channels_last_conv(more: dict[str, Any], op: str) -> None:
    """onnxruntime has these on GPUs only (or for float16): they mean Conv and its FusedConv on permuted operands.

    NhwcConv's weights are channels-last too: so the converter writes them that makes it.
    """
    rng = np.random.default_rng(3)
    x, w, b, shape = convolution(rng, more)
    z = normal(rng, *shape)
    last = (0, 2, 3, 1)
    if op == "NhwcConv":
        got = linnet(op, x.transpose(last), w.transpose(last), b, domain=DOMAIN, **more)[0]
        want = reference("Conv", x, w, b, **more)[0]
    else:
        more = more | {"activation": "Relu"}
        got = linnet(op, x.transpose(last), w, b, z.transpose(last), domain=DOMAIN, **more)[0]
        want = linnet("FusedConv", x, w, b, z, domain=DOMAIN, **more)[0]
    check(got, want.transpose(last), 1e-5, 1e-5)


# ---- products --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["FusedMatMul", "TransposeMatMul"])
@pytest.mark.parametrize(("trans_a", "trans_b"), itertools.product([0, 1], [0, 1]))
@pytest.mark.parametrize("alpha", [1.0, 0.3])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_fused_matmul(op: str, trans_a: int, trans_b: int, alpha: float, kind: Any) -> None:
    if kind == np.float64 and op == "TransposeMatMul":
        pytest.skip("float32 only")
    rng = np.random.default_rng(4)
    more = {"transA": trans_a, "transB": trans_b, "alpha": alpha}
    for batch_a, batch_b in [((), ()), ((3,), ()), ((), (3,)), ((2, 3), (3,)), ((2, 1), (2, 3))]:
        a = normal(rng, *batch_a, *((5, 4) if trans_a else (4, 5)), dtype=kind)
        b = normal(rng, *batch_b, *((6, 5) if trans_b else (5, 6)), dtype=kind)
        compare(op, a, b, **more)


@pytest.mark.parametrize("flags", itertools.product([0, 1], repeat=4), ids=str)
def test_fused_matmul_of_moved_batches(flags: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    names = ("transA", "transB", "transBatchA", "transBatchB")
    sizes = {}
    for side, (rows, columns), trans, moved in (("a", (4, 5), flags[0], flags[2]), ("b", (5, 6), flags[1], flags[3])):
        last = [columns, rows] if trans else [rows, columns]
        # The first axis is that of rows, the others are the batch.
        sizes[side] = [last[0], 2, 3, last[1]] if moved else [2, 3, *last]
    a, b = normal(rng, *sizes["a"]), normal(rng, *sizes["b"])
    compare("FusedMatMul", a, b, **dict(zip(names, flags, strict=True)))


@pytest.mark.parametrize(
    ("activation", "more"),
    [
        ("Relu", {}),
        ("LeakyRelu", {"activation_alpha": 0.2}),
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("Elu", {"activation_alpha": 0.6}),
        ("Softplus", {}),
        ("Softsign", {}),
        ("HardSigmoid", {"activation_alpha": 0.3, "activation_beta": 0.4}),
        ("ThresholdedRelu", {"activation_alpha": 0.6}),
        ("Selu", {"activation_alpha": 1.5, "activation_gamma": 1.1}),
    ],
)
@pytest.mark.parametrize("trans", [(0, 0), (1, 0), (0, 1), (1, 1)], ids=str)
def test_fused_gemm(activation: str, more: dict[str, float], trans: tuple[int, int]) -> None:
    rng = np.random.default_rng(6)
    a, b = normal(rng, *((5, 4) if trans[0] else (4, 5))), normal(rng, *((6, 5) if trans[1] else (5, 6)))
    more = {"activation": activation, **more}
    for c in (None, normal(rng, 6), normal(rng, 4, 1), normal(rng, 4, 6)):
        inputs = (a, b) if c is None else (a, b, c)
        compare("FusedGemm", *inputs, transA=trans[0], transB=trans[1], alpha=0.7, beta=1.3, **more)


# ---- activations -----------------------------------------------------------------------------------------------------

SHAPES = [(7,), (2, 5), (3, 1, 8), (0, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_activations(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    x, bias = normal(rng, *shape) * 4, normal(rng, shape[-1])
    compare("Gelu", x)
    compare("QuickGelu", x)
    compare("QuickGelu", x, alpha=0.7)
    compare("FastGelu", x)
    compare("FastGelu", x, bias)
    compare("BiasGelu", x, bias)
    compare("BiasGelu", x, bias, constants=(1,))


@pytest.mark.parametrize("op", ["Gelu", "QuickGelu", "FastGelu"])
def test_activations_at_the_ends(op: str) -> None:
    x = np.array([0, -0.0, 1e-30, 88, -88, 1e4, -1e4, np.inf, np.nan], np.float32)
    compare(op, x)


def test_bias_and_residual() -> None:
    """onnxruntime has BiasAdd, BiasSoftmax and BiasSplitGelu on GPUs only: formulas of the specification."""
    rng = np.random.default_rng(8)
    x, bias, skip = normal(rng, 2, 5, 8), normal(rng, 8), normal(rng, 2, 5, 8)
    check(linnet("BiasAdd", x, bias, skip, domain=DOMAIN)[0], x + bias + skip)
    halves = np.split((x + bias).astype(np.float64), 2, axis=-1)
    gelu = halves[1] * np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))(halves[1])
    check(linnet("BiasSplitGelu", x, bias, domain=DOMAIN)[0], (halves[0] * gelu).astype(np.float32), 1e-5, 1e-6)

    def softmax(values: Any, axes: tuple[int, ...]) -> Any:
        e = np.exp(values - values.max(axes, keepdims=True))
        return (e / e.sum(axes, keepdims=True)).astype(np.float32)

    scores = normal(rng, 2, 3, 4, 5)
    for shape, inner in (((2, 1, 1, 5), 1), ((1, 1, 4, 5), 0), ((4, 5), 0)):
        mask = normal(rng, *shape)
        for axis, axes in ((3, (3,)), (-1, (3,)), (2, (2, 3))):
            got = linnet("BiasSoftmax", scores, mask, axis=axis, is_inner_broadcast=inner, domain=DOMAIN)[0]
            check(got, softmax(scores + mask, axes), 1e-5, 1e-6)


# ---- normalisations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("skip", [(2, 5, 8), (1, 5, 8), (5, 8)], ids=str)
def test_skip_layer_normalization(skip: tuple[int, ...], kind: Any) -> None:
    rng = np.random.default_rng(9)
    x, gamma, beta, bias = (normal(rng, *s, dtype=kind) for s in ((2, 5, 8), (8,), (8,), (8,)))
    other = normal(rng, *skip, dtype=kind)
    for b, more in itertools.product([beta, None], [bias, None]):
        inputs = [x, other, gamma, b, more]
        while inputs[-1] is None:
            inputs.pop()
        compare("SkipLayerNormalization", *inputs, epsilon=1e-3)
        model_outputs(linnet("SkipLayerNormalization", *inputs, epsilon=1e-3, domain=DOMAIN, outputs=4), inputs)
    for more in ([], [bias]):
        inputs = [x, other, gamma, *more]
        compare("SkipSimplifiedLayerNormalization", *inputs, epsilon=1e-3)


def model_outputs(got: list[Any], inputs: list[Any]) -> None:
    """The last of four outputs is the sum that was normalised."""
    total = inputs[0].astype(np.float64) + inputs[1] + (inputs[4] if len(inputs) > 4 else 0)
    check(got[3], total.astype(got[3].dtype), 1e-5, 4e-3 if got[3].dtype == np.float16 else 1e-6)


def test_skip_normalization_of_tokens() -> None:
    rng = np.random.default_rng(10)
    x, skip, gamma = normal(rng, 7, 8), normal(rng, 7, 8), normal(rng, 8)
    compare("SkipLayerNormalization", x, skip, gamma, normal(rng, 8))
    compare("SkipSimplifiedLayerNormalization", x, skip, gamma)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("axis", [-1, 1])
def test_simplified_layer_normalization(axis: int, kind: Any) -> None:
    rng = np.random.default_rng(11)
    x = normal(rng, 2, 5, 8, dtype=kind)
    scale = normal(rng, *x.shape[axis:], dtype=kind)
    for outputs in (1, 2):
        more = {"axis": axis, "epsilon": 1e-3, "outputs": outputs, "opset": 17, "stash_type": 1}
        for one, other in zip(
            linnet("SimplifiedLayerNormalization", x, scale, **more),
            ort("SimplifiedLayerNormalization", x, scale, **more),
            strict=True,
        ):
            check(one, other, 1e-5, 4e-3 if other.dtype == np.float16 else 1e-6)


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("positions", [None, 1, 2])
def test_embed_layer_normalization(segments: bool, mask: bool, positions: int | None) -> None:
    rng = np.random.default_rng(12)

    def ids(limit: int, batch: int = 2) -> Any:
        return rng.integers(0, limit, (batch, 6)).astype(np.int32)

    inputs = [
        ids(20),
        ids(2) if segments else None,
        normal(rng, 20, 8),
        normal(rng, 10, 8),
        normal(rng, 2, 8) if segments else None,
        normal(rng, 8),
        normal(rng, 8),
        np.array([[1, 1, 1, 0, 0, 0], [1] * 6], np.int32) if mask else None,
        None if positions is None else ids(10, positions),
    ]
    while inputs[-1] is None:
        inputs.pop()
    for outputs, more in ((1, {"mask_index_type": 0}), (2, {"mask_index_type": 1}), (3, {"mask_index_type": 1})):
        compare("EmbedLayerNormalization", *inputs, outputs=outputs, epsilon=1e-5, **more)


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("activation", [0, 1])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_group_norm(last: int, activation: int, kind: Any) -> None:
    """onnxruntime has GroupNorm and SkipGroupNorm on GPUs only: formulas of the specification."""
    rng = np.random.default_rng(13)
    n, c, h, w = 2, 8, 3, 5
    gamma, beta = normal(rng, c), normal(rng, c)
    more = {"groups": 4, "epsilon": 1e-3, "activation": activation, "channels_last": last, "domain": DOMAIN}

    def first(t: Any) -> Any:
        return t.astype(np.float64).transpose(0, 3, 1, 2) if last else t.astype(np.float64)

    def expected(t: Any) -> Any:
        groups = t.reshape(n, 4, -1)
        mean, variance = groups.mean(2, keepdims=True), groups.var(2, keepdims=True)
        y = ((groups - mean) / np.sqrt(variance + 1e-3)).reshape(t.shape) * gamma[:, None, None] + beta[:, None, None]
        y = y / (1 + np.exp(-y)) if activation else y
        return (y.transpose(0, 2, 3, 1) if last else y).astype(kind)

    x = normal(rng, *((n, h, w, c) if last else (n, c, h, w)), dtype=kind)
    close = {"tolerance": 1e-5, "absolute": 4e-3 if kind == np.float16 else 1e-5}
    check(linnet("GroupNorm", x, gamma, beta, **more)[0], expected(first(x)), **close)
    bias = normal(rng, c, dtype=kind)
    for shape in (x.shape, (n, c), (n, 1, 1, c) if last else (n, c, 1, 1)):
        skip = normal(rng, *shape, dtype=kind)
        both = skip if skip.ndim == 4 else skip[:, None, None] if last else skip[:, :, None, None]
        total = x + both + (bias if last else bias[:, None, None])
        got = linnet("SkipGroupNorm", x, gamma, beta, skip, bias, outputs=2, **more)
        check(got[0], expected(first(total)), 2e-3, 2e-2 if kind == np.float16 else 1e-5)
        check(got[1], total, **close)


# ---- the rest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
def test_trilu(kind: Any) -> None:
    x = (np.random.default_rng(14).standard_normal((2, 4, 5)) * 9).astype(kind)
    for upper in (0, 1):
        compare("Trilu", x, upper=upper, symbolic=False)
        for k in (-2, 0, 3):
            compare("Trilu", x, np.array(k), upper=upper)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize(("dim", "size", "step"), [(-1, 3, 1), (-1, 2, 2), (1, 4, 3), (0, 2, 1), (-2, 7, 1)])
def test_unfold(dim: int, size: int, step: int, kind: Any) -> None:
    x = (np.random.default_rng(15).standard_normal((3, 7, 6)) * 50).astype(kind)
    compare("UnfoldTensor", x, dim=dim, size=size, step=step)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (3, 2, 5, 5), (0, 3, 3)], ids=str)
def test_inverse(shape: tuple[int, ...], kind: Any) -> None:
    x = normal(np.random.default_rng(16), *shape) + 3 * np.eye(shape[-1], dtype=np.float32)
    got = compare("Inverse", x.astype(kind), tolerance=1e-4, absolute=1e-4)[0]
    if kind == np.float64:
        np.testing.assert_allclose(got @ x, np.broadcast_to(np.eye(shape[-1]), shape), atol=1e-12)


def test_inverse_of_other_shapes() -> None:
    with pytest.raises(runtime.LinnetError, match="rows against columns"):
        linnet("Inverse", np.ones((2, 3), np.float32), domain=DOMAIN)
