"""What the tests of real models share: where the files are, and which runtime is under test.

``$LINNET_TEST_ASSETS`` names the folder of pretrained models and data (see assets.py), ``$LINNET_ZOO`` the zoo
that ``python -m benchmarks.zoo`` builds (default: ``zoo/``). Tests whose files are absent are
skipped. ``LINNET_TEST_BACKEND=onnxruntime`` puts onnxruntime under test instead of Linnet, to check the tests
themselves.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from assets import ROOT

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # for the benchmarks package, whose zoo the tests use

Open = Callable[..., Any]


@pytest.fixture(scope="session")
def runtime() -> Any:
    """The runtime under test, with onnxruntime's Python API."""
    return importlib.import_module(os.environ.get("LINNET_TEST_BACKEND", "linnet"))


@pytest.fixture(scope="session")
def open_model(runtime: Any) -> Open:
    """``open_model(path, threads=1)``: a session of the runtime under test."""

    def opener(path: Path, threads: int = 1) -> Any:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    return opener


@pytest.fixture(scope="session")
def open_reference() -> Open:
    """``open_reference(path, optimised=True)``: a session of onnxruntime, the reference; skips where it is absent."""
    ort = pytest.importorskip("onnxruntime")
    ort.set_default_logger_severity(4)

    def opener(path: Path, optimised: bool = True) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        if not optimised:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    return opener
