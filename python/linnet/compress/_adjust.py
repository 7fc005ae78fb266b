"""Scales wander between operators: results stay, weights or activations become easier to quantize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from linnet.compress._graph import Array, Graph, attribute

if TYPE_CHECKING:
    import onnx

Shapes = Mapping[str, Sequence[int | str | None]]


def equalize(model: onnx.ModelProto, rounds: int = 8) -> int:
    """Makes the weights' ranges of convolutions in a row alike, channel by channel; the number of pairs.

    A pair is two convolutions with nothing, a Relu or a LeakyRelu between them, each of whose values has one user.
    Channel i of the first is divided by s and that input of the second multiplied by it, s = sqrt(r1 / r2) of the
    ranges max |w| (M. Nagel et al., Data-Free Quantization through Weight Equalization and Bias Correction, 2019).
    """
    graph = Graph(model)
    pairs = list(_pairs(graph))
    for _ in range(rounds):
        moved = 0.0
        for first, second in pairs:
            moved = max(moved, _equalize_pair(graph, first, second))
        if moved < 1e-3:
            break
    return len(pairs)


def _pairs(graph: Graph) -> list[tuple[onnx.NodeProto, onnx.NodeProto]]:
    found = []
    for first in graph.proto.node:
        if first.op_type != "Conv" or not _own_constants(graph, first):
            continue
        value = first.output[0]
        user = graph.consumers[value][0] if graph.used_once(value) else None
        if user is not None and user.op_type in ("Relu", "LeakyRelu"):
            if attribute(user, "alpha", 0.0) < 0:
                continue
            value = user.output[0]
            user = graph.consumers[value][0] if graph.used_once(value) else None
        if user is not None and user.op_type == "Conv" and user.input[0] == value and _own_constants(graph, user):
            found.append((first, user))
    return found


def _own_constants(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether the node's weights and bias are float constants that no other node uses."""
    for name in filter(None, node.input[1:3]):
        value = graph.constant(name)
        if value is None or value.dtype != np.float32 or not graph.used_once(name):
            return False
    return True


def _equalize_pair(graph: Graph, first: onnx.NodeProto, second: onnx.NodeProto) -> float:
    """One step; by how much it moved the scales at most."""
    before, after = graph.constant(first.input[1]), graph.constant(second.input[1])
    assert before is not None and after is not None
    channels = before.shape[0]
    groups = attribute(second, "group", 1)
    # [groups, outputs of a group, inputs of a group, taps]
    grouped = after.reshape(groups, after.shape[0] // groups, after.shape[1], -1)
    r1 = np.abs(before).reshape(channels, -1).max(1)
    r2 = np.abs(grouped).max((1, 3)).ravel()
    usable = (r1 > 0) & (r2 > 0)
    s = np.ones(channels, np.float32)
    s[usable] = np.clip(np.sqrt(r1[usable] / r2[usable]), 1e-4, 1e4)
    graph.set_constant(first.input[1], before / s.reshape(-1, *[1] * (before.ndim - 1)))
    graph.set_constant(second.input[1], (grouped * s.reshape(groups, 1, -1, 1)).reshape(after.shape))
    if len(first.input) > 2 and first.input[2]:
        bias = graph.constant(first.input[2])
        assert bias is not None
        graph.set_constant(first.input[2], bias / s)
    return float(np.abs(np.log(s)).max())


class Smoothing:
    """Moves outlier channels of what products take into their weights (G. Xiao et al., SmoothQuant, 2022).

    A place is a value that a normalisation, or a product or sum with a constant vector, makes, and that nothing but
    MatMul and Gemm with constant weights uses (behind a Reshape, too): channel j of the value is divided by
    s = max |x|^alpha / max |w|^(1 - alpha), which the constants before it absorb, and row j of the weights multiplied.
    """

    def __init__(self, model: onnx.ModelProto, shapes: Shapes) -> None:
        self._graph = Graph(model)
        self._shapes = shapes
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for value in shapes:
            users = self._products(value)
            if users and self._divide(value, None):
                self._users[value] = users

    @property
    def values(self) -> list[str]:
        """Whose channels' ranges `apply` needs, along the last axis."""
        return list(self._users)

    def apply(self, peaks: Mapping[str, Array], alpha: float) -> None:
        """``peaks``: max |x| by channel of each of ``values``."""
        for value, users in self._users.items():
            rows = [np.abs(_rows(self._graph, user)).max(1) for user in users]
            heavy = np.maximum(np.max(rows, axis=0), 1e-5)
            s = np.maximum(peaks[value], 1e-5) ** alpha / heavy ** (1 - alpha)
            s = np.clip(s, 1e-4, 1e4).astype(np.float32)
            self._divide(value, s)
            changed: dict[str, str] = {}
            for user in users:
                name = user.input[1]
                if name not in changed:
                    weights = self._graph.constant(name)
                    assert weights is not None
                    across = user.op_type == "Gemm" and attribute(user, "transB", 0)
                    changed[name] = self._graph.add_initializer(name, weights * (s if across else s[:, None]))
                user.input[1] = changed[name]

    def _products(self, value: str) -> list[onnx.NodeProto]:
        """The value's users, where all are products with constant weights; else nothing."""
        graph = self._graph
        if value in graph.outputs or value in graph.captured:
            return []
        found = []
        for user in graph.consumers.get(value, []):
            if user.op_type == "Reshape" and user.input[0] == value and self._same_last(value, user.output[0]):
                inner = self._products(user.output[0])
                if not inner:
                    return []
                found += inner
                continue
            weights = graph.constant(user.input[1]) if user.op_type in ("MatMul", "Gemm") else None
            if weights is None or weights.ndim != 2 or user.input[0] != value or attribute(user, "transA", 0):
                return []
            found.append(user)
        return found

    def _same_last(self, a: str, b: str) -> bool:
        last = [self._shapes.get(name, ())[-1:] for name in (a, b)]
        return len(last[0]) == 1 and last[0] == last[1] and isinstance(last[0][0], int)

    def _divide(self, value: str, s: Array | None) -> bool:
        """Divides the value's channels by ``s`` in the constants of what makes it; without ``s``: could it?"""
        graph = self._graph
        node = graph.producer.get(value)
        if node is None:
            return False
        if node.op_type == "LayerNormalization":
            places = [i for i in (1, 2) if i < len(node.input) and node.input[i]]
            if not all(graph.is_constant(node.input[i]) for i in places) or attribute(node, "axis", -1) != -1:
                return False
        elif node.op_type in ("Mul", "Add"):
            places = [i for i, name in enumerate(node.input) if self._vector(name, value)]
            if len(places) != 1:
                return False
            other = node.input[1 - places[0]]
            if node.op_type == "Add" and not (graph.used_once(other) and self._divide(other, s)):
                return False
        else:
            return False
        if s is not None:
            for i in places:
                constant = graph.constant(node.input[i])
                assert constant is not None
                node.input[i] = graph.add_initializer(node.input[i], constant / s)
        return True

    def _vector(self, name: str, beside: str) -> bool:
        constant = self._graph.constant(name)
        last = self._shapes.get(beside, ())[-1:]
        return constant is not None and constant.ndim > 0 and [*last] == [constant.size] == [constant.shape[-1]]


def _rows(graph: Graph, node: onnx.NodeProto) -> Array:
    """A product's weights as [inputs, outputs]."""
    weights = graph.constant(node.input[1])
    assert weights is not None
    return weights.T if node.op_type == "Gemm" and attribute(node, "transB", 0) else weights
