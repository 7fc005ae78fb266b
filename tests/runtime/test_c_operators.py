"""Operators that a program registers through the C interface: callbacks by ctypes, and the C example."""

from __future__ import annotations

import ctypes
import subprocess
import threading
from collections.abc import Callable, Iterator
from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from c_library import FLOAT32, INVALID_ARGUMENT, INVALID_GRAPH, NOT_IMPLEMENTED, OK, RUNTIME_ERROR, STRING, Library

Callback = CFUNCTYPE(c_int, c_void_p, c_void_p)


class Operator(ctypes.Structure):
    _fields_ = [
        ("domain", c_char_p),
        ("name", c_char_p),
        ("since_version", c_int),
        ("infer", Callback),
        ("run", Callback),
        ("context", c_void_p),
    ]


class Node:
    """A linnet_node with the calls as a C function would write them."""

    def __init__(self, lib: ctypes.CDLL, handle: int) -> None:
        self.lib, self.handle = lib, c_void_p(handle)

    def fail(self, text: str) -> int:
        return int(self.lib.linnet_node_fail(self.handle, text.encode()))

    def input(self, i: int) -> c_void_p:
        value = c_void_p()
        assert self.lib.linnet_node_input(self.handle, i, byref(value)) == OK
        return value

    def array(self, i: int) -> np.ndarray:
        return Library(self.lib).array(self.input(i))

    def input_type(self, i: int) -> tuple[int, list[int] | None]:
        dtype, dims, rank = c_int(), POINTER(c_int64)(), c_int64()
        assert self.lib.linnet_node_input_type(self.handle, i, byref(dtype), byref(dims), byref(rank)) == OK
        return dtype.value, None if rank.value < 0 else [dims[k] for k in range(rank.value)]

    def infer(self, i: int, dtype: int, dims: list[int] | None) -> int:
        sizes = (c_int64 * len(dims or []))(*(dims or []))
        return int(self.lib.linnet_node_infer(self.handle, i, dtype, sizes, -1 if dims is None else len(dims)))

    def write(self, i: int, array: np.ndarray) -> int:
        data = c_void_p()
        dims = (c_int64 * array.ndim)(*array.shape)
        status = self.lib.linnet_node_allocate(self.handle, i, FLOAT32, dims, array.ndim, byref(data))
        if status == OK:
            array = np.ascontiguousarray(array, np.float32)
            ctypes.memmove(data.value, array.ctypes.data, array.nbytes)
        return int(status)


@pytest.fixture
def register(c: Library) -> Iterator[Callable[..., int]]:
    kept: list[Any] = []  # ctypes' functions must outlive the sessions

    def add(name: str, run: Any, infer: Any = None, domain: str = "c.domain", since: int = 1) -> int:
        def callback(function: Any) -> Any:
            return Callback(lambda node, _: function(Node(c.lib, node))) if function else Callback()

        op = Operator(domain.encode(), name.encode(), since, callback(infer), callback(run), None)
        kept.append(op)
        status = c.lib.linnet_operator_register(byref(op))
        if status == OK:
            names.add((domain, name, since))
        return int(status)

    names: set[tuple[str, str, int]] = set()
    yield add
    for domain, name, since in names:
        assert c.lib.linnet_operator_unregister(domain.encode(), name.encode(), since) == OK
    leaked.append(kept)


leaked: list[Any] = []
like_input = lambda node: node.infer(0, *node.input_type(0))  # noqa: E731


