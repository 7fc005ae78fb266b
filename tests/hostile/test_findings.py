"""What changed models and fuzzers have found, each once more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import linnet
import small_models
from bounded import attempt

F32, I64, I32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32


def answer(
    op: str, feeds: dict[str, Any], constants: dict[str, Any] | None = None, domain: str = "", **attributes: Any
) -> Any:
    """The first output of one node, or the error. Inputs are in the order of feeds, then of constants."""
    constants = constants or {}
    node = helper.make_node(op, [*feeds, *constants], ["y"], "bad", domain=domain, **attributes)
    kinds = {k: (helper.np_dtype_to_tensor_dtype(v.dtype), [None] * v.ndim) for k, v in feeds.items()}
    proto = small_models.parse(small_models.model([node], kinds, {"y": (F32, None)}, constants))
    proto.graph.output[0].ClearField("type")
    if domain:
        proto.opset_import.append(helper.make_opsetid(domain, 1))
    data = proto.SerializeToString()

    def work() -> Any:
        options = linnet.SessionOptions()
        options.memory_limit = 100 << 20
        return linnet.InferenceSession(data, options).run(None, feeds)[0]

    return attempt(work)


def is_error(said: Any, *parts: str) -> None:
    assert isinstance(said, str), said
    assert "node 'bad' (" in said
    for part in parts:
        assert part in said, said


def test_sizes_of_parts_that_are_real_numbers() -> None:
    sizes = np.array([[-1e38, np.nan]], np.float32)
    is_error(answer("SplitToSequence", {"x": np.ones(3, np.float32), "s": sizes}), "split is float32")


def test_many_slices_of_nothing() -> None:
    empty = np.empty((2**31, 0), np.float32)
    is_error(answer("Unique", {"x": empty}, axis=0), "limit of 104857600 bytes")
    is_error(answer("SplitToSequence", {"x": empty}, axis=0), "limit of 104857600 bytes")
    assert answer("Unique", {"x": empty}, axis=1).shape == (2**31, 0)
    boxes, scores = np.empty((2**20, 0, 4), np.float32), np.empty((2**20, 2**20, 0), np.float32)
    assert answer("NonMaxSuppression", {"b": boxes, "s": scores}).shape == (0, 3)


def test_tokens_of_no_rows() -> None:
    """The length of a row says nothing where there is no row; n-grams that the pool lacks are not looked for."""
    pool: dict[str, Any] = {"mode": "TF", "pool_int64s": [1, 2], "ngram_counts": [0], "ngram_indexes": [0, 1]}
    grams = {"min_gram_length": 1, "max_gram_length": 2**40, "max_skip_count": 2**63 - 1}
    said = answer("TfIdfVectorizer", {"x": np.empty((0, 2**40), np.int64)}, **pool, **grams)
    assert said.shape == (0, 2)
    said = answer("TfIdfVectorizer", {"x": np.ones(100_000, np.int64)}, **pool, **grams)
    np.testing.assert_array_equal(said, [100_000, 0])
    pairs = pool | {"ngram_counts": [0, 0], "ngram_indexes": [0]}
    said = answer("TfIdfVectorizer", {"x": np.array([1, 1, 2])}, **pairs, **grams)
    np.testing.assert_array_equal(said, [2])


@pytest.mark.parametrize("stride", [2**20, 2**31 - 1])
def test_strides_of_a_transposed_convolution(stride: int) -> None:
    x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 3, 3), np.float32)
    is_error(answer("ConvTranspose", {"x": x}, {"w": w}, strides=[stride, 1], auto_pad="SAME_UPPER"))
    is_error(answer("ConvTranspose", {"x": x}, {"w": w}, strides=[stride, stride], output_shape=[5000, 5000]))
    is_error(answer("ConvTranspose", {"x": x}, {"w": w}, output_shape=[stride, 100]))
    is_error(answer("ConvTranspose", {"x": x}, {"w": w}, dilations=[1, stride]))


def test_many_samples_of_a_region() -> None:
    x, rois = np.ones((1, 2, 4, 4), np.float32), np.array([[0, 0, 3, 3]], np.float32)
    feeds = {"x": x, "r": rois, "b": np.zeros(1, np.int64)}
    got = answer("RoiAlign", feeds, output_height=1, output_width=1, sampling_ratio=1000)
    np.testing.assert_allclose(got, np.ones((1, 2, 1, 1)), rtol=1e-4)
    is_error(answer("RoiAlign", feeds, sampling_ratio=2**40), "sampling_ratio")


def test_a_bias_that_is_too_short() -> None:
    x, w = np.ones((1, 3, 8), np.float32), np.ones((8, 24), np.float32)
    for bias in (np.ones(23, np.float32), np.ones(0, np.float32), np.float32(1)):
        said = answer("Attention", {"x": x}, {"w": w, "b": bias}, domain="com.microsoft", num_heads=2)
        assert isinstance(said, str), said
    three = {"q": x, "k": x, "v": x}
    for bias in (np.ones(23, np.float32), np.float32(1)):
        said = answer("MultiHeadAttention", three, {"b": bias}, domain="com.microsoft", num_heads=2)
        assert isinstance(said, str), said


def test_padding_that_is_long_text() -> None:
    words = np.array(["a " * 50] + ["b"] * 2000, object)
    attributes = {"mark": 0, "separators": [" "], "pad_value": "#" * 10_000, "mincharnum": 1}
    is_error(answer("Tokenizer", {"x": words}, domain="com.microsoft", **attributes), "limit of 104857600 bytes")


def test_numbers_where_sizes_have_symbols() -> None:
    for number in (-(2**63), -(2**63) + 1, -(2**63) + 2):
        is_error(answer("ConstantOfShape", {}, {"s": np.array([number])}))
        is_error(answer("Expand", {"x": np.ones(1, np.float32)}, {"s": np.array([number])}))
        is_error(answer("Tile", {"x": np.ones(1, np.float32)}, {"s": np.array([number])}))


def test_folding_that_would_take_long() -> None:
    """Loading does not work out what a small model makes large."""
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["v0"])]
    nodes += [helper.make_node("Sin", [f"v{i}"], [f"v{i + 1}"]) for i in range(300)]
    nodes += [helper.make_node("ReduceMax", ["v300"], ["m"], keepdims=0), helper.make_node("Add", ["x", "m"], ["y"])]
    kind = (F32, ["n"])
    data = small_models.model(nodes, {"x": kind}, {"y": kind}, {"s": np.array([4_000_000])})
    loaded = attempt(lambda: len(linnet.InferenceSession(data).get_inputs()))
    assert loaded == 1, loaded


def loaded(nodes: list[Any], inputs: dict[str, Any], feeds: dict[str, Any], **more: Any) -> Any:
    """The first output of a model whose first node is bad, or the error."""
    proto = small_models.parse(small_models.model(nodes, inputs, {"y": (F32, None)}, **more))
    proto.graph.output[0].ClearField("type")
    domains = {node.domain for node in nodes} - {""}
    proto.opset_import.extend(helper.make_opsetid(domain, 1) for domain in domains)
    return attempt(lambda: linnet.InferenceSession(proto.SerializeToString()).run(None, feeds)[0])


@pytest.mark.parametrize("op", ["Squeeze", "Cast", "Identity", "Transpose", "Relu"])
def test_a_node_without_outputs(op: str) -> None:
    attributes = {"to": I64} if op == "Cast" else {}
    bad = helper.make_node(op, ["x"], [], "bad", **attributes)
    nodes = [bad, helper.make_node("Abs", ["x"], ["y"])]
    x = np.ones((1, 3), np.float32)
    is_error(loaded(nodes, {"x": (F32, [1, 3])}, {"x": x}), "no output is named")
    # One without a name is made and thrown away.
    bad.output.append("")
    np.testing.assert_array_equal(loaded(nodes, {"x": (F32, [1, 3])}, {"x": x}), x)


@pytest.mark.parametrize("shape", [[], [2]])
def test_a_transform_of_a_scalar(shape: list[int]) -> None:
    node = helper.make_node("DFT", ["x", "", "a"], ["y"], "bad")
    inputs = {"x": (F32, shape), "a": (I64, [])}
    feeds = {"x": np.ones(shape, np.float32), "a": np.int64(0)}
    is_error(loaded([node], inputs, feeds), "expected at least 2")


@pytest.mark.parametrize("scalar", [0, 1, 2])
def test_attention_of_a_scalar(scalar: int) -> None:
    """The other two are of unknown rank."""
    node = helper.make_node(
        "MultiHeadAttention", ["q", "k", "v", "b"], ["y"], "bad", domain="com.microsoft", num_heads=2
    )
    inputs = {name: (F32, [] if i == scalar else None) for i, name in enumerate("qkv")} | {"b": (F32, [24])}
    whole, part = np.ones((1, 3, 8), np.float32), np.float32(1)
    feeds = {name: part if i == scalar else whole for i, name in enumerate("qkv")} | {"b": np.ones(24, np.float32)}
    is_error(loaded([node], inputs, feeds), "rank 0")


def test_lengths_for_keys_of_unknown_rank() -> None:
    names = ["q", "k", "v", "", "lengths"]
    node = helper.make_node("MultiHeadAttention", names, ["y"], "bad", domain="com.microsoft", num_heads=2)
    inputs = {"q": (F32, None), "k": (F32, None), "v": (F32, None), "lengths": (I32, [1])}
    feeds = dict.fromkeys("qkv", np.ones((1, 3, 8), np.float32)) | {"lengths": np.array([3], np.int32)}
    is_error(loaded([node], inputs, feeds), "a length per batch")


@pytest.mark.parametrize("taken", [True, False])
def test_a_branch_that_takes_inputs(taken: bool) -> None:
    """Also when it is the one that is not taken."""
    good = helper.make_graph([helper.make_node("Neg", ["x"], ["o"])], "good", [], [])
    good.output.add().name = "o"
    bad = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["o"])], "bad", [helper.make_tensor_value_info("more", F32, [0])], []
    )
    bad.output.add().name = "o"
    node = helper.make_node("If", ["c"], ["y"], "bad", then_branch=good, else_branch=bad)
    kinds = {"x": (F32, [3]), "c": (TensorProto.BOOL, [])}
    feeds = {"x": np.ones(3, np.float32), "c": np.bool_(not taken)}
    is_error(loaded([node], kinds, feeds), "'else_branch' has 1 inputs")
    bad.ClearField("input")
    bad.ClearField("output")
    node = helper.make_node("If", ["c"], ["y"], "bad", then_branch=good, else_branch=bad)
    is_error(loaded([node], kinds, feeds), "'else_branch' has 0 outputs")


def test_a_transposed_convolution_with_places_that_no_weight_reaches() -> None:
    """A stride larger than the kernel leaves zeros between."""
    x = np.arange(1, 5, dtype=np.float32).reshape(1, 1, 2, 2)
    got = answer("ConvTranspose", {"x": x}, {"w": np.full((1, 1, 1, 1), 2, np.float32)}, strides=[3, 3])
    wanted = np.zeros((1, 1, 4, 4), np.float32)
    wanted[:, :, ::3, ::3] = 2 * x
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("more", [{}, {"ceil_mode": 1}, {"ceil_mode": 1, "strides": [7, 2**31 - 1]}])
@pytest.mark.parametrize("op", ["MaxPool", "LpPool", "AveragePool"])
def test_windows_over_the_largest_size(op: str, more: dict[str, Any]) -> None:
    for pad in (0, 2):
        node = helper.make_node(op, ["x"], ["y"], "bad", kernel_shape=[4, 4], pads=[0, pad, 0, pad], **more)
        said = loaded([node], {"x": (F32, [1, 1, 30, 2**63 - 1])}, {"x": np.ones((1, 1, 30, 30), np.float32)}, opset=22)
        assert isinstance(said, str), said


def test_tables_of_a_resize_count() -> None:
    x, sizes = np.ones((1, 1, 4, 4), np.float32), np.array([1, 1, 4, 2**21])
    said = answer(
        "Resize", {"x": x}, {"r": np.zeros(0, np.float32), "s": np.zeros(0, np.float32), "n": sizes}, mode="cubic"
    )
    is_error(said, "limit of 104857600 bytes")


@pytest.mark.parametrize(("batch", "count"), [(2**62, 2), ((2**64 - 1) // 3, 1)])
def test_lengths_of_a_batch_beyond_any(batch: int, count: int) -> None:
    """Twice and three times as many do not fit 64 bits; the second comes out right when it wraps around."""
    node = helper.make_node("Attention", ["x", "w", "", "m"], ["y"], "bad", domain="com.microsoft", num_heads=2)
    kinds = {"x": (F32, [batch, 3, 8]), "w": (F32, [8, 24]), "m": (I32, [count])}
    feeds = {
        "x": np.ones((1, 3, 8), np.float32),
        "w": np.ones((8, 24), np.float32),
        "m": np.ones(count, np.int32),
    }
    is_error(loaded([node], kinds, feeds), "a mask of one axis must hold a length per batch")


def test_products_of_16_bits_wrap_around() -> None:
    """Two of them do not fit an int."""
    node = helper.make_node("CumProd", ["x", "axis"], ["y"], "bad")
    x = np.full(3, 65534, np.uint16)
    kinds = {"x": (TensorProto.UINT16, [3]), "axis": (I64, [])}
    got = loaded([node], kinds, {"x": x, "axis": np.int64(0)}, opset=26)
    np.testing.assert_array_equal(got, np.array([65534, 4, 65528], np.uint16))


def test_integers_shrunk_by_what_is_no_number() -> None:
    got = answer("Shrink", {"x": np.array([-9, 0, 9])}, bias=float("nan"))
    np.testing.assert_array_equal(got, np.zeros(3, np.int64))
