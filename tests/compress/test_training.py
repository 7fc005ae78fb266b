"""Pruning while a model trains: PyTorch and Keras, in loops that know nothing of it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import linnet

RNG = np.random.default_rng(4)
X = RNG.normal(size=(256, 16)).astype(np.float32)
Y = (X @ RNG.normal(size=(16, 4))).argmax(1)


def torch_model() -> Any:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4))


def train_torch(model: Any, steps: int, seen: Any = lambda step: None, optimizer: Any = None) -> None:
    import torch

    optimizer = optimizer or torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(steps):
        part = torch.from_numpy(RNG.integers(0, len(X), 64))
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(X)[part]), torch.from_numpy(Y)[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen(step)


def test_torch_prunes_along_the_schedule_and_keeps_the_zeros() -> None:
    model = torch_model()
    import torch

    from linnet.compress.torch import Pruner

    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    pruner = Pruner(model, sparsity=0.8, structure="4x1", scope="layer", begin=10, end=50, every=10)
    pruner.attach(optimizer)
    shares, patterns = [], []

    def seen(step: int) -> None:
        shares.append(pruner.sparsity)
        patterns.append(model[0].weight.detach().numpy() == 0)

    train_torch(model, 120, seen, optimizer)
    assert shares[:10] == [0] * 10
    assert shares[30] == pytest.approx(0.8 * (1 - 0.5**3), abs=0.02)
    assert shares[-1] == pytest.approx(0.8, abs=0.01)
    assert np.array_equal(patterns[50], patterns[-1])
    assert all((later | ~earlier).all() for earlier, later in itertools.pairwise(patterns))
    blocks = patterns[-1].reshape(16, 4, 16)
    assert np.array_equal(blocks.all(1), blocks.any(1))
    right = (model(torch.from_numpy(X)).argmax(1).numpy() == Y).mean()
    assert right > 0.75
    pruner.detach()
    train_torch(model, 1, optimizer=optimizer)
    assert pruner.sparsity < 0.1


@pytest.mark.parametrize("structure", ["unstructured", "2:4"])
def test_torch_other_structures(structure: str) -> None:
    model = torch_model()
    import torch

    from linnet.compress.torch import Pruner

    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    pruner = Pruner(model, sparsity=0.7, structure=structure, end=20, every=5).attach(optimizer)
    train_torch(model, 40, optimizer=optimizer)
    assert pruner.sparsity == pytest.approx(0.5 if structure == "2:4" else 0.7, abs=0.01)
    if structure == "2:4":
        assert ((model[0].weight.detach().numpy() != 0).reshape(64, 4, 4).sum(2) == 2).all()


def test_torch_training_goes_on_from_a_state() -> None:
    model = torch_model()
    from linnet.compress.torch import Pruner

    pruner = Pruner(model, sparsity=0.5, end=10, every=2)
    for _ in range(12):
        pruner.step()
    other = Pruner(model, sparsity=0.5, end=10, every=2)
    other.load_state_dict(pruner.state_dict())
    import torch

    with torch.no_grad():
        model[0].weight.add_(1.0)
    other.step()
    assert other.sparsity == pytest.approx(0.5, abs=0.02)


def test_torch_layers_and_options() -> None:
    torch = pytest.importorskip("torch")
    from linnet.compress.torch import Pruner

    model = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3), torch.nn.Conv2d(8, 8, 3, groups=8), torch.nn.ConvTranspose2d(8, 12, 2)
    )
    pruner = Pruner(model, sparsity=0.5, structure="4x1", scope="layer", end=1, every=1)
    pruner.step()
    pruner.step()
    assert [(m.weight == 0).any().item() for m in model] == [True, False, True]
    blocks = (model[2].weight.detach().numpy() == 0).reshape(8, 3, 4, 2, 2)  # outputs lie along the second axis
    assert np.array_equal(blocks.all(2), blocks.any(2))
    assert not Pruner(model, exclude=["ConvTranspose2d *"], end=1)._masks
    for options, message in (
        ({"structure": "channel"}, "prune the exported"),
        ({"sparsity": 1.5}, "below 1"),
        ({"begin": 5, "end": 5}, "begin < end"),
        ({"layers": ["Linear"]}, "no layer fits 'Linear'"),
    ):
        with pytest.raises(linnet.InvalidArgument, match=message):
            Pruner(model, **{"end": 10, **options})


def test_keras_callback_prunes_along_the_schedule_and_keeps_the_zeros() -> None:
    keras = pytest.importorskip("keras")
    from linnet.compress.keras import GradualPruning

    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((16,)), keras.layers.Dense(64, activation="relu")])
    model = keras.Sequential([keras.Input((16,)), inner, keras.layers.Dense(4)])
    model.compile(
        keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    pruning = GradualPruning(sparsity=0.75, structure="4x1", scope="layer", begin=0, end=40, every=8)
    shares: list[float] = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            shares.append(pruning.sparsity)

    model.fit(X, Y, epochs=5, batch_size=16, callbacks=[pruning, Watch()], verbose=0)
    model.fit(X, Y, epochs=10, batch_size=16, callbacks=[pruning], verbose=0)
    assert shares[0] < 0.01
    assert 0.4 < shares[20] < 0.75
    assert shares[-1] == pytest.approx(0.75, abs=0.01)
    kernel = np.asarray(inner.layers[0].kernel)  # [inputs, outputs]
    blocks = (kernel == 0).reshape(16, 16, 4)
    assert np.array_equal(blocks.all(2), blocks.any(2))
    assert blocks.mean() == pytest.approx(0.75, abs=0.01)
    assert model.evaluate(X, Y, verbose=0)[1] > 0.7


def test_keras_convolutions() -> None:
    keras = pytest.importorskip("keras")
    from linnet.compress.keras import GradualPruning

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((9, 9, 4)),
            layers.Conv2D(8, 3, name="conv"),
            layers.DepthwiseConv2D(3),
            layers.Conv2DTranspose(12, 2, name="up"),
            layers.GlobalAveragePooling2D(),
        ]
    )
    model.compile("sgd", "mse")
    pruning = GradualPruning(sparsity=0.5, scope="layer", end=1, every=1, layers=["Conv2D*"])
    model.fit(np.ones((8, 9, 9, 4)), np.ones((8, 12)), batch_size=2, callbacks=[pruning], verbose=0)
    conv, up = (np.asarray(model.get_layer(name).kernel) == 0 for name in ("conv", "up"))
    for blocks in (conv.reshape(3, 3, 4, 2, 4), np.moveaxis(up, 2, 3).reshape(2, 2, 8, 3, 4)):
        assert np.array_equal(blocks.all(-1), blocks.any(-1))
        assert blocks.mean() == pytest.approx(0.5, abs=0.01)
    with pytest.raises(linnet.InvalidArgument, match="prune the exported"):
        GradualPruning(structure="channel", end=5)


@pytest.mark.parametrize("module", ["torch", "keras"])
def test_a_missing_framework_is_named(module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib
    import sys

    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"linnet.compress.{module}", raising=False)
    with pytest.raises(ImportError, match=f"pip install .*{'torch' if module == 'torch' else 'keras'}"):
        importlib.import_module(f"linnet.compress.{module}")
