"""Operators that a program registers: Python functions in models."""

from __future__ import annotations

import gc
import runpy
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import linnet

DOMAIN = "test.domain"
EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    before = linnet.registered_operators()
    yield
    for row in linnet.registered_operators():
        if row not in before:
            linnet.unregister_operator(*row)


def register(name: str, run: Callable[..., Any], infer: Any = None, version: int = 1) -> None:
    linnet.register_operator(DOMAIN, name, version, infer=infer, run=run)


def node(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    return helper.make_node(op, inputs, outputs, f"the_{op}", domain=DOMAIN, **attributes)


def session(
    nodes: list[Any],
    inputs: dict[str, Any] | None = None,
    outputs: dict[str, Any] | None = None,
    version: int | None = 1,
    constants: dict[str, np.ndarray] | None = None,
    threads: int = 1,
) -> linnet.InferenceSession:
    """A session of those nodes; x [n, 3] in and y out, float32, where nothing else is said."""

    def infos(ports: dict[str, Any]) -> list[Any]:
        return [
            v if not isinstance(v, tuple) else helper.make_tensor_value_info(k, v[0], v[1]) for k, v in ports.items()
        ]

    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(DOMAIN, version)] if version else [])

    graph = helper.make_graph(
        nodes,
        "g",
        infos(inputs or {"x": (TensorProto.FLOAT, ["n", 3])}),
        infos(outputs or {"y": (TensorProto.FLOAT, None)}),
        [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()],
    )
    options = linnet.SessionOptions()
    options.intra_op_num_threads = threads
    return linnet.InferenceSession(
        helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString(), options
    )


X = np.array([[-2, 0.5, 3], [1, 2, -7]], np.float32)


