"""Convolutions, pools and resampling of quantized and fixed sizes in random configurations, against onnxruntime."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from linnet import _core

ort = pytest.importorskip("onnxruntime")
ort.set_default_logger_severity(4)

DTYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.int64): TensorProto.INT64,
}


def model(
    nodes: list[onnx.NodeProto],
    feeds: dict[str, np.ndarray],
    constants: dict[str, np.ndarray],
    outputs: list[str],
    opset: int,
) -> bytes:
    """A model whose inputs have the shapes of `feeds`; output types are left to inference."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(n, DTYPES[a.dtype], a.shape) for n, a in feeds.items()],
        [onnx.ValueInfoProto(name=n) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(made).SerializeToString()


def ours(data: bytes, feeds: dict[str, np.ndarray], threads: int = 1) -> list[Any]:
    options = _core.SessionOptions()
    options.threads = threads
    return list(_core.Session.from_bytes(data, options).run(feeds))


def both(data: bytes, feeds: dict[str, np.ndarray], threads: int = 1) -> tuple[list[Any], list[Any]]:
    got = ours(data, feeds, threads)
    plain = ort.SessionOptions()
    plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    want = ort.InferenceSession(data, plain, providers=["CPUExecutionProvider"]).run(None, feeds)
    return got, want


def check(
    op: str,
    feeds: dict[str, np.ndarray],
    constants: dict[str, np.ndarray],
    attributes: dict[str, Any],
    *,
    inputs: list[str] | None = None,
    outputs: int = 1,
    opset: int = 17,
    tolerance: float = 2e-5,
    domain: str = "",
) -> None:
    names = inputs if inputs is not None else [*feeds, *constants]
    outs = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, outs, name="it", domain=domain, **attributes)
    data = model([node], feeds, constants, outs, opset)
    for threads in (1, 3):
        got, want = both(data, feeds, threads)
        for g, w in zip(got, want, strict=True):
            assert g.shape == w.shape and g.dtype == w.dtype
            if np.issubdtype(w.dtype, np.integer):
                np.testing.assert_array_equal(g, w)
            else:
                scale = max(1.0, float(np.abs(w[np.isfinite(w)]).max(initial=0)))
                np.testing.assert_allclose(
                    g.astype(np.float64), w.astype(np.float64), rtol=tolerance, atol=tolerance * scale
                )


def rng(*key: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def window(r: np.random.Generator, spatial: int, size: list[int]) -> dict[str, Any]:
    """kernel_shape, strides, dilations and padding that fit an input of `size`."""
    kernel = [int(r.integers(1, 5)) for _ in range(spatial)]
    dilations = [int(r.integers(1, 3)) for _ in range(spatial)]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [int(r.integers(1, 4)) for _ in range(spatial)],
        "dilations": dilations,
    }
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    style = r.integers(0, 4)
    if style == 0:
        attributes["auto_pad"] = str(r.choice(["SAME_UPPER", "SAME_LOWER"]))
        attributes["dilations"] = [1] * spatial  # onnxruntime's SAME with dilations differs by version
    elif style == 1:
        attributes["auto_pad"] = "VALID"
    elif style == 2:
        attributes["pads"] = [int(r.integers(0, k)) for k in kernel] + [int(r.integers(0, k)) for k in kernel]
    if str(attributes.get("auto_pad", "")).startswith("SAME"):
        # With a stride beyond the kernel the padding would be negative: runtimes disagree.
        attributes["strides"] = [min(s, k) for s, k in zip(attributes["strides"], kernel, strict=True)]
    for i, (n, e) in enumerate(zip(size, extents, strict=True)):
        size[i] = max(n, e)
    return attributes


