"""Every zoo model agrees with onnxruntime. Build the zoo first: ``python -m benchmarks.zoo``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from benchmarks.zoo import ZOO, feeds, folder
from benchmarks.zoo.compressed import FORMS, form_path

import linnet
from model_checks import assert_quantized_same, assert_same

RUNS = [(name, sizes) for name, entry in ZOO.items() for sizes in ({}, *entry.variants)]


def zoo_file(name: str) -> Path:
    path = folder() / ZOO[name].file
    if not path.exists():
        pytest.skip(f"{path.name} is not in {path.parent}: build it with  python -m benchmarks.zoo {name}")
    return path


def label(value: Any) -> str:
    return value if isinstance(value, str) else "".join(f"{k[0]}{v}" for k, v in value.items()) or "measured"


@pytest.mark.parametrize(("name", "sizes"), RUNS, ids=label)
def test_agrees_with_onnxruntime(name: str, sizes: dict[str, int], open_model: Any, open_reference: Any) -> None:
    path, given = zoo_file(name), feeds(name, **sizes)
    session = open_model(path)
    names = [out.name for out in session.get_outputs()]
    want = open_reference(path).run(None, given)
    for output, got, due in zip(names, session.run(None, given), want, strict=True):
        assert_same(got, due, output)


@pytest.mark.parametrize("name", ZOO)
def test_the_simplified_model_is_onnx_and_computes_the_same(name: str, open_reference: Any, tmp_path: Path) -> None:
    path, again, given = zoo_file(name), tmp_path / "again.onnx", feeds(name)
    options = linnet.SessionOptions()
    options.optimized_model_filepath = again
    linnet.InferenceSession(path, options)
    onnx.checker.check_model(again)
    want = open_reference(path).run(None, given)
    for number, (got, due) in enumerate(zip(open_reference(again).run(None, given), want, strict=True)):
        assert_same(got, due, f"output {number}")


@pytest.mark.parametrize("name", ["resnet18", "minilm", "gpt2", "lstm", "keras_mobilenetv3_small"])
def test_thread_count_does_not_change_a_bit(name: str, runtime: Any, open_model: Any) -> None:
    if runtime.__name__ != "linnet":
        pytest.skip("only Linnet promises this")
    path, given = zoo_file(name), feeds(name)
    one = open_model(path, threads=1).run(None, given)
    assert_same(open_model(path, threads=2).run(None, given), one, "two threads", 0.0)


@pytest.mark.parametrize("name", FORMS)
def test_compressed_form_agrees_with_onnxruntime(name: str, open_model: Any, open_reference: Any) -> None:
    path = form_path(name)
    if not path.exists():
        pytest.skip(f"{path.name} is not in {path.parent}: make it with  python -m benchmarks.zoo.compressed {name}")
    given = feeds(FORMS[name].base)
    want = open_reference(path).run(None, given)
    other = open_reference(path, optimised=False).run(None, given)
    assert_quantized_same(open_model(path).run(None, given), want, other)
