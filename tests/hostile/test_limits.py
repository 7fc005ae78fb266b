"""Limits are options: bytes, nodes, rank, nesting, memory of a session, time of a run."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import linnet
import small_models
from bounded import attempt

X = np.ones((2, 4), np.float32)


def opened(model: Any, **limits: int) -> linnet.InferenceSession:
    options = linnet.SessionOptions()
    for name, value in limits.items():
        setattr(options, name, value)
    return linnet.InferenceSession(model, options)


def refused(model: Any, kind: type[Exception], said: str, **limits: int) -> None:
    with pytest.raises(kind, match=said):
        opened(model, **limits)


def test_the_defaults() -> None:
    options = linnet.SessionOptions()
    assert (options.memory_limit, options.max_model_bytes) == (0, 2**40)
    assert (options.max_nodes, options.max_nesting, options.max_rank) == (250_000, 32, 64)
    assert linnet.RunOptions().time_limit_ms == 0


def test_model_bytes(tmp_path: Path) -> None:
    data = small_models.relu()
    opened(data, max_model_bytes=len(data))
    said = (
        rf"the model has {len(data)} bytes, more than the {len(data) - 1} that are allowed \(option max_model_bytes\)"
    )
    refused(data, linnet.InvalidArgument, said, max_model_bytes=len(data) - 1)
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    refused(path, linnet.InvalidArgument, "max_model_bytes", max_model_bytes=10)


def test_external_data_counts(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    proto = small_models.parse(small_models.small_cnn())
    onnx.save_model(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    total = path.stat().st_size + (tmp_path / "w.bin").stat().st_size
    opened(path, max_model_bytes=total)
    refused(path, linnet.InvalidArgument, r"external data 'w.bin'.*max_model_bytes", max_model_bytes=total - 1)


def chain(count: int) -> bytes:
    names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    nodes = [helper.make_node("Neg", [a], [b]) for a, b in itertools.pairwise(names)]
    kind = (TensorProto.FLOAT, ["n", 4])
    return small_models.model(nodes, {"x": kind}, {"y": kind})


def test_nodes() -> None:
    assert opened(chain(10), max_nodes=10).run(None, {"x": X})[0][0, 0] == 1
    refused(chain(11), linnet.InvalidGraph, r"more than 10 nodes \(option max_nodes\)", max_nodes=10)


def nested(levels: int) -> bytes:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["b"])], "b", [], [helper.make_value_info("b", onnx.TypeProto())]
    )
    for _ in range(levels):
        choose = helper.make_node("If", ["c"], ["b"], then_branch=branch, else_branch=branch)
        branch = helper.make_graph([choose], "b", [], [helper.make_value_info("b", onnx.TypeProto())])
    kind = (TensorProto.FLOAT, ["n", 4])
    last = helper.make_node("Identity", ["b"], ["y"])
    inputs = {"x": kind, "c": (TensorProto.BOOL, [])}
    return small_models.model([*branch.node, last], inputs, {"y": kind})


def test_nesting() -> None:
    session = opened(nested(3), max_nesting=3)
    assert session.run(None, {"x": X, "c": np.array(True)})[0][0, 0] == -1
    refused(nested(4), linnet.InvalidGraph, r"deeper than 3 \(option max_nesting\)", max_nesting=3)


def test_rank() -> None:
    kind = (TensorProto.FLOAT, None)
    data = small_models.model(
        [helper.make_node("Unsqueeze", ["x", "a"], ["y"], "more")],
        {"x": kind, "a": (TensorProto.INT64, ["m"])},
        {"y": kind},
    )
    session = opened(data, max_rank=4)
    assert session.run(None, {"x": X, "a": np.array([0, 1])})[0].shape == (1, 1, 2, 4)
    with pytest.raises(linnet.InvalidGraph, match=r"node 'more' \(Unsqueeze\).*5 dimensions.*at most 4.*max_rank"):
        session.run(None, {"x": X, "a": np.array([0, 1, 2])})
    with pytest.raises(linnet.InvalidArgument, match=r"'x'.*more than 4 dimensions.*max_rank"):
        session.run(None, {"x": X.reshape(1, 1, 1, 2, 4), "a": np.array([0])})
    refused(data, linnet.InvalidArgument, "max_rank", max_rank=65)


def growing() -> bytes:
    kind = (TensorProto.FLOAT, None)
    return small_models.model(
        [helper.make_node("Expand", ["x", "s"], ["big"], "grow"), helper.make_node("ReduceSum", ["big"], ["y"], "sum")],
        {"x": kind, "s": (TensorProto.INT64, ["m"])},
        {"y": kind},
    )


def test_memory_of_a_run() -> None:
    def work() -> Any:
        session = opened(growing(), memory_limit=50_000_000)
        one = np.ones(1, np.float32)
        for size in (2**24, 2**30, 2**40):
            with pytest.raises(linnet.RuntimeException, match=r"running model bytes: .*limit of 50000000 bytes"):
                session.run(None, {"x": one, "s": np.array([size])})
        for _ in range(20):  # what a run took is given back
            assert session.run(None, {"x": one, "s": np.array([10_000_000])})[0].item() == 10_000_000
        return "done"

    assert attempt(work) == "done"


def test_memory_of_planned_runs() -> None:
    kind = (TensorProto.FLOAT, ["n"])
    nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("CumSum", ["a", "zero"], ["b"]),
             helper.make_node("Neg", ["b"], ["y"])]  # fmt: skip
    data = small_models.model(nodes, {"x": kind}, {"y": kind}, {"zero": np.array(0)})
    session = opened(data, memory_limit=3_000_000)
    assert session.run(None, {"x": np.ones(100_000, np.float32)})[0][-1] == 100_000
    with pytest.raises(linnet.RuntimeException, match="limit of 3000000 bytes"):
        session.run(None, {"x": np.ones(1_000_000, np.float32)})
    assert session.run(None, {"x": np.ones(100_000, np.float32)})[0][-1] == 100_000


def test_results_are_their_callers() -> None:
    """Results that are kept do not count as the session's."""
    kind = (TensorProto.FLOAT, ["n"])
    data = small_models.model([helper.make_node("Neg", ["x"], ["y"])], {"x": kind}, {"y": kind})
    session = opened(data, memory_limit=2_000_000)
    kept = [session.run(None, {"x": np.ones(100_000, np.float32)})[0] for _ in range(20)]
    assert sum(k[0] for k in kept) == -20


