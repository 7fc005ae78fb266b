"""LSTM, GRU and RNN against a plain loop in float64 (the specification's formulas) and onnxruntime."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from linnet import InferenceSession, SessionOptions
from one_node import check, feeds, linnet, model_of, ort

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


FUNCTIONS = {
    "Sigmoid": sigmoid,
    "Tanh": np.tanh,
    "Relu": lambda x: np.maximum(x, 0),
    "Affine": lambda x, a=1.0, b=0.0: a * x + b,
    "LeakyRelu": lambda x, a=0.01: np.where(x < 0, a * x, x),
    "ThresholdedRelu": lambda x, a=1.0: np.where(x > a, x, 0),
    "ScaledTanh": lambda x, a=1.0, b=1.0: a * np.tanh(b * x),
    "HardSigmoid": lambda x, a=0.2, b=0.5: np.clip(a * x + b, 0, 1),
    "Elu": lambda x, a=1.0: np.where(x < 0, a * np.expm1(x), x),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Softplus": lambda x: np.logaddexp(x, 0),
}
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def one_direction(
    op: str,
    x: Any,
    w: Any,
    r: Any,
    b: Any,
    lens: Any,
    h: Any,
    c: Any,
    p: Any,
    functions: list[Any],
    clip: float,
    flag: int,
    backwards: bool,
) -> tuple[Any, Any, Any]:
    steps, batch, _ = x.shape
    hidden = r.shape[1]
    y = np.zeros((steps, batch, hidden))
    h, c = h.copy(), c.copy()
    cut = (lambda v: np.clip(v, -clip, clip)) if clip else (lambda v: v)
    wb, rb = b[: len(b) // 2], b[len(b) // 2 :]
    for n in range(batch):
        for step in range(lens[n]):
            t = lens[n] - 1 - step if backwards else step
            xs, hs = x[t, n] @ w.T + wb, h[n] @ r.T + rb
            if op == "RNN":
                h[n] = functions[0](cut(xs + hs))
            elif op == "GRU":
                xz, xr, xh = np.split(xs, 3)
                hz, hr, hh = np.split(hs, 3)
                z, reset = functions[0](cut(xz + hz)), functions[0](cut(xr + hr))
                inner = reset * hh if flag else (reset * h[n]) @ r[2 * hidden :].T + rb[2 * hidden :]
                g = functions[1](cut(xh + inner))
                h[n] = (1 - z) * g + z * h[n]
            else:
                i, o, f, g = np.split(xs + hs, 4)
                pi, po, pf = np.split(p, 3)
                i = functions[0](cut(i + pi * c[n]))
                f = 1 - i if flag else functions[0](cut(f + pf * c[n]))
                c[n] = f * c[n] + i * functions[1](cut(g))
                h[n] = functions[0](cut(o + po * c[n])) * functions[2](c[n])
            y[t, n] = h[n]
    return y, h, c


def expected(op: str, inputs: list[Any], attributes: dict[str, Any]) -> list[Any]:
    x, w, r, b, lens, h, c, p = (*inputs, *[None] * (8 - len(inputs)))
    layout = attributes.get("layout", 0)
    dtype = x.dtype
    x = x.astype(np.float64)
    if layout:
        x = x.swapaxes(0, 1)
    directions, hidden = r.shape[0], r.shape[2]
    steps, batch = x.shape[:2]
    names = attributes.get("activations", DEFAULTS[op] * directions)
    alphas, betas = list(attributes.get("activation_alpha", [])), list(attributes.get("activation_beta", []))
    functions = []
    for name in names:
        more = {}
        defaults = FUNCTIONS[name].__defaults__ if hasattr(FUNCTIONS[name], "__defaults__") else None
        if defaults and alphas:
            more["a"] = alphas.pop(0)
        if defaults and len(defaults) > 1 and betas:
            more["b"] = betas.pop(0)
        functions.append(lambda v, f=FUNCTIONS[name], m=more: f(v, **m))
    per = len(functions) // directions
    flag = attributes.get("linear_before_reset", attributes.get("input_forget", 0))
    out = []
    for d in range(directions):

        def state(s: Any, d: int = d) -> Any:
            if s is None:
                return np.zeros((batch, hidden))
            return (s[:, d] if layout else s[d]).astype(np.float64)

        out.append(
            one_direction(
                op,
                x,
                w[d].astype(np.float64),
                r[d].astype(np.float64),
                np.zeros(2 * GATES[op] * hidden) if b is None else b[d].astype(np.float64),
                np.full(batch, steps) if lens is None else lens,
                state(h),
                state(c),
                np.zeros(3 * hidden) if p is None else p[d].astype(np.float64),
                functions[d * per : (d + 1) * per],
                attributes.get("clip", 0),
                flag,
                d == 1 or attributes.get("direction") == "reverse",
            )
        )
    y = np.stack([o[0] for o in out], 1)
    result = [y.transpose(2, 0, 1, 3) if layout else y]
    for i in range(1, 3 if op == "LSTM" else 2):
        result.append(np.stack([o[i] for o in out], 1 if layout else 0))
    return [v.astype(dtype) for v in result]


def make_inputs(
    op: str,
    steps: int,
    batch: int,
    width: int,
    hidden: int,
    directions: int,
    layout: int = 0,
    lens: bool = False,
    state: bool = True,
    dtype: Any = np.float32,
) -> list[Any]:
    rng = np.random.default_rng(steps + 10 * batch + 100 * hidden)
    gates = GATES[op]

    def some(*shape: int) -> Any:  # so that the recurrence does not amplify what is rounded
        return (rng.normal(size=shape) * min(0.5, 1 / hidden**0.5)).astype(dtype)

    inputs = [
        some(batch, steps, width) if layout else some(steps, batch, width),
        some(directions, gates * hidden, width),
        some(directions, gates * hidden, hidden),
        some(directions, 2 * gates * hidden),
        rng.integers(0 if batch > 1 else 1, steps + 1, batch).astype(np.int32) if lens else None,
    ]
    shape = (batch, directions, hidden) if layout else (directions, batch, hidden)
    inputs += [some(*shape) if state else None]
    if op == "LSTM":
        inputs += [some(*shape) if state else None, some(directions, 3 * hidden) if state else None]
    while inputs[-1] is None:
        inputs.pop()
    return inputs


def compare(op: str, inputs: list[Any], tolerance: float = 2e-5, opset: int = 22, **attributes: Any) -> None:
    want = expected(op, inputs, attributes)
    hidden = inputs[2].shape[2]
    for constants in ((), (1, 2, 3)):
        used = tuple(i for i in constants if i < len(inputs) and inputs[i] is not None)
        got = linnet(op, *inputs, opset=opset, outputs=len(want), hidden_size=hidden, constants=used, **attributes)
        for g, w in zip(got, want, strict=True):
            check(g, w, tolerance, tolerance)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("lens", [False, True])
def test_forms(op: str, direction: str, layout: int, lens: bool) -> None:
    directions = 2 if direction == "bidirectional" else 1
    for steps, batch, width, hidden in ((1, 1, 1, 1), (5, 3, 4, 7), (7, 2, 10, 33), (4, 1, 6, 16)):
        for flag, state in itertools.product((0, 1), (False, True)):
            inputs = make_inputs(op, steps, batch, width, hidden, directions, layout, lens, state)
            more = {"GRU": {"linear_before_reset": flag}, "LSTM": {"input_forget": flag}, "RNN": {}}[op]
            compare(op, inputs, direction=direction, layout=layout, **more)


@pytest.mark.parametrize("op", GATES)
def test_old_opset_and_no_bias(op: str) -> None:
    inputs = make_inputs(op, 4, 2, 3, 5, 1, state=False)
    compare(op, inputs, opset=7)
    compare(op, inputs[:3], opset=14)


@pytest.mark.parametrize("op", GATES)
def test_large(op: str) -> None:
    # Steps are split over the threads.
    compare(op, make_inputs(op, 6, 4, 64, 300, 2), direction="bidirectional")
    compare(op, make_inputs(op, 3, 1, 16, 520, 1), tolerance=1e-4)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("flag", [0, 1])
def test_one_image(op: str, flag: int) -> None:
    # Product and cell in one kernel; blocks of units walked forward and back.
    more = {"GRU": {"linear_before_reset": flag}, "LSTM": {"input_forget": flag}, "RNN": {}}[op]
    for hidden, lens in itertools.product((5, 64, 150), (False, True)):
        for direction in ("reverse", "bidirectional"):
            inputs = make_inputs(op, 6, 1, 7, hidden, 1 + (direction == "bidirectional"), lens=lens)
            compare(op, [*inputs[:7]], direction=direction, **more)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_the_same_bits_for_any_number_of_threads(op: str, batch: int, direction: str) -> None:
    directions = 1 + (direction == "bidirectional")
    inputs = make_inputs(op, 9, batch, 20, 300, directions)
    count = 3 if op == "LSTM" else 2
    for more in ({}, {"linear_before_reset": 1}) if op == "GRU" else ({},):
        model = model_of(op, inputs, outputs=count, hidden_size=300, direction=direction, constants=(2,), **more)
        results = []
        for threads in (1, 2, 3, 4):
            options = SessionOptions()
            options.intra_op_num_threads = threads
            session = InferenceSession(model.SerializeToString(), options)
            results.append(session.run(None, feeds(inputs, constants=(2,))))
        for other in results[1:]:
            for g, w in zip(other, results[0], strict=True):
                np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations(op: str, name: str) -> None:
    inputs = make_inputs(op, 4, 2, 3, 9, 2)
    names = [name] * (len(DEFAULTS[op]) * 2)
    if op != "RNN":
        names[0] = "Sigmoid"
    compare(op, inputs, activations=names, direction="bidirectional", tolerance=1e-4)
    if FUNCTIONS[name].__name__ == "<lambda>" and FUNCTIONS[name].__defaults__:
        count = sum(n == name for n in names)
        alphas = [0.3 + 0.1 * i for i in range(count)]
        more = {"activation_alpha": alphas}
        if len(FUNCTIONS[name].__defaults__) > 1:
            more["activation_beta"] = [0.4 + 0.1 * i for i in range(count)]
        compare(op, inputs, activations=names, direction="bidirectional", tolerance=1e-4, **more)


@pytest.mark.parametrize("op", GATES)
def test_clip(op: str) -> None:
    compare(op, make_inputs(op, 5, 2, 6, 8, 1), clip=0.2)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_floats(op: str, dtype: Any) -> None:
    compare(op, make_inputs(op, 4, 2, 5, 8, 1, dtype=dtype), tolerance=2e-5 if dtype == np.float64 else 4e-3)


@pytest.mark.parametrize("op", GATES)
def test_against_onnxruntime(op: str) -> None:
    inputs = make_inputs(op, 20, 3, 24, 48, 2, lens=True)
    inputs[4] = np.maximum(inputs[4], 1)
    count = 3 if op == "LSTM" else 2
    want = ort(op, *inputs, opset=14, outputs=count, hidden_size=48, direction="bidirectional")
    got = linnet(op, *inputs, opset=14, outputs=count, hidden_size=48, direction="bidirectional")
    for g, w in zip(got, want, strict=True):
        check(g, w, 2e-5, 2e-5)


def test_refuses() -> None:
    inputs = make_inputs("LSTM", 4, 2, 3, 5, 1, lens=True)
    inputs[4] = np.array([5, 1], np.int32)
    with pytest.raises(Exception, match="sequence_lens"):
        linnet("LSTM", *inputs, hidden_size=5, outputs=3)
    inputs = make_inputs("GRU", 4, 2, 3, 5, 1)
    with pytest.raises(Exception, match="W"):
        linnet("GRU", inputs[0], inputs[1][:, :-1], inputs[2], hidden_size=5)
    with pytest.raises(Exception, match="activation"):
        linnet("GRU", *inputs, hidden_size=5, activations=["Sigmoid", "Nonsense"])


def test_empty() -> None:
    for steps, batch in ((0, 2), (3, 0)):
        inputs = make_inputs("LSTM", steps, batch, 3, 5, 1) if batch else make_inputs("LSTM", steps, 0, 3, 5, 1)
        got = linnet("LSTM", *inputs, hidden_size=5, outputs=3)
        assert got[0].shape == (steps, 1, batch, 5) and got[1].shape == (1, batch, 5)
        if steps == 0:
            np.testing.assert_array_equal(got[1], inputs[5])


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("full", [False, True])
def test_dynamic_quantize_lstm(direction: str, per_column: bool, dtype: Any, full: bool) -> None:
    inputs = make_inputs("LSTM", 5, 3, 7, 9, 2 if direction == "bidirectional" else 1, lens=full, state=full)
    inputs += [None] * (8 - len(inputs))
    quantized = list(inputs)
    for i in (1, 2):
        weight = inputs[i].transpose(0, 2, 1)
        axes = (1,) if per_column else (1, 2)
        scale = np.abs(weight).max(axes) / 127
        zero = np.full(scale.shape, 0 if dtype == np.int8 else 128, dtype)
        wide = (slice(None), None) if per_column else (slice(None), None, None)
        whole = np.rint(weight / scale[wide])
        inputs[i] = (whole * scale[wide]).transpose(0, 2, 1).astype(np.float32)
        quantized[i] = (whole + zero[wide]).astype(dtype)
        quantized += [scale.astype(np.float32), zero]
    attributes = {"direction": direction, "hidden_size": inputs[2].shape[2], "outputs": 3}
    want = linnet("LSTM", *inputs, **attributes)
    for constants in ((), (1, 2, 8, 9, 10, 11)):
        got = linnet("DynamicQuantizeLSTM", *quantized, domain="com.microsoft", constants=constants, **attributes)
        for a, b in zip(got, want, strict=True):
            check(a, b, 2e-5, 2e-6)
    for a, b in zip(got, ort("DynamicQuantizeLSTM", *quantized, domain="com.microsoft", **attributes), strict=True):
        np.testing.assert_allclose(a, b, atol=0.05)  # it rounds the activations to 8 bits
    with pytest.raises(Exception, match="the scale of input 1"):
        linnet("DynamicQuantizeLSTM", *quantized[:8], domain="com.microsoft", **attributes)
