"""Every operator of the ONNX suite's node tests, with attributes, operands and shapes that no sane model has.

`LINNET_HOSTILE_SHARE` (default 0.02) is the share of all changed models that is tried; 1 tries them all, which takes
ten minutes.
"""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import linnet
import more_models
import mutate
from bounded import each_in_child, within_bounds

SHARE = float(os.environ.get("LINNET_HOSTILE_SHARE", "0.02"))
# What a hostile model may be answered with; anything else is an accident.
ERRORS = {"InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplementedOp", "RuntimeException", "Cancelled"}
ANSWERS = {"results", *ERRORS}


def _cases() -> dict[str, list[tuple[str, Any, list[Any]]]]:
    """Name, model and inputs of the suite's node tests, and of operators that it does not have, by operator."""
    onnx_cases = pytest.importorskip("onnx.backend.test.case.node")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = onnx_cases.collect_testcases(None)
    by_operator = defaultdict(list)
    for case in cases:
        if case.model is not None and "_expanded" not in case.name:
            feeds = case.data_sets[0][0] if case.data_sets else []
            by_operator[case.model.graph.node[0].op_type].append((case.name, case.model, feeds))
    for name, model, feeds in more_models.models():
        node = model.graph.node[0]
        by_operator[f"{node.domain}.{node.op_type}".lstrip(".")].append((name, model, feeds))
    return by_operator


CASES = _cases()


def run_once(model: Any, feeds: list[Any]) -> Callable[[], str]:
    def work() -> str:
        options = linnet.SessionOptions()
        options.intra_op_num_threads = 1
        options.memory_limit = 128 << 20
        limits = linnet.RunOptions()
        limits.time_limit_ms = 500
        session = linnet.InferenceSession(model.SerializeToString(), options)
        session.run(None, mutate.feeds_of(model, feeds), limits)
        return "results"

    return work


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("operator", sorted(CASES))
def test_operator(operator: str) -> None:
    def changed() -> Iterator[tuple[str, Callable[[], str]]]:
        for number, (name, plain, feeds) in enumerate(CASES[operator]):
            for label, model, fed in mutate.mutations(plain, feeds, SHARE, number):
                yield f"{name}: {label}", run_once(model, fed)
            yield f"{name} as it is", run_once(plain, feeds)

    outcomes, died = each_in_child(changed)
    assert died is None, f"the process died: {died}"
    wrong = [text for text in map(within_bounds, outcomes) if text]
    wrong += [f"{o.label}: {o.said}" for o in outcomes if o.said.split(":")[0] not in ANSWERS]
    assert not wrong, "\n".join(wrong[:20])
