"""The operators of ai.onnx.ml agree with onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import linnet

ML = "ai.onnx.ml"
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def model_of(op: str, inputs: list[Any], outputs: int, version: int, **attributes: Any) -> ModelProto:
    """A model of one node; the first dimension of every input is free."""
    names = [f"x{i}" for i in range(len(inputs))]
    results = [f"y{i}" for i in range(outputs)]
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), ["n", *x.shape[1:]])
        for name, x in zip(names, inputs, strict=True)
    ]
    node = helper.make_node(op, names, results, domain=ML, **attributes)
    made = [helper.make_tensor_value_info(r, TensorProto.UNDEFINED, None) for r in results]
    for value in made:
        value.ClearField("type")
    graph = helper.make_graph([node], "g", given, made)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(ML, version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def compare(
    op: str,
    *inputs: Any,
    outputs: int = 1,
    version: int = 3,
    tolerance: float = 1e-5,
    like: Any = None,
    **attributes: Any,
) -> None:
    """`like`: onnxruntime has the operator for this type only."""
    model = model_of(op, list(inputs), outputs, version, **attributes).SerializeToString()
    feeds = {f"x{i}": x for i, x in enumerate(inputs)}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    theirs = [x.astype(like or x.dtype) for x in inputs]
    reference = model_of(op, theirs, outputs, version, **attributes).SerializeToString()
    want = onnxruntime.InferenceSession(reference, options, providers=["CPUExecutionProvider"]).run(
        None, {f"x{i}": x for i, x in enumerate(theirs)}
    )
    got = linnet.InferenceSession(model).run(None, feeds)
    for a, b in zip(got, want, strict=True):
        if isinstance(b, list):
            assert a == b
            continue
        assert a.dtype == b.dtype and a.shape == b.shape, (a.dtype, b.dtype, a.shape, b.shape)
        if b.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(a, b)


def fails(op: str, *inputs: Any, outputs: int = 1, version: int = 3, match: str, **attributes: Any) -> None:
    model = model_of(op, list(inputs), outputs, version, **attributes).SerializeToString()
    with pytest.raises(Exception, match=match):
        linnet.InferenceSession(model).run(None, {f"x{i}": x for i, x in enumerate(inputs)})


def rows(n: int = 70, features: int = 5, seed: int = 0, dtype: Any = np.float32) -> Any:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features)) * 2
    return np.round(x * 4).astype(dtype) if np.dtype(dtype).kind == "i" else x.astype(dtype)


def forest(
    trees: int,
    depth: int,
    prefix: str,
    targets: list[int],
    modes: list[str] | None = None,
    seed: int = 1,
    missing: bool = False,
    positive: bool = False,
    features: int = 5,
) -> dict[str, Any]:
    """Random trees, whose leaves have a weight for each of `targets`."""
    rng = np.random.default_rng(seed)
    nodes: dict[str, list[Any]] = {
        key: []
        for key in [
            "treeids",
            "nodeids",
            "featureids",
            "modes",
            "values",
            "truenodeids",
            "falsenodeids",
            "missing_value_tracks_true",
        ]
    }
    weights: dict[str, list[Any]] = {key: [] for key in ["ids", "nodeids", "treeids", "weights"]}
    for tree in range(trees):
        todo, count = [(0, 0)], 1
        while todo:
            node, level = todo.pop(0)
            leaf = level == depth or (level > 0 and rng.random() < 0.2)
            nodes["treeids"].append(tree)
            nodes["nodeids"].append(node)
            nodes["featureids"].append(0 if leaf else int(rng.integers(features)))
            nodes["modes"].append("LEAF" if leaf else str(rng.choice(modes or MODES[:1])))
            nodes["values"].append(0.0 if leaf else float(np.round(rng.normal() * 2, 1)))
            nodes["truenodeids"].append(0 if leaf else count)
            nodes["falsenodeids"].append(0 if leaf else count + 1)
            nodes["missing_value_tracks_true"].append(int(missing and not leaf and rng.random() < 0.5))
            if leaf:
                for target in targets:
                    weights["ids"].append(target)
                    weights["nodeids"].append(node)
                    weights["treeids"].append(tree)
                    weights["weights"].append(float(rng.random() / trees if positive else rng.normal()))
            else:
                todo += [(count, level + 1), (count + 1, level + 1)]
                count += 2
    return {f"nodes_{k}": v for k, v in nodes.items()} | {f"{prefix}_{k}": v for k, v in weights.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_tree_regressor(aggregate: str, dtype: Any) -> None:
    for targets in (1, 3):
        attributes = forest(12, 4, "target", list(range(targets)))
        for base in ({}, {"base_values": [0.5, -1.0, 2.0][:targets]}):
            like = np.float32 if np.dtype(dtype).kind == "i" else None
            compare(
                "TreeEnsembleRegressor",
                rows(dtype=dtype),
                like=like,
                n_targets=targets,
                aggregate_function=aggregate,
                **attributes,
                **base,
            )


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_tree_regressor_transforms(transform: str) -> None:
    for targets in (1, 3):
        compare(
            "TreeEnsembleRegressor",
            rows(),
            n_targets=targets,
            post_transform=transform,
            **forest(5, 3, "target", list(range(targets))),
        )


@pytest.mark.parametrize("mode", [*MODES, "all"])
@pytest.mark.parametrize("missing", [False, True])
def test_tree_modes_and_missing_values(mode: str, missing: bool) -> None:
    x = np.round(rows(200), 1)
    x[np.random.default_rng(3).random(x.shape) < 0.2] = np.nan
    modes = MODES if mode == "all" else [mode]
    attributes = forest(7, 4, "target", [0], modes, missing=missing)
    compare("TreeEnsembleRegressor", x, n_targets=1, **attributes)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("ids", [[0], [1], [0, 1], [0, 1, 2], [0, 2]])
@pytest.mark.parametrize("positive", [False, True])
def test_tree_classifier(ids: list[int], positive: bool, transform: str) -> None:
    classes = max(2, max(ids) + 1)
    # onnxruntime calls two classes that both have weights 1 and 0 whatever their labels are.
    numbers = [0, 1] if ids == [0, 1] else [7, 3, 5][:classes]
    attributes = forest(9, 3, "class", ids, positive=positive)
    for labels in ({"classlabels_int64s": numbers}, {"classlabels_strings": ["b", "a", "c"][:classes]}):
        for base in ({}, {"base_values": [0.1, -0.2, 0.3][:classes]}):
            compare(
                "TreeEnsembleClassifier", rows(), outputs=2, post_transform=transform, **attributes, **labels, **base
            )


def test_tree_numbers_as_tensors() -> None:
    attributes = forest(6, 3, "target", [0])
    for name in ("nodes_values", "target_weights"):
        attributes[f"{name}_as_tensor"] = numpy_helper.from_array(np.array(attributes.pop(name)), name)
    compare("TreeEnsembleRegressor", rows(dtype=np.float64), n_targets=1, **attributes)


def ensemble(dtype: Any, **changes: Any) -> dict[str, Any]:
    """Feature 0 in {1, 3}: leaf 0; else feature 1 <= 0.5: leaf 1, else leaf 2."""

    def tensor(values: list[Any], kind: Any) -> Any:
        return numpy_helper.from_array(np.array(values, kind), "t")

    attributes = {
        "n_targets": 2,
        "tree_roots": [0],
        "nodes_modes": tensor([6, 0], np.uint8),
        "nodes_splits": tensor([0, 0.5], dtype),
        "nodes_featureids": [0, 1],
        "nodes_truenodeids": [0, 1],
        "nodes_falsenodeids": [1, 2],
        "nodes_trueleafs": [1, 1],
        "nodes_falseleafs": [0, 1],
        "leaf_targetids": [0, 1, 1],
        "leaf_weights": tensor([1.5, 2.5, -3.5], dtype),
        "membership_values": tensor([1, 3, np.nan], dtype),
    }
    return attributes | changes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tree_ensemble(dtype: Any) -> None:
    x = np.array([[1, 0], [3, 9], [2, 0.5], [4, 0.6], [np.nan, np.nan]], dtype)
    for aggregate in (0, 1, 2, 3):
        compare("TreeEnsemble", x, version=5, aggregate_function=aggregate, **ensemble(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_tree_thresholds_at_the_edges(mode: str, missing: bool, dtype: Any) -> None:
    """Zeros, subnormal numbers, infinities and NaN, as thresholds and as features."""
    tiny = np.nextafter(dtype(0), dtype(1))
    values = [-np.inf, -1.0, -tiny, -0.0, 0.0, tiny, 1.0, np.finfo(dtype).max, np.inf, np.nan]
    x = np.array(values, dtype)[:, None]
    tests = {
        "BRANCH_LEQ": np.less_equal,
        "BRANCH_LT": np.less,
        "BRANCH_GTE": np.greater_equal,
        "BRANCH_GT": np.greater,
        "BRANCH_EQ": np.equal,
        "BRANCH_NEQ": np.not_equal,
    }
    for threshold in values:
        attributes = {
            "nodes_treeids": [0, 0, 0],
            "nodes_nodeids": [0, 1, 2],
            "nodes_featureids": [0, 0, 0],
            "nodes_modes": [mode, "LEAF", "LEAF"],
            "nodes_values_as_tensor": numpy_helper.from_array(np.array([threshold, 0, 0], dtype), "v"),
            "nodes_truenodeids": [1, 0, 0],
            "nodes_falsenodeids": [2, 0, 0],
            "nodes_missing_value_tracks_true": [int(missing), 0, 0],
            "target_treeids": [0, 0],
            "target_nodeids": [1, 2],
            "target_ids": [0, 0],
            "target_weights_as_tensor": numpy_helper.from_array(np.array([1, -1], dtype), "w"),
        }
        model = model_of("TreeEnsembleRegressor", [x], 1, 3, n_targets=1, **attributes).SerializeToString()
        passed = tests[mode](x, dtype(threshold)) | (missing & np.isnan(x))
        got = linnet.InferenceSession(model).run(None, {"x0": x})[0]
        np.testing.assert_array_equal(got, np.where(passed, 1, -1), err_msg=f"threshold {threshold}")


@pytest.mark.parametrize("batch", [1, 3, 4, 8, 9, 70])
@pytest.mark.parametrize("targets", [1, 3])
def test_trees_give_the_same_bits_for_any_batch_and_threads(batch: int, targets: int) -> None:
    """Trees of many depths and few rows at once: what a row gets depends on nothing else."""
    x = rows(70)
    attributes = [
        forest(n, depth, "target", list(range(targets)), seed=depth, missing=True) for n, depth in ((9, 2), (300, 9))
    ]
    for each in attributes:
        model = model_of("TreeEnsembleRegressor", [x], 1, 3, n_targets=targets, **each).SerializeToString()
        whole = linnet.InferenceSession(model).run(None, {"x0": x})[0]
        for threads in (1, 2):
            options = linnet.SessionOptions()
            options.intra_op_num_threads = threads
            session = linnet.InferenceSession(model, options)
            parts = [session.run(None, {"x0": x[i : i + batch]})[0] for i in range(0, len(x), batch)]
            np.testing.assert_array_equal(np.concatenate(parts), whole)


def regressor(feature: Any, value: Any, left: Any, weight: Any) -> dict[str, Any]:
    """One tree: node i asks for feature[i] <= value[i] and leads to left[i] or left[i] + 1; -1: a leaf of weight[i]."""
    leaf, count = left < 0, len(left)
    return {
        "nodes_treeids": [0] * count,
        "nodes_nodeids": list(range(count)),
        "nodes_featureids": feature.tolist(),
        "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        "nodes_values": [float(v) for v in value],
        "nodes_truenodeids": np.where(leaf, 0, left).tolist(),
        "nodes_falsenodeids": np.where(leaf, 0, left + 1).tolist(),
        "target_treeids": [0] * int(leaf.sum()),
        "target_nodeids": np.flatnonzero(leaf).tolist(),
        "target_ids": [0] * int(leaf.sum()),
        "target_weights": [float(w) for w in weight[leaf]],
    }


def test_tree_with_more_nodes_than_two_bytes_count() -> None:
    """A full tree of depth 15: the leaf's number has a bit for each feature that is above 0."""
    number, levels = np.arange(2**16 - 1), 15
    level = np.log2(number + 1).astype(int)
    leaf = level == levels
    tree = regressor(
        np.where(leaf, 0, level), np.zeros(len(number)), np.where(leaf, -1, 2 * number + 1), number - (2**levels - 1)
    )
    x = np.where(rows(70, levels) > 0, 1, -1).astype(np.float32)
    model = model_of("TreeEnsembleRegressor", [x], 1, 3, n_targets=1, **tree).SerializeToString()
    want = (x > 0) @ 2 ** np.arange(levels)[::-1]
    np.testing.assert_array_equal(linnet.InferenceSession(model).run(None, {"x0": x})[0][:, 0], want)


