"""The differential fuzzer itself: most of its graphs run, all ways agree on some, and a wrong answer is found."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
sys.path.insert(0, str(Path(__file__).parent))
import differential
import random_graphs

SEEDS = range(40)


def test_graphs_run_and_agree() -> None:
    compared = 0
    for seed in SEEDS:
        model, feeds, outputs = random_graphs.make(seed)
        reach = differential.magnitudes(model, feeds, [v.name for v in outputs])
        if not outputs or reach is None:
            continue
        compared += 1
        for way in differential.WAYS.values():
            got = differential.answer(model.SerializeToString(), feeds, **way)
            assert differential.differences(got, outputs, reach) is None, seed
    assert compared > len(SEEDS) // 2


def test_a_wrong_answer_is_found() -> None:
    found = 0
    for seed in SEEDS:
        model, feeds, outputs = random_graphs.make(seed)
        reach = differential.magnitudes(model, feeds, [v.name for v in outputs])
        if not outputs or reach is None:
            continue
        got = differential.answer(model.SerializeToString(), feeds)
        for i, value in enumerate(outputs):
            if value.dtype != random_graphs.F32 or not got[i].size or value.step:
                continue
            wrong = got.copy()
            wrong[i] = got[i] + np.float32(2e-3 * reach[value.name] + 1e-6)
            assert differential.differences(wrong, outputs, reach), seed
            found += 1
    assert found > 10


def test_the_same_number_makes_the_same_graph() -> None:
    for seed in (1, 2**40):
        first, second = random_graphs.make(seed), random_graphs.make(seed)
        assert first[0].SerializeToString() == second[0].SerializeToString()
        assert all(np.array_equal(first[1][k], second[1][k]) for k in first[1])
