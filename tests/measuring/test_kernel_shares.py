"""``benchmarks.kernels``: what the native timings become, and its models of a few nodes."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import kernels
from onnx.reference import ReferenceEvaluator

LINES = [
    {"isa": "avx2", "group": "read", "shape": "16", "bytes_per_second": 9e10},
    {"isa": "avx2", "group": "gemm", "shape": "8x8x8", "flops": 1e6, "bytes": 768, "seconds": 2e-5, "peak": 1e11},
    {"isa": "avx2", "group": "gemm", "shape": "9x9x9", "flops": 1e6, "bytes": 972, "seconds": 1e-5, "peak": 1e11},
    {"isa": "avx2", "group": "map", "shape": "exp", "flops": 4096, "bytes": 32768, "seconds": 1e-6, "peak": 1e11},
]


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """A program that prints what linnet-kernel-test would."""
    file = tmp_path / "linnet-kernel-test"
    file.write_text("#!/bin/sh\n" + "".join(f"echo '{json.dumps(line)}'\n" for line in LINES))
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def test_shares_are_of_the_peak_measured_beside(binary: Path) -> None:
    results = kernels.native(binary, None)
    assert [r["share"] for r in results if r["group"] == "gemm"] == pytest.approx([0.5, 1.0])
    written = kernels.text([*results, {"isa": "avx2", "group": "winograd", "shape": "7x8x8x3x1", "gain": 1.5}])
    assert "gemm: 75 % of the peak on average" in written
    assert "1.50 x the direct kernel's speed" in written
    assert "4.10 G elements/s" in written and "90.0 GB/s" in written


def test_the_roofline_is_drawn(binary: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks import picture

    picture.roofline(kernels.native(binary, None), tmp_path / "roof.svg")
    drawn = (tmp_path / "roof.svg").read_text()
    assert "avx2: 100 GFLOP/s" in drawn and ">gemm<" in drawn and ">map<" not in drawn


def test_a_binary_that_fails_ends_with_its_message(tmp_path: Path) -> None:
    file = tmp_path / "broken"
    file.write_text("#!/bin/sh\necho no such table >&2\nexit 2\n")
    file.chmod(0o755)
    with pytest.raises(SystemExit, match="no such table"):
        kernels.native(file, "sse9")


def test_a_missing_binary_says_how_to_build_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        kernels.main(["--binary", str(tmp_path / "absent")])
    assert "ninja -C build linnet-kernel-test" in capsys.readouterr().err


def test_models_compute_what_they_stand_for() -> None:
    model = kernels.vector_by_matrix(3, 5)["product"]
    x = np.ones((1, 3), np.float32)
    assert ReferenceEvaluator(model).run(None, {"x": x})[0].shape == (1, 5)
    chain = kernels.chain(4, 2, 3)
    assert [n.op_type for n in chain.graph.node] == ["Conv", "Relu"] * 3
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32)
    want = ReferenceEvaluator(chain).run(None, {"x": x})[0]
    for exact in (False, True):
        got: Any = kernels.call("linnet", chain, exact)()  # of the same random numbers
        np.testing.assert_allclose(got[0], want, atol=1e-5)
