"""Samples from files, folders and iterables; clear errors for what does not fit, and never a wrong file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import linnet
from float_models import convolutional, model, reference, samples
from linnet.compress import quantize
from linnet.compress._data import Samples, labels


def ports(**shapes: list[Any]) -> list[Any]:
    return [{"name": n, "dtype": "float32", "shape": s, "optional": False} for n, s in shapes.items()]


def test_stacks_are_cut_into_samples(tmp_path: Path) -> None:
    stack = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    np.save(tmp_path / "a.npy", stack)
    np.savez(tmp_path / "b.npz", x=stack[0], labels=np.arange(1))
    np.save(tmp_path / "c.npy", stack[:1])
    (tmp_path / "notes.txt").write_text("no data")
    fixed = Samples(tmp_path / "a.npy", ports(x=[2, 3]))  # one axis more than the input has: a sample each
    assert [s["x"].tolist() for s in fixed] == stack.tolist()
    batch = Samples(tmp_path / "a.npy", ports(x=["n", 2, 3]))  # the first axis is the batch
    assert [s["x"].shape for s in batch] == [(1, 2, 3)] * 4
    pairs = Samples(tmp_path / "a.npy", ports(x=[2, 2, 3]))  # which the model fixes at 2
    assert [s["x"].tolist() for s in pairs] == [stack[:2].tolist(), stack[2:].tolist()]
    folder = Samples(tmp_path, ports(x=[2, 3]))
    assert len(list(folder)) == 6
    assert len(list(folder)) == 6  # again
    assert len(list(Samples(tmp_path, ports(x=[2, 3]), most=5))) == 5


def test_iterables_of_arrays_and_dicts() -> None:
    x = np.ones((2, 3), np.float32)
    assert len(list(Samples([x, {"x": x}], ports(x=[2, 3])))) == 2
    once = Samples((x for _ in range(3)), ports(x=[2, 3]))
    assert len(list(once)) == len(list(once)) == 3
    assert len(list(Samples({"x": x}, ports(x=[2, 3])))) == 1
    assert len(list(Samples(np.stack([x] * 4), ports(x=[2, 3])))) == 4
    two = ports(x=[2, 3], z=["n"])
    assert len(list(Samples([{"x": x, "z": x[0]}], two))) == 1
    with pytest.raises(linnet.InvalidArgument, match=r"sample 0: an array without a name.*'x', 'z'"):
        list(Samples([x], two))


def test_labels_from_files(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", [1, 2])
    np.savez(tmp_path / "l.npz", images=np.zeros(3), labels=[3, 4])
    assert labels(tmp_path / "l.npy").tolist() == [1, 2]
    assert labels(tmp_path / "l.npz").tolist() == [3, 4]
    assert labels([5]).tolist() == [5]
    np.savez(tmp_path / "m.npz", a=[3], b=[4])
    with pytest.raises(linnet.InvalidArgument, match=r"m\.npz: no array 'labels' among a, b"):
        labels(tmp_path / "m.npz")
    with pytest.raises(linnet.NoSuchFile):
        labels(tmp_path / "n.npz")


GOOD = np.zeros((1, 3, 12, 12), np.float32)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "no samples"),
        ([GOOD[:, :2]], r"sample 0: input 'x' has the shape \[1, 2, 12, 12\]; the model takes \[n, 3, 12, 12\]"),
        ([GOOD[0]], r"sample 0: input 'x' has the shape \[3, 12, 12\]"),
        ([GOOD, GOOD.astype(np.float64)], "sample 1: input 'x' is float64; the model takes float32"),
        ([{"image": GOOD}], "sample 0: the model has no input 'image'; its inputs are 'x'"),
        ([{}], "sample 0: input 'x' is missing"),
        ([GOOD, GOOD * np.nan], "sample 1: input 'x' has elements that are NaN or infinite"),
        ([GOOD + np.inf], "sample 0: input 'x' has elements that are NaN"),
        ([GOOD + np.float32(3e38)], "calibrating on sample 0: value '.*': .* elements are NaN or infinite"),
    ],
)
def test_data_that_does_not_fit(data: Any, message: str, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    with pytest.raises(linnet.InvalidArgument, match=message):
        quantize(convolutional(), data, out)
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_data(tmp_path: Path) -> None:
    made = convolutional()
    with pytest.raises(linnet.NoSuchFile, match="absent"):
        quantize(made, tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(linnet.InvalidArgument, match=r"text\.npz: cannot be read as numpy arrays"):
        quantize(made, tmp_path / "text.npz")
    with pytest.raises(linnet.InvalidArgument, match=r"expected a \.npy or \.npz file"):
        quantize(made, Path(__file__))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(linnet.InvalidArgument, match=r"no \.npy or \.npz files"):
        quantize(made, empty)
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    with pytest.raises(linnet.InvalidArgument, match=r"objects\.npy"):
        quantize(made, tmp_path / "objects.npy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "fast"}, "mode is 'fast'; choose 'static', 'dynamic', 'weight-only'"),
        ({"method": "best"}, "method is 'best'"),
        ({"activation": "int4"}, "activation is 'int4'"),
        ({"weight_bits": 4}, "weight_bits is 4; choose 8"),
        ({"percentile": 0}, "percentile is 0"),
        ({"block_size": 32}, "block_size is 32 in mode 'static'"),
        ({"mode": "weight-only", "block_size": 48}, "power of two"),
        ({"smooth": 2}, "smooth is 2"),
        ({"metric": "beauty"}, "metric is 'beauty'"),
        ({"metric": "accuracy"}, "needs labels"),
        ({"labels": [1, 2, 3]}, "expected one label for each"),
        ({"allowed_loss": -1}, "allowed_loss is -1"),
        ({"exclude": "conv1"}, "a list of names"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    made = convolutional()
    with pytest.raises(linnet.InvalidArgument, match=message):
        quantize(made, samples(made, 4), **options)


def test_static_needs_data() -> None:
    with pytest.raises(linnet.InvalidArgument, match="needs calibration_data"):
        quantize(convolutional())


def test_models_without_weights_and_with_integers() -> None:
    plain = model([helper.make_node("Relu", ["x"], ["y"], "relu")], {}, {"x": [3]}, {"y": [3]})
    with pytest.raises(linnet.InvalidArgument, match="no layers with weights"):
        quantize(plain, samples(plain, 2))
    made = convolutional()
    data = samples(made, 2)
    for options in ({}, {"mode": "dynamic"}, {"mode": "weight-only"}):
        done = quantize(made, data, **options).model
        with pytest.raises(linnet.InvalidArgument, match="quantized already"):
            quantize(done, data)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "conv")]
    alone = model(nodes, {"w": np.ones((1, 1, 1, 1), "f4")}, {"x": [1, 1, 2, 2]}, {"y": [1, 1, 2, 2]})
    with pytest.raises(linnet.InvalidArgument, match=r'no layer that mode "dynamic" quantizes: .*\'conv\''):
        quantize(alone, mode="dynamic")


def test_layers_that_cannot_be_quantized_are_named() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "good"),
        helper.make_node("Conv", ["c", "strange"], ["d"], "bad"),
        helper.make_node("Conv", ["d", "k"], ["y"], "computed"),
    ]
    values = {"w": np.ones((1, 1, 1, 1), "f4"), "strange": np.full((1, 1, 1, 1), np.inf, "f4")}
    shapes = {"x": [1, 1, 2, 2], "k": [1, 1, 1, 1]}
    made = model(nodes, values, shapes, {"y": [1, 1, 2, 2]})
    assert {x.name: x.reason for x in quantize(made, samples(made, 3)).kept_float} == {
        "bad": "its weights hold NaN or infinity",
        "computed": "its weights are computed while the model runs",
    }


def test_bodies_of_control_flow_stay_float() -> None:
    """What an If's branches take from outside keeps its name and its value."""
    rng = np.random.default_rng(0)
    out = [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)]
    then = helper.make_graph([helper.make_node("Add", ["h", "h"], ["o"])], "then", [], out)
    other = helper.make_graph([helper.make_node("MatMul", ["h", "w2"], ["o"])], "other", [], out)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], "first"),
        helper.make_node("MatMul", ["h", "w2"], ["g"], "second"),
        helper.make_node("ReduceSum", ["g"], ["s"], "sum", keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["p"], "positive"),
        helper.make_node("If", ["p"], ["o"], "choice", then_branch=then, else_branch=other),
        helper.make_node("Add", ["o", "g"], ["y"], "last"),
    ]
    values = {"zero": np.float32(0)} | {f"w{i}": rng.standard_normal((8, 8)).astype(np.float32) for i in (1, 2)}
    made = model(nodes, values, {"x": [2, 8]}, {"y": [2, 8]})
    data = samples(made, 40)
    done = quantize(made, data)
    assert {x.name for x in done.layers if x.quantized} == {"first", "second"}
    for feeds in data[:4]:
        x, y = reference(made)(feeds)["y"], reference(done.model)(feeds)["y"]
        assert np.abs(x - y).max() < 0.05 * np.abs(x).max()


