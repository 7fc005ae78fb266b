"""Sharing weights: small files that every runtime runs, zeros that stay zeros, codes that lie well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import linnet
from graphs import Builder, run_both, weights
from linnet import _measure
from linnet.compress import _kmeans, cluster, prune

X = np.random.default_rng(1).normal(size=(2, 8, 9, 9)).astype(np.float32)


def convolutions(opset: int = 17) -> onnx.ModelProto:
    b = Builder(["n", 8, 9, 9])
    y = b.node("Relu", b.conv("x", 8, 64, 3))
    y = b.node("Relu", b.conv(y, 64, 63, 3))
    y = b.node("Flatten", b.node("GlobalAveragePool", y))
    return b.model(b.node("MatMul", y, b.weight(63, 75)), opset)


def rebuilt(model: onnx.ModelProto, source: onnx.ModelProto) -> dict[str, Any]:
    """What runtimes make of the codes: the tensors that the layers read and that the model itself no longer holds."""
    gone = {name: w.shape for name, w in weights(source).items() if name not in weights(model)}
    own = onnx.ModelProto()
    own.CopyFrom(model)
    del own.graph.output[:]
    own.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in gone.items())
    return dict(zip(gone, run_both(own, {"x": X}), strict=True))


@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize("codes", [3, 16, 17, 256])
@pytest.mark.parametrize("opset", [9, 17, 21])
def test_tensors_come_back_as_their_nearest_codes(codes: int, per: str, opset: int) -> None:
    model = convolutions(opset)
    result = cluster(model, codes=codes, per=per)
    onnx.checker.check_model(result.model, full_check=True)
    old = weights(model)
    tensors = rebuilt(result.model, model)
    assert tensors and len(tensors) + len(result.kept) == 3
    for name, value in tensors.items():
        outputs = 1 if name == "w7" else 0
        rows = np.moveaxis(value, outputs, 0) if per == "channel" else value[None]
        given = np.moveaxis(old[name], outputs, 0) if per == "channel" else old[name][None]
        for row, wanted in zip(rows, given, strict=True):
            used = np.unique(row)
            assert len(used) <= codes
            best = np.abs(wanted.ravel()[:, None] - used).min(1)
            np.testing.assert_allclose(np.abs(row - wanted).ravel(), best, rtol=1e-5, atol=1e-6)
    run_both(result.model, {"x": X})


def test_linnet_makes_the_tensors_once_when_it_loads() -> None:
    session = linnet.InferenceSession(cluster(convolutions()).model.SerializeToString())
    dump = session.dump("lower")
    assert "Conv" in dump
    assert "Gather" not in dump


def test_files_shrink(tmp_path: Path) -> None:
    b = Builder(["n", 128])
    y = "x"
    for _ in range(3):
        y = b.node("Relu", b.node("Gemm", y, b.weight(128, 128), b.constant(np.zeros(128, np.float32)), transB=1))
    model = b.model(y)
    sizes = {}
    for codes in (16, 256):
        cluster(model, tmp_path / f"{codes}.onnx", codes=codes)
        sizes[codes] = model.ByteSize() / (tmp_path / f"{codes}.onnx").stat().st_size
    assert sizes[16] >= 7
    assert sizes[256] >= 3.5


def test_loading_needs_the_memory_of_one_tensor_more(tmp_path: Path) -> None:
    b = Builder(["n", 1024])
    y = "x"
    for _ in range(8):
        y = b.node("Relu", b.node("MatMul", y, b.weight(1024, 1024)))
    model, feeds = b.model(y), {"x": np.ones((1, 1024), np.float32)}
    onnx.save(model, tmp_path / "float.onnx")
    cluster(model, tmp_path / "codes.onnx")
    floats, codes = (_measure.memory("linnet", tmp_path / f"{name}.onnx", feeds) for name in ("float", "codes"))
    # A tensor is 4 MB, its way from codes five times that; the allocator may hold what was given back.
    assert codes < floats + 4 * (5 + 8) * 2**20, (floats, codes)


@pytest.mark.parametrize("codes", [16, 256])
def test_zeros_stay_zeros(codes: int) -> None:
    pruned = prune(convolutions(), sparsity=0.8, structure="4x1", scope="layer").model
    result = cluster(pruned, codes=codes)
    old = weights(pruned)
    for name, value in rebuilt(result.model, pruned).items():
        assert (value[old[name] == 0] == 0).all()
        assert len(np.unique(value)) <= codes


def test_recurrent_weights_and_tables_are_shared() -> None:
    rng = np.random.default_rng(0)
    table, w, r = (rng.normal(size=s).astype(np.float32) for s in ((50, 32), (1, 64, 32), (1, 64, 16)))
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["e"]),
        helper.make_node("LSTM", ["e", "w", "r"], ["", "h"], hidden_size=16),
    ]
    tensors = [numpy_helper.from_array(a, n) for a, n in ((table, "table"), (w, "w"), (r, "r"))]
    inputs = [helper.make_tensor_value_info("x", TensorProto.INT64, [4, 2])]
    outputs = [helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 2, 16])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    result = cluster(model)
    assert not {"table", "w", "r"} & set(weights(result.model))
    run_both(result.model, {"x": rng.integers(0, 50, (4, 2))})


def test_a_tensor_that_would_not_shrink_stays() -> None:
    b = Builder(["n", 8])
    model = b.model(b.node("MatMul", b.node("MatMul", "x", b.weight(8, 300)), b.weight(300, 4)))
    result = cluster(model, per="channel", codes=16)
    assert result.kept == {"matmul1": "it would not become smaller"}
    assert "w1" in weights(result.model)
    run_both(result.model, {"x": X[:, :, 0, 0]})


def test_codes_are_weights_again_for_the_next_tool() -> None:
    once = cluster(convolutions(), codes=256)
    again = cluster(once.model, codes=16)
    assert again.model.ByteSize() < 0.6 * once.model.ByteSize()
    run_both(again.model, {"x": X})
    pruned = prune(again.model, sparsity=0.5)
    assert {n.op_type for n in pruned.model.graph.node} == {n.op_type for n in convolutions().graph.node}
    run_both(pruned.model, {"x": X})


def test_weights_behind_a_transpose_are_weights() -> None:
    b = Builder(["n", 64])
    model = b.model(b.node("MatMul", "x", b.node("Transpose", b.weight(32, 64), perm=[1, 0])))
    result = cluster(model)
    assert "Transpose" not in {n.op_type for n in result.model.graph.node}
    run_both(result.model, {"x": np.ones((2, 64), np.float32)})


def test_the_same_model_gives_the_same_bytes() -> None:
    assert cluster(convolutions()).model.SerializeToString() == cluster(convolutions()).model.SerializeToString()


# The codebooks themselves.


@pytest.mark.parametrize("codes", [2, 16, 256])
@pytest.mark.parametrize("kind", ["normal", "uniform", "heavy", "two"])
def test_codes_are_a_local_optimum_and_better_than_a_grid(kind: str, codes: int) -> None:
    rng = np.random.default_rng(5)
    values = {
        "normal": rng.normal(size=20000),
        "uniform": rng.uniform(-1, 1, 20000),
        "heavy": rng.standard_t(3, 20000),
        "two": np.concatenate([rng.normal(-5, 0.1, 10000), rng.normal(5, 0.1, 10000)]),
    }[kind].astype(np.float32)
    book = _kmeans.codebook(values, codes)
    assert len(book) == codes and (np.diff(book) > 0).all()
    index = _kmeans.nearest(book, values)
    assert np.abs(book[index] - values).max() <= np.abs(values[:, None] - book).min(1).max() + 1e-12
    means = np.array(
        [values[index == i].mean(dtype=np.float64) if (index == i).any() else book[i] for i in range(codes)]
    )
    step = (values.max() - values.min()) / codes
    assert np.abs(means - book).max() < 0.05 * step
    grid = values.min() + (np.arange(codes) + 0.5) * step
    error, plain = (float(np.square(b[_kmeans.nearest(b, values)] - values).sum()) for b in (book, grid))
    assert error <= plain * 1.001


def test_few_different_values_are_kept_exactly() -> None:
    values = np.array([0.5, -2, 0.5, 7, 0, 7], np.float32)
    assert _kmeans.codebook(values, 4).tolist() == [-2, 0, 0.5, 7]


def test_zero_is_a_code_where_a_value_is_zero() -> None:
    values = np.random.default_rng(0).normal(3, 0.5, 1000)
    assert 0 not in _kmeans.codebook(values, 16)
    values[17] = 0
    book = _kmeans.codebook(values, 16)
    assert 0 in book and len(book) == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codes": 1}, "2 to 256"),
        ({"codes": 257}, "2 to 256"),
        ({"per": "row"}, "tensor or channel"),
        ({"layers": ["absent"]}, "no layer fits 'absent'"),
        ({"metric": "accuracy"}, "needs data"),
    ],
)
def test_what_does_not_fit_is_said(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(linnet.InvalidArgument, match=message):
        cluster(convolutions(), tmp_path / "out.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_weights_is_refused() -> None:
    b = Builder(["n", 8])
    with pytest.raises(linnet.InvalidArgument, match=r"nothing can be coded: .*no large constant weights"):
        cluster(b.model(b.node("Relu", "x")))


def test_weights_that_are_no_numbers_are_refused() -> None:
    b = Builder(["n", 8])
    model = b.model(b.node("MatMul", "x", b.constant(np.full((8, 400), np.inf, np.float32))))
    with pytest.raises(linnet.InvalidArgument, match="NaN or infinity"):
        cluster(model)
