"""Prune the demo's digit reader while it trains on, share its weights, and write it: ``python -m linnet.demo.prune``.

Four of five weights become zero, in blocks of four outputs; then 16 values stand for all weights. No choice was made by
looking at the held-out digits. Needs ``pip install torch scikit-learn onnx onnxscript``; takes about a minute on two
cores.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from linnet.demo import train  # first: it says what is missing
from linnet.demo._data import MODEL, PRUNED, Digits, model_input

import onnx  # isort: skip
import torch  # isort: skip
from onnx import numpy_helper  # isort: skip

from linnet import load  # isort: skip
from linnet.compress import cluster  # isort: skip
from linnet.compress.torch import Pruner  # isort: skip

SPARSITY, CODES = 0.8, 16


def trained() -> torch.nn.Sequential:
    """The network with the weights of the demo's model."""
    model = train.network()
    weights = {t.name.removeprefix("0."): numpy_helper.to_array(t) for t in onnx.load(MODEL).graph.initializer}
    model.load_state_dict({name: torch.tensor(weights[name]) for name in model.state_dict()})
    return model.eval()


def prune(model: torch.nn.Sequential, digits: Digits, epochs: int) -> None:
    """Train on, pruning over the first half of the steps and with the zeros held over the second."""

    def begin(optimiser: torch.optim.Optimizer, steps: int) -> None:
        Pruner(model, sparsity=SPARSITY, structure="4x1", end=steps // 2, every=20).attach(optimiser)

    train.train(model, digits, epochs, rate=2e-3, begin=begin)


def file_accuracy(path: Path, digits: Digits) -> float:
    """The share of digits that a file reads right."""
    chances = np.asarray(load(str(path))(model_input(digits.images)))
    return float(np.mean(chances.argmax(1) == digits.labels))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m linnet.demo.prune", description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--model", type=Path, default=PRUNED, help="where the ONNX file goes")
    args = parser.parse_args(argv)
    torch.manual_seed(train.SEED)
    training, held = train.split()
    model = trained()
    print(f"as trained: {train.accuracy(model, held):.4f} of the held-out digits")
    prune(model, training, args.epochs)
    print(f"{100 * SPARSITY:.0f} % pruned: {train.accuracy(model, held):.4f}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pruned.onnx"
        train.export(model, path)
        result = cluster(path, codes=CODES, output=args.model)
    print(f"and {CODES} codes: {file_accuracy(args.model, held):.4f}, {result.title}")
    print(f"wrote {args.model} ({args.model.stat().st_size / 1e3:.0f} kB)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
