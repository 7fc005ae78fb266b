"""Writes seeds for fuzz_reader, fuzz_build and fuzz_run: ``python tests/fuzz/make_seeds.py FOLDER [--quick]``.

The models of the ONNX suite's node tests, some of other operators and, without ``--quick``, every small model that the
tests of operators and passes load (which takes as long as these tests do). Where two have the same operators with the
same attributes, the smaller one is taken.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

TESTS = Path(__file__).parents[1]
MOST_BYTES = 4096


def suite_models() -> Iterator[bytes]:
    """Of the suite's node tests."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        if case.model is not None:
            yield case.model.SerializeToString()


def other_models() -> Iterator[bytes]:
    """Of operators that the suite does not have."""
    sys.path.insert(0, str(TESTS / "hostile"))
    import more_models

    for _, model, _ in more_models.models():
        yield model.SerializeToString()


def tested_models() -> Iterator[bytes]:
    import pytest

    from linnet import _session

    found: list[bytes] = []
    plain = _session.InferenceSession.__init__

    def collecting(self: Any, model: Any, *more: Any, **options: Any) -> None:
        if isinstance(model, bytes) and len(model) <= MOST_BYTES:
            found.append(model)
        plain(self, model, *more, **options)

    _session.InferenceSession.__init__ = collecting  # type: ignore[method-assign]
    try:
        pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", str(TESTS / "ops"), str(TESTS / "passes")])
    finally:
        _session.InferenceSession.__init__ = plain  # type: ignore[method-assign]
    yield from found


def key_of(model: bytes) -> str:
    """What a model does: operators, attributes, number of operands."""
    proto = onnx.load_from_string(model)
    said = [f"{o.domain}{o.version}" for o in proto.opset_import] if proto.functions else []
    for node in proto.graph.node:
        attributes = ",".join(sorted(f"{a.name}{a.s!r}{len(a.ints)}" for a in node.attribute))
        said.append(f"{node.domain}.{node.op_type}({len(node.input)},{len(node.output)},{attributes})")
    return ";".join(said)


def main() -> None:
    folder = Path(sys.argv[1])
    models = folder / "models"
    values = folder / "values"
    for made in (models, values):
        made.mkdir(parents=True, exist_ok=True)
    chosen: dict[str, bytes] = {}
    sources = [suite_models(), other_models()]
    if "--quick" not in sys.argv:
        sources.append(tested_models())
    for source in sources:
        for model in source:
            key = key_of(model)
            if len(model) <= MOST_BYTES and len(model) < len(chosen.get(key, model + b" ")):
                chosen[key] = model
    for model in chosen.values():
        (models / hashlib.sha1(model).hexdigest()[:16]).write_bytes(model)
    for i, shape in enumerate([(), (2,), (0, 3), (1, 2, 2)]):
        for dtype in (1, 7, 8, 10, 16, 17, 21, 22, 23, 25):
            count = 1
            for size in shape:
                count *= size
            elements: list[Any] = [b"ab"] * count if dtype == 8 else [1] * count
            tensor = helper.make_tensor("t", dtype, shape, elements)
            (values / f"tensor{i}_{dtype}").write_bytes(tensor.SerializeToString())
    sequence = onnx.SequenceProto(name="s", elem_type=onnx.SequenceProto.TENSOR)
    sequence.tensor_values.append(tensor)
    (values / "sequence").write_bytes(sequence.SerializeToString())
    print(f"{len(chosen)} models in {models}, {len(list(values.iterdir()))} values in {values}")


if __name__ == "__main__":
    main()
