"""Where the native faces are built.

LINNET_BUILD names the CMake build folder (default: build/ in the repository), LINNET_BUILD_ARM that of the ARM cross
build (default: build-arm/). Tests of what is not there are skipped.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from c_library import Library, open_library

ROOT = Path(__file__).resolve().parents[2]


def _folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable, ROOT / default))


@pytest.fixture(scope="session")
def build() -> Path:
    folder = _folder("LINNET_BUILD", "build")
    if not (folder / "linnet-run").exists():
        pytest.skip("no native build: cmake -G Ninja -B build . && ninja -C build")
    return folder


@pytest.fixture(scope="session")
def arm_build() -> Path:
    folder = _folder("LINNET_BUILD_ARM", "build-arm")
    if not (folder / "linnet-run").exists():
        pytest.skip("no ARM build: see cmake/aarch64.cmake")
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small models: mlp (x [batch, 8] -> y), strings, sequence, passes (bool) and two_inputs."""
    folder = tmp_path_factory.mktemp("models")
    source = np.random.default_rng(0)
    opset = [helper.make_opsetid("", 17)]

    def save(name: str, nodes: list[onnx.NodeProto], inputs: list, outputs: list, weights: list = ()) -> None:
        model = helper.make_model(helper.make_graph(nodes, name, inputs, outputs, weights), opset_imports=opset)
        helper.set_model_props(model, {"author": "tests"})
        onnx.checker.check_model(model)
        onnx.save(model, folder / f"{name}.onnx")

    def info(name: str, kind: int, shape: list) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    w1 = numpy_helper.from_array(source.standard_normal((8, 16)).astype(np.float32), "w1")
    w2 = numpy_helper.from_array(source.standard_normal((16, 3)).astype(np.float32), "w2")
    save(
        "mlp",
        [
            helper.make_node("MatMul", ["x", "w1"], ["h"], name="first"),
            helper.make_node("Relu", ["h"], ["r"], name="act"),
            helper.make_node("MatMul", ["r", "w2"], ["y"], name="second"),
        ],
        [info("x", TensorProto.FLOAT, ["batch", 8])],
        [info("y", TensorProto.FLOAT, ["batch", 3])],
        [w1, w2],
    )
    save(
        "strings",
        [helper.make_node("Identity", ["s"], ["t"])],
        [info("s", TensorProto.STRING, [None])],
        [info("t", TensorProto.STRING, [None])],
    )
    save(
        "sequence",
        [helper.make_node("SequenceConstruct", ["a", "b"], ["q"])],
        [info("a", TensorProto.FLOAT, [2]), info("b", TensorProto.FLOAT, [3])],
        [helper.make_tensor_sequence_value_info("q", TensorProto.FLOAT, None)],
    )
    save(
        "bools",
        [helper.make_node("Not", ["b"], ["n"])],
        [info("b", TensorProto.BOOL, [3])],
        [info("n", TensorProto.BOOL, [3])],
    )
    save(
        "two_inputs",
        [helper.make_node("Sub", ["a", "b"], ["d"]), helper.make_node("Add", ["a", "b"], ["s"])],
        [info("a", TensorProto.FLOAT, [2, 3]), info("b", TensorProto.FLOAT, [3])],
        [info("d", TensorProto.FLOAT, [2, 3]), info("s", TensorProto.FLOAT, [2, 3])],
    )
    return folder


@pytest.fixture(scope="session")
def lib(build: Path) -> ctypes.CDLL:
    path = build / "liblinnet.so"
    if not path.exists():
        pytest.skip("the shared library is not built")
    return open_library(path)


@pytest.fixture
def c(lib: ctypes.CDLL) -> Library:
    return Library(lib)


@pytest.fixture(scope="session")
def examples(build: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The examples, built against an installation: (installation, build folder)."""
    if shutil.which("cmake") is None or not (build / "liblinnet.so").exists():
        pytest.skip("needs cmake and the shared library")
    folder = tmp_path_factory.mktemp("package")
    prefix, out = folder / "prefix", folder / "build"

    def run(*words: object) -> None:
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    run("cmake", "--install", build, "--prefix", prefix, "--component", "library", "--strip")
    run("cmake", "-S", ROOT / "docs/examples/c", "-B", out, f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", out)
    return prefix, out
