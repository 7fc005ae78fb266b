"""What a user may get wrong: the exception is of the right kind and names file, node and remedy, and the session that
raised it stays usable."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import linnet

sys.path.insert(0, str(Path(__file__).parent / "python"))
import small_models

KIND = (TensorProto.FLOAT, ["n"])


def node(op: str, inputs: str, outputs: str, name: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name=name, **attributes)


def one_input(*nodes: onnx.NodeProto, **more: Any) -> bytes:
    return small_models.model(nodes, {"x": KIND}, {"y": KIND}, **more)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def written(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return written


def refused(model: Any, kind: type[Exception], *parts: str) -> str:
    """Loading raises exactly this kind, and the message holds all parts in this order."""
    with pytest.raises(linnet.LinnetError) as info:
        linnet.InferenceSession(model)
    assert type(info.value) is kind, repr(info.value)
    return holds(str(info.value), *parts)


def holds(message: str, *parts: str) -> str:
    at = 0
    for part in parts:
        assert part in message[at:], f"{part!r} is not in {message!r}"
        at = message.index(part, at) + len(part)
    assert "\n" not in message
    return message


# ---- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9, 0.999])
def test_truncated_file(write: Callable[[str, bytes], Path], share: float) -> None:
    data = small_models.small_cnn()
    path = write("short.onnx", data[: int(len(data) * share)])
    refused(path, linnet.InvalidProtobuf, "short.onnx", "cut short")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"hello, this is no model", "not a readable ONNX model"),
        (b"", "not a single byte"),
        (b"PK\x03\x04" + b"\0" * 100, "zip"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "PNG"),
        (b"\x1f\x8b" + b"\0" * 100, "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
    ],
    ids=["text", "empty", "zip", "html", "png", "gzip", "lfs"],
)
def test_no_model(write: Callable[[str, bytes], Path], data: bytes, said: str) -> None:
    message = refused(write("thing.onnx", data), linnet.InvalidProtobuf, "thing.onnx")
    assert said.lower() in message.lower()


def test_no_such_file(tmp_path: Path) -> None:
    refused(tmp_path / "absent.onnx", linnet.NoSuchFile, "absent.onnx", "No such file")
    with pytest.raises(FileNotFoundError):
        linnet.load(tmp_path / "absent.onnx")


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, linnet.InvalidArgument, str(tmp_path), "folder")


# ---- graphs --------------------------------------------------------------------------------------------------------


def test_unknown_operators_are_listed_all_at_once() -> None:
    data = one_input(
        node("Foo", "x", "a", "first"),
        node("Bar", "a", "b", "second", domain="com.acme"),
        node("Foo", "b", "c", "third"),
        node("Relu", "c", "y", "fine"),
    )
    message = refused(
        data, linnet.NotImplementedOp, "2 operators", "Foo", "'first'", "'third'", "com.acme.Bar", "'second'"
    )
    assert "fine" not in message and "opset <= 28" in message
    with pytest.raises(NotImplementedError):
        linnet.InferenceSession(data)


def test_an_operator_newer_than_the_models_opset() -> None:
    refused(
        one_input(node("Gelu", "x", "y", "act"), opset=11), linnet.NotImplementedOp, "Gelu", "opset 11", "20", "'act'"
    )


def test_an_opset_that_is_too_new() -> None:
    refused(one_input(node("Relu", "x", "y", "r"), opset=99), linnet.NotImplementedOp, "opset 99", "28", "export")


@pytest.mark.parametrize(
    ("nodes", "parts"),
    [
        ([node("Relu", "gone", "y", "n1")], ["'n1' (Relu)", "'gone'"]),
        ([node("Relu", "x", "a", "n1")], ["'y'", "made by no node"]),
        ([node("Add", "x b", "a", "n1"), node("Relu", "a", "b", "n2"), node("Relu", "b", "y", "n3")], ["'n", "cycle"]),
        ([node("Relu", "x", "y", "n1"), node("Abs", "x", "y", "n2")], ["'y'", "two values"]),
        ([node("Add", "x", "y", "n1")], ["'n1' (Add)", "1 input"]),
        ([node("Softmax", "x", "y", "n1", axis=9)], ["'n1' (Softmax)", "axis 9"]),
        ([node("Softmax", "x", "y", "n1", axis="last")], ["'n1' (Softmax)", "'axis'", "type"]),
    ],
    ids=["dangling input", "dangling output", "cycle", "twice", "arity", "attribute value", "attribute type"],
)
def test_broken_graphs(nodes: list[onnx.NodeProto], parts: list[str]) -> None:
    refused(one_input(*nodes), linnet.InvalidGraph, *parts)


@pytest.mark.parametrize(
    ("made", "parts"),
    [
        (node("CumSum", "x", "y", "sums"), ["'sums' (CumSum)", "1 inputs given", "2"]),
        (helper.make_node("CumSum", ["x", ""], ["y"], "sums"), ["'sums' (CumSum)", "input 1 is left out"]),
        (helper.make_node("SequenceAt", ["", "x"], ["y"], "at"), ["'at' (SequenceAt)", "input 0 is left out"]),
        (helper.make_node("Round", ["x"], ["y", "more"], "r"), ["'r' (Round)", "1 output", "2 are named"]),
        (helper.make_node("Round", ["x"], ["", "y"], "r"), ["'r' (Round)", "1 output", "2 are named"]),
        (node("AveragePool", "w", "y i", "p", kernel_shape=[2, 2]), ["'p' (AveragePool)", "1 output", "2 are named"]),
        (node("Conv", "x w", "y", "c"), ["'c' (Conv)", "rank 1", "at least 3"]),
        (node("MaxPool", "x", "y", "p", kernel_shape=[2]), ["'p' (MaxPool)", "rank 1", "at least 3"]),
    ],
    ids=[
        "too few",
        "left out",
        "left out first",
        "output too many",
        "only the second output",
        "indices of an average",
        "Conv of a vector",
        "pool of a vector",
    ],
)
def test_wrong_operands(made: onnx.NodeProto, parts: list[str]) -> None:
    weights = {"w": np.ones((1, 1, 3, 3), np.float32)} if "w" in made.input else {}
    refused(one_input(made, constants=weights), linnet.InvalidGraph, *parts)


@pytest.mark.parametrize("level", [0, 1, 99])
@pytest.mark.parametrize(
    "made",
    [
        helper.make_node("Size", ["x"], [""]),
        helper.make_node("Constant", [], [""], value_float=1.0),
        helper.make_node("ConstantOfShape", ["one"], [""]),
        helper.make_node("Dropout", ["x"], ["", "other"]),
        helper.make_node("LayerNormalization", ["x", "scale"], ["", "other"]),
        helper.make_node("TopK", ["x", "one"], ["", "other"]),
        helper.make_node("Conv", ["picture", "picture"], [""]),
        helper.make_node("LSTM", ["steps", "gates", "gates"], ["", "other"], hidden_size=1),
    ],
    ids=lambda made: made.op_type,
)
def test_a_first_output_that_nobody_asked_for(made: onnx.NodeProto, level: int) -> None:
    constants = {
        "one": np.array([1]),
        "scale": np.ones(3, np.float32),
        "picture": np.ones((1, 1, 2, 2), np.float32),
        "steps": np.ones((1, 1, 1), np.float32),
        "gates": np.ones((1, 4, 1), np.float32),
    }
    proto = small_models.parse(one_input(made, node("Neg", "x", "y", "n"), constants=constants))
    if "other" in made.output:
        proto.graph.output.append(onnx.ValueInfoProto(name="other"))
    options = linnet.SessionOptions()
    options.graph_optimization_level = level
    results = linnet.InferenceSession(proto.SerializeToString(), options).run(None, {"x": np.ones(3, np.float32)})
    np.testing.assert_array_equal(results[0], [-1, -1, -1])
    assert len(results) == len(proto.graph.output)


def test_a_branch_that_is_missing() -> None:
    branch = helper.make_graph(
        [node("Identity", "x", "b", "n")], "then", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n"])]
    )
    data = small_models.model(
        [node("If", "c", "y", "choose", then_branch=branch)],
        {"c": (TensorProto.BOOL, []), "x": KIND},
        {"y": (TensorProto.FLOAT, None)},
    )
    refused(data, linnet.InvalidGraph, "'choose' (If)", "'else_branch' is missing")


def test_an_attribute_that_is_given_twice() -> None:
    branch = helper.make_graph(
        [node("Identity", "x", "b", "n")], "then", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n"])]
    )
    choose = node("If", "c", "y", "choose", then_branch=branch, else_branch=branch)
    kinds = {"c": (TensorProto.BOOL, []), "x": KIND}
    for made, said in (
        (choose, ["'choose' (If)", "'else_branch'", "given twice"]),
        (node("Softmax", "x", "y", "soft", axis=0), ["'soft' (Softmax)", "'axis'", "given twice"]),
    ):
        made.attribute.append(made.attribute[0])
        refused(small_models.model([made], kinds, {"y": KIND}), linnet.InvalidGraph, *said)


def test_text_that_is_not_utf_8() -> None:
    odd = onnx.AttributeProto(name="mode", type=onnx.AttributeProto.STRING, s=b"\xff\xfe")
    resize = helper.make_node("Resize", ["x", "", "s"], ["y"], "r")
    resize.attribute.append(odd)
    data = one_input(resize, constants={"s": np.ones(1, np.float32)})
    refused(data, linnet.InvalidGraph, "'r' (Resize)", "\\xff\\xfe")
    renamed = one_input(node("Relu", "x", "y", "n")).replace(b"\x01x", b"\x01\xff")
    assert linnet.InferenceSession(renamed).get_inputs()[0].name == "\\xff"


def test_numbers_where_symbols_have_their_codes() -> None:
    lowest = -(2**63)
    for start in (lowest, lowest + 1, lowest + 2):
        data = small_models.model(
            [
                node("Range", "start zero step", "r", "range"),
                node("ReduceMean", "x r", "y", "mean", keepdims=1),
            ],
            {"x": (TensorProto.FLOAT, ["a", "b"])},
            {"y": (TensorProto.FLOAT, None)},
            {"start": np.array(start), "zero": np.array(0), "step": np.array(2**62)},
        )
        with pytest.raises(linnet.LinnetError) as info:
            linnet.InferenceSession(data).run(None, {"x": np.ones((2, 3), np.float32)})
        holds(str(info.value), "'mean' (ReduceMean)", "axis")


def test_sizes_that_grow_with_every_node() -> None:
    product = [node("Mul", f"s{i} s{i}", f"s{i + 1}", f"m{i}") for i in range(40)]
    data = one_input(node("Shape", "x", "s0", "shape"), *product, node("ConstantOfShape", "s40", "y", "fill"), opset=21)
    session = linnet.InferenceSession(data)
    assert session.run(None, {"x": np.ones(1, np.float32)})[0].shape == (1,)


def test_shapes_that_cannot_be() -> None:
    data = small_models.model(
        [node("MatMul", "x c", "y", "dense")],
        {"x": (TensorProto.FLOAT, [2, 3])},
        {"y": (TensorProto.FLOAT, [2, 4])},
        {"c": np.ones((5, 4), np.float32)},
    )
    with pytest.raises(linnet.LinnetError) as info:
        linnet.InferenceSession(data)
    holds(str(info.value), "'dense' (MatMul)", "[2, 3]", "[5, 4]")


# ---- external data -------------------------------------------------------------------------------------------------


@pytest.fixture
def external(tmp_path: Path) -> Callable[[str], Path]:
    """A model whose weights lie in another file; the function changes where the first of them is said to lie."""
    path = tmp_path / "model" / "big.onnx"
    path.parent.mkdir()
    proto = small_models.parse(small_models.small_cnn())
    onnx.save_model(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)

    def changed(location: str) -> Path:
        proto = onnx.load(path, load_external_data=False)
        proto.graph.initializer[0].external_data[0].value = location
        path.write_bytes(proto.SerializeToString())
        return path

    return changed


def test_external_data_is_read(external: Callable[[str], Path]) -> None:
    x = np.ones((1, 1, 8, 16), np.float32)
    own = linnet.InferenceSession(external("weights.bin")).run(None, {"x": x})[0]
    np.testing.assert_array_equal(own, linnet.InferenceSession(small_models.small_cnn()).run(None, {"x": x})[0])


def test_external_data_is_missing(external: Callable[[str], Path]) -> None:
    path = external("weights.bin")
    (path.parent / "weights.bin").unlink()
    refused(path, linnet.NoSuchFile, "big.onnx", "initializer 'w'", "weights.bin", "model's folder")


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "a/../../secret.bin"])
def test_external_data_outside(external: Callable[[str], Path], tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 10000)
    (tmp_path / "model" / "a").mkdir()
    refused(external(location), linnet.InvalidArgument, "big.onnx", "initializer 'w'", location, "must")


def test_external_data_behind_a_link(external: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 10000)
    path = external("link.bin")
    (path.parent / "link.bin").symlink_to(tmp_path / "secret.bin")
    refused(path, linnet.InvalidArgument, "link.bin", "symbolic link")


def test_external_data_that_is_too_short(external: Callable[[str], Path]) -> None:
    path = external("short.bin")
    (path.parent / "short.bin").write_bytes(b"123")
    refused(path, linnet.InvalidProtobuf, "initializer 'w'", "short.bin", "3 bytes")


# ---- inputs of a run -----------------------------------------------------------------------------------------------

PICTURE = np.ones((1, 1, 8, 16), np.float32)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> linnet.InferenceSession:
    path = tmp_path_factory.mktemp("model") / "cnn.onnx"
    path.write_bytes(small_models.small_cnn())
    return linnet.InferenceSession(path)


@pytest.mark.parametrize(
    ("feeds", "parts"),
    [
        ({}, ["cnn.onnx", "'x'", "missing", "float32 [batch, 1, height, 16]"]),
        ({"x": PICTURE, "more": PICTURE}, ["cnn.onnx", "'more'", "'x'"]),
        ({"image": PICTURE}, ["'image'", "'x'"]),
        ({"x": PICTURE[:, :, :, :5]}, ["'x'", "dimension 3", "[batch, 1, height, 16]", "[1, 1, 8, 5]"]),
        ({"x": PICTURE[0]}, ["'x'", "rank", "[batch, 1, height, 16]", "[1, 8, 16]"]),
        ({"x": PICTURE.astype(np.float64)}, ["'x'", "element type", "expected float32", "given float64"]),
        ({"x": None}, ["'x'", "expected float32", "given nothing"]),
        ({"x": {"a": 1}}, ["'x'"]),
    ],
    ids=["missing", "extra", "misnamed", "shape", "rank", "dtype", "None", "dict"],
)
def test_wrong_inputs(session: linnet.InferenceSession, feeds: dict[str, Any], parts: list[str]) -> None:
    (before,) = session.run(None, {"x": PICTURE})
    with pytest.raises(linnet.InvalidArgument) as info:
        session.run(None, feeds)
    holds(str(info.value), *parts)
    np.testing.assert_array_equal(session.run(None, {"x": PICTURE})[0], before)


def test_a_sequence_of_the_wrong_type() -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    data = small_models.model([node("SequenceLength", "x", "y", "n")], {"x": kind}, {"y": (TensorProto.INT64, [])})
    sequences = linnet.InferenceSession(data)
    for items, said in (
        ([np.ones(2), np.ones(2)], "element type, float64"),
        ([np.ones(2, np.float32), None], "nothing"),
    ):
        with pytest.raises(linnet.InvalidArgument) as info:
            sequences.run(None, {"x": items})
        holds(str(info.value), "'x'", said, "expected float32")


@pytest.mark.parametrize("feeds", [[PICTURE], PICTURE, {0: PICTURE}], ids=["list", "array", "number"])
def test_inputs_without_names(session: linnet.InferenceSession, feeds: Any) -> None:
    with pytest.raises(linnet.InvalidArgument, match="name"):
        session.run(None, feeds)


def test_names_that_are_no_text(session: linnet.InferenceSession) -> None:
    for names, feeds in (([1], {"x": PICTURE}), (["\ud800"], {"x": PICTURE}), (None, {"\ud800": PICTURE})):
        with pytest.raises(linnet.InvalidArgument, match="text"):
            session.run(names, feeds)  # type: ignore[arg-type]
    text = linnet.InferenceSession(small_models.identity(TensorProto.STRING, ["n"]))
    with pytest.raises(linnet.InvalidArgument, match=r"'x'.*UTF-8"):
        text.run(None, {"x": ["\ud800"]})


def test_memory_at_no_address(session: linnet.InferenceSession) -> None:
    with pytest.raises(linnet.InvalidArgument, match="address 0"):
        session.io_binding().bind_input("x", "cpu", 0, np.float32, [1, 1, 8, 16], 0)


def test_an_unknown_output(session: linnet.InferenceSession) -> None:
    with pytest.raises(linnet.InvalidArgument) as info:
        session.run(["scores"], {"x": PICTURE})
    holds(str(info.value), "'scores'", "'y'")


def test_sizes_that_do_not_fit_each_other() -> None:
    session = linnet.InferenceSession(small_models.two_outputs())
    a = np.ones((2, 3), np.float32)
    for _ in range(2):
        with pytest.raises(linnet.InvalidArgument) as info:
            session.run(None, {"a": a, "b": np.ones((5, 3), np.float32)})
        holds(str(info.value), "[2, 3]", "[5, 3]")
        assert session.run(["sum"], {"a": a, "b": a})[0].sum() == 12


def test_an_index_out_of_range() -> None:
    data = small_models.model(
        [node("Gather", "x i", "y", "pick")],
        {"x": KIND, "i": (TensorProto.INT64, ["m"])},
        {"y": (TensorProto.FLOAT, ["m"])},
    )
    session = linnet.InferenceSession(data)
    x = np.arange(3, dtype=np.float32)
    for wrong in (3, -4, 2**62):
        with pytest.raises(linnet.LinnetError) as info:
            session.run(None, {"x": x, "i": np.array([0, wrong])})
        holds(str(info.value), "'pick' (Gather)", str(wrong))
        assert session.run(None, {"x": x, "i": np.array([-1])})[0] == 2


def test_a_run_that_asks_for_too_much_memory() -> None:
    data = small_models.model(
        [node("ConstantOfShape", "s", "y", "fill")], {"s": (TensorProto.INT64, ["m"])}, {"y": (TensorProto.FLOAT, None)}
    )
    session = linnet.InferenceSession(data)
    for sizes in ([2**40, 2**10], [2**62, 2**62], [-1]):
        with pytest.raises(linnet.LinnetError) as info:
            session.run(None, {"s": np.array(sizes)})
        holds(str(info.value), "'fill' (ConstantOfShape)")
        assert session.run(None, {"s": np.array([2, 3])})[0].shape == (2, 3)


def test_an_empty_output_of_a_size_beyond_all() -> None:
    data = small_models.model(
        [node("ConstantOfShape", "s", "y", "fill")], {"s": (TensorProto.INT64, ["m"])}, {"y": (TensorProto.FLOAT, None)}
    )
    with pytest.raises(linnet.InvalidArgument, match=r"'fill' \(ConstantOfShape\).*overflows"):
        linnet.InferenceSession(data).run(None, {"s": np.array([0, 2**62])})


def test_empty_inputs_of_sizes_beyond_all() -> None:
    data = small_models.model(
        [node("CenterCropPad", "x s", "y", "crop")],
        {"s": (TensorProto.INT64, [2])},
        {"y": (TensorProto.FLOAT, None)},
    )
    proto = small_models.parse(data)
    proto.graph.initializer.append(TensorProto(name="x", data_type=TensorProto.FLOAT, dims=[0, 2**63 - 1]))
    refused(proto.SerializeToString(), linnet.InvalidProtobuf, "'x'")


def test_a_size_that_would_be_a_rank() -> None:
    data = small_models.model(
        [node("AffineGrid", "t s", "y", "grid")],
        {"t": (TensorProto.FLOAT, [1, 2**40, 3]), "s": (TensorProto.INT64, [4])},
        {"y": (TensorProto.FLOAT, None)},
    )
    refused(data, linnet.InvalidGraph, "'grid' (AffineGrid)", "1099511627776 rows", "2 or 3")


def endless() -> bytes:
    """A Loop of `count` rounds that stacks its state, and has no step in its body."""
    body = helper.make_graph(
        [node("Identity", "go", "still", "a"), node("Identity", "v", "w", "b"), node("Identity", "v", "each", "c")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, ["n"]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("each", TensorProto.FLOAT, ["n"]),
        ],
    )
    loop = helper.make_node("Loop", ["count", "", "x"], ["last", "y"], name="for_ever", body=body)
    return one_input(loop, constants={"count": np.array(2**62)})


def test_a_loop_without_steps_stops_in_time() -> None:
    options = linnet.RunOptions()
    options.time_limit_ms = 20
    with pytest.raises(linnet.Cancelled, match="time limit"):
        linnet.InferenceSession(endless()).run(None, {"x": np.ones(2, np.float32)}, options)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc")
@pytest.mark.skipif(
    "libclang_rt.asan" in Path("/proc/self/maps").read_text(), reason="AddressSanitizer needs memory of its own"
)
def test_a_run_that_uses_up_all_memory(write: Callable[[str, bytes], Path]) -> None:
    script = """
        import resource, sys
        import numpy as np
        import linnet
        options = linnet.SessionOptions()
        options.intra_op_num_threads = 1
        session = linnet.InferenceSession(sys.argv[1], options)
        x = np.ones(2, np.float32)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20),) * 2)
        try:
            session.run(None, {"x": x})
        except linnet.RuntimeException as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(write("loop.onnx", endless()))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "loop.onnx: node 'for_ever' (Loop): no memory is left" in done.stdout, done.stderr


