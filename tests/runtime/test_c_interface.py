"""The shared library as other languages see it: through ctypes, and from C and C++ programs built against an
installation."""

from __future__ import annotations

import ctypes
import subprocess
import threading
from ctypes import byref, c_char_p, c_int64, c_size_t, c_uint32, c_void_p
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from c_library import (
    BOOL,
    CANCELLED,
    FLOAT32,
    INVALID_ARGUMENT,
    INVALID_PROTOBUF,
    NO_SUCH_FILE,
    OK,
    RUNTIME_ERROR,
    SEQUENCE,
    STRING,
    TENSOR,
    Library,
    Port,
)

ROOT = Path(__file__).resolve().parents[2]


def reference(model: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)


def test_versions_and_names(c: Library) -> None:
    assert c.lib.linnet_version().count(b".") == 2
    assert c.lib.linnet_isa()
    assert c.lib.linnet_check_api(c_uint32(1)) == OK
    assert c.lib.linnet_check_api(c_uint32(10**6)) == INVALID_ARGUMENT
    assert "the library" in c.error()
    assert c.lib.linnet_dtype_name(FLOAT32) == b"float32"
    assert [c.lib.linnet_dtype_size(d) for d in (FLOAT32, STRING, 11, 99)] == [4, 0, 8, 0]
    assert c.lib.linnet_status_text(NO_SUCH_FILE) == b"no such file"
    assert c.lib.linnet_status_text(77) == b"an unknown status"


def test_ports(c: Library, models: Path) -> None:
    session = c.open(models / "mlp.onnx")
    assert c.lib.linnet_session_input_count(session) == 1
    assert c.lib.linnet_session_output_count(session) == 1
    port = Port()
    c.ok(c.lib.linnet_session_input(session, 0, byref(port)))
    assert (port.name, port.kind, port.dtype, port.rank) == (b"x", TENSOR, FLOAT32, 2)
    assert (port.dims[0], port.dims[1]) == (-1, 8)
    assert (port.dim_names[0], port.dim_names[1]) == (b"batch", b"")
    assert c.lib.linnet_session_input(session, 1, byref(port)) == INVALID_ARGUMENT
    assert c.lib.linnet_session_metadata(session, b"author") == b"tests"
    assert c.lib.linnet_session_metadata(session, b"nobody") is None
    c.lib.linnet_session_destroy(session)


def test_run_allocates_or_writes_in_place(c: Library, models: Path) -> None:
    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    (expected,) = reference(models / "mlp.onnx", {"x": x})
    session = c.open(models / "mlp.onnx", threads="1")
    outputs = [None]
    c.ok(c.run(session, {"x": c.view(x)}, [], outputs))
    np.testing.assert_allclose(c.array(outputs[0]), expected, rtol=1e-5, atol=1e-5)
    c.lib.linnet_value_destroy(outputs[0])
    mine = np.full((4, 3), np.nan, np.float32)
    outputs = [c.view(mine).value]
    c.ok(c.run(session, {"x": c.view(x)}, ["y"], outputs))
    np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-5)
    wrong = [c.view(np.zeros((4, 4), np.float32)).value]
    assert c.run(session, {"x": c.view(x)}, ["y"], wrong) == INVALID_ARGUMENT
    assert "memory given for it" in c.error()
    c.lib.linnet_session_destroy(session)


def test_model_bytes(c: Library, models: Path) -> None:
    data = (models / "two_inputs.onnx").read_bytes()
    session = c_void_p()
    c.ok(c.lib.linnet_session_create(data, len(data), None, byref(session)))
    a, b = np.ones((2, 3), np.float32), np.arange(3, dtype=np.float32)
    outputs = [None, None]
    c.ok(c.run(session, {"b": c.view(b), "a": c.view(a)}, ["s", "d"], outputs))
    np.testing.assert_array_equal(c.array(outputs[0]), a + b)
    np.testing.assert_array_equal(c.array(outputs[1]), a - b)
    c.lib.linnet_session_destroy(session)
    np.testing.assert_array_equal(c.array(outputs[0]), a + b)  # results outlive the session


def test_strings(c: Library, models: Path) -> None:
    session = c.open(models / "strings.onnx")
    texts = [b"", b"one", "zwölf".encode(), b"with\0zero"]
    value = c_void_p()
    strings, lengths = (c_char_p * 4)(*texts), (c_size_t * 4)(*map(len, texts))
    c.ok(c.lib.linnet_tensor_create_strings(strings, lengths, (c_int64 * 1)(4), 1, byref(value)))
    outputs = [None]
    c.ok(c.run(session, {"s": value}, [], outputs))
    c.lib.linnet_value_destroy(value)
    for i, text in enumerate(texts):
        pointer, length = c_char_p(), c_size_t()
        c.ok(c.lib.linnet_tensor_string(outputs[0], i, byref(pointer), byref(length)))
        assert ctypes.string_at(pointer, length.value) == text
    assert c.lib.linnet_tensor_string(outputs[0], 4, byref(pointer), None) == INVALID_ARGUMENT
    data = c_void_p()
    assert c.lib.linnet_tensor_data(outputs[0], byref(data), None) == INVALID_ARGUMENT