def test_memory_of_weights() -> None:
    data = small_models.model(
        [helper.make_node("ConstantOfShape", ["s"], ["w"], "make"), helper.make_node("Add", ["x", "w"], ["y"], "add")],
        {"x": (TensorProto.FLOAT, ["n"])},
        {"y": (TensorProto.FLOAT, None)},
        {"s": np.array([1_000_000])},
    )
    refused(data, linnet.RuntimeException, "loading model bytes: .*'make'.*limit of 1000000", memory_limit=1_000_000)
    session = opened(data, memory_limit=20_000_000)
    assert session.run(None, {"x": np.ones(1, np.float32)})[0].size == 1_000_000


@pytest.mark.parametrize("name", ["memory_limit", "max_model_bytes", "max_nodes", "max_nesting", "max_rank"])
def test_limits_that_are_none(name: str) -> None:
    refused(small_models.relu(), linnet.InvalidArgument, name, **{name: -1})
    refused(small_models.relu(), linnet.InvalidArgument, name, **{name: 2**63})
    with pytest.raises(TypeError, match=name):
        setattr(linnet.SessionOptions(), name, "5")


def test_command_line(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(small_models.relu())

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "linnet", "run", str(path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert run("--memory-limit", "1M", "--time-limit", "10").returncode == 0
    failed = run("--memory-limit", "1M", "--shape", "x=1000000,4")
    assert failed.returncode == 1 and "limit of 1000000 bytes" in failed.stderr
    assert run("--memory-limit", "much").returncode == 2
    path.write_bytes(small_models.long_loop())
    np.save(tmp_path / "count.npy", np.array(2**62))
    failed = run("--time-limit", "0.05", "--input", f"count={tmp_path / 'count.npy'}")
    assert failed.returncode == 1 and "time limit" in failed.stderr


def doubling(levels: int) -> bytes:
    nodes = [
        helper.make_node("StringConcat", [f"s{i}" if i else "x"] * 2, [f"s{i + 1}" if i + 1 < levels else "y"], f"n{i}")
        for i in range(levels)
    ]
    kind = (TensorProto.STRING, ["n"])
    return small_models.model(nodes, {"x": kind}, {"y": kind})


def test_memory_of_text() -> None:
    """Strings that double with every node, and one that is copied often."""

    def work() -> Any:
        short = opened(doubling(10), memory_limit=1_000_000)
        assert short.run(None, {"x": np.array(["ab"], object)})[0][0] == "ab" * 1024
        with pytest.raises(linnet.RuntimeException, match=r"\(StringConcat\).*limit of 50000000 bytes"):
            opened(doubling(60), memory_limit=50_000_000).run(None, {"x": np.array(["ab"], object)})
        tile = small_models.model(
            [helper.make_node("Tile", ["x", "r"], ["y"], "copies")],
            {"x": (TensorProto.STRING, ["n"]), "r": (TensorProto.INT64, [1])},
            {"y": (TensorProto.STRING, ["m"])},
        )
        session = opened(tile, memory_limit=50_000_000)
        text = np.array(["a" * 1_000_000], object)
        with pytest.raises(linnet.RuntimeException, match=r"'copies' \(Tile\).*limit of 50000000 bytes"):
            session.run(None, {"x": text, "r": np.array([1000])})
        for _ in range(20):  # what a run took is given back
            assert session.run(None, {"x": text, "r": np.array([10])})[0].size == 10
        return "done"

    assert attempt(work) == "done"


def test_what_is_kept_for_other_inputs_gives_way() -> None:
    """An arena as large as the largest run's stays, but not where it leaves no room for a run of another kind."""
    kind = (TensorProto.FLOAT, ["n"])
    nodes = [
        helper.make_node("Neg", ["x"], ["a"]),
        helper.make_node("CumSum", ["a", "zero"], ["b"]),
        helper.make_node("CumSum", ["b", "zero"], ["c"]),
        helper.make_node("Neg", ["c"], ["y"]),
        helper.make_node("Expand", ["y", "s"], ["z"], "grow"),
        helper.make_node("ReduceMax", ["z"], ["m"], keepdims=0),
    ]
    data = small_models.model(
        nodes,
        {"x": kind, "s": (TensorProto.INT64, [2])},
        {"m": (TensorProto.FLOAT, [])},
        {"zero": np.array(0)},
    )
    session = opened(data, memory_limit=20_000_000)
    few, many = np.ones(10, np.float32), np.ones(1_000_000, np.float32)
    session.run(None, {"x": many, "s": np.array([1, 1])})
    for attempt_number in range(2):
        try:
            assert session.run(None, {"x": few, "s": np.array([400_000, 1])})[0] == -1 * -1 * 55
        except linnet.RuntimeException:
            assert attempt_number == 0
    session.run(None, {"x": many, "s": np.array([1, 1])})
