"""Train the demo's digit reader and write the model and the held-out digits: ``python -m linnet.demo.train``.

The data are scikit-learn's 1,797 scanned digits. A fixed quarter of each class is held out; it takes no part in
training and no choice was made by looking at it. The training digits are shifted, turned and scaled a little at random.
Needs ``pip install torch scikit-learn onnx onnxscript``; takes about a minute on two cores.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from linnet.demo._data import HELD_OUT, MODEL, SIDE, Digits, model_input

try:
    import onnx
    import torch
    from sklearn.datasets import load_digits
    from torch import Tensor, nn
except ImportError as error:
    sys.exit(f"{error}: training needs  pip install torch scikit-learn onnx onnxscript")

SEED = 7
HELD_OUT_SHARE = 0.25


def split() -> tuple[Digits, Digits]:
    """The training and the held-out digits; the same ones each time."""
    data = load_digits()
    images, labels = data.images.astype(np.uint8), data.target.astype(np.uint8)
    rng = np.random.default_rng(SEED)
    held = np.zeros(len(labels), bool)
    for digit in range(10):
        (where,) = np.nonzero(labels == digit)
        held[rng.permutation(where)[: round(HELD_OUT_SHARE * len(where))]] = True
    return Digits(images[~held], labels[~held]), Digits(images[held], labels[held])


def network() -> nn.Sequential:
    """float32 [n, 1, 28, 28] -> logits [n, 10]: one convolution, one pool, two dense layers; 150,000 parameters."""
    pooled = (SIDE - 2) // 4
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(32 * pooled * pooled, 128),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(128, 10),
    )


def jitter(pictures: Tensor) -> Tensor:
    """Turn by up to 12 degrees, scale by up to 10 %, shift by up to 2 pixels, each picture its own way."""
    count = len(pictures)
    angle, scale, dx, dy = ((torch.rand(count) * 2 - 1) * top for top in (math.radians(12), 0.1, 4 / SIDE, 4 / SIDE))
    c, s = torch.cos(angle) * (1 + scale), torch.sin(angle) * (1 + scale)
    matrix = torch.stack([torch.stack([c, -s, dx], 1), torch.stack([s, c, dy], 1)], 1)
    grid = nn.functional.affine_grid(matrix, list(pictures.shape), align_corners=False)
    return nn.functional.grid_sample(pictures, grid, align_corners=False)


def train(
    model: nn.Module,
    digits: Digits,
    epochs: int,
    *,
    batch: int = 64,
    rate: float = 4e-3,
    begin: Callable[[torch.optim.Optimizer, int], object] = lambda optimiser, steps: None,
) -> None:
    """Train in place; ``begin`` is called with the optimiser and the number of its steps before the first."""
    pictures = torch.from_numpy(model_input(digits.images))
    labels = torch.from_numpy(digits.labels.astype(np.int64))
    steps = epochs * math.ceil(len(labels) / batch)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps)
    begin(optimiser, steps)
    model.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for part in torch.split(torch.randperm(len(labels)), batch):
            loss = nn.functional.cross_entropy(model(jitter(pictures[part])), labels[part], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimiser.step()
            schedule.step()
            total += loss.item() * len(part)
        if epoch % 10 == 0:
            print(f"epoch {epoch}/{epochs}: loss {total / len(labels):.4f}", flush=True)
    model.eval()


def accuracy(model: nn.Module, digits: Digits) -> float:
    with torch.no_grad():
        guess: npt.NDArray[np.int64] = model(torch.from_numpy(model_input(digits.images))).argmax(1).numpy()
    return float(np.mean(guess == digits.labels))


def export(model: nn.Module, path: Path) -> None:
    """Write the model, probabilities as its output, as an ONNX file."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of packages that nothing here needs
    torch.onnx.export(
        nn.Sequential(model, nn.Softmax(1)).eval(),
        (torch.zeros(2, 1, SIDE, SIDE),),
        str(path),
        input_names=["image"],
        output_names=["probabilities"],
        opset_version=18,
        dynamo=True,
        external_data=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    forget_origin(path)


def forget_origin(path: Path) -> None:
    """Take out the metadata in which the exporter notes the source lines and folders a node came from."""
    model = onnx.load(path)
    graph = model.graph
    for part in (*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output, graph, model):
        del part.metadata_props[:]
    onnx.save(model, path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m linnet.demo.train", description=__doc__)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--model", type=Path, default=MODEL, help="where the ONNX file goes")
    parser.add_argument("--held-out", type=Path, default=HELD_OUT, help="where the held-out digits go")
    args = parser.parse_args(argv)
    torch.manual_seed(SEED)
    training, held = split()
    model = network()
    train(model, training, args.epochs)
    print(f"accuracy: {accuracy(model, training):.4f} on {len(training.labels)} training digits,", end=" ")
    print(f"{accuracy(model, held):.4f} on {len(held.labels)} held-out ones")
    export(model, args.model)
    np.savez_compressed(args.held_out, images=held.images, labels=held.labels)
    print(f"wrote {args.model} ({args.model.stat().st_size / 1e3:.0f} kB) and {args.held_out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
