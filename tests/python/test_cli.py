"""The ``linnet`` command, as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

import linnet
import small_models
from linnet._cli import _compare, _text, main
from linnet._cli._profile import summarise


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    path = tmp_path / "cnn.onnx"
    path.write_bytes(small_models.small_cnn())
    return path


@pytest.fixture
def two(tmp_path: Path) -> Path:
    path = tmp_path / "two.onnx"
    path.write_bytes(small_models.two_outputs())
    return path


def said(capsys: pytest.CaptureFixture[str], *words: Any, code: int = 0) -> str:
    capsys.readouterr()
    assert main([str(w) for w in words]) == code
    return capsys.readouterr().out


def parsed(capsys: pytest.CaptureFixture[str], *words: Any, code: int = 0) -> Any:
    return json.loads(said(capsys, *words, "--json", code=code))


def failed(capsys: pytest.CaptureFixture[str], *words: Any, code: int) -> str:
    capsys.readouterr()
    assert main([str(w) for w in words]) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "Traceback" not in captured.err
    return captured.err


# ---- run -----------------------------------------------------------------------------------------------------------


def test_run_on_random_inputs(capsys: pytest.CaptureFixture[str], cnn: Path) -> None:
    text = said(capsys, "run", cnn, "--shape", "height=8")
    assert "random, seed 0" in text and "[1, 1, 8, 16]" in text and "[1, 10]" in text
    assert "taken as 1 (--shape sets them): batch\n" in text
    result = parsed(capsys, "run", cnn, "--shape", "x=2,1,8,16")
    assert result["outputs"]["y"]["shape"] == [2, 10] and result["outputs"]["y"]["dtype"] == "float32"
    assert result["outputs"]["y"]["mean"] == pytest.approx(0.1) and result["assumed_free_dimensions"] == []
    assert parsed(capsys, "run", cnn)["outputs"] == parsed(capsys, "run", cnn)["outputs"]
    assert parsed(capsys, "run", cnn)["outputs"] != parsed(capsys, "run", cnn, "--seed", 1)["outputs"]


def test_run_on_files_and_check(capsys: pytest.CaptureFixture[str], two: Path, tmp_path: Path) -> None:
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.full((2, 3), 2, np.float32)
    np.save(tmp_path / "a.npy", a)
    (tmp_path / "b.pb").write_bytes(numpy_helper.from_array(b).SerializeToString())
    np.save(tmp_path / "sum.npy", a + b)
    np.save(tmp_path / "wrong.npy", a + b + 1)
    given = ["--input", f"a={tmp_path / 'a.npy'}", "--input", f"b={tmp_path / 'b.pb'}"]
    assert "ok" in said(capsys, "run", two, *given, "--check", tmp_path / "sum.npy")
    assert "FAILED" in said(capsys, "run", two, *given, "--check", f"sum={tmp_path / 'wrong.npy'}", code=1)
    result = parsed(capsys, "run", two, *given, "--check", f"product={tmp_path / 'wrong.npy'}", code=1)
    assert not result["passed"] and result["inputs"]["a"]["given"]
    said(capsys, "run", two, *given, "--output-dir", tmp_path / "out")
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "product.npy"), a * b)


def test_one_given_input_settles_the_symbols_of_the_others(
    capsys: pytest.CaptureFixture[str], two: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", np.ones((5, 3), np.float32))
    result = parsed(capsys, "run", two, "--input", f"a={tmp_path / 'a.npy'}")
    assert result["outputs"]["sum"]["shape"] == [5, 3] and result["assumed_free_dimensions"] == []


def test_run_a_test_data_set(capsys: pytest.CaptureFixture[str], two: Path, tmp_path: Path) -> None:
    folder = tmp_path / "test_data_set_0"
    folder.mkdir()
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 4, np.float32)
    for name, value in {"input_0": a, "input_1": b, "output_0": a + b, "output_1": a * b}.items():
        (folder / f"{name}.pb").write_bytes(numpy_helper.from_array(value).SerializeToString())
    assert parsed(capsys, "run", two, "--check", folder)["passed"]
    (folder / "output_1.pb").write_bytes(numpy_helper.from_array(a * b * 1.01).SerializeToString())
    assert not parsed(capsys, "run", two, "--check", folder, code=1)["checks"]["product"]["passed"]


# ---- the others ----------------------------------------------------------------------------------------------------


def test_inspect(capsys: pytest.CaptureFixture[str], cnn: Path) -> None:
    facts = parsed(capsys, "inspect", cnn, "--shape", "x=2,1,8,16")
    assert facts["opsets"] == {"ai.onnx": 21} and facts["parameters"] == 8 * 9 + 8 + 80
    assert facts["macs"] == 2 * 8 * 16 * 8 * 9 + 2 * 8 * 10
    assert facts["operators"]["build"]["Conv"] == 1 and facts["nodes"]["build"] == 6
    assert facts["nodes"]["lower"] <= facts["nodes"]["build"] + 1
    assert facts["fused"].get("Conv + bias + relu") == 1
    assert facts["algorithms"] == {"Conv: indirect GEMM over padded kernel rows": 1}
    assert 0 < facts["plan"]["arena_bytes"] <= facts["plan"]["unshared_bytes"] + 64 * facts["nodes"]["lower"]
    text = said(capsys, "inspect", cnn)
    assert "x     tensor(float)  [batch, 1, height, 16]" in text and "1 × Conv + bias + relu" in text
    assert "1 × Conv: indirect GEMM" in text


def test_inspect_a_loop(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "loop.onnx"
    path.write_bytes(small_models.long_loop())
    facts = parsed(capsys, "inspect", path)
    assert facts["subgraphs"] and facts["operators"]["lower"]["Add"] == 1
    assert facts["plan"]["dynamic"] == [{"name": "for_ever", "op": "Loop"}]
    assert "which depends on the run" in said(capsys, "inspect", path)


@pytest.mark.parametrize("stage", ["build", "simplify", "lower"])
def test_dump(capsys: pytest.CaptureFixture[str], cnn: Path, stage: str) -> None:
    text = said(capsys, "inspect", cnn, "--dump", stage)
    assert "Conv(" in text and "input  x" in text
    assert ("linnet.Conv(" in text) == (stage == "lower")


def test_bench(capsys: pytest.CaptureFixture[str], cnn: Path) -> None:
    pytest.importorskip("onnxruntime")
    result = parsed(capsys, "bench", cnn, "--seconds", 0.05, "--threads", "1,2", "--shape", "height=8")
    assert [(r["runtime"], r["threads"]) for r in result["rows"]] == [
        ("linnet", 1), ("onnxruntime", 1), ("linnet", 2), ("onnxruntime", 2)
    ]  # fmt: skip
    assert result["same_outputs"] and result["outputs"]["y"]["difference"] < 1e-5
    for row in result["rows"]:
        latency = row["latency_seconds"]
        assert 0 < latency["min"] <= latency["p50"] <= latency["p90"] <= latency["p99"]
        assert row["memory_bytes"] > 0 and row["load_seconds"] > 0
        assert (row["ratio"] is not None) == (row["runtime"] == "linnet")
    alone = said(capsys, "bench", cnn, "--seconds", 0.05, "--threads", 1, "--against", "none", "--no-memory")
    assert "onnxruntime" not in alone and "p99" in alone and "ratio" not in alone


def test_profile(capsys: pytest.CaptureFixture[str], cnn: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    result = parsed(capsys, "profile", cnn, "--threads", 1, "--seconds", 0.05, "--trace", trace, "--shape", "height=8")
    conv = [s for s in result["steps"] if s["op"] == "Conv"]
    assert len(conv) == 1 and conv[0]["macs"] == 8 * 16 * 8 * 9 and conv[0]["microseconds"] > 0
    assert conv[0]["name"] == "conv" and conv[0]["gflops"] > 0 and result["peak_gflops"] > 0
    assert sum(o["microseconds"] for o in result["operators"]) == pytest.approx(result["steps_microseconds"])
    events = json.loads(trace.read_text())
    assert {e["args"]["run"] for e in events} and len({e["args"]["run"] for e in events}) == 3
    assert {e["cat"] for e in events} == {"Node", "Session"}
    assert all(e["ph"] == "X" and e["dur"] >= 0 for e in events)
    assert "By operator" in said(capsys, "profile", cnn, "--seconds", 0.02, "--all")


def test_profile_of_a_loop(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "loop.onnx"
    path.write_bytes(small_models.long_loop())
    options = linnet.SessionOptions()
    options.enable_profiling = True
    session = linnet.InferenceSession(path, options)
    for _ in range(3):
        session.run(None, {"count": np.array(7, np.int64)})
    steps = summarise(session.profile())
    (loop,) = [s for s in steps if s.op == "Loop"]
    (add,) = [s for s in steps if s.op == "Add"]
    assert loop.depth == 0 and loop.calls == 1
    assert add.depth == 1 and add.calls == 7 and add.microseconds < loop.microseconds
    assert steps.index(loop) < steps.index(add)


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    facts = parsed(capsys, "info")
    assert facts["version"] == linnet.__version__ and facts["threads"] >= 1
    assert facts["kernel_tables"]["generic"] and facts["kernel_tables"][facts["kernel_table_in_use"]]
    assert all(v > 0 for v in [*facts["peak_gflops"].values(), *facts["bandwidth_gbs"].values()])
    assert "GFLOP/s" in said(capsys, "info")


# ---- mistakes ------------------------------------------------------------------------------------------------------


def test_exit_codes(capsys: pytest.CaptureFixture[str], cnn: Path, two: Path, tmp_path: Path) -> None:
    assert "No such file" in failed(capsys, "run", tmp_path / "absent.onnx", code=1)
    (tmp_path / "junk.onnx").write_bytes(b"junk, not a model")
    for command in ("run", "bench", "inspect", "profile"):
        assert "junk.onnx" in failed(capsys, command, tmp_path / "junk.onnx", code=1)
    assert "[batch, 1, height, 16]" in failed(capsys, "run", cnn, "--shape", "x=1,3,8,16", code=2)
    assert "no input 'q'" in failed(capsys, "run", cnn, "--shape", "q=1,3,8,16", code=2)
    assert "expected sizes" in failed(capsys, "run", cnn, "--shape", "x=1,a", code=2)
    assert "which input" in failed(capsys, "run", two, "--input", "a.npy", code=2)
    assert "'q'" in failed(capsys, "run", two, "--input", "q=a.npy", code=2)
    assert "No such file" in failed(capsys, "run", two, "--input", "a=absent.npy", code=1)
    for words in (["nothing"], ["run"], ["bench", str(cnn), "--threads", "0"], ["run", str(cnn), "--tolerance", "-1"]):
        with pytest.raises(SystemExit) as info:
            main(words)
        assert info.value.code == 2


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", str(tmp_path / "absent.onnx"), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "bench", "inspect", "profile", "info", "demo"])
def test_help_has_examples(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as info:
        main([command, "--help"])
    assert info.value.code == 0
    text = capsys.readouterr().out
    assert f"linnet {command}" in text
    if command != "demo":
        assert "examples:" in text and "--json" in text


def test_as_a_module(cnn: Path) -> None:
    command = [sys.executable, "-m", "linnet"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == f"linnet {linnet.__version__}"
    piped = subprocess.run(
        f"{sys.executable} -m linnet inspect {cnn} --dump build | head -n 1",
        shell=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "Traceback" not in piped.stderr and "input  x" in piped.stdout
    nothing = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert nothing.returncode == 2 and "linnet inspect model.onnx" in nothing.stdout


# ---- parts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected", "passed"),
    [
        (np.array([1.0, 2.0]), np.array([1.0, 2.0001]), True),
        (np.array([1.0, 2.0]), np.array([1.0, 2.001]), False),
        (np.array([1e-9, 100.0]), np.array([1e-3, 100.0]), True),
        (np.array([np.nan, 1]), np.array([np.nan, 1]), True),
        (np.array([np.nan, 1]), np.array([1, 1.0]), False),
        (np.array([1.0, 1]), np.array([np.inf, 1.0]), False),
        (np.array([np.inf, -np.inf]), np.array([np.inf, -np.inf]), True),
        (np.array([np.inf]), np.array([-np.inf]), False),
        (np.array([0.0]), np.array([0.0]), True),
        (np.array([1e-30]), np.array([0.0]), False),
        (np.array([1, 2]), np.array([1, 2]), True),
        (np.array([1, 2]), np.array([1, 3]), False),
        (np.array([1.0]), np.array([1]), False),
        (np.ones((2, 1)), np.ones((1, 2)), False),
        (np.array(["a"], object), np.array(["a"]), True),
        (np.array(["a"], object), np.array(["b"]), False),
        ([np.ones(2), np.ones(3)], [np.ones(2), np.ones(3)], True),
        ([np.ones(2)], [np.ones(2), np.ones(3)], False),
        ({1: 0.5}, {1: 0.5}, True),
        ({1: 0.5}, {2: 0.5}, False),
        (None, None, True),
        (None, np.ones(1), False),
        (np.ones(0), np.ones(0), True),
    ],
)
def test_compare(given: Any, expected: Any, passed: bool) -> None:
    result = _compare.compare(given, expected, 1e-4)
    assert result.passed is passed and result.text


def test_texts() -> None:
    assert _text.count(950) == "950" and _text.count(11_700_000) == "11.7 M" and _text.count(4.12e9) == "4.12 G"
    assert _text.shorten("abcdefghij", 5) == "ab…ij" and _text.shorten("abc", 5) == "abc"
    table = _text.table(["a", "b", "c"], [["x", "", "1"], ["yy", "", "22"]]).splitlines()
    assert table == ["  a    c", "  x    1", "  yy  22"]
