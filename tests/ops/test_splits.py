"""Work shared out over threads in uneven pieces: the same bits for any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from linnet import InferenceSession, SessionOptions
from one_node import feeds, model_of


def outputs(op: str, inputs: list[Any], **attributes: Any) -> list[Any]:
    model = model_of(op, inputs, constants=(1,), **attributes).SerializeToString()
    results = []
    for threads in (1, 2, 3, 4, 7):
        options = SessionOptions()
        options.intra_op_num_threads = threads
        (y,) = InferenceSession(model, options).run(None, feeds(inputs, constants=(1,)))
        results.append(y)
    return results


def normal(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((1, 200, 7, 7), (160, 200, 1, 1), {}),
        ((3, 96, 13, 11), (40, 96, 1, 1), {}),
        ((1, 40, 29, 31), (72, 40, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ((2, 64, 9, 9), (96, 32, 3, 3), {"group": 2}),
        ((1, 96, 57, 30), (96, 1, 3, 3), {"group": 96, "pads": [1, 1, 1, 1]}),
        ((5, 64, 15, 15), (64, 1, 5, 5), {"group": 64, "strides": [2, 2]}),
    ],
)
def test_convolutions(x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any]) -> None:
    results = outputs("Conv", [normal(*x), normal(*w)], **attributes)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 700, 1001), (5, 500, 333), (49, 300, 170), (300, 200, 40), (2000, 70, 9)]
)
def test_products(m: int, k: int, n: int) -> None:
    for a in ((m, k), (3, m, k)):
        results = outputs("MatMul", [normal(*a), normal(k, n)])
        for other in results[1:]:
            np.testing.assert_array_equal(other, results[0])
