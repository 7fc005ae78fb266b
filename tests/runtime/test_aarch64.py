"""The ARM cross build, run under qemu-user: the same results as on this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from suite_files import ATOL, RTOL, write_suite

QEMU = shutil.which("qemu-aarch64")
SYSROOT = Path("/usr/aarch64-linux-gnu")


# Operators whose loops are kernels, or that are made of such.
KERNEL_OPS = {
    "Abs", "Add", "ArgMax", "Attention", "AveragePool", "BatchNormalization", "Cast", "Celu", "Clip", "Conv",
    "ConvInteger", "ConvTranspose", "CumSum", "DequantizeLinear", "Div", "DynamicQuantizeLinear", "Elu", "Erf", "Exp",
    "GRU", "Gather", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization", "HardSigmoid",
    "HardSwish", "InstanceNormalization", "LRN", "LSTM", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax",
    "MatMul", "MatMulInteger", "Max", "MaxPool", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "QLinearConv",
    "QLinearMatMul", "QuantizeLinear", "RMSNormalization", "RNN", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum",
    "Relu", "Resize", "RotaryEmbedding", "Selu", "Sigmoid", "Softmax", "Softplus", "Sqrt", "Sub", "Sum", "Swish",
    "Tanh", "TopK", "Transpose", "Where",
}  # fmt: skip
needs_qemu = pytest.mark.skipif(QEMU is None or not SYSROOT.exists(), reason="needs qemu-aarch64 and the ARM libraries")


@pytest.fixture(scope="module")
def kernel_tests(tmp_path_factory: pytest.TempPathFactory, arm_build: Path) -> tuple[Path, dict[str, int]]:
    """The suite's tests of those operators, not the forms that are expanded into others."""

    def wanted(model: onnx.ModelProto) -> bool:
        return any(node.op_type in KERNEL_OPS for node in model.graph.node) and len(model.graph.node) <= 3

    root = tmp_path_factory.mktemp("suite")
    return root, write_suite(root, wanted)


@needs_qemu
@pytest.mark.parametrize("cpu", ["cortex-a53", "max"])
def test_the_onnx_suite_under_qemu(arm_build: Path, kernel_tests: tuple[Path, dict[str, int]], cpu: str) -> None:
    root, counts = kernel_tests
    assert sum(counts.values()) > 500
    for group, count in counts.items():
        words = [QEMU, "-cpu", cpu, "-L", SYSROOT, arm_build / "linnet-run", "--threads", "1"]
        words += ["--tests", root / group, "--rtol", RTOL[group], "--atol", ATOL]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=600)
        lines = done.stdout.splitlines()
        failed = [line for line in lines if " FAILED: " in line]
        assert done.returncode == 0, "\n".join([*failed, *lines[-1:], done.stderr])
        assert lines[-1] == f"{count} tests, 0 failed"


@needs_qemu
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
