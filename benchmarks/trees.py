"""Ensembles of decision trees: ``python -m benchmarks.trees [names...] --threads 1,2``.

Each ensemble is made here, of trees that are grown at random on random data as extremely randomized trees are: their
shapes and the paths of rows through them are those of real ones. Linnet and onnxruntime run the same model on the same
rows in turns in one process, other rows in each run; outputs are compared first. Medians.

  boosted      depth 6, a value a leaf, missing values go either way, as gradient boosting has it; 1 output
  boosted3     depth 8, 3 classes, a tree for each in turn, softmax
  forest3      depth 10, 3 classes, a leaf holds the share of each
  deep         a regressor's trees, grown until a leaf has one sample of 1,000
  ensemble     `boosted` with depth 8 as TreeEnsemble (opset 5)
  doubles      `boosted` in float64
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import models, report
from benchmarks.peers import PEERS
from linnet import _measure

ML = "ai.onnx.ml"
BOUND = 1e-5  # of a difference, relative to the largest score
POOL = 16384  # rows to choose from: more than what a branch predictor learns


@dataclass(frozen=True)
class Shape:
    operator: str
    depth: int
    features: int
    samples: int
    classes: int = 1
    least: int = 1  # samples in a leaf
    shares: bool = False  # a leaf has a weight for each class
    dtype: Any = np.float32


SHAPES = {
    "boosted": Shape("TreeEnsembleRegressor", 6, 30, 8192, least=16),
    "boosted3": Shape("TreeEnsembleClassifier", 8, 50, 16384, classes=3, least=16),
    "forest3": Shape("TreeEnsembleClassifier", 10, 50, 8192, classes=3, shares=True),
    "deep": Shape("TreeEnsembleRegressor", 99, 100, 1000),
    "ensemble": Shape("TreeEnsemble", 8, 50, 8192, least=16),
    "doubles": Shape("TreeEnsembleRegressor", 6, 30, 8192, least=16, dtype=np.float64),
}


@dataclass
class Tree:
    """Nodes in the order of their level: ``left`` is the first child's number (the other follows), -1 for a leaf."""

    feature: models.Array
    threshold: models.Array
    left: models.Array


def grow(shape: Shape, rng: np.random.Generator) -> Tree:
    """All nodes of a level at once: each splits at a random feature, between two of its samples."""
    x = rng.normal(size=(shape.samples, shape.features)).astype(np.float32)
    at = np.zeros(len(x), np.int64)
    feature, threshold, left = [np.zeros(1, np.int64)], [np.zeros(1, np.float32)], [np.full(1, -1)]
    first, width = 0, 1
    for _ in range(shape.depth):
        order = np.argsort(at, kind="stable")
        nodes = first + np.arange(width)
        start, end = (np.searchsorted(at[order], nodes, side) for side in ("left", "right"))
        chosen = rng.integers(shape.features, size=width)
        pair = [order[np.minimum(start + (rng.random(width) * (end - start)).astype(int), len(x) - 1)] for _ in "ab"]
        middle = (x[pair[0], chosen] + x[pair[1], chosen]) / 2
        splits = end - start >= max(2, 2 * shape.least)
        if not splits.any():
            break
        children = np.where(splits, first + width + 2 * (np.cumsum(splits) - 1), -1)
        feature[-1], threshold[-1], left[-1] = chosen, middle, children
        moving = (at >= first) & (children[np.maximum(at - first, 0)] >= 0)
        where = at[moving] - first
        at[moving] = children[where] + ~(x[moving, chosen[where]] <= middle[where])
        first, width = first + width, 2 * int(splits.sum())
        feature.append(np.zeros(width, np.int64))
        threshold.append(np.zeros(width, np.float32))
        left.append(np.full(width, -1))
    return Tree(*(np.concatenate(part) for part in (feature, threshold, left)))


def forest(shape: Shape, trees: int, seed: int = 0) -> list[Tree]:
    """A hundred trees are grown; further ones ask for other features."""
    rng = np.random.default_rng(seed)
    grown = [grow(shape, rng) for _ in range(min(trees, 100))]
    turned = []
    for number in range(trees):
        tree = grown[number % len(grown)]
        turned.append(Tree(rng.permutation(shape.features)[tree.feature], tree.threshold, tree.left))
    return turned