def test_unreadable_models(tmp_path: Path) -> None:
    data = [GOOD]
    with pytest.raises(linnet.NoSuchFile):
        quantize(tmp_path / "absent.onnx", data)
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(linnet.LinnetError, match=r"bad\.onnx"):
        quantize(tmp_path / "bad.onnx", data)
    with pytest.raises(linnet.LinnetError):
        quantize(b"not a model", data)


def test_files_are_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = convolutional()
    data = samples(made, 2)
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(linnet.Fail, match="cannot write"):
        quantize(made, data, blocked / "out.onnx")
    out = tmp_path / "deep" / "out.onnx"
    done = quantize(made, data, out)
    assert [p.name for p in out.parent.iterdir()] == ["out.onnx"]
    assert out.read_bytes() == done.model.SerializeToString()
    onnx.checker.check_model(out, full_check=True)

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(linnet.Fail, match="No space left"):
        done.save(out)
    monkeypatch.undo()
    assert [p.name for p in out.parent.iterdir()] == ["out.onnx"]  # the old file, and nothing half written
    assert out.read_bytes() == done.model.SerializeToString()


def test_paths_bytes_and_protos_are_alike(tmp_path: Path) -> None:
    made = convolutional()
    data = samples(made, 4)
    onnx.save(made, tmp_path / "m.onnx")
    results = [quantize(m, data).model for m in (made, made.SerializeToString(), tmp_path / "m.onnx")]
    assert results[0] == results[1] == results[2]
    assert made == convolutional()  # what was given is not changed


def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    made = model(nodes, {"w": rng.standard_normal((64, 64)).astype(np.float32)}, {"x": [2, 64]}, {"y": [2, 64]})
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    done = quantize(tmp_path / "m.onnx", samples(made, 8), tmp_path / "q.onnx")
    assert numpy_helper.to_array(next(t for t in done.model.graph.initializer if t.name == "w_quantized")).any()
    assert linnet.load(tmp_path / "q.onnx")(np.ones((2, 64), np.float32)).shape == (2, 64)