@pytest.mark.parametrize("seed", range(60))
def test_conv(seed: int) -> None:
    r = rng("conv", seed)
    spatial = int(r.choice([1, 2, 2, 2, 3]))
    size = [int(r.integers(1, 14)) for _ in range(spatial)]
    attributes = window(r, spatial, size)
    kind = seed % 4
    group = int(r.choice([1, 2, 3])) if kind == 1 else 1
    channels, filters = int(r.integers(1, 20)) * group, int(r.integers(1, 40)) * group
    if kind == 2:  # depthwise
        group = channels = int(r.integers(2, 40))
        filters = channels * int(r.choice([1, 1, 2]))
    if kind == 3:  # few channels
        channels = int(r.integers(1, 5))
    attributes["group"] = group
    batch = int(r.integers(1, 4))
    x = r.standard_normal((batch, channels, *size), np.float32)
    w = r.standard_normal((filters, channels // group, *attributes["kernel_shape"]), np.float32)
    feeds, constants = {"x": x}, {"w": w}
    if r.random() < 0.3:  # weights that are only known at run time
        feeds["w"] = constants.pop("w")
    if r.random() < 0.7:
        constants["b"] = r.standard_normal(filters).astype(np.float32)
    check("Conv", feeds, constants, attributes, inputs=["x", "w"] + (["b"] if "b" in constants else []))


@pytest.mark.parametrize(
    "shape,filters,kernel,stride",
    [
        ((2, 64, 28, 28), 128, 1, 1),
        ((1, 3, 64, 64), 32, 7, 2),
        ((1, 32, 40, 40), 32, 3, 1),
        ((1, 96, 7, 7), 10, 7, 1),
        ((1, 3, 32, 32), 24, 16, 16),
        ((1, 300, 5, 5), 300, 3, 2),
    ],
)
def test_conv_large(shape: tuple[int, ...], filters: int, kernel: int, stride: int) -> None:
    r = rng("large", shape, filters)
    x = r.standard_normal(shape, np.float32)
    w = r.standard_normal((filters, shape[1], kernel, kernel), np.float32) / np.float32(kernel * shape[1] ** 0.5)
    pad = kernel // 2 if kernel < shape[2] and stride < kernel else 0
    check("Conv", {"x": x}, {"w": w}, {"strides": [stride] * 2, "pads": [pad] * 4})


@pytest.mark.parametrize(
    "shape,kernel,attributes",
    [
        ((1, 40, 14, 14), (7, 7), {"pads": [3] * 4}),
        ((2, 24, 9, 33), (3, 3), {"pads": [2] * 4, "dilations": [2, 2]}),
        ((1, 33, 20, 21), (5, 5), {"pads": [1, 1, 2, 2], "strides": [2, 2]}),
        ((1, 17, 30, 9), (9, 9), {"pads": [4] * 4}),
        ((1, 5, 12, 12), (3, 3), {"pads": [1] * 4}),
        ((1, 20, 40, 3), (3, 1), {"pads": [1, 0, 1, 0]}),
        ((1, 20, 200), (31,), {"pads": [15, 15]}),
        ((1, 70, 300), (5,), {"pads": [8, 0], "dilations": [2]}),
        ((1, 16, 40, 40), (35, 35), {"pads": [17] * 4}),
    ],
)
def test_conv_depthwise(shape: tuple[int, ...], kernel: tuple[int, ...], attributes: dict[str, Any]) -> None:
    r = rng("depthwise", shape, kernel)
    x = r.standard_normal(shape, np.float32)
    w = r.standard_normal((shape[1], 1, *kernel), np.float32) / np.float32(np.prod(kernel) ** 0.5)
    b = r.standard_normal(shape[1]).astype(np.float32)
    check("Conv", {"x": x}, {"w": w, "b": b}, {"group": shape[1], **attributes}, inputs=["x", "w", "b"])


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_conv_other_floats(dtype: type) -> None:
    r = rng("float", str(dtype))
    x, w = r.standard_normal((1, 4, 9, 9)).astype(dtype), r.standard_normal((6, 4, 3, 3)).astype(dtype)
    op = "Conv"
    feeds = {"x": x}
    data = model([helper.make_node(op, ["x", "w"], ["y"], pads=[1] * 4)], feeds, {"w": w}, ["y"], 17)
    got = ours(data, feeds)[0]
    wide = {"x": x.astype(np.float32)}
    data = model([helper.make_node(op, ["x", "w"], ["y"], pads=[1] * 4)], wide, {"w": w.astype(np.float32)}, ["y"], 17)
    want = ours(data, wide)[0]
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, want.astype(dtype))


@pytest.mark.parametrize("seed", range(40))
def test_conv_transpose(seed: int) -> None:
    r = rng("transpose", seed)
    spatial = int(r.choice([1, 2, 2, 3]))
    size = [int(r.integers(1, 9)) for _ in range(spatial)]
    kernel = [int(r.integers(1, 5)) for _ in range(spatial)]
    strides = [int(r.integers(1, 4)) for _ in range(spatial)]
    dilations = [int(r.integers(1, 3)) for _ in range(spatial)]
    group = int(r.choice([1, 1, 2, 3]))
    channels, filters = int(r.integers(1, 9)) * group, int(r.integers(1, 20))
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "group": group}
    full = [s * (n - 1) + (k - 1) * d + 1 for s, n, k, d in zip(strides, size, kernel, dilations, strict=True)]
    style = seed % 4
    if style == 1:
        attributes["pads"] = [int(r.integers(0, (f + 2) // 3)) for f in full] * 2
    if style == 2:
        attributes["output_padding"] = [int(r.integers(0, s)) for s in strides]
    if style == 3:
        attributes["output_shape"] = [max(1, f - int(r.integers(0, 3))) for f in full]
    x = r.standard_normal((int(r.integers(1, 3)), channels, *size), np.float32)
    w = r.standard_normal((channels, filters, *kernel), np.float32)
    constants = {"w": w}
    if r.random() < 0.5:
        constants["b"] = r.standard_normal(filters * group).astype(np.float32)
    feeds = {"x": x}
    if r.random() < 0.2:
        feeds["w"] = constants.pop("w")
    check("ConvTranspose", feeds, constants, attributes, inputs=["x", "w"] + (["b"] if "b" in constants else []))


@pytest.mark.parametrize("seed", range(60))
def test_pool(seed: int) -> None:
    r = rng("pool", seed)
    spatial = int(r.choice([1, 2, 2, 3]))
    size = [int(r.integers(2, 14)) for _ in range(spatial)]
    attributes = window(r, spatial, size)
    op = ["MaxPool", "AveragePool", "LpPool"][seed % 3]
    opset, outputs = 17, 1
    if op != "MaxPool":
        opset = 19 if op == "AveragePool" else 18
        attributes.pop("dilations")
    if op == "AveragePool":
        attributes["count_include_pad"] = int(r.integers(0, 2))
    if op != "LpPool" and "auto_pad" not in attributes:
        attributes["ceil_mode"] = int(r.integers(0, 2))
    if op == "LpPool":
        attributes["p"] = int(r.integers(1, 4))
        attributes.pop("auto_pad", None)
    if op == "MaxPool":
        outputs = int(r.integers(1, 3))
        attributes["storage_order"] = int(r.integers(0, 2)) if outputs == 2 else 0
    x = r.standard_normal((int(r.integers(1, 3)), int(r.integers(1, 40)), *size), np.float32)
    check(op, {"x": x}, {}, attributes, outputs=outputs, opset=opset)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float64])
def test_max_pool_dtypes(dtype: type) -> None:
    r = rng("dtypes", str(dtype))
    x = (r.standard_normal((2, 5, 9, 8)) * 50).astype(np.int64).astype(dtype)
    check("MaxPool", {"x": x}, {}, {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]})


