"""The tools one after the other, and the search over their settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import linnet
from graphs import Builder, run_both, weights
from linnet.compress import _trials, compress, search

RNG = np.random.default_rng(2)
X = RNG.normal(size=(64, 8, 9, 9)).astype(np.float32)


def model() -> onnx.ModelProto:
    b = Builder(["n", 8, 9, 9])
    y = b.node("Relu", b.conv("x", 8, 64, 3))
    y = b.node("Relu", b.conv(y, 64, 64, 3))
    y = b.node("Flatten", b.node("GlobalAveragePool", y))
    return b.model(b.node("MatMul", y, b.weight(64, 80)))


def folded(model: onnx.ModelProto, tmp_path: Path) -> dict[str, Any]:
    """The initializers once all that is constant has been computed, by Linnet's simplifying passes."""
    options = linnet.SessionOptions()
    options.graph_optimization_level = linnet.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    linnet.InferenceSession(model.SerializeToString(), options)
    return weights(onnx.load(tmp_path / "folded.onnx"))


def test_zeros_and_codes_survive_all_steps(tmp_path: Path) -> None:
    result = compress(model(), X, sparsity=0.75, scope="layer", codes=16, mode="static")
    onnx.checker.check_model(result.model, full_check=True)
    run_both(result.model, {"x": X[:4]})
    found = {n: w for n, w in folded(result.model, tmp_path).items() if w.dtype == np.int8 and w.ndim >= 2}
    assert len(found) == 3
    for weight in found.values():
        assert (weight == 0).mean() >= 0.74
        rows = weight.reshape(len(weight), -1) if weight.ndim == 4 else weight.T
        assert all(len(np.unique(row)) <= 16 for row in rows)
    assert model().ByteSize() / result.model.ByteSize() > 5
    assert [s.title for s in result.sections if "layers" in s.title] == [
        "Pruning: layers", "Sharing: layers", "Quantizing: layers",
    ]  # fmt: skip
    report = result.report(seconds=0.05)
    assert report.after.file_bytes < report.before.file_bytes


def test_steps_alone(tmp_path: Path) -> None:
    only = compress(model(), structure="2:4", output=tmp_path / "out.onnx")
    stored = onnx.load(tmp_path / "out.onnx")
    assert stored == only.model
    assert (numpy_helper.to_array(next(t for t in stored.graph.initializer if t.name == "w1")) == 0).mean() == 0.5
    assert compress(model(), codes=256).model.ByteSize() < model().ByteSize() / 3
    assert compress(model(), mode="dynamic").title == "quantized (dynamic)"
    with pytest.raises(linnet.InvalidArgument, match="nothing to do"):
        compress(model())


def test_search_keeps_the_loss_and_shows_what_it_tried(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    seen: list[str] = []
    labels = linnet.load(model().SerializeToString())(X).argmax(1)
    result = search(
        model(),
        X,
        tmp_path / "small.onnx",
        labels=labels,
        max_loss=0.05,
        trials=8,
        goal="size",
        progress=lambda text, share: seen.append(text),
    )
    right = linnet.load(str(tmp_path / "small.onnx"))(X).argmax(1) == labels
    assert right.mean() >= 0.95
    assert (tmp_path / "small.onnx").stat().st_size < model().ByteSize() / 3
    tried = result.sections[0]
    assert tried.title == "What was tried"
    assert len(tried.parts[0].points) >= 6
    assert any(p.best for p in tried.parts[0].points)
    assert any("trial 8 of 8" in text for text in seen)
    assert "polyline" in result.report(seconds=0.05).to_html()


def test_search_says_when_nothing_keeps_the_loss() -> None:
    pytest.importorskip("optuna")
    run: list[int] = []

    def worse_each_time(run_model: Any) -> float:
        run.append(1)
        return -float(len(run))

    with pytest.raises(linnet.Fail, match=r"no setting keeps the worse_each_time within 0.5 of -1.0000"):
        search(model(), X[:4], metric=worse_each_time, max_loss=0.5, trials=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal": "speed"}, "size, latency or both"),
        ({"trials": 0}, "at least 1"),
        ({"max_loss": -1.0}, "at least 0"),
        ({"structure": "2:4"}, "one sparsity only"),
        ({"data": None}, "needs data"),
        ({"data": []}, "empty"),
    ],
)
def test_what_does_not_fit_is_said(options: dict[str, Any], message: str) -> None:
    pytest.importorskip("optuna")
    with pytest.raises(linnet.InvalidArgument, match=message):
        search(model(), **{"data": X, **options})


def test_the_front_is_what_nothing_beats() -> None:
    def trial(size: int, seconds: float, metric: float) -> _trials.Trial:
        return _trials.Trial({"sparsity": 0, "codes": 0, "mode": "none", "spared": 0}, size, seconds, metric)

    best = [trial(10, 3.0, 0.9), trial(20, 1.0, 0.9), trial(20, 3.0, 0.95)]
    beaten = [trial(11, 3.0, 0.9), trial(20, 1.0, 0.8)]
    assert _trials.front([*beaten, *best]) == best


def test_search_without_optuna_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(linnet.Fail, match=re.escape("pip install 'linnet[compress]'")):
        search(model(), X)
