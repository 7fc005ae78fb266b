"""The ONNX backend suite, written out as files, through linnet-run: with every kernel table that this CPU runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from linnet import _core
from suite_files import ATOL, NOT_NATIVE, OTHERS, RTOL, write_suite

TABLES = [name for name, runs in _core.kernel_tables() if runs]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory, build: Path) -> tuple[Path, dict[str, int]]:
    root = tmp_path_factory.mktemp("suite")
    return root, write_suite(root)


@pytest.mark.parametrize("table", TABLES)
def test_suite(build: Path, suite: tuple[Path, dict[str, int]], table: str) -> None:
    root, counts = suite
    assert sum(counts.values()) > 1900
    for group, count in counts.items():
        words = [build / "linnet-run", "--tests", root / group, "--rtol", RTOL[group], "--atol", ATOL]
        done = subprocess.run(
            list(map(str, words)), capture_output=True, text=True, timeout=120, env={**os.environ, "LINNET_ISA": table}
        )
        lines = done.stdout.splitlines()
        failed = [line for line in lines if " FAILED: " in line]
        assert done.returncode == 0, "\n".join([*failed, *lines[-1:], done.stderr])
        assert lines[-1] == f"{count} tests, 0 failed"


def test_what_is_left_out_is_left_out_for_a_reason(build: Path, tmp_path: Path) -> None:
    """A test that linnet-run can be given after all must not be kept from it."""
    assert list(NOT_NATIVE) == ["test_image_decoder_"]
    counts = write_suite(tmp_path, lambda model: model.graph.node[0].op_type == "ImageDecoder", everything=True)
    assert counts[OTHERS] == 9
    done = subprocess.run(
        [build / "linnet-run", "--tests", tmp_path / OTHERS], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    assert "9 tests, 9 failed" in done.stdout


def test_failures_are_named(build: Path, tmp_path: Path) -> None:
    counts = write_suite(tmp_path, lambda model: model.graph.name in ("test_relu", "test_abs", "test_not_2d"))
    assert counts == {"bfloat16": 0, "others": 3}
    folder = tmp_path / "others"
    swapped = (folder / "test_abs" / "test_data_set_0" / "output_0.pb").read_bytes()
    (folder / "test_relu" / "test_data_set_0" / "output_0.pb").write_bytes(swapped)
    (folder / "test_not_2d" / "model.onnx").write_bytes(b"junk")
    done = subprocess.run([build / "linnet-run", "--tests", folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "test_abs ok\n" in done.stdout
    assert "test_relu FAILED: test_data_set_0: y: " in done.stdout
    assert "test_not_2d FAILED: loading" in done.stdout
    assert done.stdout.endswith("3 tests, 2 failed: test_not_2d test_relu\n")
    empty = subprocess.run([build / "linnet-run", "--tests", build], capture_output=True, text=True, timeout=60)
    assert empty.returncode == 1
    assert "no folder" in empty.stderr