def test_options_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = linnet.SessionOptions()
    options.intra_op_num_threads = -1
    with pytest.raises(linnet.InvalidArgument, match="intra_op_num_threads"):
        linnet.InferenceSession(small_models.relu(), options)
    options.intra_op_num_threads = 10**6
    with pytest.raises(linnet.InvalidArgument, match="1000000 threads"):
        linnet.InferenceSession(small_models.relu(), options)
    options = linnet.SessionOptions()
    options.add_free_dimension_override_by_name("n", -2)
    with pytest.raises(linnet.InvalidArgument, match=r"'n'.*-2"):
        linnet.InferenceSession(small_models.relu(), options)
    run_options = linnet.RunOptions()
    run_options.time_limit_ms = 2**63 - 1
    assert len(linnet.InferenceSession(small_models.relu()).run(None, {"x": PICTURE[0, 0, :1, :4]}, run_options)) == 1
    with pytest.raises(TypeError):
        linnet.InferenceSession(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="SessionOptions"):
        linnet.InferenceSession(small_models.relu(), {"threads": 1})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="RunOptions"):
        linnet.InferenceSession(small_models.relu()).run(None, {"x": PICTURE}, 3)  # type: ignore[arg-type]
    for name, value in {"intra_op_num_threads": "4", "enable_profiling": "yes", "logid": 3}.items():
        with pytest.raises(TypeError, match=name):
            setattr(options, name, value)
    with pytest.raises(AttributeError, match="intra_op_num_threads"):
        options.intra_op_num_thread = 2  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="terminate"):
        linnet.RunOptions().terminated = True  # type: ignore[attr-defined]
    options = linnet.SessionOptions()
    options.add_initializer("w", linnet.OrtValue.ortvalue_from_numpy(np.ones(3)))
    with pytest.raises(linnet.InvalidArgument, match=r"'w'.*expected float32 8x1x3x3, given float64 3"):
        linnet.InferenceSession(small_models.small_cnn(), options)
    monkeypatch.setenv("LINNET_ISA", "sparc")
    with pytest.raises(linnet.InvalidArgument, match=r"LINNET_ISA is 'sparc'.*generic"):
        linnet.InferenceSession(small_models.relu())
