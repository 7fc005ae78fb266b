"""External data that a model must not have: outside its folder, behind links, no file, lies about offset and length."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import linnet
from bounded import attempt

COUNT = 64
BYTES = COUNT * 4


def with_external(**entries: str) -> onnx.ModelProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[COUNT], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"], "sum")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [COUNT])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [COUNT])],
        [tensor],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, and beside it a file of the right size that it must not read."""
    (tmp_path / "secret.bin").write_bytes(b"\x01" * BYTES)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.bin").write_bytes(b"\x01" * BYTES)
    inside = tmp_path / "model"
    inside.mkdir()
    (inside / "good.bin").write_bytes(np.arange(COUNT, dtype=np.float32).tobytes())
    return inside


def load(folder: Path, **entries: str) -> Any:
    path = folder / "m.onnx"
    path.write_bytes(with_external(**entries).SerializeToString())
    x = np.zeros(COUNT, np.float32)
    return attempt(lambda: linnet.InferenceSession(path).run(None, {"x": x})[0])


def test_the_file_itself(folder: Path) -> None:
    np.testing.assert_array_equal(load(folder, location="good.bin"), np.arange(COUNT))
    np.testing.assert_array_equal(load(folder, location="./good.bin", offset="0", length=str(BYTES)), np.arange(COUNT))


def symlink(folder: Path) -> str:
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    return "link.bin"


def symlink_inside(folder: Path) -> str:
    (folder / "alias.bin").symlink_to(folder / "good.bin")
    return "alias.bin"


def parent_symlink(folder: Path) -> str:
    (folder / "sub").symlink_to(folder.parent / "elsewhere")
    return "sub/secret.bin"


def hard_link(folder: Path) -> str:
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    return "hard.bin"


def fifo(folder: Path) -> str:
    os.mkfifo(folder / "pipe.bin")
    return "pipe.bin"


def socket(folder: Path) -> str:
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket.bin"))
    return "socket.bin"


def directory(folder: Path) -> str:
    (folder / "weights").mkdir()
    return "weights"


def named(name: str) -> Callable[[Path], str]:
    return lambda folder: name


@pytest.mark.parametrize(
    ("made", "kind", "said"),
    [
        (named("../secret.bin"), "InvalidArgument", "must not contain '..'"),
        (named("a/../../secret.bin"), "NoSuchFile", "cannot open 'a'"),
        (named("./../secret.bin"), "InvalidArgument", "must not contain '..'"),
        (named(".."), "InvalidArgument", "'..'"),
        (named("/etc/passwd"), "InvalidArgument", "relative"),
        (named("//etc/passwd"), "InvalidArgument", "relative"),
        (named("/proc/self/mem"), "InvalidArgument", "relative"),
        (named(""), "InvalidArgument", "empty"),
        (named("."), "InvalidArgument", "folder"),
        (named("good.bin/"), "InvalidArgument", "folder"),
        (named("good.bin\0.txt"), "InvalidArgument", "zero byte"),
        (named("*/_ORT_MEM_ADDR_/*"), "NoSuchFile", "cannot open"),
        (named("x" * 5000), "NoSuchFile", "cannot open"),
        (named("no/such/file"), "NoSuchFile", "cannot open"),
        (symlink, "InvalidArgument", "symbolic link"),
        (symlink_inside, "InvalidArgument", "symbolic link"),
        (parent_symlink, "InvalidArgument", "symbolic link"),
        (hard_link, "InvalidArgument", "hard links"),
        (fifo, "InvalidArgument", "not a regular file"),
        (socket, "NoSuchFile", "cannot open"),
        (directory, "InvalidArgument", "folder"),
    ],
)
def test_location(folder: Path, made: Callable[[Path], str], kind: str, said: str) -> None:
    message = load(folder, location=made(folder))
    assert isinstance(message, str), "the file was read"
    assert message.startswith(f"{kind}: loading {folder / 'm.onnx'}: initializer 'w': external data"), message
    assert said in message


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"offset": "4"}, "beyond the file's 256 bytes"),
        ({"offset": "256"}, "beyond"),
        ({"offset": str(2**63 - 1)}, "beyond"),
        ({"offset": str(2**63 - 1), "length": str(BYTES)}, "beyond"),
        ({"offset": str(2**64 - 4)}, "not a size"),
        ({"offset": "-4"}, "not a size"),
        ({"offset": "0x10"}, "not a size"),
        ({"offset": " 0"}, "not a size"),
        ({"offset": ""}, "not a size"),
        ({"offset": "1e3"}, "not a size"),
        ({"length": "-1"}, "not a size"),
        ({"length": "0"}, "length is 0"),
        ({"length": "255"}, "length is 255"),
        ({"length": str(2**62)}, "length is"),
        ({"length": str(2**64)}, "not a size"),
        ({"length": "9" * 400}, "not a size"),
    ],
    ids=str,
)
def test_offset_and_length(folder: Path, entries: dict[str, str], said: str) -> None:
    message = load(folder, location="good.bin", **entries)
    assert message.startswith("InvalidProtobuf: loading ") and "initializer 'w': external data" in message, message
    assert said in message


