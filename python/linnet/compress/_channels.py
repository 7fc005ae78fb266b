"""Whole channels out of a graph: which must go together, and how to cut them out of every tensor that has them.

Each channel that a layer produces is an *atom*. Walking the graph, every activation carries the atoms that lie along
one of its axes, and every constant that meets that axis (weights, biases, normalisations) is *tied*: its axis carries
the same atoms. Where two activations meet element by element, their atoms are united. What cannot be followed is
frozen. A class of united atoms is then kept or cut as one, from all axes that carry it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx

from linnet.compress import _layers

Atoms = npt.NDArray[np.int64]

ACTIVATIONS = {
    "Relu",
    "LeakyRelu",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Tanh",
    "Elu",
    "Selu",
    "Celu",
    "Gelu",
    "Mish",
}
MORE_ACTIVATIONS = {"Swish", "Softplus", "Softsign", "ThresholdedRelu", "Clip", "Identity", "Cast", "Dropout"}
FUNCTIONS = {"Erf", "Exp", "Log", "Sqrt", "Reciprocal", "Neg", "Abs", "Sign", "Floor", "Ceil", "Round"}
UNARY = ACTIVATIONS | MORE_ACTIVATIONS | FUNCTIONS
BINARY = frozenset(["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "PRelu", "Where"])
POOLS = frozenset(["MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
SPATIAL = POOLS | {"InstanceNormalization", "BatchNormalization"}


@dataclass(frozen=True)
class Along:
    """The atoms along one axis of an activation."""

    axis: int
    atoms: Atoms


@dataclass(frozen=True)
class Tie:
    """The atoms along one axis of a constant."""

    tensor: str
    axis: int
    atoms: Atoms


@dataclass
class Dependencies:
    """What the walk over a graph found.

    ``parent`` is the union-find over atoms, ``frozen`` the atoms that must stay with the reason, ``ties`` the axes of
    constants, ``produced`` the atoms of each layer's outputs by its weight, ``grouped`` the depthwise nodes with the
    tensor whose first axis says their number of groups, ``reshapes`` the Reshape nodes that flatten.
    """

    parent: list[int] = field(default_factory=list)
    frozen: dict[int, str] = field(default_factory=dict)
    ties: list[Tie] = field(default_factory=list)
    produced: dict[str, Atoms] = field(default_factory=dict)
    grouped: list[tuple[onnx.NodeProto, str]] = field(default_factory=list)
    reshapes: list[onnx.NodeProto] = field(default_factory=list)

    def fresh(self, count: int) -> Atoms:
        """New atoms."""
        start = len(self.parent)
        self.parent.extend(range(start, start + count))
        return np.arange(start, start + count)

    def root(self, atom: int) -> int:
        """The atom that stands for the class."""
        parent = self.parent
        while parent[atom] != atom:
            parent[atom] = parent[parent[atom]]
            atom = parent[atom]
        return atom

    def unite(self, a: Atoms, b: Atoms) -> None:
        """Element by element."""
        for x, y in zip(a.tolist(), b.tolist(), strict=True):
            x, y = self.root(x), self.root(y)
            self.parent[max(x, y)] = min(x, y)

    def freeze(self, atoms: Atoms, why: str) -> None:
        """These must stay."""
        for atom in np.unique(atoms).tolist():
            self.frozen.setdefault(atom, why)

    def roots(self, atoms: Atoms) -> Atoms:
        """The class of each."""
        return np.array([self.root(a) for a in atoms.tolist()], np.int64)


_UNKNOWN: list[int | None] = []


class Walk:
    """One walk over a graph in its order, filling `Dependencies`."""

    def __init__(self, graph: onnx.GraphProto, shapes: dict[str, list[int | None]]) -> None:
        self.found = Dependencies()
        self.graph = graph
        self.shapes = shapes
        self.constants = _layers.initializers(graph)
        self.flow: dict[str, Along] = {}
        self.tied: dict[tuple[str, int], Tie] = {}
        self.uses: dict[str, int] = defaultdict(int)

    def run(self) -> Dependencies:
        """Walks."""
        for node in self.graph.node:
            handler = HANDLERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            if handler is None or _layers.captured(node) or not handler(self, node):
                self._stop(node)
        for value in self.graph.output:
            if value.name in self.flow:
                self.found.freeze(self.flow[value.name].atoms, "an output of the model")
        readers = _layers.consumers(self.graph)
        for (name, _), tie in self.tied.items():
            if self.uses[name] != len(readers[name]) or name in {o.name for o in self.graph.output}:
                self.found.freeze(tie.atoms, f"{name!r} is also used elsewhere")
        self.found.ties = list(self.tied.values())
        return self.found

    def _stop(self, node: onnx.NodeProto) -> None:
        """Nothing can be cut that this node sees."""
        for name in [*node.input, *_layers.captured(node)]:
            if name in self.flow:
                self.found.freeze(
                    self.flow[name].atoms, f"{node.op_type} {node.name or node.output[0]!r} is not followed"
                )

    def _tie(self, name: str, axis: int, atoms: Atoms) -> bool:
        """Whether the constant's axis can carry the atoms; it then does."""
        if name not in self.constants or self.constants[name].dims[axis] != len(atoms):
            return False
        known = self.tied.setdefault((name, axis), Tie(name, axis, atoms))
        if known.atoms is not atoms:
            self.found.unite(known.atoms, atoms)
        return True

    def _use(self, *names: str) -> None:
        for name in names:
            self.uses[name] += 1

    def _produce(self, node: onnx.NodeProto, weight: str, axis: int, out_axis: int, bias: str, bias_axis: int) -> None:
        """A layer's outputs: new atoms, tied to its weight and bias."""
        atoms = self.found.produced.get(weight)
        if atoms is None:
            atoms = self.found.produced[weight] = self.found.fresh(self.constants[weight].dims[axis])
        self._tie(weight, axis, atoms)
        self._use(weight)
        if bias:
            dims = self.constants[bias].dims if bias in self.constants else []
            if dims and dims[bias_axis] == len(atoms):
                self._tie(bias, bias_axis % len(dims), atoms)
                self._use(bias)
            elif not dims or dims[bias_axis] != 1:
                self.found.freeze(atoms, f"the bias {bias!r} is not a constant of one value a channel")
        self.flow[node.output[0]] = Along(out_axis, atoms)

    def _consume(self, node: onnx.NodeProto, weight: str, axis: int, at: int) -> None:
        """The layer's input channels, along axis ``at`` of its first input, meet ``axis`` of its weight."""
        given = self.flow.get(node.input[0])
        if given is None:
            return
        if given.axis != at or not self._tie(weight, axis, given.atoms):
            self.found.freeze(given.atoms, f"{node.op_type} {node.name or node.output[0]!r} reads another axis")

    def _conv(self, node: onnx.NodeProto) -> bool:
        weight = node.input[1]
        bias = node.input[2] if len(node.input) > 2 else ""
        if weight not in self.constants:
            return False
        groups = _layers.attribute(node, "group", 1)
        dims = self.constants[weight].dims
        if groups == 1:
            self._consume(node, weight, 1, 1)
            self._produce(node, weight, 0, 1, bias, 0)
            return True
        given = self.flow.get(node.input[0])
        if given is None or given.axis != 1 or groups != len(given.atoms) or dims[1] != 1:
            return False
        atoms = np.repeat(given.atoms, dims[0] // groups)
        if bias and not self._tie(bias, 0, atoms):
            return False
        if not self._tie(weight, 0, atoms):
            return False
        self._use(weight, *([bias] if bias else []))
        self.found.grouped.append((node, weight))
        self.flow[node.output[0]] = Along(1, atoms)
        return True

    def _conv_transpose(self, node: onnx.NodeProto) -> bool:
        weight = node.input[1]
        if weight not in self.constants or _layers.attribute(node, "group", 1) != 1:
            return False
        self._consume(node, weight, 0, 1)
        self._produce(node, weight, 1, 1, node.input[2] if len(node.input) > 2 else "", 0)
        return True

    def _gemm(self, node: onnx.NodeProto) -> bool:
        weight = node.input[1]
        if weight not in self.constants or _layers.attribute(node, "transA", 0):
            return False
        outputs, inputs = (0, 1) if _layers.attribute(node, "transB", 0) else (1, 0)
        self._consume(node, weight, inputs, 1)
        self._produce(node, weight, outputs, 1, node.input[2] if len(node.input) > 2 else "", -1)
        return True

    def _mat_mul(self, node: onnx.NodeProto) -> bool:
        weight = node.input[1]
        rank = len(self.shapes.get(node.input[0], []))
        if weight not in self.constants or len(self.constants[weight].dims) != 2 or rank < 2:
            return False
        self._consume(node, weight, 0, rank - 1)
        self._produce(node, weight, 1, rank - 1, "", 0)
        return True

    def _unary(self, node: onnx.NodeProto) -> bool:
        given = self.flow.get(node.input[0])
        if given is not None:
            self.flow[node.output[0]] = given
        return len(node.output) == 1 or not any(node.output[1:])

    def _binary(self, node: onnx.NodeProto) -> bool:
        moving = [(name, self.flow[name]) for name in node.input if name in self.flow]
        if not moving:
            return True
        ranks = [len(self._shape(name)) for name in node.input]
        if any(self._shape(name) is _UNKNOWN for name in node.input):
            return False
        rank = max(ranks)
        # Axes are counted from the end, as broadcasting aligns them.
        places = {along.axis - len(self._shape(name)) for name, along in moving}
        lengths = {len(along.atoms) for _, along in moving}
        if len(places) != 1 or len(lengths) != 1:
            return False
        (place,), (length,) = places, lengths
        atoms = moving[0][1].atoms
        others = [name for name in node.input if name not in self.flow]
        for name in others:
            shape = self._shape(name)
            size = shape[place] if len(shape) >= -place else 1
            if size not in (1, length) or (size == length != 1 and name not in self.constants):
                return False
        for name in others:
            shape = self._shape(name)
            if name in self.constants:
                if len(shape) >= -place and shape[place] == length != 1:
                    self._tie(name, len(shape) + place, atoms)
                self._use(name)
        for _, along in moving[1:]:
            self.found.unite(atoms, along.atoms)
        self.flow[node.output[0]] = Along(rank + place, atoms)
        return True

    def _shape(self, name: str) -> list[int | None]:
        if name in self.constants:
            return list(self.constants[name].dims)
        return self.shapes.get(name, _UNKNOWN)

    def _spatial(self, node: onnx.NodeProto) -> bool:
        given = self.flow.get(node.input[0])
        if any(node.output[1:]):
            return False
        if given is None:
            return True
        if given.axis != 1 or not all(self._tie(name, 0, given.atoms) for name in node.input[1:]):
            return False
        self._use(*node.input[1:])
        self.flow[node.output[0]] = given
        return True

    def _same_size(self, node: onnx.NodeProto) -> bool:
        """For what changes other axes only: the channels' axis keeps its size."""
        given = self.flow.get(node.input[0])
        if given is None:
            return True
        shape = self.shapes.get(node.output[0], [])
        if len(shape) <= given.axis or shape[given.axis] != len(given.atoms):
            return False
        self.flow[node.output[0]] = given
        return True

    def _resize(self, node: onnx.NodeProto) -> bool:
        # Sizes or scales as numbers: sizes hold the channel count, and there are not many who write them.
        sized = len(node.input) > 3 and node.input[3]
        return not sized and self._same_size(node)

    def _concat(self, node: onnx.NodeProto) -> bool:
        moving = [self.flow[name] for name in node.input if name in self.flow]
        if not moving:
            return True
        rank = len(self._shape(node.input[0]))
        axis = _layers.attribute(node, "axis", 0)
        axis = axis + rank if axis < 0 else axis
        if len({along.axis for along in moving}) != 1 or rank == 0:
            return False
        if axis != moving[0].axis:
            if len(moving) != len(node.input) or len({len(along.atoms) for along in moving}) != 1:
                return False
            for along in moving[1:]:
                self.found.unite(moving[0].atoms, along.atoms)
            self.flow[node.output[0]] = moving[0]
            return True
        parts = []
        for name in node.input:
            if name in self.flow:
                parts.append(self.flow[name].atoms)
                continue
            size = self._shape(name)[axis] if len(self._shape(name)) == rank else None
            if size is None:
                return False
            parts.append(self.found.fresh(size))
            self.found.freeze(parts[-1], "not made by a layer")
        self.flow[node.output[0]] = Along(axis, np.concatenate(parts))
        return True

    def _transpose(self, node: onnx.NodeProto) -> bool:
        given = self.flow.get(node.input[0])
        if given is not None:
            rank = len(self.shapes.get(node.input[0], []))
            order = next((list(a.ints) for a in node.attribute if a.name == "perm"), list(range(rank))[::-1])
            if given.axis not in order:
                return False
            self.flow[node.output[0]] = Along(order.index(given.axis), given.atoms)
        return True

    def _flatten(self, node: onnx.NodeProto) -> bool:
        return _layers.attribute(node, "axis", 1) == 1 and self._flat(node)

    def _reshape(self, node: onnx.NodeProto) -> bool:
        if node.input[0] not in self.flow:
            return True
        target = self.constants.get(node.input[1])
        shape, out = self.shapes.get(node.input[0], []), self.shapes.get(node.output[0], [])
        if target is None or list(target.dims) != [2] or len(out) != 2:
            return False
        first, _ = _layers.values(target).tolist()
        if first == 0 and _layers.attribute(node, "allowzero", 0):
            return False
        if not (first == 0 or first == -1 or first == shape[0]) or not self._flat(node):
            return False
        self.found.reshapes.append(node)
        return True

    def _flat(self, node: onnx.NodeProto) -> bool:
        """[n, ...] to [n, product]: each channel's atom appears once for every element of its part."""
        given = self.flow.get(node.input[0])
        if given is None:
            return True
        shape = self.shapes.get(node.input[0], [])
        sizes = [size for size in shape[1:] if size is not None]
        if given.axis < 1 or len(sizes) != len(shape) - 1 or sizes[given.axis - 1] != len(given.atoms):
            return False
        spread = np.reshape(given.atoms, [-1 if i == given.axis - 1 else 1 for i in range(len(sizes))])
        atoms = np.broadcast_to(spread, sizes).ravel()
        out = self.shapes.get(node.output[0], [])
        if len(out) == 2 and out[1] not in (None, len(atoms)):
            return False
        self.flow[node.output[0]] = Along(1, atoms)
        return True

    def _axes(self, node: onnx.NodeProto) -> list[int] | None:
        """The node's axes, from its attribute or its constant second input; None when they are not known."""
        for a in node.attribute:
            if a.name == "axes":
                return list(a.ints)
        if len(node.input) > 1 and node.input[1] in self.constants:
            return [int(v) for v in np.ravel(_layers.values(self.constants[node.input[1]])).tolist()]
        return None

    def _reduce(self, node: onnx.NodeProto) -> bool:
        given = self.flow.get(node.input[0])
        axes, rank = self._axes(node), len(self.shapes.get(node.input[0], []))
        if given is None:
            return True
        if axes is None or rank == 0 or given.axis in [a % rank for a in axes]:
            return False
        gone = 0 if _layers.attribute(node, "keepdims", 1) else sum(a % rank < given.axis for a in axes)
        self.flow[node.output[0]] = Along(given.axis - gone, given.atoms)
        return True

    def _squeeze(self, node: onnx.NodeProto) -> bool:
        given = self.flow.get(node.input[0])
        axes, rank = self._axes(node), len(self.shapes.get(node.input[0], []))
        if given is None:
            return True
        if axes is None or rank == 0 or given.axis in [a % rank for a in axes]:
            return False
        self.flow[node.output[0]] = Along(given.axis - sum(a % rank < given.axis for a in axes), given.atoms)
        return True


HANDLERS: dict[str, Callable[[Walk, onnx.NodeProto], bool]] = {
    "Conv": Walk._conv,
    "ConvTranspose": Walk._conv_transpose,
    "Gemm": Walk._gemm,
    "MatMul": Walk._mat_mul,
    "Concat": Walk._concat,
    "Transpose": Walk._transpose,
    "Flatten": Walk._flatten,
    "Reshape": Walk._reshape,
    "Squeeze": Walk._squeeze,
    "Pad": Walk._same_size,
    "Upsample": Walk._same_size,
    "Resize": Walk._resize,
    **dict.fromkeys(["ReduceMean", "ReduceMax", "ReduceSum"], Walk._reduce),
    **dict.fromkeys(UNARY, Walk._unary),
    **dict.fromkeys(BINARY, Walk._binary),
    **dict.fromkeys(SPATIAL, Walk._spatial),
}
"""For each operator that is followed: carries the atoms on and says so, or says that it cannot."""