def test_sequences_own_their_items(c: Library, models: Path) -> None:
    session = c.open(models / "sequence.onnx")
    a, b = np.array([1, 2], np.float32), np.array([3, 4, 5], np.float32)
    outputs = [None]
    c.ok(c.run(session, {"a": c.view(a), "b": c.view(b)}, [], outputs))
    a[:], b[:] = 0, 0  # the caller's memory is the caller's again
    assert c.lib.linnet_value_kind(outputs[0]) == SEQUENCE
    size, item = c_size_t(), c_void_p()
    c.ok(c.lib.linnet_value_size(outputs[0], byref(size)))
    assert size.value == 2
    c.ok(c.lib.linnet_value_item(outputs[0], 1, byref(item)))
    c.lib.linnet_value_destroy(outputs[0])
    assert c.array(item).tolist() == [3, 4, 5]


def test_errors_have_a_status_and_a_text(c: Library, models: Path, tmp_path: Path) -> None:
    session = c_void_p()
    assert c.lib.linnet_session_open(b"/no/such.onnx", None, byref(session)) == NO_SUCH_FILE
    assert "/no/such.onnx" in c.error()
    assert c.lib.linnet_session_create(b"junk", 4, None, byref(session)) == INVALID_PROTOBUF
    assert c.lib.linnet_session_open(None, None, byref(session)) == INVALID_ARGUMENT
    assert c.error() == "'path' is NULL"
    assert not session
    options = c_void_p()
    c.ok(c.lib.linnet_options_create(byref(options)))
    for key, value, message in (
        (b"speed", b"1", "there is no option 'speed'"),
        (b"threads", b"many", "a number is expected"),
        (b"threads", b"100000", "at most 4096"),
        (b"exact", b"2", "0 or 1 is expected"),
        (b"optimization", b"3", "0, 1 or 2 is expected"),
    ):
        assert c.lib.linnet_options_set(options, key, value) == INVALID_ARGUMENT
        assert message in c.error()
    value = c_void_p()
    view, dims = c.lib.linnet_tensor_view, (c_int64 * 2)(2, 3)
    x = np.zeros(6, np.float32)
    assert view(FLOAT32, dims, 2, x.ctypes.data, 23, byref(value)) == INVALID_ARGUMENT
    assert "23 bytes, but float32 2x3 needs 24" in c.error()
    assert view(FLOAT32, dims, 2, None, 24, byref(value)) == INVALID_ARGUMENT
    assert view(FLOAT32, dims, 2, x.ctypes.data + 1, 24, byref(value)) == INVALID_ARGUMENT
    assert "aligned" in c.error()
    assert view(99, dims, 2, x.ctypes.data, 24, byref(value)) == INVALID_ARGUMENT
    huge = (c_int64 * 2)(2**62, 2**62)
    assert view(FLOAT32, huge, 2, x.ctypes.data, 24, byref(value)) == INVALID_ARGUMENT
    assert c.lib.linnet_tensor_create(FLOAT32, (c_int64 * 1)(-1), 1, byref(value)) == INVALID_ARGUMENT
    assert not value
    session = c.open(models / "mlp.onnx")
    bad = np.zeros((4, 7), np.float32)
    assert c.run(session, {"x": c.view(bad)}, [], [None]) == INVALID_ARGUMENT
    assert "expected float32 [batch, 8], given float32 [4, 7]" in c.error()
    assert c.run(session, {}, [], [None]) == INVALID_ARGUMENT
    assert "input 'x' is missing" in c.error()
    x = np.zeros((4, 8), np.float32)
    assert c.run(session, {"x": c.view(x)}, [], [None, None]) == INVALID_ARGUMENT
    assert "has 1 outputs" in c.error()
    assert c.run(session, {"x": c.view(x)}, ["z"], [None]) == INVALID_ARGUMENT
    for destroy in ("session", "value", "options", "flag", "text"):
        getattr(c.lib, f"linnet_{destroy}_destroy")(None)


def test_limits_are_options(c: Library, models: Path) -> None:
    x = np.zeros((4, 8), np.float32)
    for key in ("memory_limit", "max_model_bytes", "max_nodes", "max_nesting", "max_rank"):
        session, options = c_void_p(), c_void_p()
        c.ok(c.lib.linnet_options_create(byref(options)))
        assert c.lib.linnet_options_set(options, key.encode(), b"-1") == INVALID_ARGUMENT
        assert f"option '{key}' is '-1'" in c.error()
        c.ok(c.lib.linnet_options_set(options, key.encode(), b"1"))
        status = c.lib.linnet_session_open(str(models / "mlp.onnx").encode(), options, byref(session))
        if key in ("max_nesting", "memory_limit"):  # nothing that counts happens while loading
            c.ok(status)
            c.lib.linnet_session_destroy(session)
        else:
            assert status != OK and key in c.error(), c.error()
        c.lib.linnet_options_destroy(options)
    session = c.open(models / "mlp.onnx", memory_limit="1000000", max_nodes="100", max_rank="2")
    c.ok(c.run(session, {"x": c.view(x)}, [], [None]))
    big = np.zeros((100_000, 8), np.float32)
    assert c.run(session, {"x": c.view(big)}, [], [None]) == RUNTIME_ERROR
    assert "limit of 1000000 bytes" in c.error()
    c.ok(c.run(session, {"x": c.view(x)}, [], [None]))