def open_model(c: Library, op: str, *, inputs: int = 1, kind: int = TensorProto.FLOAT, **attributes: Any) -> c_void_p:
    names = [f"x{i}" for i in range(inputs)]
    node = helper.make_node(op, names, ["c"], "the_node", domain="c.domain", **attributes)
    last = helper.make_node("Identity", ["c"], ["y"])
    graph = helper.make_graph(
        [node, last],
        "g",
        [helper.make_tensor_value_info(n, kind, ["n", 3]) for n in names],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("c.domain", 1)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    session = c_void_p()
    status = c.lib.linnet_session_create(data, len(data), None, byref(session))
    if status != OK:
        raise RuntimeError(status, c.error())
    return session


X = np.array([[-2, 0.5, 3], [1, 2, -7]], np.float32)


@pytest.mark.parametrize("infer", [like_input, None], ids=["inferred", "open"])
def test_a_c_function_runs(c: Library, register: Callable[..., int], infer: Any) -> None:
    def run(node: Node) -> int:
        assert c.lib.linnet_node_input_count(node.handle) == 2
        assert c.lib.linnet_node_output_count(node.handle) == 1
        assert node.input_type(1) == (FLOAT32, [2, 3])
        return node.write(0, node.array(0) - node.array(1))

    assert register("Minus", run, infer) == OK
    session = open_model(c, "Minus", inputs=2)
    outputs = [None]
    other = X * 3  # alive while it is viewed
    c.ok(c.run(session, {"x0": c.view(X), "x1": c.view(other)}, [], outputs))
    np.testing.assert_array_equal(c.array(outputs[0]), -2 * X)


def test_attributes(c: Library, register: Callable[..., int]) -> None:
    seen: dict[str, Any] = {}

    def infer(node: Node) -> int:
        calls, h = c.lib, node.handle
        i, f, text, length = c_int64(-1), c_float(-1), c_char_p(b"none"), c_size_t(4)
        ints, floats, count, value = POINTER(c_int64)(), POINTER(c_float)(), c_size_t(), c_void_p()
        for name in (b"i", b"absent"):
            assert calls.linnet_node_int(h, name, byref(i)) == OK
        assert calls.linnet_node_float(h, b"f", byref(f)) == OK
        assert calls.linnet_node_string(h, b"s", byref(text), byref(length)) == OK
        assert calls.linnet_node_ints(h, b"ints", byref(ints), byref(count)) == OK
        assert calls.linnet_node_floats(h, b"floats", byref(floats), byref(count)) == OK
        assert calls.linnet_node_tensor(h, b"t", byref(value)) == OK
        seen.update(i=i.value, f=f.value, s=text.value, ints=ints[:2], floats=floats[:2], t=c.array(value).tolist())
        assert calls.linnet_node_int(h, b"f", byref(i)) == INVALID_GRAPH
        assert "attribute 'f' has another type" in c.error()
        assert node.input(0).value is None  # not a constant
        return like_input(node)

    register("Look", lambda node: node.write(0, node.array(0)), infer)
    t = helper.make_tensor("t", TensorProto.FLOAT, [2], [5, 6])
    open_model(c, "Look", i=3, f=0.5, s="zw", ints=[1, 2], floats=[0.25, 4], t=t)
    assert seen == {"i": 3, "f": 0.5, "s": b"zw", "ints": [1, 2], "floats": [0.25, 4], "t": [5, 6]}


def test_strings_and_values(c: Library, register: Callable[..., int]) -> None:
    def run(node: Node) -> int:
        value = c_void_p()
        words = (c_char_p * 2)(b"one", b"two")
        c.ok(c.lib.linnet_tensor_create_strings(words, None, (c_int64 * 2)(1, 2), 2, byref(value)))
        status = c.lib.linnet_node_put(node.handle, 0, value)
        c.lib.linnet_value_destroy(value)
        return int(status)

    register("Words", run, lambda node: node.infer(0, STRING, [1, 2]))
    session = open_model(c, "Words", kind=TensorProto.STRING)
    given, outputs = c_void_p(), [None]
    c.ok(c.lib.linnet_tensor_create_strings((c_char_p * 3)(b"", b"", b""), None, (c_int64 * 2)(1, 3), 2, byref(given)))
    c.ok(c.run(session, {"x0": given}, [], outputs))
    text = c_char_p()
    c.ok(c.lib.linnet_tensor_string(outputs[0], 1, byref(text), None))
    assert text.value == b"two"


@pytest.mark.parametrize(
    ("infer", "run", "message"),
    [
        (like_input, lambda n: n.fail("low is above high"), "node 'the_node' (c.domain.Op): low is above high"),
        (like_input, lambda n: RUNTIME_ERROR, "node 'the_node' (c.domain.Op): error while running"),
        (like_input, lambda n: OK, "the operator has made no output 0"),
        (like_input, lambda n: n.write(0, X[:1]), "output 0 is float32 [1, 3] where infer has said float32 [2, 3]"),
        (like_input, lambda n: n.write(0, X) or n.write(0, X), "output 0 is made twice"),
        (like_input, lambda n: n.infer(0, FLOAT32, [2]), "linnet_node_infer is for 'infer'"),
        (
            None,
            lambda n: n.lib.linnet_node_allocate(n.handle, 0, STRING, None, 0, byref(c_void_p())),
            "linnet_node_put",
        ),
        (None, lambda n: n.lib.linnet_node_input(n.handle, 1, byref(c_void_p())), "input 1 of 1"),
    ],
)
def test_errors_while_running(c: Library, register: Callable[..., int], infer: Any, run: Any, message: str) -> None:
    register("Op", run, infer)
    session = open_model(c, "Op")
    assert c.run(session, {"x0": c.view(X)}, [], [None]) != OK
    assert message in c.error()
    assert "running model bytes" in c.error()


@pytest.mark.parametrize(
    ("infer", "message"),
    [
        (lambda n: n.fail("takes no floats"), "node 'the_node' (c.domain.Op): takes no floats"),
        (lambda n: n.infer(0, FLOAT32, [n.input_type(0)[1][0] + 1]), "calculated from a size that is not known"),
        (lambda n: n.infer(0, 99, []), "element type 99 is not known"),
        (lambda n: OK, "has 0 outputs, 1 are named"),
    ],
)
def test_errors_while_loading(c: Library, register: Callable[..., int], infer: Any, message: str) -> None:
    register("Op", lambda node: OK, infer)
    with pytest.raises(RuntimeError) as caught:
        open_model(c, "Op")
    assert message in caught.value.args[1]


def test_what_cannot_be_registered(c: Library, register: Callable[..., int]) -> None:
    run = lambda node: OK  # noqa: E731
    assert register("Relu", run, domain="") == INVALID_ARGUMENT
    assert "ai.onnx.Relu is one of Linnet's own" in c.error()
    assert register("Op", None) == INVALID_ARGUMENT
    assert register("Op", run, since=0) == INVALID_ARGUMENT
    assert register("Op", run) == OK
    assert register("Op", run) == INVALID_ARGUMENT
    assert "registered already" in c.error()
    assert c.lib.linnet_operator_unregister(b"c.domain", b"Op", 2) == INVALID_ARGUMENT
    assert c.lib.linnet_operator_register(None) == INVALID_ARGUMENT
    with pytest.raises(RuntimeError, match=r"c.domain.None.* or register your own") as caught:
        open_model(c, "None")
    assert caught.value.args[0] == NOT_IMPLEMENTED


def test_from_several_threads(c: Library, register: Callable[..., int]) -> None:
    register("Half", lambda node: node.write(0, node.array(0) / 2), like_input)
    session = open_model(c, "Half")
    c.ok(c.lib.linnet_operator_unregister(b"c.domain", b"Half", 1))  # the session keeps it
    wrong = []

    def work(rows: int) -> None:
        x = np.full((rows, 3), rows, np.float32)
        for _ in range(20):
            outputs = [None]
            c.ok(c.run(session, {"x0": c.view(x)}, [], outputs))
            if (c.array(outputs[0]) != rows / 2).any():
                wrong.append(rows)
            c.lib.linnet_value_destroy(outputs[0])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    register("Half", lambda node: OK)  # free again


def test_the_example_runs(examples: tuple[Path, Path], tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in "xy")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.domain", 1)]
    for low, expected in ((-1.5, "-1.5 -1 0 1 1\n"), (None, "-1 -1 0 1 1\n"), (2.0, "")):
        attributes = {} if low is None else {"low": low}
        node = helper.make_node("Clamp", ["x"], ["y"], "clamp", domain="my.domain", **attributes)
        model = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets, ir_version=8)
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        done = subprocess.run(
            [examples[1] / "custom_operator", tmp_path / "m.onnx"], capture_output=True, text=True, timeout=60
        )
        assert done.stdout == expected, done.stderr
        assert done.returncode == (0 if expected else 1)
        assert expected or "node 'clamp' (my.domain.Clamp): low is above high" in done.stderr
