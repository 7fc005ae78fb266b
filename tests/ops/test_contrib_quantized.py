"""com.microsoft's quantized operators against onnxruntime.

Both scale in float32, in orders of their own: a value on a rounding boundary may fall to either side, so a small share
of bytes may differ by 1 (`off_by_one`).
"""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import linnet as runtime
from contrib import DOMAIN, compare, normal
from one_node import check, linnet, reference

BYTES = [np.uint8, np.int8]
CLOSE = 0.02


def integers(rng: np.random.Generator, kind: Any, *shape: int) -> Any:
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max + 1, shape).astype(kind)


def real(values: Any) -> Any:
    return np.array(values, np.float32)


def zero(kind: Any, value: int) -> Any:
    """`value` above the middle of uint8, or above 0 of int8."""
    return np.array(value + (128 if kind == np.uint8 else 0), kind)


def parameters(kind: Any, scale: float, value: int, given: bool = True) -> list[Any]:
    return [real(scale), zero(kind, value) if given else None]


# ---- element by element ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize(
    "shapes", [((3, 40), (3, 40)), ((3, 40), (40,)), ((1,), (5, 7)), ((2, 1, 5), (3, 1)), ((0, 3), (3,))], ids=str
)
@pytest.mark.parametrize("zeros", [False, True])
def test_add_and_multiply(op: str, kind: Any, shapes: tuple[Any, Any], zeros: bool) -> None:
    rng = np.random.default_rng(1)
    a, b = (integers(rng, kind, *s) for s in shapes)
    inputs = [
        a,
        *parameters(kind, 0.0317, 5, zeros),
        b,
        *parameters(kind, 0.0523, -9, zeros),
        *parameters(kind, 0.0711, 3),
    ]
    if zeros:
        compare(op, *inputs, off_by_one=CLOSE)
        compare(op, *inputs, off_by_one=CLOSE, constants=(1, 2, 4, 5, 6, 7))
        compare(op, *inputs, off_by_one=CLOSE, constants=tuple(range(3, 8)))
    else:  # onnxruntime refuses to infer the type then
        nothing = np.array(0, kind)
        want = linnet(op, *inputs[:2], nothing, *inputs[3:5], nothing, inputs[6], nothing, domain=DOMAIN)
        check(linnet(op, *inputs[:7], domain=DOMAIN)[0], want[0])


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("constant", [False, True])
def test_activations(kind: Any, constant: bool) -> None:
    rng = np.random.default_rng(2)
    x = integers(rng, kind, 3, 300)
    more: dict[str, Any] = {"off_by_one": CLOSE, "constants": (1, 2, 3, 4) if constant else ()}
    for at, to in (((0.0517, 7), (1 / 256, -128)), ((0.3, -20), (0.0213, 0))):
        inputs = [x, *parameters(kind, *at), *parameters(kind, *to)]
        compare("QLinearSigmoid", *inputs, **more)
        compare("QLinearLeakyRelu", *inputs, **more)
        compare("QLinearLeakyRelu", *inputs, alpha=0.4, **more)


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("op", ["QLinearSigmoid", "QLinearLeakyRelu", "QLinearAveragePool"])
def test_zero_points_left_out(op: str, kind: Any) -> None:
    """They are 0. onnxruntime aborts while it loads such a model."""
    x = integers(np.random.default_rng(2), kind, 2, 3, 8, 8)
    more = {"kernel_shape": [2, 2]} if op == "QLinearAveragePool" else {}
    nothing = np.array(0, kind)
    want = linnet(op, x, real(0.03), nothing, real(0.02), nothing, domain=DOMAIN, **more)[0]
    check(linnet(op, x, real(0.03), None, real(0.02), domain=DOMAIN, **more)[0], want)


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize(("opset", "axis"), [(13, -1), (13, 1), (13, 0), (12, 1), (12, 2), (11, -1), (11, 0)])
def test_softmax(kind: Any, opset: int, axis: int) -> None:
    rng = np.random.default_rng(3)
    x = integers(rng, kind, 3, 4, 5)
    inputs = [x, *parameters(kind, 0.04, 3), real(1 / 256), zero(kind, -128)]
    for constants in ((), (1, 2, 3, 4)):
        more = {"axis": axis, "attributes": {"opset": opset}}  # the node's, not the model's
        compare("QLinearSoftmax", *inputs, off_by_one=CLOSE, constants=constants, **more)


