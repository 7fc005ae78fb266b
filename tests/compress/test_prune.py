"""Pruning files: zeros in the right places, channels out of every shape of graph, errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import linnet
from graphs import Builder, run_both, weights
from linnet.compress import _cut, _layers, _prune, _select, prune

X = np.random.default_rng(1).normal(size=(2, 8, 9, 9)).astype(np.float32)


def small() -> onnx.ModelProto:
    b = Builder(["n", 8, 9, 9])
    y = b.node("Relu", b.conv("x", 8, 24, 3))
    y = b.node("Relu", b.conv(y, 24, 16))
    y = b.node("Flatten", b.node("GlobalAveragePool", y))
    return b.model(b.node("MatMul", y, b.weight(16, 10)))


@pytest.mark.parametrize("structure", ["unstructured", "4x1", "2:4"])
def test_zeros_are_what_was_asked_for(structure: str) -> None:
    model = small()
    before = model.SerializeToString()
    result = prune(model, structure=structure, sparsity=None if structure == "2:4" else 0.75, scope="layer")
    assert model.SerializeToString() == before
    run_both(result.model, {"x": X})
    old, new = weights(model), weights(result.model)
    for name in ("w1", "w3", "w7"):
        kept = new[name] != 0
        assert np.array_equal(new[name][kept], old[name][kept])
        share = 1 - kept.mean()
        assert share == pytest.approx(0.5 if structure == "2:4" else 0.75, abs=0.02)
    if structure == "4x1":
        blocks = (new["w1"] != 0).reshape(6, 4, 8, 3, 3)
        assert np.array_equal(blocks.any(1), blocks.all(1))
        columns = (new["w7"] != 0)[:, :8].reshape(16, 2, 4)
        assert np.array_equal(columns.any(2), columns.all(2))
    if structure == "2:4":
        assert ((new["w1"] != 0).reshape(24, 2, 4, 3, 3).sum(2) == 2).all()
        assert ((new["w7"] != 0).reshape(4, 4, 10).sum(1) == 2).all()


def test_layers_are_chosen_by_name_weight_and_kind() -> None:
    def pruned(**options: Any) -> set[str]:
        new = weights(prune(small(), sparsity=0.5, **options).model)
        return {name for name in ("w1", "w3", "w7") if (new[name] == 0).any()}

    assert pruned() == {"w1", "w3", "w7"}
    assert pruned(layers=["Conv 1x1"]) == {"w3"}
    assert pruned(layers=["conv*"], exclude=["w3"]) == {"w1"}
    assert pruned(exclude=["Conv *"]) == {"w7"}
    result = prune(small(), sparsity=0.5, exclude=["Conv *"])
    assert result.kept == {"conv1": "excluded", "conv3": "excluded"}
    with pytest.raises(linnet.InvalidArgument, match=r"no layer fits 'Gemm'; the layers are conv1, conv3, matmul7"):
        pruned(layers=["Gemm"])


# Graphs whose channels hang together, each with the number of values it keeps when half of the cuttable channels go.


def chain(b: Builder) -> str:
    y = b.node("Relu", b.normalisation(b.conv("x", 8, 24, 3), 24))
    return b.conv(b.node("MaxPool", y, kernel_shape=[2, 2]), 24, 5)


def residual(b: Builder) -> str:
    stem = b.node("Relu", b.conv("x", 8, 16))
    y = b.conv(b.node("Relu", b.conv(stem, 16, 32, 3)), 32, 16)
    y = b.node("Relu", b.node("Add", y, stem))
    return b.conv(b.node("Add", b.node("Relu", b.conv(y, 16, 16)), y), 16, 4)


def concatenated(b: Builder) -> str:
    left, right = b.node("Relu", b.conv("x", 8, 16)), b.node("Relu", b.conv("x", 8, 32, 3))
    y = b.node("Concat", left, right, "x", axis=1)
    return b.node("Concat", b.conv(b.normalisation(y, 56), 56, 4), b.conv(left, 16, 4), axis=1)


def depthwise(b: Builder) -> str:
    y = b.node("Clip", b.conv("x", 8, 32), b.constant(np.float32(0)), b.constant(np.float32(6)))
    y = b.node("Relu", b.conv(y, 32, 64, 3, groups=32))  # two outputs a channel
    return b.conv(y, 64, 4)


def gated(b: Builder) -> str:
    y = b.node("Relu", b.conv("x", 8, 32))
    gate = b.node("Sigmoid", b.conv(b.node("Relu", b.conv(b.node("GlobalAveragePool", y), 32, 16)), 16, 32))
    y = b.node("Mul", b.node("Mul", y, gate), b.constant(np.full((1, 32, 1, 1), 2, np.float32)))
    y = b.node("PRelu", y, b.constant(np.full((32, 1, 1), 0.25, np.float32)))
    return b.conv(b.node("Pad", y, b.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1]))), 32, 3)


def flattened(b: Builder) -> str:
    y = b.node("Relu", b.conv("x", 8, 16))
    y = b.node("AveragePool", y, kernel_shape=[3, 3], strides=[3, 3])
    y = b.node("Reshape", y, b.constant(np.array([-1, 16 * 9])))
    y = b.node("Relu", b.node("Gemm", y, b.weight(32, 144), b.constant(np.ones(32, np.float32)), transB=1))
    return b.node("Gemm", y, b.weight(32, 7), b.constant(np.ones((1, 7), np.float32)))


def transposed(b: Builder) -> str:
    y = b.node("Transpose", b.node("Relu", b.conv("x", 8, 16)), perm=[0, 2, 3, 1])
    y = b.node("Tanh", b.node("Add", b.node("MatMul", y, b.weight(16, 32)), b.weight(32)))
    y = b.node("MatMul", y, b.weight(32, 6))
    return b.node("ReduceMean", y, axes=[1, 2], keepdims=0)


def upsampled(b: Builder) -> str:
    y = b.node(
        "Relu", b.node("ConvTranspose", b.node("Relu", b.conv("x", 8, 16)), b.weight(16, 24, 2, 2), strides=[2, 2])
    )
    y = b.node("Resize", y, "", b.constant(np.array([1, 1, 2, 2], np.float32)))
    return b.conv(b.node("ReduceMean", y, axes=[2, 3], keepdims=1), 24, 3)


GRAPHS = [chain, residual, concatenated, depthwise, gated, flattened, transposed, upsampled]


def silenced(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in its old shape, in which no layer listens to the channels that half of the pruning cuts."""
    own = onnx.ModelProto()
    own.CopyFrom(model)
    layers = _layers.layers(own.graph)
    chosen, _ = _select.chosen(layers, None, [])
    found, cut, _ = _cut.weakest_channels(own, chosen, 0.5, "layer")
    assert cut
    inputs = {(layer.weight, layer.inputs) for layer in layers}
    for tie in found.ties:
        if (tie.tensor, tie.axis) in inputs:
            tensor = _layers.initializers(own.graph)[tie.tensor]
            array = np.moveaxis(numpy_helper.to_array(tensor).copy(), tie.axis, 0)
            array[np.isin(found.roots(tie.atoms), list(cut))] = 0
            _layers.replace(tensor, np.moveaxis(array, 0, tie.axis))
    return own


