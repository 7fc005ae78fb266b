"""Operators that move data: against numpy, over shapes, types, opsets, and with operands known early or late."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from movement_model import DTYPES, INT_MAX, INT_MIN, both, data, run, same, session_of


# ---- Transpose -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_transpose_types(dtype: Any) -> None:
    x = data((3, 5, 70, 9), dtype)
    for perm in [(0, 2, 3, 1), (0, 3, 1, 2), (3, 2, 1, 0), (1, 0, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2)]:
        assert same(run("Transpose", [x], perm=perm), x.transpose(perm)), perm


def test_transpose_every_permutation() -> None:
    for shape in [(2, 3, 4, 5), (1, 3, 1, 70), (66, 1, 65, 2), (0, 3, 2, 2)]:
        x = data(shape)
        for perm in itertools.permutations(range(4)):
            assert same(run("Transpose", [x], perm=perm), x.transpose(perm)), (shape, perm)
    assert same(run("Transpose", [data((2, 3, 4))]), data((2, 3, 4)).transpose())
    assert same(run("Transpose", [np.float32(3)]), np.float32(3))


def test_transpose_is_the_same_for_any_number_of_threads() -> None:
    x = np.random.default_rng(1).standard_normal((2, 37, 129, 65)).astype(np.float32)
    node = helper.make_node("Transpose", ["x"], ["y"], perm=[0, 2, 3, 1])
    results = [session_of([node], {"x": x}, ["y"], threads=t).run({"x": x})[0] for t in (1, 2, 5)]
    assert all(same(r, x.transpose(0, 2, 3, 1)) for r in results)


# ---- shapes ----------------------------------------------------------------------------------------------------------
RESHAPES: list[tuple[tuple[int, ...], list[int], int, tuple[int, ...]]] = [
    ((2, 3, 4), [6, 4], 0, (6, 4)),
    ((2, 3, 4), [-1], 0, (24,)),
    ((2, 3, 4), [0, -1], 0, (2, 12)),
    ((2, 3, 4), [0, 0, 2, 2], 0, (2, 3, 2, 2)),
    ((0, 3), [0, -1], 0, (0, 3)),
    ((0, 4), [-1, 4], 0, (0, 4)),
    ((0, 4), [3, 0], 1, (3, 0)),
    ((1,), [], 0, ()),
    ((), [1, 1], 0, (1, 1)),
    ((4, 0), [-1, 7], 0, (0, 7)),
]


@both
@pytest.mark.parametrize("shape,target,allow,want", RESHAPES)
def test_reshape(shape: Any, target: Any, allow: int, want: Any, late: bool) -> None:
    x = data(shape)
    got = run("Reshape", [x, np.array(target, np.int64)], late=late, allowzero=allow)
    assert same(got, x.reshape(want))


def test_reshape_by_attribute() -> None:
    assert run("Reshape", [data((2, 6))], opset=1, shape=[3, -1]).shape == (3, 4)


@both
@pytest.mark.parametrize("target", [[5], [-1, -1], [7, -1], [-2, 3], [2, 3, 0, 0]])
def test_reshape_refuses(target: Any, late: bool) -> None:
    with pytest.raises(Exception, match="shape"):
        run("Reshape", [data((2, 3)), np.array(target, np.int64)], late=late)


def test_squeeze_unsqueeze_flatten() -> None:
    x = data((1, 3, 1, 4))
    for opset in (1, 11):
        assert run("Squeeze", [x], opset=opset, axes=[0, 2]).shape == (3, 4)
        assert run("Unsqueeze", [x], opset=opset, axes=[0, 5]).shape == (1, 1, 3, 1, 4, 1)
    for late in (False, True):
        assert run("Squeeze", [x, np.array([-2])], late=late).shape == (1, 3, 4)
        assert run("Unsqueeze", [x, np.array([-1, 0])], late=late).shape == (1, 1, 3, 1, 4, 1)
    assert run("Squeeze", [x]).shape == (3, 4)
    for axis in range(-4, 5):
        at = axis + 4 if axis < 0 else axis
        assert same(run("Flatten", [x], axis=axis), x.reshape(int(np.prod(x.shape[:at])), -1))
    for bad in ([1], [9], [0, 0]):
        with pytest.raises(Exception, match=r"axis|squeeze"):
            run("Squeeze", [x, np.array(bad)])


def test_shape_and_size() -> None:
    x = data((2, 3, 4))
    for start, end in [(0, None), (1, None), (-1, None), (0, -1), (2, 1), (-9, 9), (1, 2)]:
        more = {} if end is None else {"end": end}
        assert run("Shape", [x], start=start, **more).tolist() == list(x.shape)[max(start, -3) : end]
    assert run("Size", [x]) == 24 and run("Size", [np.float32(1)]).shape == ()


# ---- Slice -----------------------------------------------------------------------------------------------------------
@both
def test_slice_as_numpy(late: bool) -> None:
    rng = np.random.default_rng(5)
    bounds = [0, 1, 2, 5, 6, 7, 100, -1, -2, -6, -7, -100, INT_MAX, INT_MIN, 2**31 - 1]
    x = data((7, 6, 5), np.int32)
    for _ in range(150):
        axes = rng.permutation(3)[: rng.integers(1, 4)]
        starts, ends = rng.choice(bounds, len(axes)), rng.choice(bounds, len(axes))
        steps = rng.choice([1, 1, 2, 3, -1, -2, 100, -100, INT_MAX, INT_MIN], len(axes))
        index: list[Any] = [slice(None)] * 3
        for a, s, e, t in zip(axes, starts, ends, steps, strict=True):
            # An end before the beginning means "to the first element" going backwards.
            stop = None if t < 0 and int(e) + x.shape[a] < 0 else int(e)
            index[a] = slice(int(s), stop, int(t))
        got = run("Slice", [x, starts, ends, axes - 3, steps], late=late)
        assert same(got, x[tuple(index)]), (axes, starts, ends, steps)


def test_slice_forms() -> None:
    x = data((4, 5), object)
    assert same(run("Slice", [x], opset=1, starts=[1, -2], ends=[3, 100]), x[1:3, -2:])
    assert same(run("Slice", [x], opset=1, starts=[1], ends=[3], axes=[1]), x[:, 1:3])
    assert same(run("Slice", [x, np.array([1], np.int32), np.array([3], np.int32)]), x[1:3])
    for bad in ([np.array([0]), np.array([1, 2])], [np.array([0, 0, 0]), np.array([1, 1, 1])]):
        with pytest.raises(Exception, match="starts"):
            run("Slice", [x, *bad])
    with pytest.raises(Exception, match="step"):
        run("Slice", [x, np.array([0]), np.array([1]), np.array([0]), np.array([0])])


# ---- Concat and Split ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_concat_split(dtype: Any) -> None:
    for axis, shape in [(0, (2, 3, 4)), (1, (2, 3, 4)), (-1, (2, 3, 1)), (2, (0, 3, 4))]:
        parts = [data(shape, dtype, seed) for seed in range(3)]
        joined = np.concatenate(parts, axis)
        assert same(run("Concat", parts, axis=axis), joined)
        for got, want in zip(
            run("Split", [joined], outputs=3, axis=axis, opset=13), np.split(joined, 3, axis), strict=True
        ):
            assert same(got, want)


def test_split_forms() -> None:
    x = data((7, 4))
    for opset in (1, 2, 11):
        assert [p.shape for p in run("Split", [x], opset=opset, outputs=2, split=[3, 4])] == [(3, 4), (4, 4)]
    for late in (False, True):
        for opset in (13, 18):
            assert [p.shape[0] for p in run("Split", [x, np.array([0, 2, 5])], opset=opset, late=late, outputs=3)] == [
                0,
                2,
                5,
            ]
    assert [p.shape[0] for p in run("Split", [x], opset=18, outputs=3, num_outputs=3)] == [3, 3, 1]
    assert [p.shape[0] for p in run("Split", [x[:5]], opset=18, outputs=4, num_outputs=4)] == [2, 2, 1, 0]
    with pytest.raises(Exception, match="equal parts"):
        run("Split", [x], opset=13, outputs=3)
    with pytest.raises(Exception, match="sums to 6"):
        run("Split", [x, np.array([2, 4])], outputs=2)


# ---- Expand, Tile, Pad -----------------------------------------------------------------------------------------------
@both
def test_expand_and_tile(late: bool) -> None:
    for shape, target in [
        ((3, 1), (2, 1, 6)),
        ((1,), (5,)),
        ((), (2, 3)),
        ((2, 3), (1,)),
        ((3, 1, 4), (3, 70, 1)),
        ((1, 3), (0, 3)),
    ]:
        x = data(shape, np.int16)
        want = np.broadcast_to(x, np.broadcast_shapes(shape, target))
        assert same(run("Expand", [x, np.array(target)], late=late), want)
    for shape, repeats in [((2, 3), (2, 2)), ((3,), (0,)), ((1, 2, 3), (3, 1, 2)), ((), ())]:
        x = data(shape, object)
        assert same(run("Tile", [x, np.array(repeats, np.int64)], late=late), np.tile(x, repeats))
    assert same(
        run("Tile", [data((2, 3)), np.int64(2), np.int64(1)], opset=1, late=late), np.tile(data((2, 3)), (1, 2))
    )
    with pytest.raises(Exception, match="broadcast"):
        run("Expand", [data((1, 3)), np.array([2, 4])], late=late)


@both
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pad_as_numpy(mode: str, late: bool) -> None:
    rng = np.random.default_rng(2)
    for round in range(25):
        x = data(tuple(rng.integers(1, 5, 3)), [np.float32, np.int8, object, np.float64][round % 4], round)
        pads = rng.integers(0, 9, (3, 2)) * rng.integers(0, 2, (3, 2))
        operands: list[Any] = [x, pads.T.ravel()]
        more = {}
        if mode == "constant":
            value = np.array("fill" if x.dtype == object else 3, x.dtype)
            operands.append(value)
            more["constant_values"] = value
        assert same(run("Pad", operands, late=late, mode=mode), np.pad(x, pads, mode, **more)), (x.shape, pads)


@both
def test_pad_crops_and_takes_axes(late: bool) -> None:
    x = data((4, 5))
    assert same(run("Pad", [x, np.array([-1, 2, 1, -3])], late=late), np.pad(x[1:, :2], ((0, 1), (2, 0))))
    assert same(run("Pad", [x, np.array([1, 2]), None, np.array([-1])], late=late), np.pad(x, ((0, 0), (1, 2))))
    assert same(run("Pad", [x[:0], np.array([2, 0, 1, 0])], late=late), np.zeros((3, 5), np.float32))
    with pytest.raises(Exception, match="nothing to repeat"):
        run("Pad", [x[:0], np.array([2, 0, 1, 0])], late=late, mode="edge")
    with pytest.raises(Exception, match="less than nothing"):
        run("Pad", [x, np.array([-3, 0, -3, 0])], late=late)


def test_pad_by_attribute() -> None:
    x = data((2, 2))
    assert same(
        run("Pad", [x], opset=1, paddings=[0, 1, 0, 0], value=2.0), np.pad(x, ((0, 0), (1, 0)), constant_values=2)
    )
    assert same(run("Pad", [x], opset=2, pads=[1, 1, 1, 1], mode="reflect"), np.pad(x, 1, "reflect"))


# ---- blocks ----------------------------------------------------------------------------------------------------------
def test_blocks() -> None:
    x = data((2, 12, 3, 5), np.int8)
    b, c, h, w = x.shape
    dcr = x.reshape(b, 2, 2, c // 4, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(b, c // 4, h * 2, w * 2)
    crd = x.reshape(b, c // 4, 2, 2, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(b, c // 4, h * 2, w * 2)
    assert same(run("DepthToSpace", [x], blocksize=2), dcr) and same(
        run("DepthToSpace", [x], opset=1, blocksize=2), dcr
    )
    assert same(run("DepthToSpace", [x], blocksize=2, mode="CRD"), crd)
    assert same(run("SpaceToDepth", [dcr], blocksize=2), x)
    assert same(run("SpaceToDepth", [crd], opset=28, blocksize=2, mode="CRD"), x)
    with pytest.raises(Exception, match="multiple"):
        run("DepthToSpace", [x], blocksize=5)


def test_reverse_sequence() -> None:
    x = data((4, 3, 2), object)
    want = x.copy()
    for b, n in enumerate([0, 4, 2]):
        want[:n, b] = x[:n, b][::-1]
    assert same(run("ReverseSequence", [x, np.array([0, 4, 2])]), want)
    assert same(
        run("ReverseSequence", [x.swapaxes(0, 1), np.array([0, 4, 2])], batch_axis=0, time_axis=1), want.swapaxes(0, 1)
    )
    with pytest.raises(Exception, match="length 5"):
        run("ReverseSequence", [x, np.array([0, 5, 2])])


# ---- what is known before it runs ------------------------------------------------------------------------------------
def operators(session: Any, stage: str = "simplify") -> list[str]:
    return [
        line.split(" = ")[1].split("(")[0]
        for line in session.dump(stage).splitlines()
        if " = " in line and line[:1] not in "io"
    ]


def node(op: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(op, ["" if i == "_" else i for i in inputs.split()], [output], **attributes)


def test_sizes_that_exporters_compute_vanish() -> None:
    """view(batch, seq, heads, -1) as PyTorch writes it, with two symbolic sizes."""
    x = data((2, 5, 12))
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "b", axis=0),
        node("Gather", "s one", "n", axis=0),
        node("Unsqueeze", "b axis", "b1"),
        node("Unsqueeze", "n axis", "n1"),
        node("Concat", "b1 n1 heads rest", "t", axis=0),
        node("Reshape", "x t", "y"),
        node("Shape", "y", "ys"),
        node("Slice", "ys two four", "tail"),
        node("Concat", "b1 n1 tail", "t2", axis=0),
        node("Reshape", "y t2", "z"),
        node("Reshape", "z s", "w"),
    ]
    constants = {
        "zero": np.array(0),
        "one": np.array(1),
        "axis": np.array([0]),
        "heads": np.array([3]),
        "rest": np.array([-1]),
        "two": np.array([2]),
        "four": np.array([4]),
    }
    session = session_of(nodes, {"x": x}, ["w", "tail"], constants, shapes={"x": ["batch", "seq", 12]})
    got = session.run({"x": x})
    assert same(got[0], x) and got[1].tolist() == [3, 4]
    assert "Reshape" not in operators(session) and "Shape" not in operators(session)


@pytest.mark.parametrize(
    "nodes,left",
    [
        (
            [
                node("Transpose", "x", "a", perm=[0, 2, 3, 1]),
                node("Transpose", "a", "b", perm=[0, 3, 1, 2]),
                node("Neg", "b", "y"),
            ],
            ["Neg"],
        ),
        (
            [node("Transpose", "x", "a", perm=[0, 2, 3, 1]), node("Transpose", "a", "y", perm=[1, 0, 2, 3])],
            ["Transpose"],
        ),
        ([node("Unsqueeze", "x zero", "a"), node("Squeeze", "a zero", "b"), node("Neg", "b", "y")], ["Neg"]),
        ([node("Reshape", "x flat", "a"), node("Reshape", "a other", "y")], ["Reshape"]),
        ([node("Slice", "x zero far", "a"), node("Neg", "a", "y")], ["Neg"]),
        ([node("Expand", "x one", "a"), node("Neg", "a", "y")], ["Neg"]),
        ([node("Concat", "x", "a", axis=1), node("Neg", "a", "y")], ["Neg"]),
        ([node("Pad", "x zeros", "a"), node("Neg", "a", "y")], ["Neg"]),
        (
            [node("Unsqueeze", "x zero", "a"), node("Transpose", "a", "y", perm=[1, 0, 2, 3, 4])],
            ["Reshape", "Unsqueeze"],
        ),
    ],
)
def test_what_changes_nothing_goes(nodes: list[Any], left: list[str]) -> None:
    x = data((2, 3, 4, 5))
    constants = {
        "zero": np.array([0]),
        "flat": np.array([-1]),
        "other": np.array([6, 20]),
        "far": np.array([INT_MAX]),
        "one": np.array([1]),
        "zeros": np.zeros(8, np.int64),
    }
    used = {i for n in nodes for i in n.input}
    constants = {k: v for k, v in constants.items() if k in used}
    session = session_of(nodes, {"x": x}, ["y"], constants, shapes={"x": ["n", 3, 4, 5]})
    kept = operators(session)
    assert set(kept) <= set(left) and len(kept) == 1
    plain = x
    for n in nodes:
        plain = run(
            n.op_type,
            [plain] + [constants[i] for i in n.input[1:]],
            **{a.name: helper.get_attribute_value(a) for a in n.attribute},
        )
    assert same(session.run({"x": x})[0], plain)


# ---- layouts ---------------------------------------------------------------------------------------------------------
CONSTANTS = {
    "one": np.array([1]),
    "two": np.array([2]),
    "three": np.array([3]),
    "axis": np.array([2]),
    "all": np.array([0, -1, 0]),
    "pads": np.array([0, 0, 1, 2, 0, 1, 0, 0]),
    "few": np.array([1, 2]),
    "last": np.array([-1]),
    "picks": np.array([3, 0, 0]),
    "times": np.array([1, 2, 1, 1]),
    "sizes": np.array([5, 9]),
    "shape": np.array([2, 1, 1, 1]),
    "parts": np.array([1, 3]),
}
BETWEEN = {
    "concat": [node("Concat", "x x", "y", axis=1)],
    "concat of rows": [node("Concat", "x x", "y", axis=-2)],
    "slice": [node("Slice", "x one three axis", "y")],
    "slice backwards": [node("Slice", "x three one axis last", "y")],
    "slice without axes": [node("Slice", "x all few3 ", "y")],
    "split": [helper.make_node("Split", ["x", "parts"], ["a", "b"], axis=1), node("Concat", "b a", "y", axis=1)],
    "pad": [node("Pad", "x pads", "y")],
    "pad axes": [node("Pad", "x few _ last", "y")],
    "gather": [node("Gather", "x picks", "y", axis=1)],
    "tile": [node("Tile", "x times", "y")],
    "crop": [node("CenterCropPad", "x sizes", "y", axes=[2, 3])],
    "expand": [node("Expand", "x shape", "y")],
    "to space": [node("DepthToSpace", "x", "y", blocksize=2)],
    "to depth": [node("SpaceToDepth", "x", "y", blocksize=2)],
    "column row depth": [node("DepthToSpace", "x", "y", blocksize=2, mode="CRD")],
}


@pytest.mark.parametrize("name", BETWEEN)
def test_between_convolutions(name: str) -> None:
    """Whatever order the axes are kept in between two convolutions, the numbers are those of the specification."""
    nodes = [n for n in BETWEEN[name]]
    x = np.random.default_rng(3).standard_normal((1, 4, 6, 8)).astype(np.float32)
    constants = {**CONSTANTS, "few3": np.array([1, 4, 5])}
    used = {i for n in nodes for i in n.input}
    middle = ReferenceEvaluator(
        helper.make_model(
            helper.make_graph(
                nodes,
                "m",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
                [numpy_helper.from_array(v, k) for k, v in constants.items() if k in used],
            ),
            opset_imports=[helper.make_opsetid("", 21)],
            ir_version=10,
        )
    )
    channels = middle.run(None, {"x": x})[0].shape[1]
    rng = np.random.default_rng(4)
    weights = {
        "v": rng.standard_normal((4, 4, 1, 1)).astype(np.float32),
        "w": rng.standard_normal((3, channels, 1, 1)).astype(np.float32),
    }
    before, after = node("Conv", "in v", "x"), node("Conv", "y w", "out")
    constants = {k: c for k, c in constants.items() if k in used} | weights
    session = session_of([before, *nodes, after], {"in": x}, ["out"], constants)
    first = np.einsum("nchw,oc->nohw", x, weights["v"][:, :, 0, 0])
    want = np.einsum("nchw,oc->nohw", middle.run(None, {"x": first})[0], weights["w"][:, :, 0, 0])
    got = session.run({"in": x})[0]
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    # In and out, nothing between.
    assert operators(session, "lower").count("Transpose") <= 2