@pytest.mark.parametrize("kind", BYTES)
def test_where(kind: Any) -> None:
    rng = np.random.default_rng(4)
    condition, x, y = rng.random((3, 5)) < 0.5, integers(rng, kind, 3, 5), integers(rng, kind, 5)
    inputs = [
        condition,
        x,
        *parameters(kind, 0.0317, 5),
        y,
        *parameters(kind, 0.0523, -9),
        *parameters(kind, 0.0711, 3),
    ]
    compare("QLinearWhere", *inputs, off_by_one=CLOSE)


# ---- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("constant", [False, True])
def test_concat(kind: Any, axis: int, equal: bool, constant: bool) -> None:
    rng = np.random.default_rng(5)
    inputs = parameters(kind, 0.0517, 3)
    for i, size in enumerate((2, 1, 4)):
        shape = [3, 4, 5]
        shape[axis] = size
        inputs += [
            integers(rng, kind, *shape),
            *parameters(kind, *((0.0517, 3) if equal else (0.0213 + 0.0197 * i, i))),
        ]
    constants = tuple(i for i in range(len(inputs)) if i < 2 or i % 3 != 2) if constant else ()
    compare("QLinearConcat", *inputs, axis=axis, off_by_one=CLOSE, constants=constants)


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (1, 19, 1, 1), (2, 4, 9), (2, 3, 4, 5, 6)], ids=str)
def test_global_average_pool(kind: Any, last: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(6)
    inputs = [integers(rng, kind, *shape), *parameters(kind, 0.0517, 3), *parameters(kind, 0.0213, -7)]
    for constants in ((), (1, 2, 3, 4)):
        compare("QLinearGlobalAveragePool", *inputs, channels_last=last, off_by_one=CLOSE, constants=constants)


POOLS: list[dict[str, Any]] = [
    {"kernel_shape": [3, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 2], "count_include_pad": 1},
    {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 3], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 3], "auto_pad": "VALID"},
]


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("more", POOLS, ids=str)
def test_average_pool(kind: Any, last: int, more: dict[str, Any]) -> None:
    rng = np.random.default_rng(7)
    x = integers(rng, kind, *((2, 9, 8, 5) if last else (2, 5, 9, 8)))
    inputs = [x, *parameters(kind, 0.0517, 3), *parameters(kind, 0.0213, -7)]
    for constants in ((), (1, 2, 3, 4)):
        compare("QLinearAveragePool", *inputs, channels_last=last, off_by_one=CLOSE, constants=constants, **more)


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("more", [*POOLS[:2], *POOLS[3:], {"kernel_shape": [2, 2], "dilations": [2, 3]}], ids=str)
def test_channels_last_max_pool(kind: Any, more: dict[str, Any]) -> None:
    x = integers(np.random.default_rng(8), kind, 2, 9, 8, 5)
    compare("NhwcMaxPool", x, **more)


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1], [0, 1, 2, 3]], ids=str)
def test_reduce_mean(kind: Any, keep: int, axes: list[int]) -> None:
    """onnxruntime has the schema and no kernel: the formula of the specification."""
    x = integers(np.random.default_rng(9), kind, 2, 3, 4, 5)
    inputs = [x, *parameters(kind, 0.0517, 3), *parameters(kind, 0.0213, -7)]
    got = linnet("QLinearReduceMean", *inputs, axes=axes, keepdims=keep, domain=DOMAIN)[0]
    mean = ((x.astype(np.float64) - float(inputs[2])) * 0.0517).mean(tuple(axes), keepdims=bool(keep))
    info = np.iinfo(kind)
    want = np.clip(np.rint(mean / 0.0213) + float(inputs[4]), info.min, info.max)
    assert got.dtype == kind and got.shape == want.shape
    assert np.abs(got - want).max() <= 1 and (got != want).sum() <= 2