def lists(shape: Shape, grown: list[Tree], rng: np.random.Generator) -> dict[str, Any]:
    """The attributes of TreeEnsembleClassifier and TreeEnsembleRegressor."""
    prefix = "class" if shape.operator.endswith("Classifier") else "target"
    nodes: dict[str, list[Any]] = {}
    weights: dict[str, list[Any]] = {}
    for number, tree in enumerate(grown):
        leaf, count = tree.left < 0, len(tree.left)
        for key, values in {
            "treeids": np.full(count, number),
            "nodeids": np.arange(count),
            "featureids": np.where(leaf, 0, tree.feature),
            "values": np.where(leaf, 0, tree.threshold),
            "modes": np.where(leaf, "LEAF", "BRANCH_LEQ"),
            "truenodeids": np.where(leaf, 0, tree.left),
            "falsenodeids": np.where(leaf, 0, tree.left + 1),
            "missing_value_tracks_true": rng.integers(0, 1 if shape.shares else 2, size=count),
        }.items():
            nodes.setdefault(key, []).extend(values.tolist())
        ids, each = np.flatnonzero(leaf), shape.classes if shape.shares else 1
        scores = rng.dirichlet(np.full(each, 0.3), size=len(ids)) if shape.shares else rng.normal(size=(len(ids), 1))
        for key, values in {
            "treeids": np.full(len(ids) * each, number),
            "nodeids": np.repeat(ids, each),
            "ids": np.tile(np.arange(each), len(ids)) if shape.shares else np.full(len(ids), number % shape.classes),
            "weights": (scores / len(grown)).ravel(),
        }.items():
            weights.setdefault(key, []).extend(values.tolist())
    attributes = {f"nodes_{k}": v for k, v in nodes.items()} | {f"{prefix}_{k}": v for k, v in weights.items()}
    if shape.dtype == np.float64:
        from onnx import numpy_helper

        for key in ("nodes_values", f"{prefix}_weights"):
            attributes[f"{key}_as_tensor"] = numpy_helper.from_array(np.array(attributes.pop(key)), key)
    return attributes


def tensors(shape: Shape, grown: list[Tree], rng: np.random.Generator) -> dict[str, Any]:
    """The attributes of TreeEnsemble."""
    from onnx import numpy_helper

    inner, leaves, roots = 0, 0, []
    parts: dict[str, list[Any]] = {}
    for tree in grown:
        leaf = tree.left < 0
        number = np.where(leaf, leaves + np.cumsum(leaf) - 1, inner + np.cumsum(~leaf) - 1)
        roots.append(inner)
        yes, no = tree.left[~leaf], tree.left[~leaf] + 1
        for key, values in {
            "featureids": tree.feature[~leaf],
            "splits": tree.threshold[~leaf],
            "truenodeids": number[yes],
            "falsenodeids": number[no],
            "trueleafs": leaf[yes].astype(int),
            "falseleafs": leaf[no].astype(int),
            "missing_value_tracks_true": rng.integers(2, size=len(yes)),
        }.items():
            parts.setdefault(f"nodes_{key}", []).extend(values.tolist())
        inner, leaves = inner + int((~leaf).sum()), leaves + int(leaf.sum())
    splits = numpy_helper.from_array(np.array(parts.pop("nodes_splits"), shape.dtype), "splits")
    weights = (rng.normal(size=leaves) / len(grown)).astype(shape.dtype)
    return {
        **parts,
        "tree_roots": roots,
        "nodes_splits": splits,
        "nodes_modes": numpy_helper.from_array(np.zeros(inner, np.uint8), "modes"),
        "leaf_targetids": [0] * leaves,
        "leaf_weights": numpy_helper.from_array(weights, "weights"),
    }


