"""``linnet quantize`` writes the file it names, says what it did, and explains what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import linnet
from linnet._cli import main
from linnet.demo._data import MODEL, held_out, model_input


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    digits = held_out()
    shutil.copy(MODEL, tmp_path / "digits.onnx")
    np.savez(tmp_path / "data.npz", image=model_input(digits.images[:60]))
    np.save(tmp_path / "labels.npy", digits.labels[:60])
    return tmp_path


def test_static(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = folder / "report.html"
    words = ["quantize", str(folder / "digits.onnx"), "--data", str(folder / "data.npz"), "--report", str(report)]
    assert main([*words, "--labels", str(folder / "labels.npy"), "--max-loss", "0.5%", "--method", "mse"]) == 0
    printed = capsys.readouterr().out
    out = folder / "digits_int8.onnx"
    onnx.checker.check_model(out, full_check=True)
    assert f"{out}: 3 of 3 layers are integers" in printed
    assert "Calibrated on 60 samples" in printed
    for word in ("file", "one run", "memory", "accuracy", "node_conv2d"):
        assert word in printed
    assert "Sensitivity" in report.read_text(encoding="utf-8")
    assert linnet.load(out)(model_input(held_out().images[:1])).shape == (1, 10)


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "small.onnx"
    words = ["quantize", str(folder / "digits.onnx"), "--mode", "weight-only", "--weight-bits", "4", "-o", str(out)]
    assert main([*words, "--json", "--exclude", "node_linear_1"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["output"] == str(out)
    assert {x["name"]: x["quantized"] for x in read["layers"]} == {
        "node_conv2d": False,
        "node_linear": True,
        "node_linear_1": False,
    }
    assert read["report"]["after"]["file_bytes"] == out.stat().st_size
    assert read["report"]["after"]["latency"]["p50"] > 0


def test_what_is_wrong_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, data = str(folder / "digits.onnx"), str(folder / "data.npz")
    for words, code, message in (
        ([path], 2, "needs --data"),
        ([path, "--data", data, "-o", path], 2, "is the model itself"),
        ([path, "--data", data, "--no-measure", "--report", "r.html"], 2, "leave --no-measure out"),
        ([path, "--data", str(folder / "labels.npy")], 1, "'image' is uint8; the model takes float32"),
        ([path, "--data", str(folder / "absent")], 1, "no such file"),
        ([str(folder / "absent.onnx"), "--data", data], 1, "absent.onnx"),
        ([path, "--data", data, "--exclude", "node_conv2"], 1, "did you mean node_conv2d"),
        ([path, "--data", data, "-o", str(folder / "data.npz" / "x.onnx"), "--no-measure"], 1, "cannot write"),
    ):
        assert main(["quantize", *words]) == code, words
        assert message in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == ["data.npz", "digits.onnx", "labels.npy"]
    for bad in ("--max-loss=much", "--samples=0", "--mode=fast"):
        with pytest.raises(SystemExit):
            main(["quantize", path, bad])


def test_without_measuring(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["quantize", str(folder / "digits.onnx"), "--data", str(folder / "data.npz"), "--no-measure"]
    assert main([*words, "--samples", "7"]) == 0
    printed = capsys.readouterr().out
    assert "Calibrated on 7 samples" in printed
    assert "memory" not in printed