def test_every_byte_but_zero_is_true(c: Library, models: Path) -> None:
    session = c.open(models / "bools.onnx")
    b = np.array([0, 1, 2], np.uint8)
    out = np.full(3, 9, np.uint8)
    c.ok(c.run(session, {"b": c.view(b, BOOL)}, ["n"], [c.view(out, BOOL).value]))
    assert out.tolist() == [1, 0, 0]
    assert b.tolist() == [0, 1, 2]


def test_error_texts_belong_to_threads(c: Library) -> None:
    session = c_void_p()
    c.lib.linnet_session_open(b"/one.onnx", None, byref(session))
    seen = []

    def other() -> None:
        seen.append(c.error())
        c.lib.linnet_session_open(b"/two.onnx", None, byref(session))
        seen.append(c.error())

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen[0] == ""
    assert "/two.onnx" in seen[1]
    assert "/one.onnx" in c.error()


def test_runs_from_many_threads(c: Library, models: Path) -> None:
    session = c.open(models / "mlp.onnx", threads="2")
    source = np.random.default_rng(0)
    inputs = [source.standard_normal((n, 8)).astype(np.float32) for n in (1, 2, 3, 5, 8, 13)]
    expected = [reference(models / "mlp.onnx", {"x": x})[0] for x in inputs]
    wrong = []

    def work(i: int) -> None:
        for _ in range(20):
            outputs = [None]
            c.ok(c.run(session, {"x": c.view(inputs[i])}, [], outputs))
            if not np.allclose(c.array(outputs[0]), expected[i], rtol=1e-5, atol=1e-5):
                wrong.append(i)
            c.lib.linnet_value_destroy(outputs[0])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_run_can_be_stopped(c: Library, tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Neg", ["v"], ["v2"])],
        "body",
        [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), info("v", TensorProto.FLOAT, [2])],
        [info("c2", TensorProto.BOOL, []), info("v2", TensorProto.FLOAT, [2])],
    )
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    loop = helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body)
    shape = [info(n, TensorProto.FLOAT, [2]) for n in "xy"]
    graph = helper.make_graph([loop], "forever", shape[:1], shape[1:], [yes])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    session, flag = c_void_p(), c_void_p()
    c.ok(c.lib.linnet_session_create(data, len(data), None, byref(session)))
    x = c.view(np.ones(2, np.float32))
    names, values = (c_char_p * 1)(b"x"), (c_void_p * 1)(x.value)

    def run(limit_ms: int) -> int:
        return c.lib.linnet_session_run_limited(session, names, values, 1, None, (c_void_p * 1)(), 1, flag, limit_ms)

    assert run(50) == CANCELLED
    c.ok(c.lib.linnet_flag_create(byref(flag)))
    timer = threading.Timer(0.1, lambda: c.lib.linnet_flag_set(flag, 1))
    timer.start()
    assert run(20_000) == CANCELLED
    timer.join()


# ---- the installed package -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["run_model", "run_model_cpp"])
def test_examples_run_against_an_installation(examples: tuple[Path, Path], models: Path, program: str) -> None:
    ones = {"a": np.ones((2, 3), np.float32), "b": np.ones(3, np.float32)}
    d, s = reference(models / "two_inputs.onnx", ones)
    done = subprocess.run(
        [examples[1] / program, models / "two_inputs.onnx", "1"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = [line.replace("float32 [2, 3] ", "") for line in done.stdout.splitlines()[-2:]]
    assert lines == ["d: " + " ".join("0" for _ in range(d.size)), "s: " + " ".join("2" for _ in range(s.size))]


@pytest.mark.parametrize("program", ["run_model", "run_model_cpp"])
def test_examples_report_errors(examples: tuple[Path, Path], models: Path, program: str) -> None:
    done = subprocess.run([examples[1] / program, "none.onnx"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "no such file" in done.stderr


def test_the_library_shows_its_interface_only_and_is_small(examples: tuple[Path, Path]) -> None:
    (library,) = [p for p in examples[0].rglob("liblinnet.so*") if not p.is_symlink()]
    assert library.stat().st_size < 3_000_000
    nm = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1].split("@")[0] for line in nm.splitlines()}
    header = (ROOT / "cpp/include/linnet/linnet.h").read_text()
    assert names
    assert all(name in header for name in names)
    assert not [name for name in names if not name.startswith("linnet_")]
