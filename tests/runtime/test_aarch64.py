"""The ARM cross build, run under qemu-user: the same results as on this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

QEMU = shutil.which("qemu-aarch64")
SYSROOT = Path("/usr/aarch64-linux-gnu")


@pytest.mark.skipif(QEMU is None or not SYSROOT.exists(), reason="needs qemu-aarch64 and the ARM libraries")
@pytest.mark.parametrize("cpu", ["cortex-a53", "max"])
def test_small_models_under_qemu(arm_build: Path, models: Path, tmp_path: Path, cpu: str) -> None:
    x = np.random.default_rng(1).standard_normal((5, 8)).astype(np.float32)
    model = models / "mlp.onnx"
    (y,) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    words = [QEMU, "-cpu", cpu, "-L", SYSROOT, arm_build / "linnet-run", model, "--threads", "2"]
    words += ["--input", f"x={tmp_path}/x.npy", "--check", f"y={tmp_path}/y.npy"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "neon" in done.stdout
    assert "y: equal" in done.stdout