@pytest.mark.parametrize("graph", GRAPHS)
def test_channels_go_with_all_that_depends_on_them(graph: Any) -> None:
    """The smaller graph computes what the whole one does when no layer listens to the channels that went."""
    b = Builder(["n", 8, 9, 9], seed=3)
    model = b.model(graph(b))
    result = prune(model, structure="channel", sparsity=0.5, scope="layer")
    (got,), (want,) = (run_both(m, {"x": X}) for m in (result.model, silenced(model)))
    assert np.abs(want).max() > 0
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * float(np.abs(want).max()))
    before, after = (sum(w.size for w in weights(m).values()) for m in (model, result.model))
    assert after < 0.7 * before


def test_depthwise_groups_follow_their_channels() -> None:
    b = Builder(["n", 8, 9, 9])
    result = prune(b.model(depthwise(b)), structure="channel", sparsity=0.5)
    grouped = next(n for n in result.model.graph.node if _layers.attribute(n, "group", 1) > 1)
    assert _layers.attribute(grouped, "group", 1) == 16
    assert weights(result.model)[grouped.input[1]].shape == (32, 1, 3, 3)


def test_what_cannot_be_followed_stays_and_is_named() -> None:
    b = Builder(["n", 8, 9, 9])
    y = b.conv("x", 8, 16)
    y = b.node("LRN", b.node("Relu", y), size=3)
    y = b.node("Relu", b.conv(y, 16, 32))
    model = b.model(b.conv(y, 32, 4))
    result = prune(model, structure="channel", sparsity=0.5)
    run_both(result.model, {"x": X})
    assert weights(result.model)["w1"].shape == (16, 8, 1, 1)
    assert weights(result.model)["w4"].shape == (16, 16, 1, 1)
    assert "LRN" in result.kept["conv1"]
    assert "output of the model" in result.kept["conv6"]
    assert any(section.title == "What stayed as it was" for section in result.sections)


def test_channels_shared_with_an_excluded_layer_stay() -> None:
    b = Builder(["n", 8, 9, 9])
    model = b.model(residual(b))
    result = prune(model, structure="channel", sparsity=0.5, exclude=["conv1"])
    new = weights(result.model)
    assert new["w1"].shape[0] == 16
    assert new["w3"].shape == (16, 16, 3, 3)
    assert "'conv1', which is not to be pruned" in result.kept["conv5"]


def test_a_weight_that_something_else_reads_stays() -> None:
    b = Builder(["n", 8, 9, 9])
    y = b.node("Relu", b.conv("x", 8, 16))
    extra = b.node("ReduceSum", "w1", keepdims=0)
    model = b.model(b.node("Add", b.conv(y, 16, 4), extra))
    result = prune(model, structure="channel", sparsity=0.5)
    run_both(result.model, {"x": X})
    assert weights(result.model)["w1"].shape[0] == 16
    assert "also used elsewhere" in result.kept["conv1"]
    assert result.notes


