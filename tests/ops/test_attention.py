"""Attention, RotaryEmbedding and the recognition of attention written out, against the reference and onnxruntime."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import linnet
from linnet import _core

F = TensorProto.FLOAT
rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def build(nodes, feeds, outputs, opset=24, symbolic=False, constants=None):
    def shape(name, array):
        return [f"{name}{i}" for i in range(array.ndim)] if symbolic else list(array.shape)

    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), shape(n, v))
            for n, v in feeds.items()
        ],
        [helper.make_tensor_value_info(n, F, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def load(model, threads=1):
    options = _core.SessionOptions()
    options.threads = threads
    return _core.Session.from_bytes(model.SerializeToString(), options)


def compare(model, feeds, expected, tolerance=2e-5):
    results = [load(model, threads).run(feeds) for threads in (1, 2, 5)]
    for got, want in zip(results[0], expected, strict=True):
        assert got.shape == want.shape and got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert np.array_equal(one, two, equal_nan=True)


def check_attention(feeds, outputs=1, opset=24, **attributes):
    order = ["q", "k", "v", "mask", "past_k", "past_v", "counts"]
    inputs = [n if n in feeds else "" for n in order]
    while not inputs[-1]:
        inputs.pop()
    names = ["y", "present_k", "present_v", "scores"][:outputs]
    model = build([helper.make_node("Attention", inputs, names, **attributes)], feeds, names, opset)
    compare(model, feeds, ReferenceEvaluator(model).run(None, feeds))


HEADS = [(3, 3), (4, 2), (6, 1)]


@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("sizes", [(1, 1), (5, 9), (9, 5), (70, 130)], ids=str)
def test_four_dimensions(heads, causal, sizes):
    (hq, hk), (sq, sk) = heads, sizes
    feeds = {"q": normal(2, hq, sq, 8), "k": normal(2, hk, sk, 8), "v": normal(2, hk, sk, 12)}
    check_attention(feeds, is_causal=causal)


@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_three_dimensions(heads):
    hq, hk = heads
    feeds = {"q": normal(2, 7, hq * 8), "k": normal(2, 11, hk * 8), "v": normal(2, 11, hk * 10)}
    check_attention(feeds, q_num_heads=hq, kv_num_heads=hk, scale=0.3)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize(
    "shape", [(9,), (5, 9), (3, 5, 9), (1, 5, 9), (2, 1, 5, 9), (2, 3, 1, 9), (2, 1, 1, 9), (5, 6)], ids=str
)
def test_masks(shape, kind, causal):
    feeds = {"q": normal(2, 3, 5, 8), "k": normal(2, 3, 9, 8), "v": normal(2, 3, 9, 8)}
    feeds["mask"] = rng.random(shape) < 0.6 if kind == "bool" else normal(*shape)
    names = ["q", "k", "v", "mask"]
    model = build([helper.make_node("Attention", names, ["y"], is_causal=causal)], feeds, ["y"])
    # The reference takes the number of queries from the mask: give it one that has it.
    given = feeds["mask"]
    full = np.broadcast_to(given, (*given.shape[:-2], 5, given.shape[-1])) if causal else given
    reference = build([helper.make_node("Attention", names, ["y"], is_causal=causal)], {**feeds, "mask": full}, ["y"])
    compare(model, feeds, ReferenceEvaluator(reference).run(None, {**feeds, "mask": full}))


def test_rows_without_keys_are_zero():
    feeds = {"q": normal(1, 2, 4, 8), "k": normal(1, 2, 6, 8), "v": normal(1, 2, 6, 8)}
    mask = np.ones((4, 6), bool)
    mask[1] = False
    for m in (mask, np.where(mask, 0, -np.inf).astype(np.float32)):
        check_attention({**feeds, "mask": m}, outputs=4, qk_matmul_output_mode=3)


@pytest.mark.parametrize("outputs, past", [(3, True), (1, True), (3, False)])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("three", [False, True])
def test_cache(outputs, past, causal, three):
    if three:
        feeds = {"q": normal(2, 3, 32), "k": normal(2, 3, 16), "v": normal(2, 3, 16)}
        attributes = {"q_num_heads": 4, "kv_num_heads": 2}
    else:
        feeds = {"q": normal(2, 4, 3, 8), "k": normal(2, 2, 3, 8), "v": normal(2, 2, 3, 8)}
        attributes = {}
    if past:
        feeds |= {"past_k": normal(2, 2, 6, 8), "past_v": normal(2, 2, 6, 8)}
    check_attention(feeds, outputs, is_causal=causal, **attributes)


@pytest.mark.parametrize("mode, softcap", list(itertools.product([0, 1, 2, 3], [0.0, 1.5])))
def test_scores_output(mode, softcap):
    if mode == 0 and softcap:
        pytest.skip("the specification's text and its reference differ")
    feeds = {"q": normal(2, 4, 5, 8), "k": normal(2, 2, 9, 8), "v": normal(2, 2, 9, 8), "mask": normal(5, 9)}
    check_attention(feeds, 4, qk_matmul_output_mode=mode, softcap=softcap, is_causal=1)


@pytest.mark.parametrize("causal", [0, 1])
def test_key_counts(causal):
    feeds = {"q": normal(3, 2, 4, 8), "k": normal(3, 2, 9, 8), "v": normal(3, 2, 9, 8)}
    feeds["counts"] = np.array([9, 4, 5])
    check_attention(feeds, is_causal=causal)


def test_key_count_out_of_range():
    feeds = {"q": normal(1, 2, 4, 8), "k": normal(1, 2, 9, 8), "v": normal(1, 2, 9, 8), "counts": np.array([10])}
    model = build([helper.make_node("Attention", ["q", "k", "v", "", "", "", "counts"], ["y"])], feeds, ["y"])
    with pytest.raises(Exception, match=r"nonpad_kv_seqlen\[0\] is 10"):
        load(model).run(feeds)


@pytest.mark.parametrize("window", [(2, -1), (-1, 1), (3, 0), (0, 0)], ids=str)
def test_window(window):
    feeds = {"q": normal(1, 2, 12, 8), "k": normal(1, 2, 12, 8), "v": normal(1, 2, 12, 8)}
    check_attention(feeds, opset=25, left_window_size=window[0], right_window_size=window[1])


def rotary(domain, x, cos, sin, positions, **attributes):
    feeds = {"x": x, "cos": cos, "sin": sin}
    if positions is not None:
        feeds["p"] = positions
    names = [n for n in (("x", "cos", "sin", "p") if not domain else ("x", "p", "cos", "sin")) if n in feeds]
    return build([helper.make_node("RotaryEmbedding", names, ["y"], domain=domain, **attributes)], feeds, ["y"]), feeds


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("partial", [0, 4])
@pytest.mark.parametrize("three", [False, True])
@pytest.mark.parametrize("positions", [None, np.array([[0, 3, 5], [9, 1, 1]])], ids=["none", "given"])
def test_rotary(interleaved, partial, three, positions):
    x = normal(2, 3, 32) if three else normal(2, 4, 3, 8)
    half = partial // 2 or 4
    angles = normal(*((10, half) if positions is not None else (2, 3, half)))
    attributes = {"interleaved": interleaved, "rotary_embedding_dim": partial}
    if three:
        attributes["num_heads"] = 4
    model, feeds = rotary("", x, np.cos(angles), np.sin(angles), positions, **attributes)
    compare(model, feeds, ReferenceEvaluator(model).run(None, feeds))
    if positions is not None:
        model, feeds = rotary(
            "com.microsoft", x, np.cos(angles), np.sin(angles), positions, **{**attributes, "num_heads": 4}
        )
        ort = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        compare(model, feeds, ort.run(None, feeds))


def test_rotary_position_out_of_range():
    model, feeds = rotary("", normal(1, 2, 3, 8), normal(10, 4), normal(10, 4), np.array([[0, 1, 10]]))
    with pytest.raises(Exception, match="position 10 of a cache with 10 rows"):
        load(model).run(feeds)


def against_onnxruntime(op, feeds, outputs, **attributes):
    nodes = [helper.make_node(op, [n if v is not None else "" for n, v in feeds.items()], outputs, **attributes)]
    feeds = {n: v for n, v in feeds.items() if v is not None}
    model = build(nodes, feeds, outputs, 21)
    ort = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    compare(model, feeds, ort.run(None, feeds))


@pytest.mark.parametrize("mask", [None, "keys", "queries", "lengths"])
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("causal", [0, 1])
def test_microsoft_attention(mask, past, causal):
    if past and mask == "lengths":
        pytest.skip("not supported")
    keys = 11 if past else 6
    masks = {
        "keys": (rng.random((2, keys)) < 0.7).astype(np.int32),
        "queries": (rng.random((2, 6, keys)) < 0.7).astype(np.int32),
        "lengths": np.array([6, 3], np.int32),
    }
    feeds = {"x": normal(2, 6, 16), "w": normal(16, 48), "b": normal(48), "mask": masks.get(mask)}
    feeds["past"] = normal(2, 2, 4, 5, 4) if past else None
    if not past:
        feeds.pop("past")
    if mask is None and not past:
        feeds.pop("mask")
    outputs = ["y", "present"] if past else ["y"]
    against_onnxruntime("Attention", feeds, outputs, domain="com.microsoft", num_heads=4, unidirectional=causal)


def bytes_of(low, *shape):
    return rng.integers(low, low + 256, shape).astype(np.int8 if low else np.uint8)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("past", [False, True])
def test_quantized_attention(zeros, columns, past):
    scale = np.array(0.01, np.float32)
    feeds = {"x": bytes_of(0, 2, 6, 16), "w": bytes_of(-128, 16, 48), "b": normal(48), "xs": scale}
    feeds["ws"] = rng.uniform(0.005, 0.02, 48).astype(np.float32) if columns else scale
    feeds["mask"] = (rng.random((2, 11 if past else 6)) < 0.7).astype(np.int32)
    feeds["xz"] = np.array(120, np.uint8) if zeros else None
    feeds["wz"] = (np.full(48, -3, np.int8) if columns else np.array(-3, np.int8)) if zeros else None
    feeds["past"] = normal(2, 2, 4, 5, 4) if past else None
    outputs = ["y", "present"] if past else ["y"]
    against_onnxruntime("QAttention", feeds, outputs, domain="com.microsoft", num_heads=4, unidirectional=1)


@pytest.mark.parametrize("segments", [False, True])
def test_quantized_embeddings(segments):
    ids = rng.integers(0, 9, (2, 5)).astype(np.int32)
    feeds = {"ids": ids, "segments": ids % 2 if segments else None, "words": bytes_of(0, 9, 8)}
    feeds |= {"places": bytes_of(0, 7, 8), "kinds": bytes_of(0, 2, 8) if segments else None}
    feeds |= {"gamma": bytes_of(0, 8), "beta": bytes_of(0, 8), "mask": (ids > 3).astype(np.int32)}
    tables = ["words", "places", "kinds", "gamma", "beta"]
    for kind, value in (("scale", np.array(0.02, np.float32)), ("zero", np.array(118, np.uint8))):
        feeds |= {f"{t}_{kind}": None if feeds[t] is None else value for t in tables}
    names = [n if v is not None else "" for n, v in feeds.items()]
    node = helper.make_node("QEmbedLayerNormalization", names, ["y", "lengths"], domain="com.microsoft", epsilon=1e-6)
    feeds = {n: v for n, v in feeds.items() if v is not None}
    model = build([node], feeds, ["y", "lengths"], 21)
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.INT32
    ort = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    compare(model, feeds, ort.run(None, feeds))
    flat = build([node], feeds | {"ids": feeds["ids"].ravel()}, ["y", "lengths"], 21)
    with pytest.raises(linnet.LinnetError, match="ids must have rank 2"):
        linnet.InferenceSession(flat.SerializeToString())


@pytest.mark.parametrize("mask", [None, "keys", "queries"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("past", [False, True])
def test_multi_head_attention(mask, bias, past):
    keys = 9 + (5 if past else 0)
    masks = {
        "keys": (rng.random((2, keys)) < 0.7).astype(np.int32),
        "queries": (rng.random((2, 6, keys)) < 0.7).astype(np.int32),
    }
    feeds = {"q": normal(2, 6, 16), "k": normal(2, 9, 16), "v": normal(2, 9, 16)}
    feeds |= {"b": normal(48) if bias else None, "mask": masks.get(mask), "add": normal(2, 4, 6, keys)}
    if past:
        feeds |= {"pk": normal(2, 4, 5, 4), "pv": normal(2, 4, 5, 4)}
    outputs = ["y", "present_k", "present_v"] if past else ["y"]
    against_onnxruntime("MultiHeadAttention", feeds, outputs, domain="com.microsoft", num_heads=4)


# ---- attention written out ------------------------------------------------------------------------------------------


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], **attributes)


def check_recognised(nodes, feeds, constants=None, symbolic=False, only=True, opset=17):
    model = build(nodes, feeds, ["y"], opset, symbolic, constants)
    ort = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    text = load(model).dump("lower")
    assert "linnet.Attention" in text, text
    assert "Softmax" not in text
    if only:
        assert "Transpose" not in text, text
    compare(model, feeds, ort.run(None, feeds))


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("mask", [None, (2, 1, 1, 7), (2, 1, 7, 7), (1, 4, 7, 7), (7,)], ids=str)
@pytest.mark.parametrize("form", ["div", "mul", "prescaled"])
def test_bert(mask, form, symbolic):
    if symbolic and mask:
        pytest.skip("separate symbols of a mask may stand for sizes that broadcast")
    feeds = {n: normal(2, 7, 4, 8) for n in "qkv"}
    nodes = [
        node("Transpose", ["q"], "qt", perm=[0, 2, 1, 3]),
        node("Transpose", ["k"], "kt", perm=[0, 2, 3, 1]),
        node("Transpose", ["v"], "vt", perm=[0, 2, 1, 3]),
    ]
    constants = {"c": np.float32(8**0.5 if form == "div" else 8**-0.25 if form == "prescaled" else 8**-0.5)}
    if form == "prescaled":
        nodes += [node("Mul", ["qt", "c"], "qs"), node("Mul", ["kt", "c"], "ks"), node("MatMul", ["qs", "ks"], "s")]
    else:
        nodes += [node("MatMul", ["qt", "kt"], "m"), node(form.title(), ["m", "c"], "s")]
    last = "s"
    if mask:
        feeds["mask"] = np.where(rng.random(mask) < 0.7, 0, np.float32(-1e4)).astype(np.float32)
        nodes.append(node("Add", ["s", "mask"], "masked"))
        last = "masked"
    nodes += [
        node("Softmax", [last], "p", axis=-1),
        node("MatMul", ["p", "vt"], "o"),
        node("Transpose", ["o"], "y", perm=[0, 2, 1, 3]),
    ]
    if symbolic:  # one symbol per size
        model_feeds = {n: feeds[n] for n in feeds}
        model = build(nodes, model_feeds, ["y"], 17, False, constants)
        for value in model.graph.input:
            for dim, name in zip(value.type.tensor_type.shape.dim, ["batch", "length", None, None], strict=False):
                if name:
                    dim.dim_param = name
        text = load(model).dump("lower")
        assert "linnet.Attention" in text and "Transpose" not in text, text
        ort = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        compare(model, feeds, ort.run(None, feeds))
        return
    check_recognised(nodes, feeds, constants)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
def test_gpt2(inverted, with_mask):
    feeds = {n: normal(1, 4, 6, 8) for n in "qkv"}
    causal = np.tril(np.ones((1, 1, 6, 6), bool))
    constants = {"c": np.float32(8**0.5), "keep": ~causal if inverted else causal, "low": np.float32(-3.4e38)}
    nodes = [
        node("Transpose", ["k"], "kt", perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "kt"], "m"),
        node("Div", ["m", "c"], "d"),
        node("Where", ["keep", "low", "d"] if inverted else ["keep", "d", "low"], "w"),
    ]
    last = "w"
    if with_mask:
        feeds["mask"] = np.array([0, 0, 0, 0, -3.4e38, 0], np.float32).reshape(1, 1, 1, 6)
        nodes.append(node("Add", ["w", "mask"], "a"))
        last = "a"
    nodes += [node("Softmax", [last], "p", axis=3), node("MatMul", ["p", "v"], "y")]
    check_recognised(nodes, feeds, constants)


def test_guarded_rows():
    """Exporters replace the NaN of rows without keys by zeros."""
    feeds = {n: normal(1, 2, 5, 8) for n in "qkv"}
    mask = np.zeros((1, 1, 5, 5), np.float32)
    mask[..., 2, :] = -np.inf
    feeds["mask"] = mask
    nodes = [
        node("Transpose", ["k"], "kt", perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "kt"], "m"),
        node("Add", ["m", "mask"], "a"),
        node("Softmax", ["a"], "p", axis=-1),
        node("IsNaN", ["p"], "n"),
        node("Where", ["n", "zero", "p"], "g"),
        node("MatMul", ["g", "v"], "y"),
    ]
    check_recognised(nodes, feeds, {"zero": np.float32(0)})


def test_heads_in_the_batch():
    feeds = {n: normal(6, 5, 8) for n in "qkv"}
    nodes = [
        node("Transpose", ["k"], "kt", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], "m"),
        node("Softmax", ["m"], "p", axis=2),
        node("MatMul", ["p", "v"], "y"),
    ]
    check_recognised(nodes, feeds)


def test_keys_transposed_with_heads_in_the_batch():
    """As PyTorch writes scaled_dot_product_attention."""
    feeds = {n: normal(2, 7, 4, 8) for n in "qkv"}
    nodes = [node("Transpose", [n], n + "t", perm=[0, 2, 1, 3]) for n in "qkv"]
    nodes += [
        node("Reshape", ["kt", "merged"], "k3"),
        node("Transpose", ["k3"], "k3t", perm=[0, 2, 1]),
        node("Reshape", ["k3t", "split"], "k4"),
        node("MatMul", ["qt", "k4"], "m"),
        node("Softmax", ["m"], "p", axis=-1),
        node("MatMul", ["p", "vt"], "o"),
        node("Transpose", ["o"], "y", perm=[0, 2, 1, 3]),
    ]
    check_recognised(nodes, feeds, {"merged": np.array([-1, 7, 8]), "split": np.array([2, 4, 8, 7])})


def test_probabilities_that_are_an_output_stay():
    feeds = {n: normal(1, 2, 5, 8) for n in "qkv"}
    nodes = [
        node("Transpose", ["k"], "kt", perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "kt"], "m"),
        node("Softmax", ["m"], "p", axis=-1),
        node("MatMul", ["p", "v"], "y"),
    ]
    model = build(nodes, feeds, ["y", "p"], 17)
    assert "linnet.Attention" not in load(model).dump("lower")
    ort = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    compare(model, feeds, ort.run(None, feeds))


def test_broadcast_keys_stay():
    feeds = {"q": normal(2, 4, 5, 8), "k": normal(2, 1, 8, 5), "v": normal(2, 4, 5, 8)}
    nodes = [node("MatMul", ["q", "k"], "m"), node("Softmax", ["m"], "p", axis=-1), node("MatMul", ["p", "v"], "y")]
    model = build(nodes, feeds, ["y"], 17)
    assert "linnet.Attention" not in load(model).dump("lower")
    ort = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    compare(model, feeds, ort.run(None, feeds))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("known", [False, True])
def test_written_out_with_rows_of_no_key(dtype: Any, known: bool) -> None:
    """The form that ONNX's own function has: rows whose mask is -inf throughout give zeros. In 16 bits as well."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 3, n, 8)).astype(dtype) for n in (4, 6, 6))
    mask = np.where(rng.uniform(size=(4, 6)) < 0.4, -np.inf, 0).astype(dtype)
    mask[2] = -np.inf
    mask[:2, 0] = mask[3, 0] = 0
    root, zero, low = (np.array(x, dtype) for x in (8**-0.25, 0, -np.inf))
    nodes = [
        helper.make_node("Mul", ["q", "root"], ["qs"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        helper.make_node("Mul", ["kt", "root"], ["ks"]),
        helper.make_node("MatMul", ["qs", "ks"], ["scores"]),
        helper.make_node("Add", ["scores", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["p"], axis=-1),
        helper.make_node("ReduceMax", ["mask", "last"], ["most"], keepdims=1),
        helper.make_node("Equal", ["most", "low"], ["none"]),
        helper.make_node("Where", ["none", "zero", "p"], ["safe"]),
        helper.make_node("MatMul", ["safe", "v"], ["y"]),
    ]
    feeds = {"q": q, "k": k, "v": v}
    constants = {"root": root, "zero": zero, "low": low, "last": np.array([-1])}
    (constants if known else feeds)["mask"] = mask
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, kind, x.shape) for n, x in feeds.items()],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(x, n) for n, x in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = _core.Session.from_bytes(model.SerializeToString(), _core.SessionOptions())
    assert "linnet.Attention" in session.dump() and "Softmax" not in session.dump()
    wide = {n: x.astype(np.float64) for n, x in {**feeds, **constants}.items()}
    scores = wide["q"] @ wide["k"].swapaxes(-1, -2) / np.sqrt(8) + wide["mask"]
    e = np.exp(scores - np.maximum(scores.max(-1, keepdims=True), -1e30))
    want = e / np.maximum(e.sum(-1, keepdims=True), 1e-30) @ wide["v"]
    np.testing.assert_array_equal(want[:, :, 2], 0)
    tolerance = 2e-3 if dtype == np.float16 else 1e-5
    np.testing.assert_allclose(session.run(feeds)[0].astype(np.float64), want, rtol=tolerance, atol=tolerance)
