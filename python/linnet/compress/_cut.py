"""Choosing the channels to cut, and cutting them."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from linnet.compress import _graph, _layers, _structure
from linnet.compress._channels import Dependencies, Walk
from linnet.compress._select import Layer

ALIGN = 8
"""Channels that stay come in multiples of this where there are at least twice as many: what kernels like."""


def cut_channels(
    model: onnx.ModelProto, chosen: list[Layer], sparsity: float, scope: str
) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Cut the weakest output channels of the chosen layers, and everything that goes with them, out of the model.

    A set of channels that must go together is as strong as the mean over its layers of a filter's mean square, relative
    to the layer's own mean; a batch normalisation right behind a layer counts as part of its weights.

    Args:
        model: changed in place, its shapes inferred anew.
        chosen: layers whose outputs may go; others' only where a chosen layer's go and all that go along are chosen.
        sparsity: the share of all cuttable channels that goes; the number left is rounded up to a multiple of `ALIGN`.
        scope: "layer" takes that share of each set of layers that share channels, "global" from all together.

    Returns:
        Channels before and after for each layer that lost some, and for each other chosen layer why it lost none.
    """
    found, cut, frozen = weakest_channels(model, chosen, sparsity, scope)
    _remove(model.graph, found, cut)
    _graph.Graph(model).drop_unused()
    _refresh(model)
    sizes: dict[str, tuple[int, int]] = {}
    why: dict[str, str] = {}
    for layer in chosen:
        made = found.produced.get(layer.weight)
        if made is None:
            why[layer.name] = "its channels are not followed"
            continue
        roots = found.roots(made)
        kept = int(np.sum(~np.isin(roots, list(cut))))
        if kept < len(made):
            sizes[layer.name] = len(made), kept
        else:
            why[layer.name] = next((frozen[r] for r in roots.tolist() if r in frozen), "all its channels are strong")
    return sizes, why


def weakest_channels(
    model: onnx.ModelProto, chosen: list[Layer], sparsity: float, scope: str
) -> tuple[Dependencies, set[int], dict[int, str]]:
    """How the model's channels hang together, the classes of them to cut, and which must stay with the reason."""
    found = Walk(model.graph, inferred_shapes(model)).run()
    names = {layer.weight: layer.name for layer in _layers.layers(model.graph)}
    allowed = {layer.weight for layer in chosen}
    for weight, atoms in found.produced.items():
        if weight not in allowed:
            found.freeze(atoms, f"it goes with {names.get(weight, weight)!r}, which is not to be pruned")
    frozen = {found.root(atom): why for atom, why in reversed(list(found.frozen.items()))}
    strength, makers = _strengths(model.graph, chosen, found)
    groups: dict[frozenset[str], list[int]] = defaultdict(list)
    for root in sorted(strength):
        if root not in frozen:
            groups[frozenset(makers[root])].append(root)
    return found, _weakest(groups, strength, sparsity, scope), frozen


def inferred_shapes(model: onnx.ModelProto) -> dict[str, list[int | None]]:
    """The shape of every value as far as it is known; None for a free dimension."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # a graph that contradicts itself: what is not known is not followed
        graph = model.graph
    return {
        value.name: [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.value_info, *graph.output]
        if value.type.tensor_type.HasField("shape")
    }


def _gains(graph: onnx.GraphProto, layer: Layer) -> npt.NDArray[np.float64] | float:
    """What a batch normalisation that alone reads the layer multiplies each channel with."""
    known, readers = _layers.initializers(graph), _layers.consumers(graph)
    for node in graph.node:
        if len(node.input) > 1 and node.input[1] == layer.weight:
            after = readers[node.output[0]]
            if len(after) == 1 and after[0].op_type == "BatchNormalization":
                scale, variance = (known.get(after[0].input[i]) for i in (1, 4))
                if scale is not None and variance is not None and scale.dims[0] == layer.shape[layer.outputs]:
                    epsilon = next((a.f for a in after[0].attribute if a.name == "epsilon"), 1e-5)
                    square = np.square(_layers.values(scale).astype(np.float64))
                    return np.asarray(square / (_layers.values(variance).astype(np.float64) + epsilon))
    return 1.0


def _strengths(
    graph: onnx.GraphProto, chosen: list[Layer], found: Dependencies
) -> tuple[dict[int, float], dict[int, set[str]]]:
    """Of each class of channels: how strong it is, and which weights make it."""
    known = _layers.initializers(graph)
    parts: dict[int, list[float]] = defaultdict(list)
    makers: dict[int, set[str]] = defaultdict(set)
    for layer in chosen:
        if layer.weight not in found.produced:
            continue
        weight = _layers.values(known[layer.weight]).astype(np.float32)
        rows = _structure.rows(weight, layer.outputs, layer.inputs)
        squares = np.square(rows).mean((1, 2), dtype=np.float64) * _gains(graph, layer)
        relative = squares / (squares.mean() or 1.0)
        for root, value in zip(found.roots(found.produced[layer.weight]).tolist(), relative.tolist(), strict=True):
            parts[root].append(value)
            makers[root].add(layer.weight)
    return {root: float(np.mean(values)) for root, values in parts.items()}, makers


def _weakest(
    groups: dict[frozenset[str], list[int]], strength: dict[int, float], sparsity: float, scope: str
) -> set[int]:
    """The classes to cut."""
    every = sorted(strength[root] for roots in groups.values() for root in roots)
    below = round(sparsity * len(every))
    bar = every[below] if scope == "global" and below < len(every) else 0.0
    cut: set[int] = set()
    for roots in groups.values():
        if scope == "global":
            keep = sum(strength[root] >= bar for root in roots)
        else:
            keep = len(roots) - round(sparsity * len(roots))
        keep = max(keep, 1)
        if len(roots) >= 2 * ALIGN:
            keep = min(len(roots), -(-keep // ALIGN) * ALIGN)
        order = sorted(roots, key=lambda root: (-strength[root], root))
        cut.update(order[keep:])
    return cut


def _remove(graph: onnx.GraphProto, found: Dependencies, cut: set[int]) -> None:
    """Take the classes out of every constant that has them, and set what counts channels."""
    known = _layers.initializers(graph)
    going = np.array(sorted(cut), np.int64)
    axes: dict[str, dict[int, npt.NDArray[np.bool_]]] = defaultdict(dict)
    for tie in found.ties:
        axes[tie.tensor][tie.axis] = ~np.isin(found.roots(tie.atoms), going)
    before = {name: known[name].dims[0] for _, name in found.grouped}
    for name, kept in axes.items():
        if all(k.all() for k in kept.values()):
            continue
        array = _layers.values(known[name])
        for axis, keep in kept.items():
            array = np.compress(keep, array, axis)
        _layers.replace(known[name], array)
        for value in graph.input:  # older files list their constants as inputs, too
            if value.name == name:
                for axis, size in enumerate(array.shape):
                    value.type.tensor_type.shape.dim[axis].dim_value = size
    for node, name in found.grouped:
        for attribute in node.attribute:
            if attribute.name == "group":
                attribute.i = known[name].dims[0] * attribute.i // before[name]
    for node in found.reshapes:
        target = f"{node.output[0]}_flat_shape"
        graph.initializer.append(numpy_helper.from_array(np.array([0, -1], np.int64), target))
        node.input[1] = target
        for attribute in [a for a in node.attribute if a.name == "allowzero"]:
            node.attribute.remove(attribute)


def _refresh(model: onnx.ModelProto) -> None:
    """Drop the recorded shapes, which no longer hold, and infer them anew."""
    del model.graph.value_info[:]
    model.CopyFrom(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True))
