"""What is public stays public: names, docstrings, types. A change here is a change users see."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import linnet
from linnet import capi

NAMES = {
    "Cancelled", "ExecutionMode", "ExecutionOrder", "Fail", "GraphOptimizationLevel", "IOBinding", "InferenceSession",
    "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "LinnetError", "Model", "ModelMetadata", "NoSuchFile",
    "NodeArg", "NotImplementedOp", "OrtDevice", "OrtValue", "RunOptions", "RuntimeException", "SessionIOBinding",
    "SessionOptions", "TensorInfo", "__version__", "capi", "disable_telemetry_events", "enable_telemetry_events",
    "get_all_providers", "get_available_providers", "get_build_info", "get_device", "get_version_string", "load",
    "preload_dlls", "print_debug_info", "register_operator", "registered_operators", "set_default_logger_severity",
    "set_default_logger_verbosity", "set_seed", "unregister_operator",
}  # fmt: skip


def test_names() -> None:
    assert set(linnet.__all__) == NAMES
    assert all(hasattr(linnet, name) for name in NAMES)
    public = {name for name, value in vars(linnet).items() if name[0] != "_" and not inspect.ismodule(value)}
    assert public <= NAMES


def test_version() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{linnet.__version__}"' in project


@pytest.mark.parametrize("name", sorted(NAMES - {"__version__"}))
def test_docstrings(name: str) -> None:
    value = getattr(linnet, name)
    assert value.__doc__, name
    if inspect.isclass(value) and value.__module__.startswith("linnet"):
        for member, thing in vars(value).items():
            if member[0] != "_" and (inspect.isfunction(thing) or isinstance(thing, (property, staticmethod))):
                assert thing.__doc__, f"{name}.{member}"


def test_exceptions_form_one_tree() -> None:
    state = capi.onnxruntime_pybind11_state
    raised = {n for n in NAMES if inspect.isclass(getattr(linnet, n)) and issubclass(getattr(linnet, n), Exception)}
    for name in raised:
        assert issubclass(getattr(linnet, name), linnet.LinnetError)
    for name in ("Fail", "InvalidArgument", "NoSuchFile", "InvalidProtobuf", "InvalidGraph", "RuntimeException"):
        assert getattr(state, name) is getattr(linnet, name)
    assert state.NotImplemented is linnet.NotImplementedOp
    assert issubclass(linnet.InvalidArgument, ValueError)
    assert issubclass(linnet.NoSuchFile, FileNotFoundError)
    assert issubclass(linnet.RuntimeException, RuntimeError)
    # An `except EPFail` must not swallow everything.
    assert not issubclass(linnet.Fail, (state.EPFail, state.EngineError, state.NoModel))


def test_importing_needs_numpy_alone_and_is_quick() -> None:
    script = (
        "import sys; import linnet; "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'onnx', 'onnxruntime', 'ml_dtypes', 'torch', 'scipy'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_is_typed() -> None:
    assert (Path(linnet.__file__).parent / "py.typed").exists()
    assert (Path(linnet.__file__).parent / "_core" / "__init__.pyi").exists()


@pytest.mark.parametrize("module", ["", "serve"])
def test_the_stub_lists_what_the_extension_has(module: str) -> None:
    import ast

    from linnet import _core

    real_module = getattr(_core, module) if module else _core
    stub = ast.parse((Path(linnet.__file__).parent / "_core" / f"{module or '__init__'}.pyi").read_text())
    described = {node.name for node in stub.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    described |= {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)}
    described -= {"Port", "Info", "Statistics"}  # shapes of dictionaries
    submodules = {"serve", "testing"}
    assert described == {name for name in dir(real_module) if name[0] != "_"} - submodules
    for node in stub.body:
        if isinstance(node, ast.ClassDef) and hasattr(real_module, node.name):
            own = {n.name for n in node.body if isinstance(n, ast.FunctionDef) and n.name[0] != "_"}
            own |= {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)}
            real = {n for n in vars(getattr(real_module, node.name)) if n[0] != "_"}
            assert own == real, node.name
