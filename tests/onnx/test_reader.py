"""The reader of ONNX files: every encoding of a tensor, and files that are broken or meant to do harm."""

from __future__ import annotations

import os
import random
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from linnet import _core, _errors

FLOATS = [0.0, 1.0, -1.5, 3.0, 0.5]
VALUES = {
    TensorProto.FLOAT: FLOATS,
    TensorProto.DOUBLE: FLOATS,
    TensorProto.FLOAT16: FLOATS,
    TensorProto.BFLOAT16: FLOATS,
    TensorProto.FLOAT8E4M3FN: FLOATS,
    TensorProto.FLOAT8E4M3FNUZ: FLOATS,
    TensorProto.FLOAT8E5M2: FLOATS,
    TensorProto.FLOAT8E5M2FNUZ: FLOATS,
    TensorProto.FLOAT8E8M0: [1.0, 2.0, 0.5, 4.0, 0.25],
    TensorProto.FLOAT4E2M1: FLOATS,
    TensorProto.UINT8: [0, 255, 7, 8, 9],
    TensorProto.INT8: [0, -128, 127, -1, 9],
    TensorProto.UINT16: [0, 65535, 7, 8, 9],
    TensorProto.INT16: [0, -32768, 32767, -1, 9],
    TensorProto.UINT32: [0, 2**32 - 1, 7, 8, 9],
    TensorProto.INT32: [0, -(2**31), 2**31 - 1, -1, 9],
    TensorProto.UINT64: [0, 2**64 - 1, 7, 8, 9],
    TensorProto.INT64: [0, -(2**63), 2**63 - 1, -1, 9],
    TensorProto.UINT4: [0, 15, 7, 8, 9],
    TensorProto.INT4: [0, -8, 7, -1, 3],
    TensorProto.UINT2: [0, 3, 1, 2, 3],
    TensorProto.INT2: [0, -2, 1, -1, 1],
    TensorProto.BOOL: [True, False, True, True, False],
    TensorProto.COMPLEX64: [1 + 2j, 0, -1j, 3, 0.5],
    TensorProto.COMPLEX128: [1 + 2j, 0, -1j, 3, 0.5],
}


def dtype_is_packed(data_type: int) -> bool:
    return data_type in (TensorProto.INT4, TensorProto.UINT4, TensorProto.INT2, TensorProto.UINT2)


def constant_model(tensor: TensorProto, opset: int = 23) -> onnx.ModelProto:
    """A model whose only output is an initialiser."""
    out = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
    graph = helper.make_graph([], "g", [], [out], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def load(data: bytes) -> _core.Session:
    return _core.Session.from_bytes(data, _core.SessionOptions())


def value_of(tensor: TensorProto) -> np.ndarray:
    return load(constant_model(tensor).SerializeToString()).run({})[0]


def relu_model() -> onnx.ModelProto:
    """Small, with most kinds of fields."""
    weight = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w")
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "w"], ["s"], name="add", doc_string="sum"),
            helper.make_node("LeakyRelu", ["s"], ["y"], name="act", alpha=0.25),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="tests")
    helper.set_model_props(model, {"key": "text"})
    return model


# ---- encodings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_type", VALUES, ids=TensorProto.DataType.Name)
@pytest.mark.parametrize("raw", [False, True], ids=["field", "raw"])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_tensor_encodings(data_type: int, raw: bool, count: int) -> None:
    tensor = helper.make_tensor("t", data_type, [count], VALUES[data_type][:count])
    expected = numpy_helper.to_array(tensor)
    if raw:
        tensor = numpy_helper.from_array(expected, "t")
        assert tensor.HasField("raw_data")
    given = value_of(tensor)
    assert given.dtype == expected.dtype
    assert given.shape == expected.shape
    if dtype_is_packed(data_type):  # numpy leaves the upper bits open
        assert given.tolist() == expected.tolist()
    else:
        assert given.tobytes() == expected.tobytes()


def test_narrow_inputs_with_any_upper_bits() -> None:
    x = np.frombuffer(b"\x08\xf8\x0f\x17", ml_dtypes.int4)
    assert x.tolist() == [-8, -8, -1, 7]
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT32)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT4, [4])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    assert load(model.SerializeToString()).run({"x": x})[0].tolist() == x.tolist()


def test_strings() -> None:
    tensor = helper.make_tensor("t", TensorProto.STRING, [2, 2], ["", "a", "äöü", "long " * 50])
    assert value_of(tensor).tolist() == [["", "a"], ["äöü", "long " * 50]]


