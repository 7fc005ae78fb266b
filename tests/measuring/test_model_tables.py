"""``benchmarks.models``: what it compares, what it writes, and a run over a small model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import models, peers, report
from onnx import TensorProto, helper

from linnet.demo._data import MODEL

ROOT = Path(__file__).parents[2]


def row(threads: int = 1, batch: int = 1, **p50: float) -> dict[str, Any]:
    found = {name: {"p50": value, "p99": 2 * value} for name, value in p50.items()}
    return {"model": "net.onnx", "threads": threads, "batch": batch, "peers": found}


def test_difference_is_relative_to_the_largest_output() -> None:
    want = [np.array([1.0, -100.0], np.float32)]
    assert models.difference([np.array([2.0, -100.0], np.float32)], want) == pytest.approx(0.01)
    assert models.difference([np.array([[1.0], [-100.0]], np.float32)], want) == 0.0  # an axis of 1 more
    assert models.difference([np.zeros(3, np.float32)], want) == np.inf
    assert models.difference([np.array([np.nan, -100.0], np.float32)], want) == np.inf
    assert models.difference([], want) == np.inf


def test_inputs_of_a_file_take_a_batch_where_it_is_free(tmp_path: Path) -> None:
    kinds = {"free": ["n", 3], "fixed": [2, 3]}
    for name, shape in kinds.items():
        value = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result])
        (tmp_path / f"{name}.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    assert models.model_feeds(str(tmp_path / "free.onnx"), 8)["x"].shape == (8, 3)
    assert models.model_feeds(str(tmp_path / "fixed.onnx"))["x"].shape == (2, 3)
    with pytest.raises(ValueError, match="the first dimension of x is not free"):
        models.model_feeds(str(tmp_path / "fixed.onnx"), 8)


def test_the_best_other_runtime_is_the_fastest() -> None:
    assert report.best(row(linnet=2, onnxruntime=4, ncnn=2.5), ["linnet", "onnxruntime", "ncnn"]) == ("ncnn", 0.8)


def test_a_runtime_that_failed_leaves_its_cells_empty_and_a_note() -> None:
    found = row(linnet=0.002, onnxruntime=0.004)
    found["peers"]["ncnn"] = {"error": "it has no such operator"}
    found["peers"]["mnn"] = {"p50": 0.005, "p99": 0.005, "difference": 2e-3}
    latency = report.tables([found], ["linnet", "onnxruntime", "ncnn", "mnn"], markdown=True).splitlines()[4]
    assert [c.strip() for c in latency.strip("|").split("|")] == [
        *("net", "1", "2.00 ms", "4.00 ms", "-", "5.00 ms"),
        *("0.50", "0.50 onnxruntime", "-"),
    ]
    less = {**found, "peers": {**found["peers"], "mnn": {"p50": 0.005, "difference": 1e-3}}}
    assert report.notes([less, found], 1e-4) == [
        "net: ncnn: it has no such operator",
        "net: mnn differs by 2e-03 of the largest output",
    ]


def test_throughput_over_the_smallest_batch() -> None:
    rows = [row(linnet=0.01, onnxruntime=0.02), row(batch=8, linnet=0.04, onnxruntime=0.16)]
    names = ["linnet", "onnxruntime"]
    assert report.batches(rows, names) == [
        "net, 1 thread: throughput at batch 8 over batch 1: linnet 2.00, onnxruntime 1.00"
    ]


def test_a_missing_file_of_another_format_says_why(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m benchmarks\.zoo\.convert"):
        peers.converted(tmp_path / "net.onnx", ".mnn")
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers" / peers.FAILED).write_text(json.dumps({"net.mnn": "cannot be converted: no such operator"}))
    with pytest.raises(FileNotFoundError, match=r"net\.mnn: cannot be converted: no such operator"):
        peers.converted(tmp_path / "net.onnx", ".mnn")


def test_guards_of_masked_rows_are_taken_out() -> None:
    from benchmarks.zoo.convert import without_nan_guards

    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in ("x", "y", "z")]
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    nodes = [
        helper.make_node("Softmax", ["x"], ["s"]),
        helper.make_node("IsNaN", ["s"], ["bad"]),
        helper.make_node("Where", ["bad", "zero", "s"], ["safe"]),
        helper.make_node("Relu", ["safe"], ["y"]),
        helper.make_node("Where", ["bad", "s", "zero"], ["z"]),  # no guard: it keeps the test of NaN
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [zero])
    left = without_nan_guards(helper.make_model(graph)).graph.node
    assert [(n.op_type, list(n.input)) for n in left] == [
        ("Softmax", ["x"]),
        ("IsNaN", ["s"]),
        ("Relu", ["s"]),
        ("Where", ["bad", "s", "zero"]),
    ]


def test_a_run_writes_tables_and_everything_measured(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks.models", str(MODEL), "--peers", "linnet,onnxruntime"]
    command += ["--batch", "1,2", "--seconds", "0.01", "--fresh", "1", "--json", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "throughput at batch 2 over batch 1: linnet" in done.stdout
    rows = json.loads(results.read_text())["rows"]
    assert [r["batch"] for r in rows] == [1, 2]
    for found in rows[0]["peers"].values():
        assert 0 < found["p50"] <= found["p99"]
        assert 0 < found["open"] < found["cold"]
    assert rows[0]["peers"]["linnet"]["difference"] < 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peers", "tensorrt"], "no such runtime: tensorrt"),
        (["--threads", "0"], "invalid counts value: '0'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        models.main([str(MODEL), *arguments])
    assert ended.value.code == 2
    assert message in capfd.readouterr().err


def test_the_picture_has_a_bar_for_each_ratio(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks import picture

    rows = [row(linnet=2, onnxruntime=4, ncnn=3), row(threads=2, linnet=1, onnxruntime=2)]
    picture.ratios(rows, ["linnet", "onnxruntime", "ncnn"], "a machine", tmp_path / "out.svg")
    drawn = (tmp_path / "out.svg").read_text()
    assert all(text in drawn for text in (">net<", ">onnxruntime<", ">ncnn<", ">1 thread<", ">2 threads<", "a machine"))
    assert drawn.count("fill: #3b82c4") == 3 and drawn.count("fill: #d9822b") == 2  # with the legend's