@pytest.mark.parametrize("infer", [lambda x, **_: x, None], ids=["inferred", "open"])
def test_runs_among_other_operators(infer: Any) -> None:
    @linnet.register_operator(DOMAIN, "Clamp", infer=infer)
    def clamp(x: np.ndarray, *, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        return np.clip(x, np.float32(low), np.float32(high))

    model = session([helper.make_node("Neg", ["x"], ["m"]), node("Clamp", ["m"], ["c"], low=-1.5),
                     helper.make_node("Add", ["c", "x"], ["y"])])  # fmt: skip
    for rows in (1, 2):
        (y,) = model.run(None, {"x": X[:rows]})
        np.testing.assert_array_equal(y, np.clip(-X[:rows], -1.5, 1.0) + X[:rows])
    assert clamp(X).max() == 1  # still a function


def test_sizes_are_calculated_before_they_are_known() -> None:
    def infer(x: linnet.TensorInfo) -> linnet.TensorInfo:
        n = x.shape[0]
        assert n == n and n != n + 1
        return linnet.TensorInfo("float32", (2 * n + 1 - n, x.shape[1] // 3))

    register("Grow", lambda x: np.ones((x.shape[0] + 1, 1), np.float32), infer)
    model = session([node("Grow", ["x"], ["g"]), helper.make_node("Neg", ["g"], ["y"])])
    assert "Grow(x)" in model.dump("build")
    (y,) = model.run(None, {"x": X})
    assert y.shape == (3, 1)
    assert any("Neg" in line for line in model.dump().splitlines())


def test_sizes_that_depend_on_values() -> None:
    register("Positive", lambda x: x[x > 0], lambda x: linnet.TensorInfo(x.dtype, (None,)))
    model = session([node("Positive", ["x"], ["p"]), helper.make_node("Neg", ["p"], ["y"])])
    np.testing.assert_array_equal(model.run(None, {"x": X})[0], -X[X > 0])
    assert model.run(None, {"x": -np.abs(X)})[0].shape == (0,)


def test_several_outputs_and_optional_inputs() -> None:
    seen = []

    def run(x: np.ndarray, a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
        seen.append((a, b.tolist()))
        return x + 1, np.array(x.shape, np.int64)

    register("Two", run, lambda x, a, b: (x, linnet.TensorInfo(np.int64, (2,))))
    nodes = [node("Two", ["x", "", "k"], ["y", "z"])]
    both = {"y": (TensorProto.FLOAT, None), "z": (TensorProto.INT64, [2])}
    y, z = session(nodes, outputs=both, constants={"k": np.arange(2)}).run(None, {"x": X})
    np.testing.assert_array_equal(y, X + 1)
    assert z.tolist() == [2, 3]
    assert seen == [(None, [0, 1])]
    # a node may name the second output only, or the first
    one = session([node("Two", ["x", "", "k"], ["", "y"])], outputs={"y": both["z"]}, constants={"k": np.arange(2)})
    assert one.run(None, {"x": X})[0].tolist() == [2, 3]
    one = session([node("Two", ["x", "", "k"], ["y"])], constants={"k": np.arange(2)})
    np.testing.assert_array_equal(one.run(None, {"x": X})[0], X + 1)


def test_attributes_and_constants() -> None:
    seen: dict[str, Any] = {}

    def infer(x: linnet.TensorInfo, k: linnet.TensorInfo, **attributes: Any) -> linnet.TensorInfo:
        seen.update(attributes, k=k.value, x=x)
        return x

    register("See", lambda x, k, **attributes: x + k, infer)
    t = helper.make_tensor("t", TensorProto.INT64, [2], [5, 6])
    attributes = {"i": 3, "f": 0.5, "s": "zwölf", "ints": [1, 2], "floats": [0.25], "strings": ["a", "b"], "t": t}
    model = session([node("See", ["x", "k"], ["y"], **attributes)], constants={"k": np.float32([1, 2, 3])})
    assert seen["k"].tolist() == [1, 2, 3] and not seen["k"].flags.writeable
    assert seen["x"].value is None and seen["x"].dtype == np.float32
    for name in ("i", "f", "s"):
        assert seen[name] == attributes[name]
    for name in ("ints", "floats", "strings"):
        assert seen[name] == tuple(attributes[name])
    assert seen["t"].tolist() == [5, 6]
    np.testing.assert_array_equal(model.run(None, {"x": X})[0], X + np.float32([1, 2, 3]))


def test_sequences_and_strings() -> None:
    register("Rows", lambda x: list(x), lambda x: linnet.TensorInfo(x.dtype, sequence=True))
    register("Count", lambda s: np.int64(len(s)) + sum(len(i) for i in s), lambda s: linnet.TensorInfo("int64", ()))
    model = session([node("Rows", ["x"], ["s"]), node("Count", ["s"], ["y"])], outputs={"y": (TensorProto.INT64, [])})
    assert model.run(None, {"x": X})[0] == 2 + 6
    register("Upper", lambda t: np.array([w.upper() for w in t], object), lambda t: t)
    text = (TensorProto.STRING, [None])
    model = session([node("Upper", ["x"], ["y"])], {"x": text}, {"y": text})
    assert model.run(None, {"x": np.array(["ä", "b"])})[0].tolist() == ["Ä", "B"]


@pytest.mark.parametrize("array", [X.T.copy().T, X[:, ::-1], np.float32(4), [[1.0, 2.0], [3.0, 4.0]]])
def test_results_need_not_be_plain_arrays(array: Any) -> None:
    info = linnet.TensorInfo("float32", np.shape(array))
    register("Give", lambda x: array, lambda x: info)
    np.testing.assert_array_equal(session([node("Give", ["x"], ["y"])]).run(None, {"x": X})[0], array)


def test_inputs_are_views_that_cannot_be_written() -> None:
    addresses = []

    def run(x: np.ndarray) -> np.ndarray:
        addresses.append(x.__array_interface__["data"][0])
        with pytest.raises(ValueError, match="read-only"):
            x[0, 0] = 1
        with pytest.raises(ValueError):
            x.flags.writeable = True
        return x  # its memory is copied

    register("Same", run, lambda x: x)
    (y,) = session([node("Same", ["x"], ["y"])]).run(None, {"x": X})
    assert addresses == [X.__array_interface__["data"][0]]
    np.testing.assert_array_equal(y, X)
    assert not np.shares_memory(y, X)


def test_an_input_that_is_kept_is_an_error() -> None:
    kept: list[Any] = []
    register("Keep", lambda x: (kept.append(x[1:]), x + 1)[1])
    with pytest.raises(linnet.RuntimeException, match=r"'the_Keep' .*: the function keeps an input"):
        session([node("Keep", ["x"], ["y"])]).run(None, {"x": X})
    kept.clear()

    def cycle(x: np.ndarray) -> np.ndarray:
        own: list[Any] = [x]
        own.append(own)
        return x + 1

    register("Cycle", cycle)
    np.testing.assert_array_equal(session([node("Cycle", ["x"], ["y"])]).run(None, {"x": X})[0], X + 1)


def test_an_exception_is_the_cause_of_the_error() -> None:
    def run(x: np.ndarray) -> np.ndarray:
        raise ValueError("ouch")

    register("Bad", run)
    with pytest.raises(linnet.RuntimeException, match=r"model bytes: node 'the_Bad' \(test.domain.Bad\): ValueError: ou"
                       ) as caught:  # fmt: skip
        session([node("Bad", ["x"], ["y"])]).run(None, {"x": X})
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError)
    trace = cause.__traceback__
    assert trace is not None and trace.tb_frame.f_code.co_name == "run"
    assert trace.tb_frame.f_locals == {}  # it would view memory that is reused

    def stop(x: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    register("Stop", stop)
    with pytest.raises(KeyboardInterrupt):
        session([node("Stop", ["x"], ["y"])]).run(None, {"x": X})


@pytest.mark.parametrize(
    ("infer", "message"),
    [
        (lambda x: 1 / 0, "ZeroDivisionError"),
        (lambda x: "float32", "must give a TensorInfo"),
        (lambda x: (), "infer gives 0 results; the node has 1 outputs"),
        (lambda x: linnet.TensorInfo("float32", ("n",)), "'str' object cannot be interpreted as an integer"),
        (lambda x: linnet.TensorInfo("float32", (-2,)), "a size is -2"),
        (lambda x: linnet.TensorInfo("datetime64[s]"), "ONNX has no such element type"),
        (lambda x: x.shape[0] > 1, "TypeError"),
    ],
)
def test_errors_of_infer(infer: Any, message: str) -> None:
    register("Op", lambda x: x, infer)
    with pytest.raises(linnet.LinnetError, match="loading model bytes: node 'the_Op'") as caught:
        session([node("Op", ["x"], ["y"])])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (X.astype(np.float64), "output 0 is float64 [2, 3] where infer has said float32 [2, 3]"),
        (X[:1], "output 0 is float32 [1, 3] where infer has said float32 [2, 3]"),
        (None, "output 0: the function gives None"),
        ((), "the function gives 0 results"),
        (object(), "object"),
    ],
)
def test_wrong_results(result: Any, message: str) -> None:
    register("Op", lambda x: result, lambda x: x)
    with pytest.raises(linnet.LinnetError, match="running model bytes: node 'the_Op'") as caught:
        session([node("Op", ["x"], ["y"])]).run(None, {"x": X})
    assert message in str(caught.value)


def test_versions() -> None:
    for version in (1, 3):
        register("V", lambda x, v=version: x * 0 + np.float32(v), lambda x: x, version)
    for imported, expected in ((1, 1), (2, 1), (3, 3), (9, 3), (None, 3)):
        (y,) = session([node("V", ["x"], ["y"])], version=imported).run(None, {"x": X})
        assert y[0, 0] == expected
    register("Late", lambda x: x, version=5)
    with pytest.raises(linnet.NotImplementedOp, match=r"test.domain.Late \(opset 4; it exists from opset 5 on\)"):
        session([node("Late", ["x"], ["y"])], version=4)
    with pytest.raises(linnet.NotImplementedOp, match=r"imports no opset of its domain.* or register your own"):
        session([node("Unknown", ["x"], ["y"])], version=None)


@pytest.mark.parametrize(
    ("domain", "name", "version", "message"),
    [
        ("", "Relu", 1, "ai.onnx.Relu is one of Linnet's own"),
        ("ai.onnx", "Conv", 99, "ai.onnx.Conv is one of Linnet's own"),
        ("com.microsoft", "FusedMatMul", 1, "one of Linnet's own"),
        ("linnet", "Mine", 1, "internal"),
        (DOMAIN, "", 1, "a name"),
        (DOMAIN, "Op", 0, "a version from 1 on"),
        (DOMAIN, "Taken", 1, "is registered already with version 1"),
    ],
)
def test_what_cannot_be_registered(domain: str, name: str, version: int, message: str) -> None:
    register("Taken", lambda x: x)
    with pytest.raises(linnet.InvalidArgument, match=message):
        linnet.register_operator(domain, name, version, run=lambda x: x)
    with pytest.raises(linnet.InvalidArgument, match="must be a function"):
        linnet.register_operator(DOMAIN, "Op", run=3)  # type: ignore[arg-type]
    with pytest.raises(linnet.InvalidArgument, match="not registered with version 7"):
        linnet.unregister_operator(DOMAIN, "Taken", 7)


def test_a_loaded_model_keeps_its_operator() -> None:
    class Add:
        def __call__(self, x: np.ndarray) -> np.ndarray:
            return x + 1

    add = Add()
    gone = weakref.ref(add)
    register("Add", add, lambda x: x)
    model = session([node("Add", ["x"], ["y"])])
    del add
    linnet.unregister_operator(DOMAIN, "Add")
    with pytest.raises(linnet.NotImplementedOp, match=r"test\.domain\.Add"):
        session([node("Add", ["x"], ["y"])])
    np.testing.assert_array_equal(model.run(None, {"x": X})[0], X + 1)
    assert "test.domain.Add" in model.dump("build")
    del model
    gc.collect()
    assert gone() is None


def test_a_function_of_the_model_comes_first() -> None:
    register("F", lambda x: x + 1, lambda x: x)
    body = [helper.make_node("Neg", ["a"], ["b"])]
    function = helper.make_function(DOMAIN, "F", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in "xy")
    graph = helper.make_graph([node("F", ["x"], ["y"])], "g", [x], [y])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=8)
    np.testing.assert_array_equal(linnet.load(model.SerializeToString())(X), -X)


def test_calls_are_neither_merged_nor_made_early() -> None:
    calls = []
    register("Count", lambda x: (calls.append(1), x + len(calls))[1], lambda x: x)
    nodes = [node("Count", ["k"], ["a"]), node("Count", ["k"], ["b"]), helper.make_node("Add", ["a", "b"], ["c"]),
             helper.make_node("Add", ["c", "x"], ["y"])]  # fmt: skip
    model = session(nodes, constants={"k": np.zeros((1, 3), np.float32)})
    assert calls == []
    np.testing.assert_array_equal(model.run(None, {"x": X})[0], X + 3)
    assert len(calls) == 2


def test_from_many_threads_at_once() -> None:
    inner = linnet.load(_relu())
    register("Inner", lambda x: inner(x) + np.float32(1), lambda x: x)  # a run within a run
    model = session([node("Inner", ["x"], ["c"]), helper.make_node("Neg", ["c"], ["y"])], threads=2)
    wrong: list[Any] = []

    def work(seed: int) -> None:
        source = np.random.default_rng(seed)
        for rows in (1, 5, 64, 3):
            x = source.standard_normal((rows, 3)).astype(np.float32)
            (y,) = model.run(None, {"x": x})
            if not np.array_equal(y, -(np.maximum(x, 0) + 1)):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        model.dump("build")  # infers, too
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []


def _relu() -> bytes:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def test_inside_a_loop_body() -> None:
    register("Twice", lambda x: x * np.float32(2), lambda x: x)
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), node("Twice", ["v"], ["v2"])],
        "body",
        [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), info("v", TensorProto.FLOAT, None)],
        [info("c2", TensorProto.BOOL, []), info("v2", TensorProto.FLOAT, None)],
    )
    loop = helper.make_node("Loop", ["three", "", "x"], ["y"], body=body)
    (y,) = session([loop], constants={"three": np.array(3, np.int64)}).run(None, {"x": X})
    np.testing.assert_array_equal(y, X * 8)


def test_the_optimized_model_still_calls_it(tmp_path: Path) -> None:
    register("Same", lambda x, **_: x, lambda x, **_: x)
    options = linnet.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "out.onnx")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3]) for n in "xy")
    graph = helper.make_graph([node("Same", ["x"], ["y"], alpha=2.0)], "g", [x], [y])
    data = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    linnet.InferenceSession(data, options)
    np.testing.assert_array_equal(linnet.load(tmp_path / "out.onnx")(X), X)


def test_the_example_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "custom_operator.py"), run_name="__main__")
    assert capsys.readouterr().out == "[[10.  0.]\n [30. 40.]]\n"