def test_unpacked_fields() -> None:
    """Old writers put a tag before every number."""
    packed = helper.make_tensor("t", TensorProto.FLOAT, [2], [1.5, -2.0])
    bare = TensorProto(name="t", data_type=1, dims=[2])
    unpacked = b"".join(b"\x25" + np.float32(v).tobytes() for v in (1.5, -2.0))
    data = constant_model(packed).SerializeToString()
    old, new = packed.SerializeToString(), bare.SerializeToString() + unpacked
    assert old in data
    # The lengths around it change: rebuild the model by hand.
    graph = helper.make_graph([], "g", [], [helper.make_tensor_value_info("t", 1, [2])]).SerializeToString()
    graph += b"\x2a" + bytes([len(new)]) + new
    model = helper.make_model(helper.make_graph([], "", [], []))
    model.ClearField("graph")
    data = model.SerializeToString() + b"\x3a" + bytes([len(graph)]) + graph
    assert load(data).run({})[0].tolist() == [1.5, -2.0]


def test_bools_that_are_not_0_or_1() -> None:
    tensor = TensorProto(name="t", data_type=TensorProto.BOOL, dims=[3], raw_data=b"\x00\x02\xff")
    assert value_of(tensor).tobytes() == b"\x00\x01\x01"


@pytest.mark.parametrize("linear", [True, False], ids=["linear", "coordinates"])
def test_sparse_initializer(linear: bool) -> None:
    values = numpy_helper.from_array(np.array([5, 6, 7], np.float32), "s")
    index = np.array([1, 3, 5]) if linear else np.array([[0, 1], [1, 0], [1, 2]])
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(index.astype(np.int64), "i"), [2, 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])
    node = helper.make_node("Identity", ["s"], ["y"])
    model = helper.make_model(helper.make_graph([node], "g", [], [out], sparse_initializer=[sparse]))
    assert load(model.SerializeToString()).run({})[0].tolist() == [[0, 5, 0], [6, 0, 7]]


def test_concatenated_messages_merge() -> None:
    """Protobuf defines the concatenation of two messages as their merge."""
    model = relu_model()
    first, second = onnx.ModelProto(), onnx.ModelProto()
    first.CopyFrom(model)
    second.graph.node.append(model.graph.node[1])
    del first.graph.node[1:]
    session = load(first.SerializeToString() + second.SerializeToString())
    x = np.array([[-9, 0, 1], [2, 3, -9]], np.float32)
    s = x + np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(session.run({"x": x})[0], np.where(s < 0, s * np.float32(0.25), s))


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array([-8, 7, 3], ml_dtypes.int4),
        np.array(True),
        np.array(["a", "bc"], object),
        [np.arange(3), np.arange(2)],
        [[np.arange(3)], [np.arange(2), np.arange(1)]],
        [],
    ],
    ids=["tensor", "int4", "scalar", "strings", "sequence", "nested", "empty"],
)
def test_values_round_trip(value: object) -> None:
    data = _core.write_value(value, "v")
    kind = "sequence" if isinstance(value, list) else "tensor"
    again = _core.read_value(data, kind)

    def same(a: object, b: object) -> bool:
        if isinstance(a, list):
            return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
        return a.dtype == b.dtype and a.shape == b.shape and a.tolist() == b.tolist()

    assert same(value, again)
    proto = onnx.SequenceProto() if kind == "sequence" else TensorProto()
    proto.ParseFromString(data)
    assert proto.name == "v"
    if kind == "tensor":
        assert same(value, numpy_helper.to_array(proto))
    elif value and isinstance(value[0], np.ndarray):
        assert same(value, numpy_helper.to_list(proto))


# ---- external data ---------------------------------------------------------------------------------------------------


def external_model(folder: Path, location: str, offset: int | None = None, length: int | None = None) -> Path:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    path = folder / "model.onnx"
    path.write_bytes(constant_model(tensor).SerializeToString())
    return path


def open_file(path: Path) -> _core.Session:
    return _core.Session(path, _core.SessionOptions())


WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("offset", [0, 4, 7, 4096])
def test_external_data(tmp_path: Path, offset: int) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(b"\xff" * offset + WEIGHTS.tobytes() + b"tail")
    session = open_file(external_model(tmp_path, "./sub//w.bin", offset, 24))
    np.testing.assert_array_equal(session.run({})[0], WEIGHTS)


def test_external_data_of_a_model_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    external_model(tmp_path, "w.bin")
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(open_file(Path("model.onnx")).run({})[0], WEIGHTS)


