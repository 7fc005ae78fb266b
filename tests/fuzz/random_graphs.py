"""Random small graphs in which every value's type and shape is known, so that most of them are models that run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F32, I64, BOOL, I32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.INT32
MOST_ELEMENTS = 4000


@dataclass(frozen=True)
class Value:
    name: str
    dtype: int
    shape: tuple[int, ...]
    exact: bool
    """Every correct runtime has the same bits: what rounds to a step (Floor, a comparison) may follow."""
    step: float = 0.0
    """Size of a quantization step that two runtimes may differ by; only movements may follow."""

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


class Maker:
    """Adds random nodes to a graph."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.values: list[Value] = []
        self.inputs: list[Value] = []
        self.opset = int(self.random.choice([13, 17, 18, 21, 23]))

    # ---- choices -----------------------------------------------------------------------------------------------
    def below(self, count: int) -> int:
        return int(self.random.integers(count))

    def one_of(self, *choices: Any) -> Any:
        return choices[self.below(len(choices))]

    def pick(self, dtype: int = F32, ranks: tuple[int, ...] = (), exact: bool = False) -> Value | None:
        found = [
            v
            for v in self.values
            if v.dtype == dtype and (not ranks or v.rank in ranks) and (v.exact or not exact) and not v.step
        ]
        if not found:
            return None
        return found[-1] if self.below(3) == 0 else found[self.below(len(found))]

    # ---- parts -------------------------------------------------------------------------------------------------
    def add_input(self) -> None:
        rank = self.one_of(1, 2, 2, 3, 3, 4, 4, 4)
        shape = tuple(int(self.one_of(1, 2, 3, 4, 5, 8, 16, 17)) for _ in range(rank))
        while np.prod(shape) > MOST_ELEMENTS:
            shape = tuple(max(1, s // 2) for s in shape)
        dtype = self.one_of(F32, F32, F32, F32, I64)
        value = Value(f"x{len(self.inputs)}", dtype, shape, True)
        self.inputs.append(value)
        self.values.append(value)

    def constant(self, array: np.ndarray[Any, Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def reals(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant((self.random.standard_normal(shape) * scale).astype(np.float32))

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def node(
        self,
        op: str,
        inputs: list[str],
        shape: tuple[int, ...],
        exact: bool,
        dtype: int = F32,
        step: float = 0.0,
        **more: Any,
    ) -> Value:
        name = f"v{len(self.values)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"n{len(self.nodes)}", **more))
        value = Value(name, dtype, tuple(int(s) for s in shape), exact, step)
        self.values.append(value)
        return value

    # ---- families of operators ---------------------------------------------------------------------------------
    def unary(self) -> None:
        v = self.pick()
        if v is None:
            return
        op = self.one_of(
            "Relu", "Neg", "Abs", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "HardSigmoid", "HardSwish", "Softplus",
            "Softsign", "Erf", "Identity", "Clip", "Sin", "Exp", "Sqrt", "Floor", "Mish", "Gelu", "Selu", "PRelu",
        )  # fmt: skip
        since = {"HardSwish": 14, "Mish": 18, "Gelu": 20}
        if self.opset < since.get(op, 1):
            return
        if op == "Clip":
            low = self.constant(np.float32(-0.5))
            self.node(op, [v.name, low, self.constant(np.float32(self.one_of(0.7, 6)))], v.shape, v.exact)
        elif op == "Exp":
            bounded = self.node("Tanh", [v.name], v.shape, False)
            self.node(op, [bounded.name], v.shape, False)
        elif op == "Sqrt":
            positive = self.node("Abs", [v.name], v.shape, v.exact)
            shifted = self.node("Add", [positive.name, self.constant(np.float32(0.25))], v.shape, False)
            self.node(op, [shifted.name], v.shape, False)
        elif op == "Floor":
            if v.exact:
                self.node(op, [v.name], v.shape, True)
        elif op == "PRelu":
            self.node(op, [v.name, self.reals(*v.shape[-1:])], v.shape, False)
        else:
            self.node(op, [v.name], v.shape, v.exact and op in ("Relu", "Neg", "Abs", "Identity"))

    def silu(self) -> None:
        v = self.pick()
        if v is None:
            return
        gate = self.node(self.one_of("Sigmoid", "HardSigmoid"), [v.name], v.shape, False)
        self.node("Mul", [v.name, gate.name], v.shape, False)

    def partner(self, v: Value) -> tuple[str, tuple[int, ...], bool]:
        """Another operand that broadcasts with v."""
        same = [w for w in self.values if w.dtype == v.dtype and not w.step and w.shape == v.shape]
        if same and self.below(2):
            w = same[self.below(len(same))]
            return w.name, w.shape, w.exact
        shape = tuple(self.one_of(s, s, 1) for s in v.shape)[self.below(v.rank + 1) if v.rank else 0 :]
        if self.below(5) == 0:
            shape = (1, *shape)
        if v.dtype == I64:
            return self.constant(self.random.integers(1, 5, shape)), shape, True
        return self.reals(*shape), shape, True

    def binary(self) -> None:
        v = self.pick(self.one_of(F32, F32, F32, I64))
        if v is None:
            return
        other, shape, exact = self.partner(v)
        out = np.broadcast_shapes(v.shape, shape)
        op = self.one_of("Add", "Add", "Mul", "Mul", "Sub", "Div", "Max", "Min", "PRelu")
        if op == "PRelu" and (v.dtype != F32 or out != v.shape):
            op = "Add"
        if op == "Div":
            if v.dtype == F32:
                low = self.node("Abs", [other], shape, exact)
                other = self.node("Add", [low.name, self.constant(np.float32(0.5))], shape, False).name
            else:
                other = self.constant(self.random.integers(1, 5, shape))
        names = [v.name, other] if op in ("Div", "PRelu") or self.below(2) else [other, v.name]
        same = v.dtype == I64 or (v.exact and exact and op in ("Max", "Min"))
        self.node(op, names, out, same, v.dtype)

    def compare(self) -> None:
        v = self.pick(exact=True)
        if v is None:
            return
        bound = self.constant(np.float32(0.1))
        mask = self.node(self.one_of("Less", "Greater", "GreaterOrEqual"), [v.name, bound], v.shape, True, BOOL)
        if self.below(3) == 0:
            mask = self.node("Not", [mask.name], v.shape, True, BOOL)
        w = [u for u in self.values if u.dtype == F32 and u.shape == v.shape and not u.step]
        chosen = w[self.below(len(w))] if w else v
        self.node("Where", [mask.name, v.name, chosen.name], v.shape, v.exact and chosen.exact)

    def product(self) -> None:
        v = self.pick(ranks=(2, 3, 4))
        if v is None:
            return
        k, n = v.shape[-1], self.one_of(1, 2, 3, 8, 17)
        weights = self.reals(k, n, scale=k**-0.5)
        if v.rank == 2 and self.below(2):
            turned = self.below(2)
            w = self.reals(n, k, scale=k**-0.5) if turned else weights
            bias = [self.reals(*self.one_of((n,), (1,), (1, n)))] if self.below(2) else []
            out = self.node("Gemm", [v.name, w, *bias], (v.shape[0], n), False, transB=turned,
                            alpha=self.one_of(1.0, 0.5))  # fmt: skip
        else:
            out = self.node("MatMul", [v.name, weights], (*v.shape[:-1], n), False)
        if self.below(2):
            out = self.node("Add", [out.name, self.reals(n)], out.shape, False)
        if self.below(2):
            self.node(self.one_of("Relu", "Sigmoid", "Tanh", "LeakyRelu"), [out.name], out.shape, False)

    def attention(self) -> None:
        v = self.pick(ranks=(3, 4))
        if v is None:
            return
        *batch, rows, width = v.shape
        perm = [*range(len(batch)), len(batch) + 1, len(batch)]
        turned = self.node("Transpose", [v.name], (*batch, width, rows), v.exact, perm=perm)
        scores = self.node("MatMul", [v.name, turned.name], (*batch, rows, rows), False)
        scaled = self.node("Mul", [scores.name, self.constant(np.float32(width**-0.5))], scores.shape, False)
        if self.below(2):
            scaled = self.node("Add", [scaled.name, self.reals(rows, rows)], scores.shape, False)
        weights = self.node("Softmax", [scaled.name], scores.shape, False, axis=-1)
        self.node("MatMul", [weights.name, v.name], v.shape, False)

    def conv_attributes(self, size: tuple[int, ...], most: int = 3) -> tuple[dict[str, Any], list[int], list[int]]:
        kernel = [int(self.one_of(*range(1, min(most, s) + 1))) for s in size]
        strides = [self.one_of(1, 1, 2) for _ in size]
        dilations = [self.one_of(1, 1, 2) if (k - 1) * 2 + 1 <= s else 1 for k, s in zip(kernel, size, strict=True)]
        pads = [self.below(k) for k in kernel] + [self.below(k) for k in kernel]
        n = len(size)
        out = []
        for d in range(n):
            span = (kernel[d] - 1) * dilations[d] + 1
            out.append((size[d] + pads[d] + pads[n + d] - span) // strides[d] + 1)
        attributes = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads}
        return attributes, kernel, out

    def conv(self) -> None:
        v = self.pick(ranks=(3, 4))
        if v is None:
            return
        channels = v.shape[1]
        groups = self.one_of(1, 1, channels, channels if channels % 2 else 2)
        more, kernel, size = self.conv_attributes(v.shape[2:])
        if min(size) < 1 or channels % groups:
            return
        width = groups * self.one_of(1, 2, 4) if groups > 1 else self.one_of(1, 3, 8, 16)
        weights = self.reals(width, channels // groups, *kernel, scale=0.3)
        bias = [self.reals(width)] if self.below(2) else []
        out = self.node("Conv", [v.name, weights, *bias], (v.shape[0], width, *size), False, group=groups, **more)
        if self.below(3) == 0:
            parts = [self.constant(self.random.uniform(0.5, 1.5, width).astype(np.float32)) for _ in range(4)]
            out = self.node("BatchNormalization", [out.name, *parts], out.shape, False)
        if self.below(2):
            out = self.node(
                self.one_of("Relu", "Sigmoid", "HardSigmoid", "LeakyRelu", "Tanh"), [out.name], out.shape, False
            )
        if out.shape == v.shape and self.below(2):
            out = self.node("Add", [out.name, v.name], out.shape, False)
            if self.below(2):
                self.node("Relu", [out.name], out.shape, False)

    def conv_transpose(self) -> None:
        v = self.pick(ranks=(3, 4))
        if v is None or v.size > 600:
            return
        strides = [self.one_of(1, 2) for _ in v.shape[2:]]
        kernel = [self.one_of(1, 2, 3) for _ in v.shape[2:]]
        size = [(s - 1) * t + k for s, t, k in zip(v.shape[2:], strides, kernel, strict=True)]
        width = self.one_of(1, 2, 5)
        weights = self.reals(v.shape[1], width, *kernel, scale=0.3)
        self.node("ConvTranspose", [v.name, weights], (v.shape[0], width, *size), False, strides=strides,
                  kernel_shape=kernel)  # fmt: skip

    def pool(self) -> None:
        v = self.pick(ranks=(3, 4))
        if v is None:
            return
        if self.below(4) == 0:
            self.node(
                self.one_of("GlobalAveragePool", "GlobalMaxPool"), [v.name], (*v.shape[:2], *[1] * (v.rank - 2)), False
            )
            return
        more, _, size = self.conv_attributes(v.shape[2:])
        if min(size) < 1:
            return
        if self.below(2):
            self.node("MaxPool", [v.name], (*v.shape[:2], *size), v.exact, **more)
        else:
            if self.opset < 19:
                more.pop("dilations")
                n = v.rank - 2
                size = [(v.shape[2 + d] + more["pads"][d] + more["pads"][n + d] - more["kernel_shape"][d])
                        // more["strides"][d] + 1 for d in range(n)]  # fmt: skip
            self.node("AveragePool", [v.name], (*v.shape[:2], *size), False, count_include_pad=self.below(2), **more)

    def normalize(self) -> None:
        v = self.pick(ranks=(2, 3, 4))
        if v is None:
            return
        which = self.below(4)
        if which == 0:
            self.node("Softmax", [v.name], v.shape, False, axis=self.below(v.rank))
        elif which == 1 and self.opset >= 17:
            axis = self.below(v.rank)
            inner = v.shape[axis:]
            self.node("LayerNormalization", [v.name, self.reals(*inner), self.reals(*inner)], v.shape, False,
                      axis=axis, epsilon=0.1)  # fmt: skip
        elif which == 2 and v.rank >= 3:
            c = v.shape[1]
            self.node("InstanceNormalization", [v.name, self.reals(c), self.reals(c)], v.shape, False, epsilon=0.1)
        else:
            self.node("LogSoftmax", [v.name], v.shape, False, axis=-1)

    def reduce(self) -> None:
        v = self.pick(ranks=(1, 2, 3, 4))
        if v is None:
            return
        op = self.one_of("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ArgMax")
        axis = self.below(v.rank)
        keep = self.below(2)
        shape = [*v.shape[:axis], *([1] if keep else []), *v.shape[axis + 1 :]]
        if op == "ArgMax":
            if v.exact:
                self.node(op, [v.name], tuple(shape), True, I64, axis=axis, keepdims=keep)
        elif op == "ReduceSum" or self.opset >= 18:
            exact = v.exact and op in ("ReduceMax", "ReduceMin")
            self.node(op, [v.name, self.ints(axis)], tuple(shape), exact, keepdims=keep)
        else:
            exact = v.exact and op in ("ReduceMax", "ReduceMin")
            self.node(op, [v.name], tuple(shape), exact, axes=[axis], keepdims=keep)

    def movement(self) -> None:
        found = [v for v in self.values if v.dtype in (F32, I64)]
        v = found[self.below(len(found))]
        keep = {"exact": v.exact, "dtype": v.dtype, "step": v.step}
        which = self.below(10)
        if which == 0 and v.rank > 1:
            perm = [int(p) for p in self.random.permutation(v.rank)]
            self.node("Transpose", [v.name], tuple(v.shape[p] for p in perm), perm=perm, **keep)
        elif which == 1:
            shapes = [(v.size,), (1, v.size), (v.size, 1)]
            shapes += [(v.shape[0], v.size // v.shape[0])] if v.rank and v.shape[0] else []
            shape = shapes[self.below(len(shapes))]
            self.node("Reshape", [v.name, self.ints(*shape)], shape, **keep)
        elif which == 2 and v.rank:
            axis = self.below(v.rank)
            start, step = self.below(v.shape[axis]), self.one_of(1, 1, 2)
            size = len(range(start, v.shape[axis], step))
            names = [v.name, self.ints(start), self.ints(2**31), self.ints(axis), self.ints(step)]
            self.node("Slice", names, (*v.shape[:axis], size, *v.shape[axis + 1 :]), **keep)
        elif which == 3 and v.rank:
            axis = self.below(v.rank)
            rest = (*v.shape[:axis], *v.shape[axis + 1 :])
            same = [
                w
                for w in self.values
                if (w.dtype, w.rank, w.step) == (v.dtype, v.rank, v.step)
                and (*w.shape[:axis], *w.shape[axis + 1 :]) == rest
            ]
            w = same[self.below(len(same))]
            if v.size + w.size <= MOST_ELEMENTS:
                keep["exact"] = v.exact and w.exact
                shape = (*v.shape[:axis], v.shape[axis] + w.shape[axis], *v.shape[axis + 1 :])
                self.node("Concat", [v.name, w.name], shape, axis=axis, **keep)
        elif which == 4 and v.rank and v.size < 1000:
            pads = [self.below(3) for _ in range(2 * v.rank)]
            shape = tuple(s + pads[d] + pads[v.rank + d] for d, s in enumerate(v.shape))
            if np.prod(shape) <= MOST_ELEMENTS:
                self.node("Pad", [v.name, self.ints(*pads)], shape, mode="constant", **keep)
        elif which == 5 and v.rank:
            axis = self.below(v.rank)
            chosen = self.random.integers(0, v.shape[axis], self.one_of((2,), (), (1, 3)))
            shape = (*v.shape[:axis], *chosen.shape, *v.shape[axis + 1 :])
            if np.prod(shape) <= MOST_ELEMENTS:
                self.node("Gather", [v.name, self.constant(chosen)], shape, axis=axis, **keep)
        elif which == 6 and v.rank < 5:
            axis = self.below(v.rank + 1)
            self.node("Unsqueeze", [v.name, self.ints(axis)], (*v.shape[:axis], 1, *v.shape[axis:]), **keep)
        elif which == 7 and 1 in v.shape:
            axis = v.shape.index(1)
            self.node("Squeeze", [v.name, self.ints(axis)], (*v.shape[:axis], *v.shape[axis + 1 :]), **keep)
        elif which == 8 and v.rank == 4 and v.dtype == F32 and v.size < 1000:
            shape = (*v.shape[:2], v.shape[2] * 2, v.shape[3] * 2)
            scales = self.constant(np.array([1, 1, 2, 2], np.float32))
            mode = self.one_of("nearest", "linear") if not v.step else "nearest"
            more = {"mode": mode, "coordinate_transformation_mode": self.one_of("asymmetric", "half_pixel")}
            if mode == "nearest":
                more |= {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
            keep["exact"] = v.exact and mode == "nearest"
            self.node("Resize", [v.name, "", scales], shape, **keep, **more)
        elif which == 9 and v.rank == 4 and v.shape[1] % 4 == 0 and v.dtype == F32:
            shape = (v.shape[0], v.shape[1] // 4, v.shape[2] * 2, v.shape[3] * 2)
            self.node("DepthToSpace", [v.name], shape, blocksize=2, mode=self.one_of("DCR", "CRD"), **keep)

    def split(self) -> None:
        v = self.pick(ranks=(1, 2, 3, 4))
        if v is None:
            return
        axis = self.below(v.rank)
        if v.shape[axis] < 2:
            return
        at = 1 + self.below(v.shape[axis] - 1)
        names = [f"v{len(self.values)}", f"v{len(self.values) + 1}"]
        sizes = (at, v.shape[axis] - at)
        self.nodes.append(
            helper.make_node("Split", [v.name, self.ints(*sizes)], names, name=f"n{len(self.nodes)}", axis=axis)
        )
        for name, size in zip(names, sizes, strict=True):
            self.values.append(Value(name, F32, (*v.shape[:axis], size, *v.shape[axis + 1 :]), v.exact))

    def cast(self) -> None:
        if self.below(2):
            v = self.pick(I64)
            if v:
                self.node("Cast", [v.name], v.shape, v.exact, F32, to=F32)
        else:
            v = self.pick(F32, exact=True)
            if v:
                self.node("Cast", [v.name], v.shape, True, I64, to=I64)

    def quantized(self) -> None:
        """DequantizeLinear, an operator, QuantizeLinear, DequantizeLinear: what becomes integer operators."""
        v = self.pick(ranks=(2, 4), exact=True)
        if v is None or v.size > 2000:
            return
        unsigned = self.below(2)
        kind = np.uint8 if unsigned else np.int8

        def steps(name: str, shape: tuple[int, ...], scale: float, exact: bool) -> Value:
            parts = [self.constant(np.float32(scale)), self.constant(kind(128 if unsigned else self.one_of(0, 3)))]
            q = f"q{len(self.nodes)}"
            self.nodes.append(helper.make_node("QuantizeLinear", [name, *parts], [q], name=f"n{len(self.nodes)}"))
            return self.node("DequantizeLinear", [q, *parts], shape, exact, step=0.0 if exact else scale)

        def weights(*shape: int) -> str:
            array = self.random.integers(-127, 128, shape).astype(np.int8)
            scale = self.constant(np.float32(0.01))
            zero = self.constant(np.int8(0))
            return self.node("DequantizeLinear", [self.constant(array), scale, zero], shape, True).name

        x = steps(v.name, v.shape, 0.05, True)
        if v.rank == 4:
            more, kernel, size = self.conv_attributes(v.shape[2:])
            if min(size) < 1:
                return
            width = self.one_of(1, 4, 8)
            shape = (v.shape[0], width, *size)
            y = self.node("Conv", [x.name, weights(width, v.shape[1], *kernel)], shape, False, **more)
        else:
            width = self.one_of(1, 3, 16)
            y = self.node("MatMul", [x.name, weights(v.shape[1], width)], (v.shape[0], width), False)
        if self.below(2):
            y = self.node("Relu", [y.name], y.shape, False)
        steps(y.name, y.shape, 0.1, False)


def make(seed: int) -> tuple[onnx.ModelProto, dict[str, np.ndarray[Any, Any]], list[Value]]:
    """A model, feeds for it, and what its outputs are."""
    maker = Maker(seed)
    for _ in range(maker.one_of(1, 2, 2)):
        maker.add_input()
    families = [
        maker.unary, maker.unary, maker.silu, maker.binary, maker.binary, maker.binary, maker.compare, maker.product,
        maker.attention, maker.conv, maker.conv, maker.conv_transpose, maker.pool, maker.normalize, maker.reduce,
        maker.movement, maker.movement, maker.movement, maker.split, maker.cast, maker.quantized,
    ]  # fmt: skip
    for _ in range(maker.one_of(1, 2, 3, 4, 6, 8, 12)):
        families[maker.below(len(families))]()
    used = {name for node in maker.nodes for name in node.input}
    outputs = [v for v in maker.values if v.name not in used and v not in maker.inputs]
    inner = [v for v in maker.values if v.name in used and v not in maker.inputs]
    if inner and maker.below(3) == 0:
        outputs.append(inner[maker.below(len(inner))])
    symbolic = maker.below(3) == 0
    graph = helper.make_graph(
        maker.nodes,
        "random",
        [
            helper.make_tensor_value_info(
                v.name, v.dtype, [f"{v.name}_{d}" if symbolic and d == 0 else s for d, s in enumerate(v.shape)]
            )
            for v in maker.inputs
        ],
        [helper.make_tensor_value_info(v.name, v.dtype, [None] * v.rank) for v in outputs],
        maker.constants,
    )
    feeds: dict[str, np.ndarray[Any, Any]] = {}
    for v in maker.inputs:
        if v.dtype == I64:
            feeds[v.name] = maker.random.integers(-5, 6, v.shape)
        else:
            feeds[v.name] = maker.random.standard_normal(v.shape).astype(np.float32)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", maker.opset)], ir_version=8)
    return model, feeds, outputs