def test_fused_conv() -> None:
    r = rng("fused")
    feeds = {"x": r.standard_normal((1, 4, 6, 6), np.float32), "z": r.standard_normal((1, 8, 6, 6), np.float32)}
    constants = {"w": r.standard_normal((8, 4, 3, 3), np.float32), "b": r.standard_normal(8).astype(np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node(
                "FusedConv",
                ["x", "w", "b", "z"],
                ["y"],
                domain="com.microsoft",
                activation="LeakyRelu",
                activation_params=[0.1],
                pads=[1] * 4,
            )
        ],
        "test",
        [helper.make_tensor_value_info(n, 1, a.shape) for n, a in feeds.items()],
        [helper.make_tensor_value_info("y", 1, [1, 8, 6, 6])],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    got, want = both(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString(), feeds)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scales", [(1, 1, 2, 2), (1, 1, 2, 3)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(mode: str, scales: tuple[int, ...]) -> None:
    x = rng(mode, scales).standard_normal((1, 6, 5, 7), np.float32)
    check("Upsample", {"x": x}, {"s": np.array(scales, np.float32)}, {"mode": mode}, opset=9, tolerance=1e-4)


@pytest.mark.parametrize("seed", range(40))
def test_conv_integer(seed: int) -> None:
    r = rng("integer", seed)
    size = [int(r.integers(3, 10)), int(r.integers(3, 10))]
    attributes = window(r, 2, size)
    group = int(r.choice([1, 1, 2, 4]))
    channels, filters = int(r.integers(1, 9)) * group, int(r.integers(1, 20)) * group
    if seed % 5 == 4:
        group = channels = filters = 12
    attributes["group"] = group
    linear = seed % 2 == 0
    x_dtype = np.uint8 if not linear or r.random() < 0.5 else np.int8
    w_dtype = np.int8 if x_dtype == np.int8 else r.choice([np.uint8, np.int8])

    def integers(dtype: Any, shape: Any) -> np.ndarray:
        info = np.iinfo(dtype)
        return r.integers(info.min, info.max + 1, shape).astype(dtype)

    x = integers(x_dtype, (2, channels, *size))
    w = integers(w_dtype, (filters, channels // group, *attributes["kernel_shape"]))
    if linear and w_dtype == np.int8:
        w //= 2  # onnxruntime's sums of 16 bits would saturate
    x_zero = integers(x_dtype, ())
    w_zero = integers(w_dtype, ()) if w_dtype == np.uint8 else np.zeros((), np.int8)
    if not linear:
        check("ConvInteger", {"x": x}, {"w": w, "xz": x_zero, "wz": w_zero}, attributes)
        return
    constants: dict[str, np.ndarray] = {
        "xs": np.float32(0.02),
        "xz": x_zero,
        "w": w,
        "ws": r.uniform(0.001, 0.02, filters if w_dtype == np.int8 else ()).astype(np.float32),
        "wz": np.zeros(filters, np.int8) if w_dtype == np.int8 else w_zero,
        "ys": np.float32(0.3),
        "yz": integers(x_dtype, ()),
        "b": r.integers(-1000, 1000, filters).astype(np.int32),
    }
    constants = {k: np.asarray(v) for k, v in constants.items()}
    node = helper.make_node("QLinearConv", ["x", *constants], ["y"], **attributes)
    got, want = both(model([node], {"x": x}, constants, ["y"], 17), {"x": x})
    # onnxruntime scales in an order of its own: a tie may round the other way.
    difference = np.abs(got[0].astype(int) - want[0].astype(int))
    assert difference.max() <= 1 and (difference != 0).mean() < 0.01
