"""The commands: what they print, what they write, what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphs import Builder
from linnet._cli import main

X = np.random.default_rng(2).normal(size=(20, 64)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    b = Builder(["n", 64])
    y = b.node("Relu", b.node("MatMul", "x", b.weight(64, 64)))
    onnx.save(b.model(b.node("MatMul", y, b.weight(64, 64))), tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", x=X)
    np.save(tmp_path / "labels.npy", np.zeros(20, np.int64))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_prune(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--sparsity", "50%", "--data", "data.npz", "--metric", "agreement", "--scan", "--report", "r.html"]
    assert main(["prune", "m.onnx", *words]) == 0
    printed = capsys.readouterr().out
    assert "m_pruned.onnx\n  Pruned: 50.0 % of the weights of 2 layers are gone" in printed
    assert "agreement" in printed
    assert "Sensitivity" in printed
    assert "r.html" in printed
    assert (folder / "r.html").stat().st_size > 4000
    assert (folder / "m_pruned.onnx").exists()


def test_cluster_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cluster", "m.onnx", "--codes", "16", "-o", "c.onnx", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"] == {"codes": "16", "per": "tensor"}
    assert found["report"]["after"]["file_bytes"] == (folder / "c.onnx").stat().st_size
    assert found["report"]["before"]["file_bytes"] > 5 * found["report"]["after"]["file_bytes"]


def test_compress(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--prune", "0.5", "--cluster", "16", "--quantize", "static", "--data", "data.npz", "--no-measure"]
    assert main(["compress", "m.onnx", *words]) == 0
    printed = capsys.readouterr().out
    assert "Pruning: layers" in printed
    assert "quantized (static)" in printed
    assert (folder / "m_small.onnx").exists()


def test_search(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    words = ["search", "m.onnx", "--data", "data.npz", "--trials", "4", "--max-loss", "50%", "--report", "s.json"]
    assert main(["compress", *words]) == 0
    assert "The best of 4 settings" in capsys.readouterr().out
    points = json.loads((folder / "s.json").read_text())["sections"][0]["parts"][0]["points"]
    assert len(points) == 5


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["prune", "m.onnx", "--target-latency", "soon"], 2, "is not a time such as 5ms"),
        (["prune", "m.onnx", "--sparsity", "0.5", "--target-latency", "1ms"], 2, "not allowed with"),
        (["prune", "m.onnx", "--scan"], 2, "give --data"),
        (["prune", "m.onnx", "-o", "m.onnx"], 2, "is the model itself"),
        (["prune", "m.onnx", "--report", "r.html", "--no-measure"], 2, "leave --no-measure out"),
        (["prune", "m.onnx", "--structure", "3x3"], 1, "expected unstructured, 4x1, channel"),
        (["prune", "absent.onnx"], 1, "absent.onnx"),
        (["prune", "m.onnx", "--layer", "Conv*"], 1, "no layer fits 'Conv*'"),
        (["cluster", "m.onnx", "--codes", "1"], 1, "2 to 256"),
        (["cluster", "m.onnx", "--data", "absent.npz"], 1, "absent.npz"),
        (["cluster", "m.onnx", "--data", "labels.npy"], 1, "int64"),
        (["compress", "m.onnx"], 2, "say what to do"),
        (["compress", "find", "m.onnx"], 2, "expected MODEL or search MODEL"),
        (["compress", "search", "m.onnx"], 2, "give --data"),
        (["compress", "search", "m.onnx", "--data", "data.npz", "--prune", "0.5"], 2, "chooses --prune by itself"),
    ],
)
def test_what_does_not_fit_is_said(
    words: list[str], code: int, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(p.name for p in folder.iterdir())
    try:
        got = main(words)
    except SystemExit as error:
        got = int(error.code or 0)
    assert got == code
    assert message in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == before
