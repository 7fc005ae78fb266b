"""Weights are held once: their file's pages and their own elements go as soon as they are packed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, load, numpy_helper, save

import linnet
from linnet import _core
from linnet.compress._cluster import Coded, put

K = 2048  # a weight of K x K floats takes 16 MiB
WEIGHTS = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of WEIGHTS products and a relu each; one weight is also added to an output, so it is read as it is."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for i in range(WEIGHTS):
        weights.append(numpy_helper.from_array(rng.standard_normal((K, K), np.float32) / 64, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"p{i}"]))
        nodes.append(helper.make_node("Relu", [f"p{i}"], [f"r{i}"]))
        last = f"r{i}"
    nodes.append(helper.make_node("Slice", ["w0", "zero", "one", "zero"], ["row"]))
    nodes.append(helper.make_node("Add", [last, "row"], ["y"]))
    weights += [numpy_helper.from_array(np.array([v], np.int64), name) for name, v in (("zero", 0), ("one", 1))]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", K])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    path = tmp_path_factory.mktemp("memory") / "weights.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return path


def peak(model: Path, rows: int) -> float:
    """What loading the model and a run take at most, in weights."""
    script = (
        "import sys, numpy as np, linnet\n"
        "def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1024\n"
        "before = peak()\n"
        "session = linnet.InferenceSession(sys.argv[1])\n"
        f"session.run(None, {{'x': np.ones(({rows}, {K}), np.float32)}})\n"
        "print(peak() - before)\n"
    )
    out = subprocess.run([sys.executable, "-c", script, str(model)], capture_output=True, text=True, check=True)
    return float(out.stdout) / (K * K * 4 / 2**20)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
@pytest.mark.skipif(
    "libclang_rt.asan" in Path("/proc/self/maps").read_text(), reason="AddressSanitizer keeps freed memory"
)
def test_peak_memory(model: Path) -> None:
    """Loading and running takes the weights, one of them a second time, and little else."""
    assert peak(model, 2) < WEIGHTS + 2.5


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
@pytest.mark.skipif(
    "libclang_rt.asan" in Path("/proc/self/maps").read_text(), reason="AddressSanitizer keeps freed memory"
)
@pytest.mark.parametrize("codes", [16, 256])
def test_peak_memory_of_coded_weights(codes: int, model: Path, tmp_path: Path) -> None:
    """Putting weights together from their codes takes nothing beyond the weights; few codes stay as they are."""
    rng = np.random.default_rng(0)
    book = rng.standard_normal((1, codes)).astype(np.float32) / 64
    coded = load(str(model))
    names = [f"w{i}" for i in range(WEIGHTS)]
    indices = {name: rng.integers(0, codes, (K, K), np.uint8) for name in names}
    put(coded, {name: Coded(index, book, 0) for name, index in indices.items()})
    save(coded, str(tmp_path / "coded.onnx"))
    floats = peak(tmp_path / "coded.onnx", 16)
    assert floats < WEIGHTS + 2.5
    if codes == 16 and _core.isa() in ("avx2", "avx512", "amx", "neon", "neon_dot"):
        assert peak(tmp_path / "coded.onnx", 1) < WEIGHTS / 8 + 2.5  # w0 is also read as it is


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists() or not Path("/proc/self/smaps").exists(),
    reason="no huge pages here",
)
@pytest.mark.skipif(
    "libclang_rt.asan" in Path("/proc/self/maps").read_text(), reason="AddressSanitizer allocates by itself"
)
def test_large_weights_ask_for_huge_pages(model: Path) -> None:
    """A page fault for every 4 KiB would take longer than packing them. (Whether they are given is the system's.)"""
    script = (
        "import re, sys, numpy as np, linnet\n"
        "session = linnet.InferenceSession(sys.argv[1])\n"
        f"session.run(None, {{'x': np.ones((1, {K}), np.float32)}})\n"
        "found = re.findall(r'Size: *([0-9]+) kB(?:(?!Size:).)*?VmFlags:([a-z ]*)', "
        "open('/proc/self/smaps').read().replace('KernelPageSize', '').replace('MMUPageSize', ''), re.S)\n"
        "print(sum(int(size) for size, flags in found if 'hg' in flags.split()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(model)], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= WEIGHTS * K * K * 4 / 1024  # the packed weights


def test_weights_that_were_freed_come_back() -> None:
    """An image as large as the filter has its weights packed in one way, a larger one in another."""
    rng = np.random.default_rng(1)
    w = rng.standard_normal((16, 16, 9, 9), np.float32)  # 83 KiB: large enough to be freed
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    session = linnet.InferenceSession(model)
    for shape in ((1, 16, 9, 9), (1, 16, 20, 20), (0, 16, 9, 9), (2, 16, 9, 12)):
        x = rng.standard_normal(shape, np.float32)
        fresh = linnet.InferenceSession(model)
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], fresh.run(None, {"x": x})[0])
    image = rng.standard_normal((1, 16, 9, 9), np.float32)
    np.testing.assert_allclose(
        session.run(None, {"x": image})[0].reshape(16), (w * image).sum((1, 2, 3)), rtol=1e-4, atol=1e-3
    )
