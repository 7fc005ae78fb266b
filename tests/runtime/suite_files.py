"""The ONNX backend suite as files, for linnet-run: a folder a test, with model.onnx and test_data_set_0."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

MISSING = Path(__file__).parents[1] / "onnx_suite_missing.txt"

# What linnet-run cannot be given, by the beginning of a test's name, and why.
NOT_NATIVE = {
    "test_image_decoder_": "the codecs are a Python library's",
}
# Expected values of bfloat16 are held to two units in the last place, as in the suite.
BFLOAT16, OTHERS = "bfloat16", "others"
RTOL = {BFLOAT16: 2.0**-6, OTHERS: 1e-3}
ATOL = 1e-7


def _bytes_of(value: Any, type_proto: onnx.TypeProto) -> bytes:
    """A value as the suite's files hold it."""
    kind = type_proto.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.from_list(value).SerializeToString()
    if kind == "optional_type":
        return numpy_helper.from_optional(value).SerializeToString()
    if isinstance(value, onnx.TensorProto):
        return value.SerializeToString()
    array = np.asarray(value)
    return numpy_helper.from_array(array).SerializeToString()


def _write(folder: Path, model: onnx.ModelProto, data_sets: Any) -> None:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    for i, (inputs, outputs) in enumerate(data_sets):
        data = folder / f"test_data_set_{i}"
        data.mkdir()
        for what, values, ports in (("input", inputs, model.graph.input), ("output", outputs, model.graph.output)):
            for k, (value, port) in enumerate(zip(values, ports, strict=False)):
                (data / f"{what}_{k}.pb").write_bytes(_bytes_of(value, port.type))


def _tolerance(model: onnx.ModelProto) -> str:
    narrow = any(port.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16 for port in model.graph.output)
    return BFLOAT16 if narrow else OTHERS


def write_suite(
    root: Path, wanted: Callable[[onnx.ModelProto], bool] = lambda model: True, everything: bool = False
) -> dict[str, int]:
    """Writes every test of the installed onnx package that passes and that `wanted` says yes to.

    Those that linnet-run cannot be given are left out, but for `everything`.

    Returns the number of tests in each of the folders below `root`, `BFLOAT16` and `OTHERS`.
    """
    missing = set(MISSING.read_text(encoding="utf-8").split())
    counts = dict.fromkeys(RTOL, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite computes expected values with overflows and NaN on purpose
        from onnx.backend.test.case.node import collect_testcases

        cases = [*collect_testcases(None)]
        for group in ("simple", "pytorch-converted", "pytorch-operator"):
            cases += load_model_tests(kind=group)
        for case in cases:
            if case.name in missing or (not everything and case.name.startswith(tuple(NOT_NATIVE))):
                continue
            model = case.model
            stored = None
            if model is None:
                stored = Path(case.model_dir)
                model = onnx.load(stored / "model.onnx")
            if not wanted(model):
                continue
            kind = _tolerance(model)
            counts[kind] += 1
            folder = root / kind / case.name
            if stored is None:
                _write(folder, model, case.data_sets)
            else:
                folder.parent.mkdir(parents=True, exist_ok=True)
                folder.symlink_to(stored, target_is_directory=True)
    return counts
