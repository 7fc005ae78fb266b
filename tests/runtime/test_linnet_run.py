"""The native command: linnet-run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper


@pytest.fixture
def command(build: Path):
    def run(*words: object, status: int = 0) -> str:
        done = subprocess.run([build / "linnet-run", *map(str, words)], capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status in (0, 3) else done.stderr

    return run


def reference(model: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)


def test_random_inputs_and_measuring(command, models: Path) -> None:
    text = command(models / "mlp.onnx", "--dim", "batch=4", "--repeat", 5, "--warmup", 1, "--threads", 1)
    assert "x: float32 [4, 8] <- float32 4x8 (random, seed 1)" in text
    assert "y: float32 4x3" in text
    assert "over 5 runs" in text
    assert "1 thread," in text


def test_json(command, models: Path) -> None:
    words = ["--shape", "x=2,8", "--repeat", 3, "--json", "--plan", "--profile"]
    report = json.loads(command(models / "mlp.onnx", *words))
    assert report["inputs"] == [{"name": "x", "value": "float32 2x8", "source": "random, seed 1"}]
    assert report["outputs"] == [{"name": "y", "value": "float32 2x3"}]
    assert report["latency_ms"]["runs"] == 3
    assert report["latency_ms"]["min"] <= report["latency_ms"]["median"] <= report["latency_ms"]["p90"]
    assert report["plan"]["steps"] >= 1
    assert sum(op["share"] for op in report["profile"]) == pytest.approx(1)


def test_the_seed_settles_the_result(command, models: Path, tmp_path: Path) -> None:
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        command(models / "mlp.onnx", "--random-seed", seed, "--output", tmp_path / folder)
    a, b, c = (np.load(tmp_path / folder / "y.npy") for folder in "abc")
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_files(command, models: Path, tmp_path: Path, order: str) -> None:
    x = np.asarray(np.random.default_rng(1).standard_normal((5, 8)).astype(np.float32), order=order)
    np.save(tmp_path / "x.npy", x)
    (y,) = reference(models / "mlp.onnx", {"x": x})
    np.save(tmp_path / "y.npy", y)
    words = [models / "mlp.onnx", "--input", f"x={tmp_path}/x.npy", "--check", f"y={tmp_path}/y.npy"]
    assert "check    y: equal" in command(*words, "--output", tmp_path / "out")
    np.testing.assert_allclose(np.load(tmp_path / "out" / "y.npy"), y, rtol=1e-4, atol=1e-5)
    np.save(tmp_path / "y.npy", y + np.float32(0.5))
    assert "y: DIFFERS: 15 of 15 elements differ; the first, element 0, is" in command(*words, status=3)
    assert "equal" in command(*words, "--atol", 1)


def test_a_test_data_set(command, models: Path, tmp_path: Path) -> None:
    a, b = np.ones((2, 3), np.float32), np.arange(3, dtype=np.float32)
    expected = reference(models / "two_inputs.onnx", {"a": a, "b": b})
    for i, value in enumerate((a, b)):
        (tmp_path / f"input_{i}.pb").write_bytes(numpy_helper.from_array(value).SerializeToString())
    for i, value in enumerate(expected):
        (tmp_path / f"output_{i}.pb").write_bytes(numpy_helper.from_array(value).SerializeToString())
    text = command(models / "two_inputs.onnx", "--check", tmp_path, "--rtol", 0, "--atol", 0)
    assert "d: equal" in text
    assert "s: equal" in text


def test_sequences_and_strings(command, models: Path, tmp_path: Path) -> None:
    assert "sequence of 2" in command(models / "sequence.onnx")
    a, b = np.ones(2, np.float32), np.zeros(3, np.float32)
    for i, value in enumerate((a, b)):
        (tmp_path / f"input_{i}.pb").write_bytes(numpy_helper.from_array(value).SerializeToString())
    data = numpy_helper.from_list([a, b], "q").SerializeToString()
    (tmp_path / "output_0.pb").write_bytes(data)
    assert "q: equal" in command(models / "sequence.onnx", "--check", tmp_path)
    (tmp_path / "output_0.pb").write_bytes(numpy_helper.from_list([a, a], "q").SerializeToString())
    assert "item 1: shape 3 where 2 is expected" in command(models / "sequence.onnx", "--check", tmp_path, status=3)
    assert "t: str 1" in command(models / "strings.onnx")


def test_plan_profile_trace_and_dump(command, models: Path, tmp_path: Path) -> None:
    model = models / "mlp.onnx"
    assert "intermediates take" in command(model, "--plan")
    assert "share" in command(model, "--profile", "--repeat", 2)
    command(model, "--trace", tmp_path / "trace.json")
    assert isinstance(json.loads((tmp_path / "trace.json").read_text()), (list, dict))
    assert "MatMul" in command(model, "--dump", "build")
    command(model, "--save-optimized", tmp_path / "out.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "out.onnx"))


def test_help_and_version(command) -> None:
    text = command("--help")
    for word in ("--input", "--shape", "--check", "--repeat", "--threads", "--memory-limit", "--plan", "exit status"):
        assert word in text
    assert command("--version").startswith("linnet ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no model is given"),
        (["m.onnx", "n.onnx"], "one model expected"),
        (["m.onnx", "--nothing"], "there is no option '--nothing'"),
        (["m.onnx", "--repeat"], "--repeat needs N"),
        (["m.onnx", "--repeat", "-1"], "'-1' is not a number"),
        (["m.onnx", "--shape", "1,2"], "NAME=VALUE"),
        (["m.onnx", "--json=1"], "--json takes no value"),
        (["m.onnx", "--threads=x"], "'x' is not a number"),
    ],
)
def test_wrong_usage(command, words: list[str], message: str) -> None:
    assert message in command(*words, status=2)


def test_failures(command, models: Path, tmp_path: Path) -> None:
    assert "cannot open" in command(tmp_path / "none.onnx", status=1)
    assert "there is no input 'z'; the model has 'x'" in command(models / "mlp.onnx", "--shape", "z=1", status=1)
    assert "expected float32" in command(models / "mlp.onnx", "--shape", "x=2,7", status=1)
    words = [models / "mlp.onnx", "--shape", "x=100000,8", "--memory-limit", 1_000_000]
    assert "limit of 1000000 bytes" in command(*words, status=1)
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00\xff\xff{}")
    assert "breaks off" in command(models / "mlp.onnx", "--input", f"x={tmp_path}/x.npy", status=1)