def test_tree_that_asks_for_more_features_than_two_bytes_count() -> None:
    """A chain: which is the first feature that is not above 0?"""
    features = 9000
    node = np.arange(2 * features + 1)
    inner = (node % 2 == 0) & (node < 2 * features)
    tree = regressor(np.where(inner, node // 2, 0), np.zeros(len(node)), np.where(inner, node + 1, -1), node // 2)
    first = np.array([0, 1, 77, 8999, 9000, 4500, 8191, 8192, 3])
    x = np.where(np.arange(features) == first[:, None], 0, 1).astype(np.float32)
    model = model_of("TreeEnsembleRegressor", [x], 1, 3, n_targets=1, **tree).SerializeToString()
    session = linnet.InferenceSession(model)
    np.testing.assert_array_equal(session.run(None, {"x0": x})[0][:, 0], first)
    np.testing.assert_array_equal(session.run(None, {"x0": x[2:3]})[0][:, 0], first[2:3])


def test_tree_ensemble_that_shares_nodes_and_tests_large_sets() -> None:
    """Feature 0 in a set leads to node 1, else to node 2, whose sides both end in node 1 as well; two roots."""
    members = np.arange(-40, 40, 2)
    x = np.stack(np.meshgrid([*range(-42, 43), 0.5, np.inf, -np.inf, np.nan], [-1, 1, np.nan]), -1).reshape(-1, 2)
    x = x.astype(np.float32)
    for missing in (0, 1):
        changes = {
            "n_targets": 1,
            "tree_roots": [0, 2],
            "nodes_modes": numpy_helper.from_array(np.array([6, 0, 3], np.uint8), "m"),
            "nodes_splits": numpy_helper.from_array(np.array([0, 0.5, 7], np.float32), "s"),
            "nodes_featureids": [0, 1, 0],
            "nodes_truenodeids": [1, 0, 1],
            "nodes_falsenodeids": [2, 1, 1],
            "nodes_trueleafs": [0, 1, 0],
            "nodes_falseleafs": [0, 1, 0],
            "nodes_missing_value_tracks_true": [missing, 0, 0],
            "leaf_targetids": [0, 0],
            "leaf_weights": numpy_helper.from_array(np.array([1, 2], np.float32), "w"),
            "membership_values": numpy_helper.from_array(np.append(members, np.nan).astype(np.float32), "v"),
        }
        model = model_of("TreeEnsemble", [x], 1, 5, **(ensemble(np.float32) | changes)).SerializeToString()
        got = linnet.InferenceSession(model).run(None, {"x0": x})[0]
        end = np.where(x[:, 1] <= 0.5, 1, 2)  # of either tree, whichever way is taken to node 1
        np.testing.assert_array_equal(got[:, 0], 2 * end)
        changes["nodes_falsenodeids"] = [1, 1, 1]
        changes["nodes_falseleafs"] = [1, 1, 0]
        model = model_of("TreeEnsemble", [x], 1, 5, **(ensemble(np.float32) | changes)).SerializeToString()
        got = linnet.InferenceSession(model).run(None, {"x0": x})[0]
        found = np.isin(x[:, 0], members) | (bool(missing) & np.isnan(x[:, 0]))
        np.testing.assert_array_equal(got[:, 0], np.where(found, end, 2) + end)


def test_hostile_trees_are_refused() -> None:
    x, good = rows(3, 2, dtype=np.float32), ensemble(np.float32)
    for change, match in [
        ({"nodes_falsenodeids": [0, 2]}, "ancestor"),
        ({"nodes_falsenodeids": [9, 2]}, "outside"),
        ({"nodes_truenodeids": [-1, 1]}, "outside"),
        ({"nodes_featureids": [0, 2]}, "features"),
        ({"nodes_featureids": [0, -2]}, "feature number"),
        ({"nodes_trueleafs": [1]}, "elements"),
        ({"leaf_targetids": [0, 1, 2]}, "outside"),
        ({"tree_roots": [5]}, "outside"),
        ({"n_targets": 0}, "n_targets"),
        ({"membership_values": numpy_helper.from_array(np.zeros(0, np.float32))}, "sets"),
    ]:
        fails("TreeEnsemble", x, version=5, match=match, **(good | change))
    tree = forest(1, 2, "class", [0, 1], features=2)
    labels = {"classlabels_int64s": [0, 1]}
    count = len(tree["nodes_nodeids"])
    for key, value, match in [
        ("class_ids", [9] * len(tree["class_ids"]), "outside"),
        ("class_ids", [-1] * len(tree["class_ids"]), "outside"),
        ("class_nodeids", [99] * len(tree["class_ids"]), "no node"),
        ("class_weights", [1.0], "elements"),
        ("nodes_truenodeids", [0] * count, "root|ancestor|node"),
        ("nodes_truenodeids", [77] * count, "no node"),
        ("nodes_nodeids", [0] * count, "two nodes"),
        ("nodes_modes", ["NO"] * count, "nodes_modes"),
        ("nodes_values", [], "elements"),
    ]:
        changed = tree | {key: value}
        if not value:
            del changed[key]
        fails("TreeEnsembleClassifier", x, outputs=2, match=match, **changed, **labels)


@pytest.mark.parametrize("transform", [*TRANSFORMS, "PROBIT"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_linear(transform: str, dtype: Any) -> None:
    rng = np.random.default_rng(5)
    x = rows(dtype=dtype)
    scale = 0.02 if transform == "PROBIT" else 1.0  # it takes probabilities
    for n in (1, 2, 4):
        coefficients = (rng.normal(size=n * 5) * scale).tolist()
        intercepts = (rng.normal(size=n) * scale + (0.5 if transform == "PROBIT" else 0)).tolist()
        compare(
            "LinearRegressor",
            x,
            coefficients=coefficients,
            intercepts=intercepts,
            targets=n,
            post_transform=transform,
            tolerance=1e-4,
            like=np.float32,
        )
        labels = [4, 2, 9, 1][: max(2, n)]
        for names in ({"classlabels_ints": labels}, {"classlabels_strings": [str(v) for v in labels]}):
            if n == 1 and transform == "PROBIT":
                continue  # onnxruntime leaves the second score as it was in memory
            compare(
                "LinearClassifier",
                x,
                outputs=2,
                coefficients=coefficients,
                intercepts=intercepts,
                post_transform=transform,
                tolerance=1e-4,
                **names,
            )


def test_hostile_linear_models_are_refused() -> None:
    x = rows(3)
    fails("LinearRegressor", x, coefficients=[1.0] * 4, intercepts=[1.0], match="features")
    fails("LinearRegressor", x, coefficients=[1.0] * 10, intercepts=[1.0], targets=2, match="intercepts")
    fails("LinearRegressor", x, coefficients=[1.0] * 10, targets=0, match="scores")
    fails(
        "LinearClassifier",
        x,
        outputs=2,
        coefficients=[1.0] * 15,
        intercepts=[0.0] * 3,
        classlabels_ints=[1, 2],
        match="labels",
    )


def machine(classes: int, kernel: str, seed: int = 3) -> dict[str, Any]:
    """The attributes of an SVMClassifier of 5 features, with 4 + i support vectors of class i."""
    rng = np.random.default_rng(seed)
    counts = [4 + i for i in range(classes)]
    pairs = classes * (classes - 1) // 2
    return {
        "kernel_type": kernel,
        "kernel_params": [0.2, 0.3, 2.5 if kernel != "POLY" else 3.0],
        "support_vectors": rng.normal(size=sum(counts) * 5).tolist(),
        "vectors_per_class": counts,
        "coefficients": rng.normal(size=sum(counts) * (classes - 1)).tolist(),
        "rho": rng.normal(size=pairs).tolist(),
    }


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_svm_classifier(kernel: str, classes: int) -> None:
    rng = np.random.default_rng(classes)
    x, svm = rows(dtype=np.float32), machine(classes, kernel)
    labels = [7, 3, 5, 1, 2][:classes]
    near = {"outputs": 2, "tolerance": 1e-4}
    pairs = len(svm["rho"])
    platt = {"prob_a": (-rng.random(pairs) - 0.5).tolist(), "prob_b": rng.normal(size=pairs).tolist()}
    for transform in TRANSFORMS:
        compare("SVMClassifier", x, **near, **svm, classlabels_ints=labels, post_transform=transform)
    for names in ({"classlabels_ints": labels}, {"classlabels_strings": [str(v) for v in labels]}):
        compare("SVMClassifier", x, **near, **svm, **platt, **names)
    compare("SVMClassifier", x.astype(np.int64), **near, **svm, **platt, classlabels_ints=labels)


def test_svm_without_support_vectors() -> None:
    rng = np.random.default_rng(1)
    x = rows(dtype=np.float32)
    for classes in (1, 2, 4):
        for weights in (rng.normal(size=classes * 5), rng.random(classes * 5)):
            linear = {"coefficients": weights.tolist(), "rho": [0.25], "kernel_params": [0.0, 0.0, 0.0]}
            labels = {"classlabels_ints": [4, 2, 9, 1][:classes]}
            compare("SVMClassifier", x, outputs=2, tolerance=1e-4, **linear, **labels)
    compare("SVMRegressor", x, coefficients=rng.normal(size=5).tolist(), rho=[0.5], kernel_params=[0.0] * 3)


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("one_class", [0, 1])
def test_svm_regressor(kernel: str, one_class: int) -> None:
    svm = {k: v for k, v in machine(2, kernel).items() if k != "vectors_per_class"}
    compare("SVMRegressor", rows(dtype=np.float32), **svm, n_supports=9, one_class=one_class, tolerance=1e-4)


def test_hostile_svms_are_refused() -> None:
    x, svm = rows(3, dtype=np.float32), machine(3, "RBF")
    labels = {"classlabels_ints": [1, 2, 3]}
    for change, match in [
        ({"rho": [1.0]}, "rho"),
        ({"coefficients": [1.0] * 15}, "coefficients"),
        ({"support_vectors": [1.0] * 16}, "support_vectors"),
        ({"support_vectors": [1.0] * 60}, "features"),
        ({"vectors_per_class": [15]}, "vectors_per_class"),
        ({"vectors_per_class": [-1, 8, 8]}, "negative"),
        ({"kernel_type": "COSINE"}, "kernel_type"),
        ({"kernel_params": [1.0]}, "kernel_params"),
        ({"prob_a": [1.0]}, "prob_a"),
    ]:
        fails("SVMClassifier", x, outputs=2, match=match, **(svm | labels | change))
    fails("SVMRegressor", x, coefficients=[1.0], rho=[1.0], support_vectors=[1.0] * 10, n_supports=2, match="coeff")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_scaling(dtype: Any) -> None:
    x = rows(dtype=dtype)
    compare("Scaler", x, offset=[0.5, 1, -1, 2, 0.25], scale=[2.0, 0.5, 1, -1, 3])
    compare("Scaler", x, offset=[0.5], scale=[2.0])
    x[3] = 0
    for norm in ("L1", "L2", "MAX"):
        compare("Normalizer", x, norm=norm)
    if np.dtype(dtype) in (np.float32, np.float64, np.int64):
        compare("Binarizer", x.astype(np.float32), threshold=0.5)
    if np.dtype(dtype) in (np.float32, np.int64):
        x[::2, 1] = 1
        name, kind = ("int64", int) if np.dtype(dtype).kind == "i" else ("float", float)
        for values in ([7, 8, 9, 10, 11], [5]):
            compare(
                "Imputer", x, **{f"imputed_value_{name}s": [kind(v) for v in values], f"replaced_value_{name}": kind(1)}
            )
    if np.dtype(dtype) == np.float32:
        x[1::2, 2] = np.nan
        compare("Imputer", x, imputed_value_floats=[1.5], replaced_value_float=float("nan"))
    fails("Scaler", x, offset=[0.5, 1], scale=[2.0, 3], match="features")
    fails("Scaler", x, offset=[0.5, 1], scale=[2.0], match="offset")


def test_label_encoder() -> None:
    words = np.array([["b", "zz"], ["a", "b"]], object)
    numbers = np.array([3, 1, 9, 1], np.int64)
    compare("LabelEncoder", words, version=1, classes_strings=["a", "b"], default_int64=-5)
    compare("LabelEncoder", np.array([0, 1, 7], np.int64), version=1, classes_strings=["a", "b"])
    compare("LabelEncoder", words, version=2, keys_strings=["a", "b"], values_int64s=[4, 5])
    compare("LabelEncoder", words, version=2, keys_strings=["a", "b"], values_floats=[4, 5.5], default_float=0.25)
    compare("LabelEncoder", numbers, version=2, keys_int64s=[1, 3], values_strings=["one", "three"])
    floats = np.array([1.5, np.nan, -0.0, 4], np.float32)
    compare("LabelEncoder", floats, version=4, keys_floats=[1.5, float("nan"), 0.0], values_int64s=[1, 2, 3])
    compare(
        "LabelEncoder",
        floats.astype(np.float64),
        version=4,
        keys_tensor=numpy_helper.from_array(np.array([1.5, np.nan])),
        values_tensor=numpy_helper.from_array(np.array([1.25, 2.25])),
        default_tensor=numpy_helper.from_array(np.array([9.5])),
    )
    fails("LabelEncoder", words, version=2, keys_strings=["a"], values_int64s=[4, 5], match="keys for")
    fails("LabelEncoder", numbers, version=2, keys_strings=["a"], values_int64s=[4], match="keys")
    compare("CategoryMapper", words, cats_strings=["a", "b"], cats_int64s=[8, 9])
    compare("CategoryMapper", numbers, cats_strings=["a", "b"], cats_int64s=[1, 3])


def test_one_hot_encoder() -> None:
    compare("OneHotEncoder", np.array([["b", "c"], ["a", "b"]], object), cats_strings=["a", "b"])
    for dtype in (np.int64, np.float32, np.float64):
        compare("OneHotEncoder", np.array([[3, 1], [2, 9]], dtype), cats_int64s=[1, 2, 3])
    fails("OneHotEncoder", np.array([5]), cats_int64s=[1], zeros=0, match="categories")


def test_columns() -> None:
    x = rows(4, 6)
    compare("ArrayFeatureExtractor", x, np.array([[5, 0, 2]], np.int64))
    compare("ArrayFeatureExtractor", x[0].copy(), np.array([1, 1], np.int64))
    compare("ArrayFeatureExtractor", x.astype(str).astype(object), np.array([1], np.int64))
    fails("ArrayFeatureExtractor", x, np.array([6], np.int64), match="outside")
    fails("ArrayFeatureExtractor", x, np.array([-1], np.int64), match="outside")
    compare("FeatureVectorizer", x, rows(4, 2, 7), inputdimensions=[6, 2])
    fails("FeatureVectorizer", x, rows(4, 2, 7), inputdimensions=[6], match="inputs")


def test_zip_map() -> None:
    x = rows(4, 3)
    compare("ZipMap", x, classlabels_int64s=[5, 1, 3])
    compare("ZipMap", x, classlabels_strings=["p", "q", "r"])
    fails("ZipMap", x, classlabels_strings=["p", "q"], match="labels")