def test_external_data_needs_a_path(tmp_path: Path) -> None:
    data = external_model(tmp_path, "w.bin").read_bytes()
    with pytest.raises(_errors.InvalidArgument, match="given as bytes: load the model by its path"):
        load(data)


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("/etc/passwd", "must be relative"),
        ("../outside.bin", r"must not contain '\.\.'"),
        ("sub/../../outside.bin", r"must not contain '\.\.'"),
        ("sub/../w.bin", r"must not contain '\.\.'"),
        ("", "location is empty"),
        (".", "names a folder"),
        ("sub/", "names a folder"),
        ("sub", "is a folder"),
        ("w.bin\0.txt", "zero byte"),
        ("link.bin", "symbolic link"),
        ("inner_link.bin", "symbolic link"),
        ("linked/w.bin", "symbolic link"),
        ("hard.bin", "hard links"),
        ("pipe", "not a regular file"),
        ("missing.bin", "No such file"),
        ("w.bin/x", "Not a directory"),
    ],
)
def test_external_data_is_refused(tmp_path: Path, location: str, why: str) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside.bin").write_bytes(WEIGHTS.tobytes())
    for name in ("w.bin", "twice.bin", "sub/w.bin"):
        (folder / name).write_bytes(WEIGHTS.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    (folder / "inner_link.bin").symlink_to("w.bin")
    (folder / "linked").symlink_to("sub")
    os.link(folder / "twice.bin", folder / "hard.bin")
    os.mkfifo(folder / "pipe")
    with pytest.raises((_errors.InvalidArgument, _errors.NoSuchFile), match=why):
        open_file(external_model(folder, location))


@pytest.mark.parametrize(
    ("offset", "length", "why"),
    [
        (1, 24, "reach beyond the file's 24 bytes"),
        (2**62, 24, "reach beyond"),
        (0, 23, "length is 23, but shape 2x3 of float32 needs 24"),
        (-1, 24, "'-1' is not a size"),
        (0, 2**64, "is not a size"),
        ("4x", 24, "'4x' is not a size"),
    ],
)
def test_external_ranges_are_checked(tmp_path: Path, offset: object, length: object, why: str) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    with pytest.raises(_errors.InvalidProtobuf, match=why):
        open_file(external_model(tmp_path, "w.bin", offset, length))


# ---- broken files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "not a single byte"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"PK\x03\x04\x14\x00", "a zip archive"),
        (b"\x1c\x00\x00\x00TFL3\x14\x00", "TensorFlow Lite"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x80\x02\x8a\nl\xfc", "a Python pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00" + b'{"a":{}}', "a safetensors file"),
        (b"<\n  ir_version: 8\n>", "ONNX's text form"),
        (b"<?xml version='1.0'?><net>", "an XML file"),
        (b"GGUF\x03\x00\x00\x00", "a GGUF file"),
        (b"\x08\x08", "the model has no graph"),
    ],
)
def test_other_files_are_recognised(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(_errors.InvalidProtobuf, match=what) as caught:
        open_file(path)
    assert "m.onnx" in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(_errors.NoSuchFile, match=r"nothing\.onnx"):
        open_file(tmp_path / "nothing.onnx")
    with pytest.raises(_errors.InvalidArgument, match="is a folder"):
        open_file(tmp_path)


def nested(depth: int) -> bytes:
    """graph.node.attribute.g.node...: three messages a level."""

    def field(number: int, body: bytes) -> bytes:
        length, size = b"", len(body)
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + body

    body = b""
    for _ in range(depth):
        body = field(1, field(5, field(6, body)))
    return field(7, body)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x08" + b"\xff" * 11, "byte 0: a number of more than 64 bits"),
        (b"\x08\xff", "the message ends inside a number"),
        (b"\x3a\x7f\x00", r"has 127 bytes, but its message has only 1 left \(is it cut short\?\)"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "but its message has only 0 left"),
        (b"\x3a\x02\x0a\x05", r"byte 2, graph: field 1 has 5 bytes"),
        (b"\x3a\x04\x0a\x02\x2a\x09", r"graph\.node\[0\]: field 5 has 9 bytes"),
        (b"\x00\x00", "a field number of 0"),
        (b"\x0b", "wire type 3"),
        (b"\x3f", "wire type 7"),
        (b"\x38\x01", "'graph' .field 7. has wire type 0 where 2 is expected"),
        (b"\x3a\x05\x2a\x03\x22\x01\x00", r"graph\.initializer\[0\]: 'float_data' has 1 bytes"),
        (nested(200), "messages are nested more than 100 deep"),
        (b"\x3a\x85\x01\x2a\x82\x01" + b"\x08\x01" * 65, "graph.initializer.0.: a tensor of more than 64 dimensions"),
    ],
)
def test_malformed_bytes(data: bytes, message: str) -> None:
    with pytest.raises(_errors.InvalidProtobuf, match=message):
        load(data)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (TensorProto(name="t", data_type=1, dims=[2], raw_data=b"1234567"), "'raw_data' has 7 bytes, but .* needs 8"),
        (TensorProto(name="t", data_type=1, dims=[3], float_data=[1]), "1 entries, but shape 3 needs 3"),
        (TensorProto(name="t", data_type=14, dims=[1], float_data=[1]), "needs 1 pairs"),
        (TensorProto(name="t", data_type=22, dims=[3], int32_data=[1]), "of int4 needs 2"),
        (TensorProto(name="t", data_type=1, dims=[-1]), "a dimension of -1"),
        (TensorProto(name="t", data_type=1, dims=[2**62, 2**62]), "does not fit into 64 bits"),
        (TensorProto(name="t", data_type=1, dims=[2**61]), "entries|does not fit"),
        (TensorProto(name="t", data_type=1, dims=[2**40]), "'float_data' has 0 entries"),
        (TensorProto(name="t", data_type=99, dims=[1]), "data_type 99 is not known"),
        (TensorProto(name="t", data_type=0, dims=[1]), "data_type 0 is not known"),
        (TensorProto(name="t", data_type=8, dims=[1], raw_data=b"a"), "strings in raw_data"),
        (TensorProto(name="t", data_type=8, dims=[2], string_data=[b"a"]), "'string_data' has 1 entries"),
    ],
)
def test_malformed_tensors(tensor: TensorProto, message: str) -> None:
    model = constant_model(helper.make_tensor("t", 1, [1], [1.0]))
    model.graph.initializer[0].CopyFrom(tensor)
    with pytest.raises(_errors.InvalidProtobuf, match=message) as caught:
        load(model.SerializeToString())
    assert "initializer 't'" in str(caught.value)