def test_target_latency_takes_the_least_sparsity_that_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sparsities = []

    def latency(model: onnx.ModelProto, feeds: Any, threads: int) -> float:
        w = weights(model)["w1"]
        sparsities.append(1 - np.count_nonzero(w) / w.size)
        return float(1e-3 * (1.1 - sparsities[-1]))

    monkeypatch.setattr(_prune, "latency", latency)
    result = prune(small(), target_latency=0.5e-3, scope="layer", structure="unstructured")
    share = 1 - np.count_nonzero(weights(result.model)["w1"]) / weights(result.model)["w1"].size
    assert 0.6 <= share <= 0.6 + 0.98 / 2**5
    assert len(sparsities) == 8
    assert any("latency" in section.title for section in result.sections)
    assert prune(small(), target_latency=2e-3).notes
    with pytest.raises(linnet.InvalidArgument, match=r"100 µs cannot be reached.* 98 % pruned"):
        prune(small(), target_latency=1e-4)


def test_latency_is_measured() -> None:
    assert 1e-6 < _prune.latency(small(), {"x": X}, 1) < 1


def test_sensitivity_scan_grows_with_sparsity() -> None:
    result = prune(small(), sparsity=0.5, data=[X], levels=[0.2, 0.9])
    (section,) = [s for s in result.sections if s.title == "Sensitivity"]
    table = section.parts[1]
    assert [row[0] for row in table.rows] == ["conv1", "conv3", "matmul7"]
    assert all(float(row[1]) > float(row[2]) for row in table.rows)  # decibels
    by_metric = prune(small(), sparsity=0.5, metric=lambda run: -float(np.abs(run({"x": X})[0]).sum()), levels=[0.5])
    assert len(next(s for s in by_metric.sections if s.title == "Sensitivity").parts[1].rows) == 3


def test_report_measures_both(tmp_path: Path) -> None:
    columns = lambda run: float(run({"x": X})[0].shape[1])  # noqa: E731
    result = prune(small(), structure="channel", sparsity=0.5, data=[X], metric=columns)
    report = result.report(seconds=0.05)
    assert report.after.file_bytes < report.before.file_bytes
    assert report.before.metric == report.after.metric == 10
    report.save(tmp_path / "r.html")
    assert "conv3" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    source, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    onnx.save(small(), source)
    prune(source, sparsity=0.5, output=out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "out.onnx"]
    run_both(onnx.load(out), {"x": X})
    out.unlink()
    out.mkdir()
    with pytest.raises(linnet.Fail, match=r"out\.onnx"):
        prune(source, sparsity=0.5, output=out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "out.onnx"]


def quantized() -> onnx.ModelProto:
    b = Builder(["n", 8])
    scale, zero = b.constant(np.float32(0.1)), b.constant(np.uint8(3))
    x = b.node("DequantizeLinear", b.node("QuantizeLinear", "x", scale, zero), scale, zero)
    return b.model(b.node("MatMul", x, b.weight(8, 4)))


def without_weights() -> onnx.ModelProto:
    b = Builder(["n", 8])
    return b.model(b.node("Relu", "x"))


def with_nan() -> onnx.ModelProto:
    b = Builder(["n", 8])
    return b.model(b.node("MatMul", "x", b.constant(np.full((8, 4), np.nan, np.float32))))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (quantized, {}, "quantized already .*prune it before"),
        (without_weights, {}, "no convolution or dense layer with constant weights"),
        (with_nan, {}, "NaN"),
        (small, {"sparsity": 1.0}, "below 1"),
        (small, {"sparsity": -0.1}, "at least 0"),
        (small, {"sparsity": float("nan")}, "sparsity nan"),
        (small, {"structure": "5x5"}, "unstructured, 4x1, channel"),
        (small, {"structure": "2:4", "sparsity": 0.5}, "by itself"),
        (small, {"scope": "all"}, "global or layer"),
        (small, {"layers": "conv1"}, "expected a list of patterns"),
        (small, {"target_latency": 0.0}, "above 0"),
        (small, {"target_latency": 1.0, "sparsity": 0.5}, "not both"),
        (small, {"levels": [0.5]}, "needs data"),
        (small, {"levels": [0.5], "data": []}, "empty"),
        (small, {"levels": [0.5], "data": [X[:, :4]]}, "shape"),
        (small, {"levels": [0.5], "data": [np.full_like(X, np.nan)]}, "NaN"),
        (small, {"levels": [0.5], "metric": lambda run: float("nan")}, "is nan"),
    ],
)
def test_what_does_not_fit_is_said(model: Any, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(linnet.InvalidArgument, match=message):
        prune(model(), output=tmp_path / "out.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(linnet.NoSuchFile, match="absent"):
        prune(tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises((linnet.InvalidProtobuf, linnet.InvalidGraph), match=r"text\.onnx"):
        prune(tmp_path / "text.onnx")
