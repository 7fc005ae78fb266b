"""The protocols' messages: as others have them, in a pool of their own."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
from pathlib import Path

import pytest

import linnet
from client_worker import Worker
from linnet._errors import ServeError
from linnet.serve import _messages

ROOT = Path(__file__).parents[2]


def test_descriptors_are_current() -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools compiles the protocols")
    spec = importlib.util.spec_from_file_location("make_descriptors", ROOT / "protos" / "make_descriptors.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.OUTPUT.read_bytes() == module.descriptors(), "run: python protos/make_descriptors.py"


def test_nothing_is_in_the_default_pool() -> None:
    from google.protobuf import descriptor_pool

    _messages.message_class("inference.ModelConfig")
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("inference.ServerLiveRequest")
    for name in ("inference.proto", "tensorflow_serving.proto", "health.proto", "reflection.proto"):
        with pytest.raises(KeyError):
            descriptor_pool.Default().FindFileByName(name)


def test_malformed_bytes() -> None:
    with pytest.raises(ServeError) as caught:
        _messages.parse("inference.ModelReadyRequest", b"\x0a\xff")
    assert caught.value.code == 3
    assert "inference.ModelReadyRequest" in str(caught.value)


_IMPORTS = {
    "linnet": "from linnet.serve import _messages; _messages.message_class('inference.ModelInferRequest')",
    "tritonclient": "import tritonclient.grpc; from tritonclient.grpc import service_pb2, model_config_pb2",
    "health": "from grpc_health.v1 import health_pb2",
}


@pytest.mark.parametrize("order", list(itertools.permutations(_IMPORTS)), ids="-".join)
def test_beside_other_clients_in_every_order(triton: Worker, order: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "linnet").symlink_to(Path(linnet.__file__).parent)  # and nothing else of this environment
    lines = "\n".join(_IMPORTS[name] for name in order)
    environment = {**triton.environment, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([triton.python, "-c", lines], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
