"""What `quantize` writes: where pairs stand, what the integers are, and that runtimes agree up to one step."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import linnet
from float_models import (
    attention,
    constants,
    convolutional,
    maker,
    matrix,
    model,
    moving,
    node,
    recurrent,
    reference,
    samples,
)
from linnet.compress import quantize
from linnet.compress._metric import decibels

MODELS = {"convolutional": convolutional, "moving": moving, "attention": attention, "recurrent": recurrent}


def output_noise(before: onnx.ModelProto, after: onnx.ModelProto, seed: int = 9) -> float:
    """SQNR in dB of the first output on new samples, both run by onnxruntime."""
    first, second = reference(before), reference(after)
    signal = noise = 0.0
    for feeds in samples(before, 20, seed):
        x, y = first(feeds)["y"], second(feeds)["y"]
        signal += float(np.square(x).sum())
        noise += float(np.square(y - x).sum())
    return decibels(signal, noise)


def assert_same_steps(made: onnx.ModelProto, feeds: list[dict[str, Any]]) -> None:
    """Byte tensors are the same in Linnet and in onnxruntime up to one step: a tie that rounds the other way.

    What is computed from such a step may differ more, on average by less than half a step.
    """
    names = [n.output[0] for n in made.graph.node if n.op_type == "QuantizeLinear"]
    assert names
    options = linnet.SessionOptions()._to_core()
    options.extra_outputs = names
    own = linnet._core.Session.from_bytes(made.SerializeToString(), options)
    theirs = reference(made, names)
    plain = linnet.InferenceSession(made.SerializeToString())
    for sample in feeds:
        expected = theirs(sample)
        given = dict(zip([o["name"] for o in own.outputs()], own.run(sample), strict=True))
        touched: set[str] = set()  # values that follow from a step that is not the same
        for each in made.graph.node:
            name = each.output[0]
            follows = not touched.isdisjoint(each.input)
            if name in names:
                assert given[name].dtype == expected[name].dtype
                steps = np.abs(given[name].astype(int) - expected[name].astype(int))
                assert steps.mean() < 0.5 if follows else steps.max() <= 1, name
                assert follows or np.count_nonzero(steps) <= 2 + 0.02 * steps.size, name
                follows = bool(steps.any())
            touched |= set(each.output) if follows else set()
        # Fused into integer steps, the model gives what it gives with its inner values in sight.
        outputs = [o.name for o in plain.get_outputs()]
        for name, value in zip(outputs, plain.run(None, sample), strict=True):
            np.testing.assert_allclose(value, given[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    "options",
    [
        {"method": "minmax"},
        {"method": "percentile"},
        {"method": "entropy"},
        {"method": "mse"},
        {"activation": "int8"},
        {"activation": "int8", "symmetric": True},
        {"symmetric": True},
        {"per_channel": False},
        {"bias_correction": True, "equalize": True, "smooth": 0.5},
    ],
    ids=lambda o: "-".join(f"{k}={v}" for k, v in o.items()),
)
def test_static_models_keep_their_outputs(kind: str, options: dict[str, Any]) -> None:
    made = MODELS[kind]()
    data = samples(made, 100)
    done = quantize(made, data, **options)
    onnx.checker.check_model(done.model, full_check=True)
    assert all(layer.quantized for layer in done.layers)
    # A coarser choice may cost some; each still is far from a wrong result.
    coarse = options.get("method") == "entropy" or not options.get("per_channel", True) or "symmetric" in options
    least = 15 if coarse else 20
    assert output_noise(made, done.model) > least
    assert_same_steps(done.model, data[:3])


def test_pairs_stand_where_they_belong() -> None:
    made = convolutional()
    done = quantize(made, samples(made, 8)).model
    quantized = {n.input[0] for n in done.graph.node if n.op_type == "QuantizeLinear"}
    # Behind a Relu or Clip and not before it; around the SiLU and not inside; not at the output.
    assert quantized == {"x", "r1", "c2", "m2", "c3", "r3", "p3", "c4", "j4", "z4", "k5", "g5", "f5"}
    silu = node(done, "silu")
    assert list(silu.input) == ["c2_dequantized", "s2"]
    assert list(node(done, "relu1").input) == ["c1"]


def test_what_only_moves_elements_keeps_the_scale() -> None:
    made = convolutional()
    done = quantize(made, samples(made, 8)).model
    values = constants(done)

    def parameters(value: str) -> tuple[float, int]:
        made_by = maker(done, f"{value}_quantized")
        assert made_by is not None
        return float(values[made_by.input[1]]), int(values[made_by.input[2]])

    assert parameters("r3") == parameters("p3") == parameters("c4") == parameters("j4") == parameters("z4")
    assert parameters("g5") == parameters("f5")
    assert parameters("g5") != parameters("k5")


def test_joined_constants_take_the_scale_of_what_they_join() -> None:
    made = moving()
    done = quantize(made, samples(made, 20)).model
    values = constants(done)
    assert values["fixed_quantized"].dtype == np.uint8
    assert maker(done, "fixed_dequantized").input[1] == maker(done, "j1_dequantized").input[1]  # type: ignore[union-attr]
    fixed = constants(made)["fixed"]
    scale = values[maker(done, "fixed_dequantized").input[1]]  # type: ignore[union-attr]
    zero = values[maker(done, "fixed_dequantized").input[2]]  # type: ignore[union-attr]
    assert np.abs((values["fixed_quantized"].astype(float) - zero) * scale - fixed).max() <= scale * 0.51
    # The hard swish is one piece; Softmax reads what it reads.
    assert list(node(done, "hard_swish").input) == ["c2_dequantized", "h2"]
    assert list(node(done, "chances").input) == ["c2_dequantized"]


def test_weights_and_biases_are_integers_of_the_right_scales() -> None:
    made = convolutional()
    before = constants(made)
    done = quantize(made, samples(made, 8)).model
    values = constants(done)
    scale = values["w1_scale"]
    assert values["w1_quantized"].dtype == np.int8
    assert not values["w1_zero_point"].any()
    np.testing.assert_allclose(scale, np.abs(before["w1"]).max((1, 2, 3)) / 127, rtol=1e-6)
    assert np.abs(values["w1_quantized"] * scale[:, None, None, None] - before["w1"]).max() <= scale.max() / 2 * 1.001
    assert values["b1_quantized"].dtype == np.int32
    np.testing.assert_allclose(values["b1_scale"], values["x_scale"] * scale, rtol=1e-6)
    restored = values["b1_quantized"] * values["b1_scale"].astype(np.float64)
    np.testing.assert_allclose(restored, before["b1"], atol=float(values["b1_scale"].max()))
    assert node(done, "transposed").input[1] == "w4_dequantized"
    assert values["w4_scale"].shape == (4,)
    gemm = node(done, "gemm")  # its factors are in its constants
    assert {a.name for a in gemm.attribute} == {"transB"}


def test_bias_that_outgrows_int32_raises_the_weights_scale() -> None:
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], "conv")]
    tiny = np.full((2, 1, 1, 1), 1.0, np.float32)
    tiny[1] = 1e-12  # a channel that is all but 0
    made = model(nodes, {"w": tiny, "b": np.array([0.5, 300], np.float32)}, {"x": [1, 1, 2, 2]}, {"y": [1, 2, 2, 2]})
    done = quantize(made, samples(made, 4))
    assert output_noise(made, done.model) > 40


def test_all_values_zero_give_a_sane_scale() -> None:
    made = convolutional()
    done = quantize(made, [{"x": np.zeros((1, 3, 12, 12), np.float32)}] * 2)
    values = constants(done.model)
    scales = [v for k, v in values.items() if k.endswith("_scale")]
    assert all(np.isfinite(s).all() and (s > 1e-30).all() for s in scales)
    (given,) = linnet.InferenceSession(done.model.SerializeToString()).run(None, {"x": np.zeros((1, 3, 12, 12), "f4")})
    expected = reference(made)({"x": np.zeros((1, 3, 12, 12), np.float32)})["y"]
    assert np.abs(given - expected).max() < 0.05 * np.abs(expected).max() + 0.05


def test_old_opsets_are_raised() -> None:
    made = convolutional(opset=11)
    done = quantize(made, samples(made, 8)).model
    assert done.opset_import[0].version == 13
    assert output_noise(made, done) > 22


def test_bias_correction_moves_the_mean_back() -> None:
    rng = np.random.default_rng(5)
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], "conv")]
    # One large weight makes the steps of all others coarse; inputs that are positive make the error a bias.
    w = rng.uniform(0, 0.02, (6, 32, 1, 1)).astype(np.float32)
    w[:, 0] = 4
    made = model(nodes, {"w": w, "b": np.zeros(6, np.float32)}, {"x": [1, 32, 8, 8]}, {"y": [1, 6, 8, 8]})
    data = [{"x": rng.uniform(0, 1, (1, 32, 8, 8)).astype(np.float32)} for _ in range(16)]

    def shift(**options: bool) -> float:
        done = quantize(made, data, **options).model
        means = [np.mean([run(d)["y"] for d in data], (0, 1, 3, 4)) for run in (reference(made), reference(done))]
        return float(np.abs(means[1] - means[0]).max())

    assert shift(bias_correction=True) < 0.1 * shift()


@pytest.mark.parametrize("smooth", [None, 0.5])
def test_rewrites_before_quantizing_keep_the_float_function(smooth: float | None) -> None:
    """With everything but one harmless layer left out, what is left of the rewrites is float."""
    from linnet.compress import _adjust, _build, _graph

    made = attention() if smooth is not None else convolutional()
    simple, _ = _graph.simplified(made)
    before = constants(simple)
    data = samples(made, 4)
    if smooth is None:
        wide = constants(simple)["w1"] * np.geomspace(0.01, 10, 8, dtype=np.float32).reshape(-1, 1, 1, 1)
        next(t for t in simple.graph.initializer if t.name == "w1").CopyFrom(numpy_helper.from_array(wide, "w1"))
        made = onnx.ModelProto.FromString(simple.SerializeToString())
        node(simple, "residual").input[1] = "c3"  # so that conv1's result has one user
        node(made, "residual").input[1] = "c3"
        assert _adjust.equalize(simple) == 1
        spread = np.abs(constants(simple)["w1"]).max((1, 2, 3))
        assert spread.max() / spread.min() < 0.1 * (
            np.abs(wide).max((1, 2, 3)).max() / np.abs(wide).max((1, 2, 3)).min()
        )
    else:
        smoothing = _adjust.Smoothing(simple, _graph.float_values(simple))
        assert set(smoothing.values) == {"n1", "n2"}
        peaks = _build.peaks(simple, smoothing.values, data, 1, lambda count: None)
        spread = float(peaks["n1"].max() / np.median(peaks["n1"]))
        smoothing.apply(peaks, smooth)
        after = _build.peaks(simple, smoothing.values, data, 1, lambda count: None)
        assert float(after["n1"].max() / np.median(after["n1"])) < 0.5 * spread
        assert before.keys() <= constants(simple).keys()
    for feeds in data:
        np.testing.assert_allclose(reference(simple)(feeds)["y"], reference(made)(feeds)["y"], rtol=1e-3, atol=1e-4)


def test_smoothing_helps_where_channels_stand_out() -> None:
    made = attention()
    data = samples(made, 24)
    plain, smooth = (quantize(made, data, smooth=s).model for s in (None, 0.5))
    assert output_noise(made, smooth) > output_noise(made, plain) + 1


def test_dynamic_products_measure_their_input() -> None:
    made = attention()
    done = quantize(made, mode="dynamic")
    ops = Counter(n.op_type for n in done.model.graph.node)
    assert ops["MatMulInteger"] == 6
    assert ops["DynamicQuantizeLinear"] == 4  # one for q, k and v
    assert ops["MatMul"] == 2  # of two computed values
    assert output_noise(made, done.model) > 20
    for feeds in samples(made, 3):
        (given,) = linnet.InferenceSession(done.model.SerializeToString()).run(None, feeds)
        np.testing.assert_allclose(given, reference(done.model)(feeds)["y"], atol=0.05)
    convolutions = quantize(convolutional(), mode="dynamic")
    assert {x.name for x in convolutions.kept_float} == {"conv1", "depthwise", "conv3", "transposed", "conv5"}
    assert output_noise(convolutional(), convolutions.model) > 30


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("bits", "block", "least"), [(8, None, 40), (8, 32, 42), (4, 32, 17), (4, 16, 18)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_stored_weights(turned: bool, bits: int, block: int | None, least: float, symmetric: bool) -> None:
    rng = np.random.default_rng(6)
    w = rng.standard_normal((75, 33)).astype(np.float32)  # no multiple of a block, an odd number of elements
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], "gemm", transB=int(turned))]
    made = model(nodes, {"w": w.T if turned else w}, {"x": ["n", 75]}, {"y": ["n", 33]})
    done = quantize(made, mode="weight-only", weight_bits=bits, block_size=block, weights_symmetric=symmetric)
    onnx.checker.check_model(done.model, full_check=True)
    assert output_noise(made, done.model) > least
    for feeds in samples(made, 2):
        (given,) = linnet.InferenceSession(done.model.SerializeToString()).run(None, feeds)
        np.testing.assert_allclose(given, reference(done.model)(feeds)["y"], rtol=1e-4, atol=1e-4)
    sizes = done.model.ByteSize() / made.ByteSize()
    assert sizes < (0.4 if bits == 8 else 0.3)


def test_block_search_lowers_the_error() -> None:
    rng = np.random.default_rng(7)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    made = model(nodes, {"w": rng.standard_t(3, (256, 64)).astype(np.float32)}, {"x": [4, 256]}, {"y": [4, 64]})
    plain, searched = (quantize(made, mode="weight-only", weight_bits=4, method=m).model for m in ("minmax", "mse"))
    assert output_noise(made, searched) > output_noise(made, plain) + 0.3


def test_recurrent_weights_are_stored_in_all_modes() -> None:
    made = recurrent()
    for options in ({"mode": "dynamic"}, {"mode": "weight-only"}, {"calibration_data": samples(made, 100)}):
        done = quantize(made, **options)
        values = constants(done.model)
        assert values["w_quantized"].dtype == values["r_quantized"].dtype == np.int8
        assert values["w_scale"].shape == (24,)
        assert output_noise(made, done.model) > 20


def test_excluded_nodes_stay_float() -> None:
    made = convolutional()
    data = samples(made, 4)
    done = quantize(made, data, exclude=["conv5", "ConvTranspose", "c3"])
    assert {x.name: x.reason for x in done.kept_float} == dict.fromkeys(["conv3", "conv5", "transposed"], "excluded")
    assert list(node(done.model, "conv5").input)[1:] == ["w5", "b5"]
    assert output_noise(made, done.model) > 22
    with pytest.raises(linnet.InvalidArgument, match="'conv_5'; did you mean conv5"):
        quantize(made, data, exclude=["conv_5"])
    with pytest.raises(linnet.InvalidArgument, match="all layers are excluded"):
        quantize(made, data, exclude=["*"])


def sensitive() -> onnx.ModelProto:
    """Four Gemm layers; the weights of the third have outliers, so that a scale for all of them ruins it."""
    rng = np.random.default_rng(8)
    nodes, values = [], {}
    for i in range(4):
        w = rng.standard_normal((16, 16)).astype(np.float32) / 4
        if i == 2:
            w[:, 0] *= 500
        values |= {f"w{i}": w}
        nodes.append(helper.make_node("Gemm", [f"h{i}" if i else "x", f"w{i}"], [f"g{i}"], f"gemm{i}"))
        nodes.append(helper.make_node("Tanh", [f"g{i}"], [f"h{i + 1}"], f"tanh{i}"))
    nodes.append(helper.make_node("Identity", ["h4"], ["y"], "end"))
    return model(nodes, values, {"x": [1, 16]}, {"y": [1, 16]})


def test_the_noise_that_is_allowed_is_kept() -> None:
    made = sensitive()
    data = samples(made, 20)
    plain, done = (
        quantize(made, data, per_channel=False, metric="sqnr", allowed_loss=loss).metrics[1] for loss in (1.0, 0.001)
    )
    assert plain is not None
    assert done is not None
    assert 0 < plain < 30 <= done < 100


def test_the_layer_that_costs_most_stays_float() -> None:
    made = sensitive()
    data = samples(made, 50)

    def quality(run: Any) -> float:
        exact = reference(made)
        errors = [np.abs(run(d)[0] - exact(d)["y"]).mean() for d in data[:10]]
        return -float(np.mean(errors))

    worst = quantize(made, data, per_channel=False)
    done = quantize(made, data, per_channel=False, metric=quality, allowed_loss=0.03)
    assert [x.name for x in done.kept_float] == ["gemm2"]
    assert "sensitive" in done.kept_float[0].reason
    alone = {x.name: x.alone for x in done.layers}
    assert min(alone, key=lambda n: alone[n] or 0) == "gemm2"
    assert done.metrics[0] is not None
    assert done.metrics[1] is not None
    assert done.metrics[1] >= done.metrics[0] - 0.03
    run = linnet.InferenceSession(worst.model.SerializeToString())
    assert quality(lambda d: run.run(None, d)) < done.metrics[0] - 0.03
    assert done.tried[0] == (0, pytest.approx(quality(lambda d: run.run(None, d)), rel=1e-3))
    with pytest.raises(linnet.Fail, match="even with one layer quantized"):
        quantize(made, data, metric=quality, allowed_loss=0)


def test_fewest_layers_are_kept() -> None:
    from linnet.compress._search import fewest_kept

    costs = {"a": 5.0, "b": 3.0, "c": 2.0, "d": 1.0, "e": 0.5}

    def measure(names: Any) -> float:
        return -sum(costs[n] for n in names)

    layers = list(costs)
    for allowed, kept in (
        (12, []),
        (6.5, ["a"]),
        (3.4, ["a", "b", "d"]),
        (1.6, ["a", "b", "c"]),
        (0.6, ["a", "b", "c", "d"]),
    ):
        choice = fewest_kept(layers, measure, -allowed)
        assert choice is not None
        assert choice.metric >= -allowed
        assert len(choice.kept) <= len(kept) or choice.kept == kept, (allowed, choice.kept)
    assert fewest_kept(layers, measure, -0.1) is None
    # The order is only a guess: what turns out to be harmless is given back.
    choice = fewest_kept(["d", "e", "a", "b", "c"], measure, -6.5)
    assert choice is not None
    assert choice.kept == ["a"]


def test_layers_report_their_error() -> None:
    made = convolutional()
    data = samples(made, 8)
    done = quantize(made, data, sensitivity=True)
    assert all(x.sqnr is not None and 10 < x.sqnr < 80 for x in done.layers)
    assert all(x.alone is not None and 10 < x.alone < 120 for x in done.layers)
    # The first layer's error: its input and its weights are rounded, nothing before it.
    first = done.layers[0]
    exact, rough = reference(made, ["r1"]), reference(done.model, ["r1"])
    x, y = (np.stack([run(d)["r1"] for d in data]) for run in (exact, rough))
    assert first.sqnr == pytest.approx(10 * np.log10(np.square(x).sum() / np.square(y - x).sum()), abs=0.5)


def test_shared_weights_are_quantized_once() -> None:
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        helper.make_node("MatMul", ["h", "w"], ["y"], "second"),
    ]
    made = model(nodes, {"w": matrix(rng, 12, 12)}, {"x": [3, 12]}, {"y": [3, 12]})
    done = quantize(made, samples(made, 100)).model
    assert sum(name.startswith("w_quantized") for name in constants(done)) == 1
    assert output_noise(made, done) > 25
