"""The tests of `linnet.compress` need the onnx package, and onnxruntime to run what they make."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

sys.path.insert(0, str(Path(__file__).parent))