def test_unknown_keys_have_no_effect(folder: Path) -> None:
    """Above all none of them becomes a field of something."""
    got = load(folder, location="good.bin", checksum="0", __class__="x", basepath="/etc", owner="0")
    np.testing.assert_array_equal(got, np.arange(COUNT))


def test_shape_beyond_the_file(folder: Path) -> None:
    model = with_external(location="good.bin")
    for dims in ([2**40], [2**31, 2**31], [2**62, 4], [COUNT + 1]):
        model.graph.initializer[0].dims[:] = dims
        path = folder / "m.onnx"
        path.write_bytes(model.SerializeToString())
        message = attempt(lambda path=path: linnet.InferenceSession(path))
        assert message.startswith("InvalidProtobuf: ") and "initializer 'w'" in message, message


def test_a_model_given_as_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    data = with_external(location="good.bin").SerializeToString()
    message = attempt(lambda: linnet.InferenceSession(data))
    assert message.startswith("InvalidArgument: loading model bytes: initializer 'w'") and "by its path" in message


@pytest.mark.parametrize("place", ["attribute", "subgraph", "sparse", "function"])
def test_other_carriers(folder: Path, place: str) -> None:
    """Whatever holds the tensor, the same rules are kept."""
    tensor = with_external(location="../secret.bin").graph.initializer[0]
    inner = [helper.make_node("Constant", [], ["c"], "const", value=tensor)]
    nodes = [*inner, helper.make_node("Add", ["x", "c"], ["y"], "sum")]
    functions = []
    sparse = []
    if place == "subgraph":
        branch = helper.make_graph(inner, "b", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)])
        truth = helper.make_node("Constant", [], ["t"], value=helper.make_tensor("t", TensorProto.BOOL, [], [1]))
        nodes = [truth, helper.make_node("If", ["t"], ["y"], "if", then_branch=branch, else_branch=branch)]
    if place == "function":
        functions = [helper.make_function("local", "F", [], ["c"], inner, [helper.make_opsetid("", 17)])]
        nodes = [helper.make_node("F", [], ["y"], "call", domain="local")]
    if place == "sparse":
        indices = helper.make_tensor("i", TensorProto.INT64, [COUNT], range(COUNT))
        sparse = [onnx.SparseTensorProto(values=tensor, indices=indices, dims=[COUNT])]
        nodes = [helper.make_node("Add", ["x", "w"], ["y"], "sum")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [COUNT])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        sparse_initializer=sparse,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    path = folder / "m.onnx"
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)
    path.write_bytes(model.SerializeToString())
    message = attempt(lambda: linnet.InferenceSession(path))
    assert message.startswith("InvalidArgument: loading ") and "must not contain '..'" in message, message
