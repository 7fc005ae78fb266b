"""CausalConvWithState, LinearAttention and FlexAttention: against the ONNX reference, over sizes and types."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from linnet import _core, backend
from one_node import check, linnet, reference

PREVIEW = "ai.onnx.preview"


def normal(rng: Any, *shape: int, dtype: Any = np.float32) -> Any:
    return rng.standard_normal(shape).astype(dtype)


def close(got: Any, want: Any, tolerance: float) -> None:
    for g, w in zip(got, want, strict=True):
        check(g, w, tolerance, tolerance)


def threads_agree(model: Any, feeds: dict[str, Any]) -> list[Any]:
    """The outputs, the same bits with one thread and with three."""
    results = []
    for threads in (1, 3):
        options = _core.SessionOptions()
        options.threads = threads
        results.append(_core.Session.from_bytes(model.SerializeToString(), options).run(feeds))
    for a, b in zip(*results, strict=True):
        assert a.tobytes() == b.tobytes()
    return list(results[0])


# ---- CausalConvWithState --------------------------------------------------------------------------------------------


def conv_inputs(rng: Any, n: int, c: int, length: int, k: int, bias: bool, past: bool, dtype: Any) -> list[Any]:
    return [
        normal(rng, n, c, length, dtype=dtype),
        normal(rng, c, 1, k, dtype=dtype),
        normal(rng, c, dtype=dtype) if bias else None,
        normal(rng, n, c, k - 1, dtype=dtype) if past else None,
    ]


@pytest.mark.parametrize("length", [0, 1, 2, 5, 33, 200])
@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_causal_conv(length: int, k: int) -> None:
    rng = np.random.default_rng(length * 10 + k)
    for bias, past, (n, c) in itertools.product([False, True], [False, True], [(1, 1), (2, 5), (3, 64)]):
        inputs = conv_inputs(rng, n, c, length, k, bias, past, np.float32)
        for activation in ("none", "silu", "swish"):
            more = {"opset": 27, "outputs": 2, "activation": activation}
            got = linnet("CausalConvWithState", *inputs, **more)
            if length == 0:
                assert got[0].shape == (n, c, 0)
                past_state = inputs[3] if past else np.zeros((n, c, k - 1), np.float32)
                np.testing.assert_array_equal(got[1], past_state)
            else:
                close(got, reference("CausalConvWithState", *inputs, **more), 1e-5)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_causal_conv_halves(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    inputs = conv_inputs(rng, 2, 6, 9, 4, True, True, dtype)
    got = linnet("CausalConvWithState", *inputs, opset=27, outputs=2)
    want = linnet("CausalConvWithState", *[x.astype(np.float32) for x in inputs], opset=27, outputs=2)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == dtype
        check(g.astype(np.float32), w.astype(dtype).astype(np.float32), 1e-6)


def test_causal_conv_step_by_step() -> None:
    """One position after another gives what all at once give, to the bit, for one thread and several, symbolic too."""
    rng = np.random.default_rng(0)
    x, w, b, past = conv_inputs(rng, 2, 40, 11, 4, True, True, np.float32)
    node = helper.make_node("CausalConvWithState", ["x", "w", "b", "p"], ["y", "s"], activation="silu")
    given = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "c", "l"]),
        helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", "c", "k"]),
    ]
    outputs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in ("y", "s")]
    constants = [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")]
    graph = helper.make_graph([node], "g", given, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 27)], ir_version=10)
    whole, last = threads_agree(model, {"x": x, "p": past})
    session = backend.prepare(model)
    state, parts = past, []
    for t in range(x.shape[2]):
        y, state = session.run({"x": np.ascontiguousarray(x[:, :, t : t + 1]), "p": state})
        parts.append(y)
    np.testing.assert_allclose(np.concatenate(parts, 2), whole, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(state, last)


@pytest.mark.parametrize(
    ("shapes", "more", "message"),
    [
        ([(1, 2, 3), (2, 1, 2)], {"activation": "relu"}, "activation is 'relu'"),
        ([(1, 2), (2, 1, 2)], {}, "rank 2"),
        ([(1, 2, 3), (2, 1)], {}, "rank 2"),
        ([(1, 2, 3), (3, 1, 2)], {}, "channels"),
        ([(1, 2, 3), (2, 2, 2)], {}, "axis 1"),
        ([(1, 2, 3), (2, 1, 0)], {}, "no taps"),
        ([(1, 2, 3), (2, 1, 2), (3,)], {}, "bias"),
        ([(1, 2, 3), (2, 1, 2), None, (1, 2, 2)], {}, "past_state"),
        ([(1, 2, 3), (2, 1, 2), None, (2, 2, 1)], {}, "batches"),
    ],
)
def test_causal_conv_errors(shapes: list[Any], more: dict[str, Any], message: str) -> None:
    inputs = [None if s is None else np.zeros(s, np.float32) for s in shapes]
    with pytest.raises(Exception, match=message):
        linnet("CausalConvWithState", *inputs, opset=27, **more)


def test_causal_conv_types() -> None:
    with pytest.raises(Exception, match="float64"):
        linnet("CausalConvWithState", np.zeros((1, 1, 1)), np.zeros((1, 1, 1)), opset=27)


# ---- LinearAttention ------------------------------------------------------------------------------------------------

RULES = ["linear", "gated", "delta", "gated_delta"]


def attention_inputs(
    rng: Any,
    rule: str,
    b: int,
    t: int,
    hq: int,
    h: int,
    dk: int,
    dv: int,
    each_key: bool = True,
    one_beta: bool = False,
    past: bool = True,
    dtype: Any = np.float32,
) -> list[Any]:
    key = normal(rng, b, t, h, dk)
    key /= np.maximum(np.linalg.norm(key, axis=-1, keepdims=True), 1e-6)
    decay = -np.abs(normal(rng, b, t, h * dk if each_key else h)) * 0.3
    beta = rng.uniform(0.1, 0.9, (b, t, 1 if one_beta else h))
    values = [
        normal(rng, b, t, hq * dk),
        key.reshape(b, t, h * dk),
        normal(rng, b, t, h * dv),
        normal(rng, b, h, dk, dv) if past else None,
        decay if "gated" in rule else None,
        beta if "delta" in rule else None,
    ]
    return [None if v is None else v.astype(dtype) for v in values]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("t", [1, 3, 64, 130])
def test_linear_attention(rule: str, t: int) -> None:
    rng = np.random.default_rng(t)
    shapes = [(1, 1, 1, 1, 1), (2, 4, 2, 8, 5), (1, 6, 2, 16, 70), (1, 2, 2, 33, 64), (2, 3, 1, 20, 16)]
    for (b, hq, h, dk, dv), past, each_key, scale in zip(
        shapes,
        [True, False, True, False, True],
        [True, True, False, False, True],
        [0.0, 0.5, 0.0, 2.0, 0.0],
        strict=True,
    ):
        inputs = attention_inputs(rng, rule, b, t, hq, h, dk, dv, each_key, one_beta=not each_key, past=past)
        more = {"q_num_heads": hq, "kv_num_heads": h, "update_rule": rule, "scale": scale, "opset": 27, "outputs": 2}
        got = linnet("LinearAttention", *inputs, **more)
        want = reference("LinearAttention", *inputs, **more)
        for g, w in zip(got, want, strict=True):
            size = float(np.abs(w).max()) or 1.0
            assert g.dtype == w.dtype and g.shape == w.shape
            np.testing.assert_allclose(g, w, rtol=2e-4, atol=2e-5 * size)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_linear_attention_halves(dtype: Any) -> None:
    """16-bit inputs are computed in float32; the state has a type of its own."""
    rng = np.random.default_rng(1)
    inputs = attention_inputs(rng, "gated_delta", 2, 9, 4, 2, 8, 8, dtype=dtype)
    more = {"q_num_heads": 4, "kv_num_heads": 2, "opset": 27, "outputs": 2}
    wide = [x.astype(np.float32) for x in inputs]
    want = linnet("LinearAttention", *wide, **more)
    got = linnet("LinearAttention", *inputs, **more)
    mixed = linnet("LinearAttention", *inputs[:3], wide[3], *inputs[4:], **more)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == dtype
        check(g.astype(np.float32), w.astype(dtype).astype(np.float32), 1e-6)
    assert mixed[0].dtype == dtype and mixed[1].dtype == np.float32
    check(mixed[1], want[1], 1e-6)


def linear_attention_model(rule: str, hq: int, h: int) -> Any:
    names = ["q", "k", "v", "s", "g" if "gated" in rule else "", "b" if "delta" in rule else ""]
    node = helper.make_node("LinearAttention", names, ["y", "t"], q_num_heads=hq, kv_num_heads=h, update_rule=rule)
    given = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [f"{n}{i}" for i in range(4 if n == "s" else 3)])
        for n in names
        if n
    ]
    outputs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in ("y", "t")]
    graph = helper.make_graph([node], "g", given, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 27)], ir_version=10)


@pytest.mark.parametrize("rule", RULES)
def test_linear_attention_step_by_step(rule: str) -> None:
    """A token at a time gives the same bits as all tokens, with any number of threads."""
    rng = np.random.default_rng(5)
    model = linear_attention_model(rule, 2, 1)
    inputs = attention_inputs(rng, rule, 1, 70, 2, 1, 24, 200)
    names = ["q", "k", "v", "s", "g", "b"]
    feeds = {n: x for n, x in zip(names, inputs, strict=True) if x is not None}
    y, last = threads_agree(model, feeds)
    session = backend.prepare(model)
    state, parts = feeds["s"], []
    for t in range(70):
        step = {n: np.ascontiguousarray(x[:, t : t + 1]) for n, x in feeds.items() if n != "s"}
        part, state = session.run({**step, "s": state})
        parts.append(part)
    np.testing.assert_array_equal(np.concatenate(parts, 1), y)
    np.testing.assert_array_equal(state, last)


def test_linear_attention_empty() -> None:
    rng = np.random.default_rng(0)
    more = {"q_num_heads": 2, "kv_num_heads": 1, "opset": 27, "outputs": 2}
    inputs = attention_inputs(rng, "gated_delta", 2, 0, 2, 1, 4, 3)
    y, state = linnet("LinearAttention", *inputs, **more)
    assert y.shape == (2, 0, 6)
    np.testing.assert_array_equal(state, inputs[3])
    inputs[3] = None
    y, state = linnet("LinearAttention", *inputs, **more)
    np.testing.assert_array_equal(state, np.zeros((2, 1, 4, 3), np.float32))
    y, state = linnet("LinearAttention", *attention_inputs(rng, "gated_delta", 0, 3, 2, 1, 4, 3), **more)
    assert y.shape == (0, 3, 6) and state.shape == (0, 1, 4, 3)
    y, state = linnet("LinearAttention", *attention_inputs(rng, "gated_delta", 1, 3, 2, 1, 4, 0), **more)
    assert y.shape == (1, 3, 0) and state.shape == (1, 1, 4, 0)


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        ({}, {"update_rule": "other"}, "update_rule is 'other'"),
        ({}, {"update_rule": "linear"}, "takes no decay"),
        ({4: None}, {}, "needs decay"),
        ({5: None}, {}, "needs beta"),
        ({}, {"q_num_heads": 3}, "multiple"),
        ({0: (1, 2, 9)}, {}, "split"),
        ({1: (1, 2, 6)}, {}, "depths"),
        ({2: (1, 3, 8)}, {}, "value"),
        ({3: (1, 2, 4, 5)}, {}, "past_state"),
        ({4: (1, 2, 3)}, {}, "decay is 3 wide"),
        ({5: (1, 2, 3)}, {}, "beta is 3 wide"),
        ({3: (2, 4, 4)}, {}, "rank 3"),
    ],
)
def test_linear_attention_errors(change: dict[int, Any], more: dict[str, Any], message: str) -> None:
    shapes: list[Any] = [(1, 2, 16), (1, 2, 8), (1, 2, 8), (1, 2, 4, 4), (1, 2, 8), (1, 2, 2)]
    for i, shape in change.items():
        shapes[i] = shape
    inputs = [None if s is None else np.zeros(s, np.float32) for s in shapes]
    with pytest.raises(Exception, match=message):
        linnet("LinearAttention", *inputs, **{"q_num_heads": 4, "kv_num_heads": 2, "opset": 27, **more})


# ---- FlexAttention --------------------------------------------------------------------------------------------------


def body(name: str, nodes: list[Any], constants: list[Any], dtype: int) -> Any:
    def port(p: str) -> Any:
        return helper.make_tensor_value_info(p, dtype, ["B", "H", "L", "S"])

    return helper.make_graph(nodes, name, [port("x")], [port("r")], constants)


def mods(kind: str, dtype: int) -> dict[str, Any]:
    def number(n: str, v: float) -> Any:
        return helper.make_tensor(n, dtype, [], [v])

    found = {}
    if kind in ("score", "both"):
        nodes = [
            helper.make_node("Div", ["x", "cap"], ["d"]),
            helper.make_node("Tanh", ["d"], ["e"]),
            helper.make_node("Mul", ["e", "cap"], ["r"]),
        ]
        found["score_mod"] = body("s", nodes, [number("cap", 2)], dtype)
    if kind in ("prob", "both"):
        found["prob_mod"] = body("p", [helper.make_node("Mul", ["x", "half"], ["r"])], [number("half", 0.5)], dtype)
    return found


def flex_model(q: Any, k: Any, v: Any, symbolic: bool = False, **attributes: Any) -> Any:
    node = helper.make_node("FlexAttention", ["q", "k", "v"], ["y"], domain=PREVIEW, **attributes)
    given = [
        helper.make_tensor_value_info(
            n, helper.np_dtype_to_tensor_dtype(x.dtype), [f"{n}{i}" for i in range(4)] if symbolic else x.shape
        )
        for n, x in zip("qkv", (q, k, v), strict=True)
    ]
    out = helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(q.dtype), None)
    opsets = [helper.make_opsetid("", 26), helper.make_opsetid(PREVIEW, 1)]
    return helper.make_model(helper.make_graph([node], "g", given, [out]), opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("kind", ["none", "score", "prob", "both"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("symbolic", [False, True])
def test_flex_attention(kind: str, dtype: Any, symbolic: bool) -> None:
    rng = np.random.default_rng(0)
    inner = TensorProto.DOUBLE if dtype == np.float64 else TensorProto.FLOAT
    for b, hq, h, rows, keys, e, ev in [(2, 4, 4, 5, 7, 8, 8), (1, 6, 2, 3, 4, 16, 5), (2, 3, 1, 1, 9, 4, 1)]:
        q, k, v = (normal(rng, *s, dtype=dtype) for s in [(b, hq, rows, e), (b, h, keys, e), (b, h, keys, ev)])
        for scale in (None, 0.3):
            more = mods(kind, inner) | ({"scale": scale} if scale else {})
            model = flex_model(q, k, v, symbolic, **more)
            got = threads_agree(model, {"q": q, "k": k, "v": v})[0]
            want = ReferenceEvaluator(model).run(None, {"q": q, "k": k, "v": v})[0]
            assert got.dtype == want.dtype and got.shape == want.shape
            # The reference rounds the scale to float32.
            tolerance = {"float16": 4e-3, "float64": 1e-6}.get(str(got.dtype), 1e-5)
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def test_flex_attention_in_float64() -> None:
    rng = np.random.default_rng(3)
    q, k, v = (normal(rng, 2, 3, 5, 4, dtype=np.float64) for _ in range(3))
    for more in ({}, mods("prob", TensorProto.DOUBLE)):
        scores = q @ k.swapaxes(-1, -2) / 2
        p = np.exp(scores - scores.max(-1, keepdims=True))
        want = p / p.sum(-1, keepdims=True) @ v * (0.5 if more else 1)
        np.testing.assert_allclose(backend.prepare(flex_model(q, k, v, **more)).run([q, k, v])[0], want, rtol=1e-12)


def test_flex_attention_reads_outer_values() -> None:
    """A graph of the model's own may use values of the graph around it."""
    rng = np.random.default_rng(2)
    q, k, v = normal(rng, 1, 2, 3, 4), normal(rng, 1, 2, 5, 4), normal(rng, 1, 2, 5, 4)
    bias = normal(rng, 1, 1, 3, 5)
    inner = body("s", [helper.make_node("Add", ["x", "bias"], ["r"])], [], TensorProto.FLOAT)
    model = flex_model(q, k, v, score_mod=inner)
    model.graph.input.append(helper.make_tensor_value_info("bias", TensorProto.FLOAT, bias.shape))
    got = backend.prepare(model).run({"q": q, "k": k, "v": v, "bias": bias})[0]
    scores = q @ k.swapaxes(-1, -2) / 2 + bias
    p = np.exp(scores - scores.max(-1, keepdims=True))
    np.testing.assert_allclose(got, p / p.sum(-1, keepdims=True) @ v, rtol=1e-5, atol=1e-6)