# ---- convolutions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize(
    "more",
    [{}, {"strides": [2, 1], "pads": [1, 0, 1, 2]}, {"dilations": [2, 1]}, {"group": 2, "auto_pad": "SAME_UPPER"}],
    ids=str,
)
@pytest.mark.parametrize("per_channel", [False, True])
def test_conv(kinds: tuple[Any, Any], last: int, more: dict[str, Any], per_channel: bool) -> None:
    rng = np.random.default_rng(10)
    x, w = integers(rng, kinds[0], 2, 4, 9, 8), integers(rng, kinds[1], 8, 4 // more.get("group", 1), 3, 2) // 2
    scales = real(rng.random(8 if per_channel else ()) * 0.01 + 0.005)
    shift = np.zeros(scales.shape, kinds[1]) if kinds[1] == np.int8 else np.full(scales.shape, 60, np.uint8)
    bias = rng.integers(-999, 999, 8).astype(np.int32)
    first = [x.transpose(0, 2, 3, 1) if last else x, *parameters(kinds[0], 0.03, 5), w, scales, shift]
    inputs = [*first, *parameters(kinds[0], 0.3, -9)]
    weights = (3, 4, 5)
    for tail, constants in (([], weights), ([bias], (*weights, 8)), ([bias], (1, 2, *weights, 6, 7, 8))):
        compare("QLinearConv", *inputs, *tail, channels_last=last, constants=constants, off_by_one=CLOSE, **more)


# ---- products --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)])
@pytest.mark.parametrize("trans", [(0, 0), (1, 0), (0, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("quantized", [False, True])
def test_gemm(kinds: tuple[Any, Any], trans: tuple[int, int], per_column: bool, quantized: bool) -> None:
    rng = np.random.default_rng(11)
    a = integers(rng, kinds[0], *((40, 9) if trans[0] else (9, 40)))
    b = integers(rng, kinds[1], *((19, 40) if trans[1] else (40, 19))) // 2
    size = 19 if per_column else ()
    scales = real(rng.random(size) * 0.01 + 0.005)
    shift = np.full(size, 0 if kinds[1] == np.int8 else 60, kinds[1])
    tail = parameters(kinds[0], 0.4, -9) if quantized else []
    for c in (None, rng.integers(-999, 999, 19), rng.integers(-999, 999, (9, 19)), rng.integers(-999, 999, (1, 19))):
        inputs = [a, *parameters(kinds[0], 0.02, 7), b, scales, shift, None if c is None else c.astype(np.int32), *tail]
        while inputs[-1] is None:
            inputs.pop()
        for alpha in (1.0, 0.6):
            more = {"transA": trans[0], "transB": trans[1], "alpha": alpha, "off_by_one": CLOSE}
            compare("QGemm", *inputs, absolute=1e-3, **more)
        compare("QGemm", *inputs, absolute=1e-3, constants=(3, 4, 5), **more)


@pytest.mark.parametrize("kinds", [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)])
@pytest.mark.parametrize(("columns", "zeros", "bias"), itertools.product([False, True], repeat=3))
@pytest.mark.parametrize("batches", [((), ()), ((3,), ()), ((2, 3), (3,)), ((2, 3), (2, 3))], ids=str)
def test_products_to_float(kinds: tuple[Any, Any], columns: bool, zeros: bool, bias: bool, batches: Any) -> None:
    rng = np.random.default_rng(12)
    a, b = integers(rng, kinds[0], *batches[0], 9, 40), integers(rng, kinds[1], *batches[1], 40, 19) // 2
    size: Any = (*batches[1], 1, 19) if len(batches[1]) > 0 and columns else (19,) if columns else ()
    scales = real(rng.random(size) * 0.01 + 0.005)
    shift = np.full(size, 3 if kinds[1] == np.int8 else 60, kinds[1])
    inputs = [a, b, real(0.02), scales, zero(kinds[0], 5) if zeros else None, shift if zeros else None]
    inputs.append(normal(rng, 19) if bias else None)
    while inputs[-1] is None:
        inputs.pop()
    compare("MatMulIntegerToFloat", *inputs, absolute=1e-3)
    compare("MatMulIntegerToFloat", *inputs, absolute=1e-3, constants=(1, 3))


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize(("columns", "zeros", "bias"), itertools.product([False, True], repeat=3))
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
def test_products_of_floats(kind: Any, columns: bool, zeros: bool, bias: bool, batch: tuple[int, ...]) -> None:
    rng = np.random.default_rng(13)
    a, b = normal(rng, *batch, 9, 40), integers(rng, kind, 40, 19) // 2
    size = 19 if columns else ()
    scales = real(rng.random(size) * 0.01 + 0.005)
    shift = np.full(size, 0 if kind == np.int8 else 60, kind)
    inputs = [a, b, scales, shift if zeros else None, normal(rng, 19) if bias else None]
    while inputs[-1] is None:
        inputs.pop()
    compare("DynamicQuantizeMatMul", *inputs, absolute=1e-3)
    compare("DynamicQuantizeMatMul", *inputs, absolute=1e-3, constants=(1, 2))


# ---- narrow weights --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("block", [16, 32, 128])
@pytest.mark.parametrize("form", ["none", "packed", "float"])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_matmul_nbits(bits: int, block: int, form: str, kind: Any) -> None:
    rng = np.random.default_rng(14)
    k, n = 144, 50
    blocks = -(-k // block)
    b, scales = integers(rng, np.uint8, n, blocks, block * bits // 8), rng.random((n, blocks)) * 0.1
    zeros = None
    if form == "packed":
        zeros = integers(rng, np.uint8, n, -(-blocks * bits // 8))
    elif form == "float":
        zeros = (rng.random((n, blocks)) * ((1 << bits) - 1)).astype(kind)
    for shape, bias in (((1, k), None), ((2, 3, k), None), ((5, k), normal(rng, n, dtype=kind))):
        a = normal(rng, *shape, dtype=kind)
        inputs = [a, b, scales.astype(kind), zeros, None, bias]
        while inputs[-1] is None:
            inputs.pop()
        more: dict[str, Any] = {"K": k, "N": n, "bits": bits, "block_size": block, "tolerance": 1e-4}
        more["constants"] = tuple(i for i in (1, 2, 3) if i < len(inputs) and inputs[i] is not None)
        size = float(np.abs(a).max()) * (1 << bits) * (0.06 if kind == np.float16 else 0.001)
        got = linnet("MatMulNBits", *inputs, domain=DOMAIN, **{k: v for k, v in more.items() if k != "tolerance"})[0]
        want = real_product(a, b, scales.astype(kind), zeros, bias, bits, block, k)
        np.testing.assert_allclose(got.astype(np.float64), want, rtol=1e-3, atol=size)
        if kind == np.float32 and not (bits == 8 and form == "float"):
            compare("MatMulNBits", *inputs, absolute=size, **more)
            compare("MatMulNBits", *inputs, absolute=size, **more | {"constants": ()})


def real_product(a: Any, b: Any, scales: Any, zeros: Any, bias: Any, bits: int, block: int, k: int) -> Any:
    def fields(bytes_: Any) -> Any:
        parts = [bytes_ >> shift & ((1 << bits) - 1) for shift in range(0, 8, bits)]
        return np.stack(parts, -1).reshape(*bytes_.shape[:-1], -1).astype(np.float64)

    n, blocks = scales.shape
    middle: Any = float(1 << (bits - 1))
    if zeros is not None:
        middle = (fields(zeros)[:, :blocks] if zeros.dtype == np.uint8 else zeros.astype(np.float64))[..., None]
    w = ((fields(b) - middle) * scales.astype(np.float64)[..., None]).reshape(n, -1)[:, :k]
    return a.astype(np.float64) @ w.T + (0 if bias is None else bias.astype(np.float64))


def test_matmul_nbits_of_ordered_groups() -> None:
    """g_idx tells the block of each k. With packed zero points onnxruntime is wrong even where g_idx says what holds
    without it, so those are compared with the formula."""
    rng = np.random.default_rng(15)
    k, n, block = 96, 10, 32
    b, scales = integers(rng, np.uint8, n, 3, 16), (rng.random((n, 3)) * 0.1).astype(np.float32)
    groups = rng.permutation(np.repeat(np.arange(3), 32)).astype(np.int32)
    a, zeros = normal(rng, 4, k), integers(rng, np.uint8, n, 2)
    more: dict[str, Any] = {"K": k, "N": n, "bits": 4, "block_size": block}
    compare("MatMulNBits", a, b, scales, None, groups, constants=(1, 2, 4), absolute=1e-3, **more)
    compare("MatMulNBits", a, b, scales, None, groups, absolute=1e-3, **more)
    fields = np.stack([b & 15, b >> 4], -1).reshape(n, k).astype(np.float64)
    middle = np.stack([zeros & 15, zeros >> 4], -1).reshape(n, 4).astype(np.float64)
    want = a @ ((fields - middle[:, groups]) * scales[:, groups]).T
    for constants in ((), (1, 2, 3, 4)):
        got = linnet("MatMulNBits", a, b, scales, zeros, groups, domain=DOMAIN, constants=constants, **more)[0]
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_gather_of_packed_bytes(bits: int, zeros: bool, index: Any, kind: Any) -> None:
    rng = np.random.default_rng(16)
    rows, columns, block = 11, 96, 32
    each = 8 // bits
    data, scales = integers(rng, np.uint8, rows, columns // each), (rng.random((rows, 3)) * 0.1).astype(kind)
    indices = np.array([[0, 10, -1], [3, 3, -11]], index)
    inputs = [data, indices, scales, *([integers(rng, np.uint8, rows, -(-3 // each))] if zeros else [])]
    more = {"bits": bits, "block_size": block, "quantize_axis": 1, "gather_axis": 0}
    compare("GatherBlockQuantized", *inputs, constants=(0, 2, *([3] if zeros else [])), absolute=1e-6, **more)
    outside = np.array([rows, -rows - 1, 2], index)
    got = linnet("GatherBlockQuantized", data, outside, *inputs[2:], domain=DOMAIN, **more)[0]
    assert not got[:2].any() and got[2].any()


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(("gather", "quantize"), [(0, 1), (1, 2), (0, 2), (2, 1), (1, 0)])
def test_gather_of_nibbles(kind: int, zeros: bool, gather: int, quantize: int) -> None:
    rng = np.random.default_rng(17)
    dtype = ml_dtypes.int4 if kind == TensorProto.INT4 else ml_dtypes.uint4
    low, high = (-8, 8) if kind == TensorProto.INT4 else (0, 16)
    shape = [5, 4, 6]
    shape[quantize] = 40
    blocks = [*shape]
    blocks[quantize] = 3

    def constant(name: str, sizes: list[int]) -> Any:
        return helper.make_tensor(name, kind, sizes, rng.integers(low, high, sizes).astype(dtype).ravel())

    scales = (rng.random(blocks) * 0.1).astype(np.float32)
    initialisers = [constant("data", shape), onnx.numpy_helper.from_array(scales, "scales")]
    names = ["data", "indices", "scales"]
    if zeros:
        initialisers.append(constant("zeros", blocks))
        names.append("zeros")
    more = {"block_size": 16, "gather_axis": gather, "quantize_axis": quantize}
    graph = helper.make_graph(
        [helper.make_node("GatherBlockQuantized", names, ["y"], domain=DOMAIN, **more)],
        "g",
        [helper.make_tensor_value_info("indices", TensorProto.INT64, ["a", "b"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initialisers,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    feeds = {"indices": np.array([[0, 3], [-1, 2]])}
    want = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
    check(runtime.InferenceSession(model).run(None, feeds)[0], want, 1e-6, 1e-7)


def test_gather_refuses_what_does_not_fit() -> None:
    rng = np.random.default_rng(18)
    data, indices, scales = integers(rng, np.uint8, 5, 32), np.array([1]), normal(rng, 5, 2)
    for wrong, message in (
        ({"bits": 3}, "bits is 3"),
        ({"block_size": 24}, "block_size is 24"),
        ({"quantize_axis": 0}, "both 0"),
        ({"block_size": 16}, "for blocks"),
    ):
        more: dict[str, Any] = {"block_size": 32, **wrong}
        with pytest.raises(runtime.LinnetError, match=message):
            linnet("GatherBlockQuantized", data, indices, scales, domain=DOMAIN, **more)


def test_quantize_and_dequantize() -> None:
    """onnxruntime's own, from before ONNX had an axis: of float32, per tensor and per channel."""
    rng = np.random.default_rng(19)
    x, scales = normal(rng, 3, 4, 5), (rng.random(4) * 0.05 + 0.01).astype(np.float32)
    zeros = integers(rng, np.int8, 4) // 8
    compare("QuantizeLinear", x, scales, zeros, axis=1, off_by_one=CLOSE)
    compare("QuantizeLinear", x, real(0.03), zero(np.uint8, 3), off_by_one=CLOSE)
    q = integers(rng, np.int8, 3, 4, 5)
    compare("DequantizeLinear", q, scales, zeros, axis=1)
    check(
        linnet("DequantizeLinear", q, scales, zeros, axis=1, domain=DOMAIN)[0],
        reference("DequantizeLinear", q, scales, zeros, axis=1)[0],
    )
