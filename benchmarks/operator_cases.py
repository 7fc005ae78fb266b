"""The models of one operator that ``benchmarks.operators`` measures: each at the sizes that real models have.

Activations are those of a picture network (1x64x56x56) and of a transformer (1x128x768), inputs are drawn from where an
operator is interesting (positive for Log). Operators that only tell a size, and those that draw random numbers or hold
sequences, have no case: ``WITHOUT`` says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
PICTURE = (1, 64, 56, 56)
TOKENS = (1, 128, 768)
MICROSOFT = "com.microsoft"

WITHOUT = {
    "Constant": "done when a model is opened",
    "Optional OptionalGetElement OptionalHasElement": "moves nothing",
    "SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap "
    "SplitToSequence ConcatFromSequence": "sequences",
    "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike": "random numbers",
    "StringConcat StringNormalizer StringSplit RegexFullMatch TfIdfVectorizer": "text",
    "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss": "training",
    "BitCast CausalConvWithState CumProd LinearAttention SwiGLU TensorScatter": "newer than what onnxruntime runs",
    "Scatter": "the old name of ScatterElements",
    "SimplifiedLayerNormalization": "the old name of RMSNormalization",
}
"""Operators of ai.onnx without a case, and why."""


@dataclass(frozen=True)
class Case:
    """One node: ``inputs`` (None: left out), of which those in ``constants`` are initialisers."""

    op: str
    what: str
    inputs: tuple[Array | None, ...]
    constants: tuple[int, ...] = ()
    outputs: int = 1
    opset: int = 21
    domain: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-4

    @property
    def name(self) -> str:
        return f"{self.op} {self.what}".strip()

    @property
    def feeds(self) -> dict[str, Array]:
        return {f"x{i}": x for i, x in enumerate(self.inputs) if x is not None and i not in self.constants}

    def model(self) -> Any:
        """The ONNX model of this node."""
        from onnx import TensorProto, helper, numpy_helper

        names = ["" if x is None else f"x{i}" for i, x in enumerate(self.inputs)]
        results = [f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, names, results, domain=self.domain, **self.attributes)
        given, constants = [], []
        for i, x in enumerate(self.inputs):
            if x is None:
                continue
            if i in self.constants:
                constants.append(numpy_helper.from_array(x, names[i]))
            else:
                kind = helper.np_dtype_to_tensor_dtype(x.dtype)
                given.append(helper.make_tensor_value_info(names[i], kind, x.shape))
        outputs = [helper.make_tensor_value_info(r, TensorProto.UNDEFINED, None) for r in results]
        for output in outputs:
            output.ClearField("type")
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        graph = helper.make_graph([node], self.op, given, outputs, constants)
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


_rng = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return _rng.standard_normal(shape, np.float32)


def uniform(low: float, high: float, *shape: int) -> Array:
    return _rng.uniform(low, high, shape).astype(np.float32)


def below(limit: int, *shape: int, dtype: Any = np.int64) -> Array:
    return _rng.integers(0, limit, shape).astype(dtype)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def scalar(value: float, dtype: Any = np.float32) -> Array:
    return np.array(value, dtype)


def one(op: str, what: str, *inputs: Array | None, **more: Any) -> Case:
    """A case; what is no field of Case is an attribute of the node."""
    fields = {k: more.pop(k) for k in ("constants", "outputs", "opset", "domain", "tolerance") if k in more}
    return Case(op, what, inputs, attributes=more, **fields)


def unary() -> Iterator[Case]:
    x = normal(*PICTURE)
    plain = (
        "Abs Atan Asinh Ceil Celu Cos Cosh Elu Erf Exp Floor HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Mish "
        "Neg Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Tan Tanh ThresholdedRelu Gelu"
    )
    for op in plain.split():
        yield one(op, "1x64x56x56", x)
    yield one("Gelu", "tanh, 1x128x3072", normal(1, 128, 3072), approximate="tanh")
    yield one("Swish", "1x64x56x56", x, opset=24)
    for op in ("Acos", "Asin", "Atanh"):
        yield one(op, "1x64x56x56", uniform(-0.99, 0.99, *PICTURE))
    for op in ("Acosh", "Log", "Sqrt", "Reciprocal"):
        yield one(op, "1x64x56x56", uniform(1, 9, *PICTURE))
    yield one("Clip", "0 to 6, 1x64x56x56", x, scalar(0), scalar(6), constants=(1, 2))
    yield one("Not", "bool 1x64x56x56", x > 0)
    yield one("BitwiseNot", "int32 1x64x56x56", below(1000, *PICTURE, dtype=np.int32))
    yield one("Dropout", "1x128x768", normal(*TOKENS))


def binary() -> Iterator[Case]:
    a, b = normal(*PICTURE), normal(*PICTURE)
    channel, row, column = normal(1, 64, 1, 1), normal(768), normal(1, 128, 1)
    tokens = normal(*TOKENS)
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum", "Equal", "Greater", "GreaterOrEqual", "Less"):
        yield one(op, "1x64x56x56", a, b)
    yield one("LessOrEqual", "1x64x56x56", a, b)
    for op in ("Add", "Mul"):
        yield one(op, "1x64x56x56 and channels", a, channel, constants=(1,))
        yield one(op, "1x128x768 and a row", tokens, row, constants=(1,))
    yield one("Sub", "1x128x768 and a column", tokens, column)
    yield one("Div", "1x128x768 and a number", tokens, scalar(8), constants=(1,))
    yield one("Add", "outer 1x128x1 and 768", column, row)
    yield one("Add", "int64 1x4096", below(99, 1, 4096), ints(1), constants=(1,))
    yield one("Mul", "three inner axes 8x12x128x64 and 1x1x128x64", normal(8, 12, 128, 64), normal(1, 1, 128, 64))
    yield one("Max", "of three", a, b, normal(*PICTURE))
    yield one("Pow", "squared, 1x128x768", tokens, scalar(2), constants=(1,))
    yield one("Pow", "to 1.7, 1x128x768", np.abs(tokens), scalar(1.7), constants=(1,))
    yield one("Pow", "1x128x768 both", np.abs(tokens), normal(*TOKENS))
    yield one("Mod", "int64 1x4096", below(99, 1, 4096), ints(7), constants=(1,))
    yield one("Mod", "float 1x128x768", tokens, scalar(0.3), constants=(1,), fmod=1)
    yield one("PRelu", "1x64x56x56 and channels", a, normal(64, 1, 1), constants=(1,))
    for op in ("And", "Or", "Xor"):
        yield one(op, "bool 1x64x56x56", a > 0, b > 0)
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        yield one(op, "int32 1x128x768", below(9999, *TOKENS, dtype=np.int32), below(9999, *TOKENS, dtype=np.int32))
    shift = below(7, *TOKENS, dtype=np.uint32)
    yield one("BitShift", "uint32 1x128x768", below(9999, *TOKENS, dtype=np.uint32), shift, direction="LEFT")
    yield one("Where", "1x64x56x56", a > 0, a, b)
    yield one(
        "Where", "mask 1x1x128x128 and a number", normal(1, 1, 128, 128) > 0, normal(1, 12, 128, 128), scalar(-1e9)
    )


def reductions() -> Iterator[Case]:
    x, tokens = uniform(0.1, 2, *PICTURE), uniform(0.1, 2, *TOKENS)
    for op in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"):
        yield one(f"Reduce{op}", "rows of 1x128x768", tokens, ints(-1), constants=(1,))
    for op in ("Sum", "Mean", "Max", "L2"):
        yield one(f"Reduce{op}", "pictures of 1x64x56x56", x, ints(2, 3), constants=(1,))
        yield one(f"Reduce{op}", "channels of 1x64x56x56", x, ints(1), constants=(1,))
    yield one("ReduceSum", "all of 1x64x56x56", x, keepdims=0)
    yield one("ReduceSum", "ends of 8x64x28x28", normal(8, 64, 28, 28), ints(0, 2, 3), constants=(1,))
    for op in ("ArgMax", "ArgMin"):
        yield one(op, "rows of 128x1000", normal(128, 1000), axis=-1)
        yield one(op, "channels of 1x21x65x65", normal(1, 21, 65, 65), axis=1)
    yield one("CumSum", "rows of 1x128x768", tokens, scalar(-1, np.int64), constants=(1,))
    yield one("CumSum", "columns of 1x128x768", tokens, scalar(1, np.int64), constants=(1,))


def normalisations() -> Iterator[Case]:
    x, tokens = normal(*PICTURE), normal(*TOKENS)
    gain, shift = uniform(0.5, 1.5, 64), normal(64)
    of_rows = (uniform(0.5, 1.5, 768), normal(768))
    statistics = (normal(64), uniform(0.5, 1.5, 64))
    yield one("BatchNormalization", "1x64x56x56", x, gain, shift, *statistics, constants=(1, 2, 3, 4))
    yield one("InstanceNormalization", "1x64x56x56", x, gain, shift, constants=(1, 2))
    yield one("GroupNormalization", "32 groups", x, gain, shift, constants=(1, 2), num_groups=32)
    yield one("LayerNormalization", "1x128x768", tokens, *of_rows, constants=(1, 2))
    yield one("RMSNormalization", "1x128x768", tokens, of_rows[0], constants=(1,), opset=23)
    yield one("LRN", "1x64x56x56", x, size=5)
    yield one("LpNormalization", "rows of 1x128x768", tokens, axis=-1, p=2)
    yield one("MeanVarianceNormalization", "1x64x56x56", x)
    for op in ("Softmax", "LogSoftmax"):
        yield one(op, "rows of 1x12x128x128", normal(1, 12, 128, 128), axis=-1)
        yield one(op, "1x1000", normal(1, 1000), axis=-1)
        yield one(op, "channels of 1x21x65x65", normal(1, 21, 65, 65), axis=1)
    yield one("Hardmax", "rows of 128x1000", normal(128, 1000), axis=-1)


def convolutions() -> Iterator[Case]:
    x = normal(*PICTURE)

    def conv(what: str, given: Array, out: int, kernel: tuple[int, ...], op: str = "Conv", **more: Any) -> Case:
        group = more.get("group", 1)
        into = given.shape[1]
        shape = (into, out // group, *kernel) if op == "ConvTranspose" else (out, into // group, *kernel)
        scale = np.sqrt(shape[1] * np.prod(kernel))
        return one(op, what, given, (normal(*shape) / scale).astype(np.float32), normal(out), constants=(1, 2), **more)

    yield conv("3x3 64 to 64, 56x56", x, 64, (3, 3), pads=[1] * 4)
    yield conv("1x1 64 to 256, 56x56", x, 256, (1, 1))
    yield conv("3x3 stride 2", x, 128, (3, 3), pads=[1] * 4, strides=[2, 2])
    yield conv("7x7 stride 2, 3 to 64, 224x224", normal(1, 3, 224, 224), 64, (7, 7), pads=[3] * 4, strides=[2, 2])
    yield conv("depthwise 3x3", x, 64, (3, 3), pads=[1] * 4, group=64)
    yield conv("depthwise 5x5 stride 2", normal(1, 96, 56, 56), 96, (5, 5), pads=[2] * 4, strides=[2, 2], group=96)
    yield conv("32 groups", normal(1, 128, 28, 28), 128, (3, 3), pads=[1] * 4, group=32)
    yield conv("3x3 dilated by 2", x, 64, (3, 3), pads=[2] * 4, dilations=[2, 2])
    yield conv("1-D 3, 80 to 384, 3000", normal(1, 80, 3000), 384, (3,), pads=[1, 1])
    yield conv("3-D 3x3x3, 16 to 32, 16x28x28", normal(1, 16, 16, 28, 28), 32, (3, 3, 3), pads=[1] * 6)
    yield conv("2x2 stride 2, 64 to 32", x, 32, (2, 2), "ConvTranspose", strides=[2, 2])
    yield conv("4x4 stride 2", normal(1, 128, 28, 28), 64, (4, 4), "ConvTranspose", strides=[2, 2], pads=[1] * 4)
    yield conv("3x3", normal(1, 64, 28, 28), 64, (3, 3), "ConvTranspose", pads=[1] * 4)
    offset, mask = normal(1, 18, 28, 28), uniform(0, 1, 1, 9, 28, 28)
    weight = normal(64, 64, 3, 3)
    deformed = (normal(1, 64, 28, 28), weight, offset, None, mask)
    yield one("DeformConv", "3x3 64 to 64, 28x28", *deformed, constants=(1,), pads=[1] * 4, opset=19)
    for op in ("MaxPool", "AveragePool"):
        yield one(op, "3x3 stride 2", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        yield one(op, "2x2 stride 2", x, kernel_shape=[2, 2], strides=[2, 2])
    yield one("MaxPool", "with indices", x, kernel_shape=[2, 2], strides=[2, 2], outputs=2)
    yield one("MaxPool", "5x5 stride 1", normal(1, 128, 20, 20), kernel_shape=[5, 5], pads=[2] * 4)
    yield one("LpPool", "2x2 stride 2", x, kernel_shape=[2, 2], strides=[2, 2])
    yield one("GlobalAveragePool", "1x1280x7x7", normal(1, 1280, 7, 7))
    yield one("GlobalMaxPool", "1x1280x7x7", normal(1, 1280, 7, 7))
    yield one("GlobalLpPool", "1x1280x7x7", normal(1, 1280, 7, 7))
    places = (np.arange(64 * 28 * 28).reshape(1, 64, 28, 28) * 4).astype(np.int64)
    yield one("MaxUnpool", "28x28 to 56x56", normal(1, 64, 28, 28), places, kernel_shape=[2, 2], strides=[2, 2])
    yield one("Col2Im", "3x3, 32 of 28x28", normal(1, 288, 676), ints(28, 28), ints(3, 3), constants=(1, 2))


def products() -> Iterator[Case]:
    weights = normal(768, 3072) / 28
    yield one("MatMul", "1x128x768 by 768x3072", normal(*TOKENS), weights, constants=(1,))
    yield one("MatMul", "one row, 768x768", normal(1, 1, 768), normal(768, 768), constants=(1,))
    yield one("MatMul", "12 heads, 128x64x128", normal(1, 12, 128, 64), normal(1, 12, 64, 128))
    yield one("MatMul", "two of 256x256", normal(256, 256), normal(256, 256))
    yield one("MatMul", "float64 256x256", normal(256, 256).astype(np.float64), normal(256, 256).astype(np.float64))
    yield one("MatMul", "int32 128x128", below(9, 128, 128, dtype=np.int32), below(9, 128, 128, dtype=np.int32))
    yield one("Gemm", "1x2048 by 1000", normal(1, 2048), normal(1000, 2048), normal(1000), constants=(1, 2), transB=1)
    yield one("Gemm", "64x512x512", normal(64, 512), normal(512, 512), normal(512), constants=(1, 2))
    heads = (normal(1, 128, 12, 64), normal(1, 128, 12, 64))
    yield one("Einsum", "bihd,bjhd->bhij", *heads, equation="bihd,bjhd->bhij")
    yield one("Einsum", "bij,bjk->bik", normal(8, 128, 64), normal(8, 64, 128), equation="bij,bjk->bik")
    yield one("Einsum", "bi,bj->bij", normal(8, 128), normal(8, 64), equation="bi,bj->bij")
    yield one("Det", "64 of 8x8", normal(64, 8, 8))


def movement() -> Iterator[Case]:
    x, tokens, heads = normal(*PICTURE), normal(*TOKENS), normal(1, 128, 12, 64)
    yield one("Transpose", "to channels last", x, perm=[0, 2, 3, 1])
    yield one("Transpose", "to channels first", normal(1, 56, 56, 64), perm=[0, 3, 1, 2])
    yield one("Transpose", "heads", heads, perm=[0, 2, 1, 3])
    yield one("Transpose", "keys", heads, perm=[0, 2, 3, 1])
    yield one("Transpose", "768x768", normal(768, 768), perm=[1, 0])
    yield one("Transpose", "bytes to channels first", below(255, 1, 224, 224, 3, dtype=np.uint8), perm=[0, 3, 1, 2])
    yield one("Reshape", "heads", tokens, ints(1, 128, 12, 64), constants=(1,))
    yield one("Flatten", "1x1280x7x7", normal(1, 1280, 7, 7))
    yield one("Squeeze", "1x128x768", tokens, ints(0), constants=(1,))
    yield one("Unsqueeze", "1x128x768", tokens, ints(0), constants=(1,))
    yield one("Shape", "1x128x768", tokens)
    yield one("Size", "1x128x768", tokens)
    yield one("Concat", "channels", x, x + 1, axis=1)
    yield one("Concat", "rows", tokens, tokens + 1, axis=2)
    yield one("Concat", "a cache, 1x12x512x64 and one more", normal(1, 12, 512, 64), normal(1, 12, 1, 64), axis=2)
    yield one("Split", "rows in three", normal(1, 128, 2304), outputs=3, num_outputs=3, axis=2)
    yield one("Split", "channels in two", x, outputs=2, num_outputs=2, axis=1)
    slices = {"a corner": ((0, 0), (40, 40), (2, 3), (1, 1)), "each second": ((0, 0), (56, 56), (2, 3), (2, 2))}
    for what, (starts, ends, axes, steps) in slices.items():
        yield one("Slice", what, x, ints(*starts), ints(*ends), ints(*axes), ints(*steps), constants=(1, 2, 3, 4))
    yield one("Slice", "half of each row", tokens, ints(0), ints(384), ints(2), constants=(1, 2, 3))
    yield one("Slice", "backwards", x, ints(-1), ints(-(2**60)), ints(3), ints(-1), constants=(1, 2, 3, 4))
    for mode in ("constant", "reflect", "edge", "wrap"):
        yield one("Pad", mode, x, ints(0, 0, 1, 1, 0, 0, 1, 1), constants=(1,), mode=mode)
    yield one("Tile", "2x2", normal(1, 64, 28, 28), ints(1, 1, 2, 2), constants=(1,))
    yield one("Tile", "a row, 128 times", normal(1, 1, 768), ints(1, 128, 1), constants=(1,))
    yield one("Expand", "1x1x128x128 to 12 heads", normal(1, 1, 128, 128), ints(1, 12, 128, 128), constants=(1,))
    yield one("Expand", "channels to 56x56", normal(1, 64, 1, 1), ints(*PICTURE), constants=(1,))
    yield one("Gather", "128 words", normal(30522, 384), below(30522, 1, 128), constants=(0,))
    yield one("Gather", "columns", tokens, below(768, 256), axis=2)
    yield one("Gather", "one row", tokens, scalar(0, np.int64), constants=(1,), axis=1)
    yield one("GatherElements", "1x128x768", tokens, below(128, *TOKENS), axis=1)
    yield one("GatherND", "1,000 of 128x768", normal(128, 768), below(128, 1000, 1))
    yield one("GatherND", "10,000 numbers", normal(128, 768), below(128, 10000, 2))
    yield one("ScatterElements", "128x768", normal(128, 768), below(128, 64, 768), normal(64, 768), axis=0)
    adding = below(128, 64, 768)
    yield one("ScatterElements", "adding", normal(128, 768), adding, normal(64, 768), axis=0, reduction="add")
    yield one("ScatterND", "64 rows", normal(512, 768), _rng.permutation(512)[:64, None], normal(64, 768))
    yield one("DepthToSpace", "DCR", normal(1, 256, 28, 28), blocksize=2)
    yield one("DepthToSpace", "CRD", normal(1, 256, 28, 28), blocksize=2, mode="CRD")
    yield one("SpaceToDepth", "1x64x56x56", x, blocksize=2)
    lengths = below(100, 8) + 1
    yield one("ReverseSequence", "100x8x128", normal(100, 8, 128), lengths, time_axis=0, batch_axis=1)
    yield one("Compress", "rows", normal(1000, 256), normal(1000) > 0, axis=0)
    yield one("Trilu", "12x128x128", normal(12, 128, 128), upper=0)
    yield one("OneHot", "128 of 1000", below(1000, 128), scalar(1000, np.int64), np.array([0, 1], np.float32))
    yield one("EyeLike", "512x512", normal(512, 512))
    yield one("ConstantOfShape", "1x64x56x56", ints(*PICTURE))
    yield one("Range", "10,000", scalar(0, np.int64), scalar(10000, np.int64), scalar(1, np.int64))
    yield one("NonZero", "1x128x768", (tokens > 1).astype(np.float32))
    yield one("CenterCropPad", "56x56 to 40x64", x, ints(40, 64), constants=(1,), axes=[2, 3])
    yield one("Unique", "10,000 of 500", below(500, 10000), outputs=4)
    kinds = {"float16": 10, "int64": 7, "uint8": 2, "bool": 9, "float64": 11, "int32": 6}
    for name, kind in kinds.items():
        yield one("Cast", f"to {name}", np.abs(tokens) * 50, to=kind)
    sources = {"uint8": np.uint8, "int64": np.int64, "int32": np.int32, "float16": np.float16, "bool": np.bool_}
    for name, dtype in sources.items():
        yield one("Cast", f"from {name}", (np.abs(tokens) * 50).astype(dtype), to=1)
    yield one("CastLike", "to int64", tokens, ints(1))


def detection() -> Iterator[Case]:
    x = normal(1, 64, 28, 28)
    twice = np.array([1, 1, 2, 2], np.float32)
    resizes: dict[str, dict[str, Any]] = {
        "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "linear": {"mode": "linear"},
        "linear aligned": {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        "cubic": {"mode": "cubic"},
    }
    for what, attributes in resizes.items():
        yield one("Resize", f"{what} 28x28 twice", x, None, twice, constants=(2,), **attributes)
    third = np.array([1, 1, 1 / 3, 1 / 3], np.float32)
    big = normal(1, 3, 672, 672)
    yield one("Resize", "linear, 672x672 to 224x224", big, None, third, constants=(2,), mode="linear")
    yield one("Resize", "antialiased to a third", big, None, third, constants=(2,), mode="linear", antialias=1)
    yield one("Upsample", "nearest twice", x, twice, constants=(1,), opset=9)
    grid = uniform(-1, 1, 1, 28, 28, 2)
    for mode in ("linear", "nearest", "cubic"):
        yield one("GridSample", f"{mode} 64x28x28", x, grid, mode=mode, tolerance=1e-3)
    yield one("AffineGrid", "1x64x56x56", normal(1, 2, 3), ints(*PICTURE), constants=(1,), opset=20)
    boxes = np.sort(uniform(0, 50, 100, 2, 2), axis=1).reshape(100, 4)
    for mode in ("avg", "max"):
        attributes = {"output_height": 7, "output_width": 7, "sampling_ratio": 2, "spatial_scale": 1.0, "mode": mode}
        yield one("RoiAlign", f"{mode} 100 boxes", normal(*PICTURE), boxes, below(1, 100), **attributes)
    rois = np.hstack([np.zeros((100, 1), np.float32), boxes])
    yield one("MaxRoiPool", "100 boxes", normal(*PICTURE), rois, pooled_shape=[7, 7])
    yield one("TopK", "100 of 8400", normal(1, 8400), ints(100), constants=(1,), outputs=2)
    yield one("TopK", "5 of 1000", normal(1, 1000), ints(5), constants=(1,), outputs=2)
    yield one("TopK", "128 rows, 8 of 64", normal(128, 64), ints(8), constants=(1,), outputs=2)
    centres = uniform(0, 640, 1, 2000, 2)
    sides = uniform(10, 80, 1, 2000, 2)
    corners = np.concatenate([centres - sides, centres + sides], 2)
    limits = (ints(100), scalar(0.5), scalar(0.3))
    given = (corners, uniform(0, 1, 1, 4, 2000), *limits)
    yield one("NonMaxSuppression", "2,000 boxes, 4 classes", *given, constants=(2, 3, 4))


def transformer() -> Iterator[Case]:
    tokens = normal(*TOKENS)
    heads = {"q_num_heads": 12, "kv_num_heads": 12}
    yield one("Attention", "12 heads, 128 tokens", tokens, normal(*TOKENS), normal(*TOKENS), opset=23, **heads)
    causal = {**heads, "is_causal": 1}
    yield one("Attention", "causal, 128 tokens", tokens, normal(*TOKENS), normal(*TOKENS), opset=23, **causal)
    query, cache = normal(1, 12, 1, 64), normal(1, 12, 512, 64)
    yield one("Attention", "one token, 512 before", query, cache, cache + 1, opset=23)
    rotary = (normal(1, 12, 128, 64), normal(1, 128, 32), normal(1, 128, 32))
    yield one("RotaryEmbedding", "12 heads, 128 tokens", *rotary, opset=23)
    row = normal(768)
    for op in ("Gelu", "QuickGelu"):
        yield one(op, "1x128x768", tokens, domain=MICROSOFT)
    yield one("FastGelu", "1x128x768", tokens, row, constants=(1,), domain=MICROSOFT)
    yield one("BiasGelu", "1x128x768", tokens, row, constants=(1,), domain=MICROSOFT)
    gains = (uniform(0.5, 1.5, 768), normal(768))
    yield one("SkipLayerNormalization", "1x128x768", tokens, tokens + 1, *gains, constants=(2, 3), domain=MICROSOFT)
    skip = {"constants": (2,), "domain": MICROSOFT}
    yield one("SkipSimplifiedLayerNormalization", "1x128x768", tokens, tokens + 1, gains[0], **skip)
    square, into = normal(768, 2304) / 28, normal(2304)
    yield one(
        "Attention", "12 heads, with weights", tokens, square, into, constants=(1, 2), domain=MICROSOFT, num_heads=12
    )
    three = (tokens, normal(*TOKENS), normal(*TOKENS))
    yield one("MultiHeadAttention", "12 heads, 128 tokens", *three, domain=MICROSOFT, num_heads=12)
    fused = (normal(8, 128, 64), normal(8, 128, 64))
    yield one("FusedMatMul", "transB", *fused, domain=MICROSOFT, transB=1, alpha=0.125)
    packed, scales = below(255, 768, 24, 16, dtype=np.uint8), uniform(0.01, 0.02, 768 * 24)
    bits = {"K": 768, "N": 768, "bits": 4, "block_size": 32, "constants": (1, 2), "domain": MICROSOFT}
    yield one("MatMulNBits", "4 bits, one row, 768x768", normal(1, 1, 768), packed, scales, tolerance=3e-2, **bits)
    yield one("MatMulNBits", "4 bits, 128 rows", tokens, packed, scales, tolerance=3e-2, **bits)


def recurrent() -> Iterator[Case]:
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        weights = (normal(1, gates * 256, 128) / 16, normal(1, gates * 256, 256) / 16, normal(1, gates * 512) / 16)
        more: dict[str, Any] = {"linear_before_reset": 1} if op == "GRU" else {}
        for batch in (1, 8):
            given = (normal(100, batch, 128), *weights)
            yield one(op, f"100 steps, batch {batch}", *given, constants=(1, 2, 3), hidden_size=256, **more)
    yield one("DFT", "80 of 512", normal(80, 512, 1), None, scalar(1, np.int64), constants=(2,), opset=20, onesided=1)
    yield one("DFT", "80 of 400", normal(80, 400, 1), None, scalar(1, np.int64), constants=(2,), opset=20, onesided=1)
    wave, step = normal(1, 16000, 1), scalar(160, np.int64)
    window, length = np.hanning(400).astype(np.float32), scalar(400, np.int64)
    yield one("STFT", "one second", wave, step, window, length, constants=(1, 2, 3))
    for op in ("HannWindow", "HammingWindow", "BlackmanWindow"):
        yield one(op, "400", scalar(400, np.int64))
    mel = (scalar(80, np.int64), scalar(400, np.int64), scalar(16000, np.int64), scalar(0), scalar(8000))
    yield one("MelWeightMatrix", "80 of 400", *mel)


def control_flow() -> Iterator[Case]:
    from onnx import TensorProto, helper

    def values(*names: str, kind: int = TensorProto.FLOAT, shape: tuple[int, ...] = (1, 256)) -> list[Any]:
        return [helper.make_tensor_value_info(name, kind, shape) for name in names]

    step = helper.make_node("Add", ["state", "state"], ["sum"])
    after = helper.make_node("Tanh", ["sum"], ["next"])
    again = helper.make_node("Identity", ["go"], ["go_on"])
    counter = [*values("i", kind=TensorProto.INT64, shape=()), *values("go", kind=TensorProto.BOOL, shape=())]
    goes_on = values("go_on", kind=TensorProto.BOOL, shape=())
    body = helper.make_graph([step, after, again], "body", counter + values("state"), goes_on + values("next"))
    yield one("Loop", "100 of Add and Tanh", scalar(100, np.int64), scalar(1, np.bool_), normal(1, 256), body=body)
    add = helper.make_node("Add", ["state", "row"], ["sum"])
    out = helper.make_node("Identity", ["next"], ["y"])
    scanned = helper.make_graph([add, after, out], "body", values("state", "row"), values("next", "y"))
    yield one(
        "Scan", "100 of Add and Tanh", normal(1, 256), normal(100, 1, 256), outputs=2, body=scanned, num_scan_inputs=1
    )
    # Branches read outer values; the condition is this node's only input, so they hold constants.
    branches = {}
    for name, value in (("then_branch", 1.0), ("else_branch", 2.0)):
        fill = helper.make_tensor("value", TensorProto.FLOAT, [256], [value] * 256)
        branches[name] = helper.make_graph(
            [helper.make_node("Constant", [], ["c"], value=fill), helper.make_node("Tanh", ["c"], ["y"])],
            name, [], values("y", shape=(256,)),
        )  # fmt: skip
    yield one("If", "Tanh of 256", scalar(1, np.bool_), **branches)


def quantized() -> Iterator[Case]:
    x, tokens = normal(*PICTURE), normal(*TOKENS)
    scale, zero = scalar(0.02), scalar(128, np.uint8)
    yield one("QuantizeLinear", "1x64x56x56", x, scale, zero, constants=(1, 2))
    per_channel = (uniform(0.01, 0.03, 64), np.zeros(64, np.int8))
    yield one("QuantizeLinear", "per channel", x, *per_channel, constants=(1, 2), axis=1)
    image = below(255, *PICTURE, dtype=np.uint8)
    yield one("DequantizeLinear", "1x64x56x56", image, scale, zero, constants=(1, 2))
    yield one(
        "DequantizeLinear", "per channel", below(99, *PICTURE, dtype=np.int8), *per_channel, constants=(1, 2), axis=1
    )
    yield one("DynamicQuantizeLinear", "1x128x768", tokens, outputs=3)

    def weights(*shape: int) -> Array:
        return _rng.integers(-127, 127, shape).astype(np.int8)

    none = scalar(0, np.int8)
    convs: dict[str, tuple[Array, Array, int, dict[str, Any]]] = {
        "3x3 64 to 64": (image, weights(64, 64, 3, 3), 64, {"pads": [1] * 4}),
        "1x1 64 to 256": (image, weights(256, 64, 1, 1), 256, {}),
        "depthwise 3x3": (image, weights(64, 1, 3, 3), 64, {"pads": [1] * 4, "group": 64}),
    }
    for what, (given, kernel, out, more) in convs.items():
        scales = uniform(0.001, 0.002, out)
        zeros = np.zeros(out, np.int8)
        bias = below(99, out, dtype=np.int32)
        given_all = (given, scale, zero, kernel, scales, zeros, scalar(0.5), zero, bias)
        yield one("QLinearConv", what, *given_all, constants=(1, 2, 3, 4, 5, 6, 7, 8), tolerance=1, **more)
    yield one(
        "ConvInteger", "3x3 64 to 64", image, weights(64, 64, 3, 3), zero, none, constants=(1, 2, 3), pads=[1] * 4
    )
    rows, square = below(255, 1, 128, 768, dtype=np.uint8), weights(768, 768)
    products = (rows, scale, zero, square, scalar(0.01), none, scalar(2.0), zero)
    yield one("QLinearMatMul", "1x128x768 by 768", *products, constants=(1, 2, 3, 4, 5, 6, 7), tolerance=1)
    yield one("MatMulInteger", "1x128x768 by 768", rows, square, zero, constants=(1, 2))
    dynamic = {"constants": (1, 2), "domain": MICROSOFT, "tolerance": 2e-2}
    yield one("DynamicQuantizeMatMul", "1x128x768 by 768", tokens, square, scalar(0.01), **dynamic)
    other = below(255, *PICTURE, dtype=np.uint8)
    parts = (image, scale, zero, other, scale, zero, scalar(0.03), zero)
    for op in ("QLinearAdd", "QLinearMul"):
        yield one(op, "1x64x56x56", *parts, constants=(1, 2, 4, 5, 6, 7), domain=MICROSOFT, tolerance=1)
    in_and_out = {"constants": (1, 2, 3, 4), "domain": MICROSOFT, "tolerance": 1}
    for op in ("QLinearSigmoid", "QLinearLeakyRelu"):
        yield one(op, "1x64x56x56", image, scale, zero, scalar(0.01), zero, **in_and_out)
    pooled = (below(255, 1, 1280, 7, 7, dtype=np.uint8), scale, zero, scale, zero)
    yield one("QLinearGlobalAveragePool", "1x1280x7x7", *pooled, **in_and_out)
    row = (below(255, 128, 1000, dtype=np.uint8), scale, zero, scalar(1 / 256), scalar(0, np.uint8))
    attributes = {"axis": -1, "opset": 13}  # the node's own opset
    yield Case("QLinearSoftmax", "128x1000", row, (1, 2, 3, 4), 1, 21, MICROSOFT, attributes, tolerance=1)


def cases() -> list[Case]:
    """All cases, always with the same numbers."""
    families = (unary, binary, reductions, normalisations, convolutions, products, movement, detection, transformer)
    return [case for family in (*families, recurrent, control_flow, quantized) for case in family()]
