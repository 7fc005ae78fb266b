"""A graph written as ONNX again: onnx accepts it, and onnxruntime and Linnet compute the same from it as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from linnet import _core

MODELS = {
    "chain": """
        <ir_version: 8, opset_import: ["" : 17]>
        chain (float[batch, 4] x) => (float[batch, 4] y)
        <float[4] w = {1, 2, 3, 4}, float[4] unused = {0, 0, 0, 0}>
        { s = Add(x, w)  y = LeakyRelu<alpha = 0.25>(s) }
    """,
    "if_that_captures": """
        <ir_version: 8, opset_import: ["" : 17]>
        branches (float[3] x, bool flag) => (float[3] y)
        <float[3] w = {1, 2, 3}>
        {
            d = Mul(x, w)
            y = If (flag) <
                then_branch = then_graph () => (float[3] r) { r = Add(d, x) },
                else_branch = else_graph () => (float[3] r) { t = Neg(d)  r = Mul(t, w) }
            >
        }
    """,
    "if_that_passes_a_value_through": """
        <ir_version: 8, opset_import: ["" : 17]>
        branches (float[3] x, bool flag) => (float[3] y)
        {
            d = Neg(x)
            y = If (flag) <
                then_branch = then_graph () => (float[3] r) { r = Identity(d) },
                else_branch = else_graph () => (float[3] r) { r = Constant<value = float[3] {7, 8, 9}>() }
            >
        }
    """,
    "nested_loops": """
        <ir_version: 8, opset_import: ["" : 17]>
        loops (float[2] x) => (float[2] y, float[k, 2] all)
        <int64 n = {3}, bool yes = {1}, float[2] step = {0.5, 1}>
        {
            y, all = Loop (n, yes, x) <
                body = body (int64 i, bool c, float[2] v) => (bool c2, float[2] v2, float[2] out) {
                    c2 = Identity(c)
                    m = Loop (n, , v) <
                        body = inner (int64 i2, bool c3, float[2] u) => (bool c4, float[2] u2) {
                            c4 = Identity(c3)
                            f = CastLike(i, u)
                            g = Mul(step, f)
                            u2 = Add(u, g)
                        }
                    >
                    v2 = Sub(m, x)
                    out = Identity(v2)
                }
            >
        }
    """,
    "optional_inputs": """
        <ir_version: 8, opset_import: ["" : 17]>
        clip (float[5] x) => (float[5] y)
        <float top = {0.5}>
        { y = Clip(x, , top) }
    """,
    "normalizations_before_their_operators": """
        <ir_version: 8, opset_import: ["" : 13]>
        norms (float[n, 4] x) => (float[n, 4] y, float[n, 4] z)
        <float[4] w = {1, 2, 3, 4}, float[4] b = {0, 1, 0, 1}, float two = {2}, float small = {0.00001}>
        {
            m = ReduceMean<axes = [-1]>(x)  d = Sub(x, m)  dd = Pow(d, two)  v = ReduceMean<axes = [-1]>(dd)
            e = Add(v, small)  s = Sqrt(e)  q = Div(d, s)  qw = Mul(q, w)  y = Add(qw, b)
            xx = Mul(x, x)  mm = ReduceMean<axes = [-1]>(xx)  ee = Add(mm, small)  r = Sqrt(ee)  i = Reciprocal(r)
            xi = Mul(x, i)  z = Mul(xi, w)
        }
    """,
    "padding_wider_than_the_pool": """
        <ir_version: 8, opset_import: ["" : 17]>
        pool (float[1, 1, 4, 4] x) => (float[1, 1, 9, 9] y, float[1, 1, 5, 5] z)
        <int64[8] wide = {0, 0, 3, 3, 0, 0, 3, 3}, int64[8] narrow = {0, 0, 1, 1, 0, 0, 1, 1}>
        { a = Pad(x, wide)  y = AveragePool<kernel_shape = [2, 2]>(a)
          b = Pad(x, narrow)  z = AveragePool<kernel_shape = [2, 2]>(b) }
    """,
    "outputs_that_share_a_value": """
        <ir_version: 8, opset_import: ["" : 17]>
        twice (float[3] x) => (float[3] a, float[3] b, float[3] c)
        <float[3] w = {1, 2, 3}>
        { a = Neg(x)  b = Identity(a)  c = Identity(w) }
    """,
}


def feeds_of(session: onnxruntime.InferenceSession, seed: int = 0) -> dict[str, np.ndarray]:
    source = np.random.default_rng(seed)
    feeds = {}
    for port in session.get_inputs():
        shape = [d if isinstance(d, int) else 2 for d in port.shape]
        if port.type == "tensor(bool)":
            feeds[port.name] = np.array(bool(seed % 2)) if not shape else source.random(shape) < 0.5
        else:
            feeds[port.name] = source.standard_normal(shape).astype(np.float32)
    return feeds


def saved(model: onnx.ModelProto, path: Path, optimization: int) -> onnx.ModelProto:
    options = _core.SessionOptions()
    options.optimization = optimization
    options.optimized_model = path
    _core.Session.from_bytes(model.SerializeToString(), options)
    again = onnx.load(path)
    onnx.checker.check_model(again, full_check=True)
    return again


def names(values: object) -> list[str]:
    return [v.name for v in values]  # type: ignore[attr-defined]


@pytest.mark.parametrize("optimization", [0, 1])
@pytest.mark.parametrize("text", MODELS.values(), ids=MODELS)
def test_saved_models_compute_the_same(text: str, optimization: int, tmp_path: Path) -> None:
    model = parser.parse_model(text)
    onnx.checker.check_model(model)
    again = saved(model, tmp_path / "again.onnx", optimization)
    assert names(again.graph.input) == names(model.graph.input)
    assert names(again.graph.output) == names(model.graph.output)
    before = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    after = onnxruntime.InferenceSession(again.SerializeToString(), providers=["CPUExecutionProvider"])
    ours = _core.Session.from_bytes(again.SerializeToString(), _core.SessionOptions())
    for seed in (0, 1):
        feeds = feeds_of(before, seed)
        expected = before.run(None, feeds)
        for given in (after.run(None, feeds), ours.run(feeds)):
            for a, b in zip(given, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_declarations_survive(tmp_path: Path) -> None:
    model = parser.parse_model(MODELS["chain"])
    model.doc_string, model.model_version, model.domain = "what it is", 7, "org.example"
    helper.set_model_props(model, {"author": "somebody"})
    again = saved(model, tmp_path / "again.onnx", 0)
    assert again.doc_string == "what it is"
    assert (again.model_version, again.domain) == (7, "org.example")
    assert {p.key: p.value for p in again.metadata_props} == {"author": "somebody"}
    assert [(o.domain, o.version) for o in again.opset_import] == [("", 17)]
    dims = again.graph.input[0].type.tensor_type.shape.dim
    assert [dims[0].dim_param, dims[1].dim_value] == ["batch", 4]
    assert "unused" not in names(again.graph.initializer)
    assert not saved(parser.parse_model(MODELS["chain"]), tmp_path / "again.onnx", 0).HasField("model_version")


@pytest.mark.parametrize("optimization", [0, 1])
def test_sizes_without_a_name_stay_without(optimization: int, tmp_path: Path) -> None:
    model = parser.parse_model(MODELS["chain"])
    model.graph.doc_string = "what the graph is"
    for port in (model.graph.input[0], model.graph.output[0]):
        port.type.tensor_type.shape.dim[0].Clear()
    again = saved(model, tmp_path / "again.onnx", optimization)
    assert again.graph.input[0].type == model.graph.input[0].type
    assert again.graph.output[0].type == model.graph.output[0].type
    assert again.graph.doc_string == "what the graph is"


@pytest.mark.parametrize("labels", [{"classlabels_int64s": [0, 1]}, {"classlabels_strings": ["a", "b"]}], ids=list)
def test_sequences_of_maps(labels: dict[str, list[int] | list[str]], tmp_path: Path) -> None:
    key = TensorProto.INT64 if "classlabels_int64s" in labels else TensorProto.STRING
    kind = helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    graph = helper.make_graph(
        [helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", **labels)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_value_info("y", helper.make_sequence_type_proto(kind))],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 1)]
    again = saved(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "again.onnx", 1)
    assert again.graph.output[0].type.sequence_type.elem_type.map_type.key_type == key
    after = onnxruntime.InferenceSession(again.SerializeToString(), providers=["CPUExecutionProvider"])
    keys = next(iter(labels.values()))
    x = np.array([[1, 2], [3, 4]], np.float32)
    assert after.run(None, {"x": x})[0] == [dict(zip(keys, row, strict=True)) for row in x.tolist()]


def test_names_are_unique_over_all_subgraphs(tmp_path: Path) -> None:
    again = saved(parser.parse_model(MODELS["if_that_captures"]), tmp_path / "again.onnx", 0)
    seen: list[str] = []

    def visit(graph: onnx.GraphProto) -> None:
        seen.extend(names(graph.input))
        seen.extend(names(graph.initializer))
        for node in graph.node:
            seen.extend(o for o in node.output if o)
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    visit(attribute.g)

    visit(again.graph)
    assert sorted(seen) == sorted(set(seen))


@pytest.mark.parametrize(
    "data_type",
    [TensorProto.INT4, TensorProto.UINT4, TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.BOOL],
    ids=TensorProto.DataType.Name,
)
def test_weights_of_narrow_types(data_type: int, tmp_path: Path) -> None:
    tensor = helper.make_tensor("t", data_type, [5], [0, 1, 1, 0, 1])
    out = helper.make_tensor_value_info("t", data_type, [5])
    model = helper.make_model(
        helper.make_graph([], "g", [], [out], [tensor]), opset_imports=[helper.make_opsetid("", 23)]
    )
    again = saved(model, tmp_path / "again.onnx", 0)
    given = numpy_helper.to_array(again.graph.initializer[0])
    expected = numpy_helper.to_array(tensor)
    assert given.dtype == expected.dtype
    assert given.tobytes() == expected.tobytes()


def test_saving_over_the_model_that_is_open(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(parser.parse_model(MODELS["chain"]), path)
    options = _core.SessionOptions()
    options.optimized_model = path
    session = _core.Session(path, options)
    x = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(session.run({"x": x})[0], [[2, 3, 4, 5]])
    onnx.checker.check_model(onnx.load(path))
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    options = _core.SessionOptions()
    options.optimized_model = tmp_path / "none" / "m.onnx"
    with pytest.raises(Exception, match=r"cannot create .*m\.onnx"):
        _core.Session.from_bytes(parser.parse_model(MODELS["chain"]).SerializeToString(), options)