def test_flex_attention_errors() -> None:
    q = np.zeros((1, 3, 2, 4), np.float32)
    k = np.zeros((1, 2, 2, 4), np.float32)
    with pytest.raises(Exception, match="no multiple"):
        backend.prepare(flex_model(q, k, k))
    with pytest.raises(Exception, match="depths"):
        backend.prepare(flex_model(q, np.zeros((1, 3, 2, 5), np.float32), q))
    with pytest.raises(Exception, match="softmax_precision"):
        backend.prepare(flex_model(q, q, q, softmax_precision=7))
    cast = body("s", [helper.make_node("Cast", ["x"], ["r"], to=TensorProto.DOUBLE)], [], TensorProto.FLOAT)
    with pytest.raises(Exception, match="score_mod gives float64"):
        backend.prepare(flex_model(q, q, q, score_mod=cast))
    short = body("s", [helper.make_node("ReduceSum", ["x"], ["r"])], [], TensorProto.FLOAT)
    with pytest.raises(Exception, match="score_mod"):
        backend.prepare(flex_model(q, q, q, score_mod=short))


def test_flex_attention_empty() -> None:
    q, k = np.zeros((1, 4, 0, 8), np.float32), np.zeros((1, 2, 3, 8), np.float32)
    for kind in ("none", "score"):
        assert backend.prepare(flex_model(q, k, k, **mods(kind, TensorProto.FLOAT))).run([q, k, k])[0].shape == q.shape