def write(path: Path, shape: Shape, trees: int) -> int:
    """Writes the model; returns its number of nodes, leaves among them."""
    import onnx
    from onnx import helper

    grown, rng = forest(shape, trees), np.random.default_rng(1)
    five = shape.operator == "TreeEnsemble"
    attributes = (tensors if five else lists)(shape, grown, rng)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(shape.dtype))
    x = helper.make_tensor_value_info("x", kind, ["n", shape.features])
    outputs = [("y", kind if five else onnx.TensorProto.FLOAT, ["n", shape.classes])]
    if shape.operator.endswith("Classifier"):
        attributes["classlabels_int64s"] = list(range(shape.classes))
        attributes["post_transform"] = "NONE" if shape.shares else "SOFTMAX"
        outputs.insert(0, ("label", onnx.TensorProto.INT64, ["n"]))
    else:
        attributes["n_targets"] = shape.classes
    node = helper.make_node(shape.operator, ["x"], [o[0] for o in outputs], domain=ML, **attributes)
    graph = helper.make_graph([node], "trees", [x], [helper.make_tensor_value_info(*o) for o in outputs])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(ML, 5 if five else 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return sum(len(tree.left) for tree in grown)


def difference(got: list[models.Array], want: list[models.Array]) -> float:
    """Of the scores, relative to the largest; infinite where labels differ that are no ties."""
    off = np.abs(got[-1].astype(np.float64) - want[-1]).max() / max(float(np.abs(want[-1]).max()), 1e-30)
    if len(want) > 1:
        best = np.sort(want[-1], axis=1)
        clear = best[:, -1] - best[:, -2] > 1e-5
        if (got[0] != want[0])[clear].any():
            return float("inf")
    return float(off)


def measure(path: Path, shape: Shape, batch: int, threads: int, seconds: float) -> dict[str, Any]:
    """Medians in seconds of ``linnet`` and ``onnxruntime``, and the ``difference`` of their outputs."""
    rows = np.random.default_rng(2).normal(size=(POOL, shape.features)).astype(shape.dtype)
    batches = [{"x": np.ascontiguousarray(part)} for part in np.split(rows[: POOL // batch * batch], POOL // batch)]
    runs = {name: PEERS[name].open(path, threads) for name in ("linnet", "onnxruntime")}
    off = difference(*(run(batches[0]) for run in runs.values()))

    def turning(run: _measure.Call) -> Callable[[], Any]:
        given = itertools.cycle(batches)
        return lambda: run(next(given))

    calls = {name: turning(run) for name, run in runs.items()}
    times = _measure.interleaved(calls, seconds=seconds, rest=_measure.REST if threads > 1 else 0.0)
    return {"difference": off, **{name: _measure.summary(value) for name, value in times.items()}}


def table(rows: list[dict[str, Any]], markdown: bool) -> str:
    head = ["ensemble", "trees", "nodes", "batch", "threads", "linnet", "onnxruntime", "times faster", "difference"]
    body = []
    for row in rows:
        own, peer = row["linnet"]["p50"], row["onnxruntime"]["p50"]
        cells = [row["name"], *(f"{row[key]:,}" for key in ("trees", "nodes", "batch", "threads"))]
        cells += [_measure.duration(own), _measure.duration(peer), f"{peer / own:.1f}", f"{row['difference']:.0e}"]
        body.append(cells)
    return report.table(head, body, markdown)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trees", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="ensemble", help=f"default: {', '.join(SHAPES)}")
    parser.add_argument("--trees", type=models.counts, default=[100, 1000], help="default: 100,1000")
    parser.add_argument("--batch", type=models.counts, default=[1, 1000], help="rows a run (default: 1,1000)")
    parser.add_argument("--threads", type=models.counts, default=[1], help="thread counts, such as 1,2 (default: 1)")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long each runtime is measured in a cell")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured to FILE")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    args = parser.parse_args(argv)
    if unknown := [n for n in args.names if n not in SHAPES]:
        parser.error(f"no such ensemble: {', '.join(unknown)}; there are {', '.join(SHAPES)}")
    from linnet import _core

    about = {"machine": models.machine(), "python": platform.python_version(), "numpy": np.__version__}
    about |= {"kernels": _core.isa(), **{n: PEERS[n].version for n in ("linnet", "onnxruntime")}}
    print(", ".join(f"{k} {v}" if k != "machine" else v for k, v in about.items()) + "\n", flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, trees in itertools.product(args.names or SHAPES, args.trees):
            path = Path(folder) / f"{name}_{trees}.onnx"
            print(f"measuring {name}, {report.plural(trees, 'tree')} ...", file=sys.stderr, flush=True)
            nodes = write(path, SHAPES[name], trees)
            for threads, batch in itertools.product(args.threads, args.batch):
                row = {"name": name, "trees": trees, "nodes": nodes, "batch": batch, "threads": threads}
                rows.append(row | measure(path, SHAPES[name], batch, threads, args.seconds))
            path.unlink()
            if args.json:
                args.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    print(table(rows, args.markdown))
    bad = [row for row in rows if not row["difference"] <= BOUND]
    for row in bad:
        print(f"{row['name']}, {row['trees']} trees: the outputs differ from onnxruntime's", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
