"""What is tracked over time with pytest-benchmark: ``pytest benchmarks --benchmark-autosave``.

Some small models and single operators, on one thread. Not collected by a plain ``pytest``, which runs ``tests``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

import linnet
from benchmarks import kernels
from benchmarks.models import model_feeds, model_path
from linnet.demo._data import MODEL as DIGITS

pytest.importorskip("pytest_benchmark")


def numbers(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def one(op: str, shape: tuple[int, ...], *constants: Any, **attributes: Any) -> Any:
    """A model of one operator, its first input x, the others constant."""
    held = {f"c{i}": value for i, value in enumerate(constants)}
    return kernels.one_node([helper.make_node(op, ["x", *held], ["y"], **attributes)], shape, held)


OPERATORS = {
    "matmul 256x256x256": lambda: one("MatMul", (256, 256), numbers(256, 256)),
    "matmul 1x384x384": lambda: one("MatMul", (1, 384), numbers(384, 384)),
    "conv 3x3 28x128": lambda: one("Conv", (1, 128, 28, 28), numbers(128, 128, 3, 3), pads=[1] * 4),
    "conv 1x1 14x384": lambda: one("Conv", (1, 384, 14, 14), numbers(96, 384, 1, 1)),
    "conv depthwise 28x192": lambda: one("Conv", (1, 192, 28, 28), numbers(192, 1, 3, 3), pads=[1] * 4, group=192),
    "softmax 768x128": lambda: one("Softmax", (768, 128)),
    "layer norm 128x384": lambda: one("LayerNormalization", (128, 384), numbers(384), numbers(384)),
    "gelu 128x1536": lambda: one("Gelu", (128, 1536)),
    "transpose 197x384": lambda: one("Transpose", (197, 384)),
}
MODELS = ("keras_small_cnn", "mobilenetv2", "keras_mobilenetv3_small", "lstm")


@pytest.mark.parametrize("name", OPERATORS)
def test_operator(benchmark: Any, name: str) -> None:
    benchmark.group = "operators"
    benchmark(kernels.call("linnet", OPERATORS[name]()))


@pytest.mark.parametrize("name", ["digits", *MODELS])
def test_model(benchmark: Any, name: str) -> None:
    path = str(DIGITS) if name == "digits" else str(model_path(name))
    if name != "digits" and not model_path(name).exists():
        pytest.skip(f"{name} is not there: build it with  python -m benchmarks.zoo {name}")
    feeds = model_feeds(path if name == "digits" else name)
    options = linnet.SessionOptions()
    options.intra_op_num_threads = 1
    session = linnet.InferenceSession(path, options)
    benchmark.group = "models"
    benchmark(session.run, None, feeds)


def test_opening(benchmark: Any) -> None:
    benchmark.group = "opening"
    benchmark(linnet.InferenceSession, str(DIGITS))