@pytest.mark.parametrize(
    ("dims", "index", "message"),
    [
        ([2, 3], [[0, 3]], "is 3 on axis 1 of size 3"),
        ([2, 3], [[-1, 0]], "is -1 on axis 0"),
        ([2, 3], [6], "is 6 of 6 elements"),
        ([2, 3], [[0, 0, 0]], "indices of a sparse tensor have shape 1x3"),
        ([2**20, 2**20], [0], "would take more than"),
    ],
)
def test_malformed_sparse_tensors(dims: list[int], index: list[object], message: str) -> None:
    sparse = onnx.SparseTensorProto(dims=dims)
    sparse.values.CopyFrom(helper.make_tensor("s", 1, [1], [1.0]))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array(index, np.int64), "i"))
    node = helper.make_node("Identity", ["s"], ["y"])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph([node], "g", [], [out], sparse_initializer=[sparse]))
    with pytest.raises((_errors.InvalidProtobuf, _errors.NotImplementedOp), match=message):
        load(model.SerializeToString())


def test_a_small_file_cannot_ask_for_much_memory() -> None:
    """An empty node takes two bytes in the file."""
    nodes = b"\x0a\x00" * 6_000_000
    length, size = b"", len(nodes)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    with pytest.raises(_errors.InvalidProtobuf, match="more messages than a model of its size has"):
        load(b"\x3a" + length + bytes([size]) + nodes)


def test_every_truncation_is_an_error_or_a_model() -> None:
    data = relu_model().SerializeToString()
    load(data)
    survivors = 0
    for size in range(len(data)):
        try:
            load(data[:size])
            survivors += 1
        except _errors.LinnetError:
            pass
    assert survivors < 10  # cut between fields, after the graph


def test_mutations_never_crash() -> None:
    data = relu_model().SerializeToString()
    source = random.Random(7)
    x = np.zeros((2, 3), np.float32)
    refused = 0
    for _ in range(3000):
        broken = bytearray(data)
        for _ in range(source.randint(1, 4)):
            at = source.randrange(len(broken))
            action = source.randrange(3)
            if action == 0:
                broken[at] = source.randrange(256)
            elif action == 1:
                del broken[at]
            else:
                broken.insert(at, source.choice([0, 1, 127, 128, 255]))
        try:
            load(bytes(broken)).run({"x": x})
        except (_errors.LinnetError, UnicodeDecodeError):
            refused += 1
    assert refused > 1000
