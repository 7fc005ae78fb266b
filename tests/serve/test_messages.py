"""The protocols' messages: as others have them, in a pool of their own."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
_COMPARE = """
from google.protobuf.descriptor import FieldDescriptor

def shape(field):
    kind = field.message_type or field.enum_type
    return (field.number, field.type, kind.full_name if kind else "")

def compare(ours, theirs):
    for name, field in ours.fields_by_name.items():
        other = theirs.fields_by_name.get(name)
        if other is None:
            assert (ours.name, name) == ("ModelMetadataResponse", "properties"), (ours.full_name, name)
            continue
        assert shape(field) == shape(other), (ours.full_name, name)
        assert (field.containing_oneof is None) == (other.containing_oneof is None), (ours.full_name, name)
        global fields
        fields += 1
    for name, nested in ours.nested_types_by_name.items():
        if name != "PropertiesEntry":
            compare(nested, theirs.nested_types_by_name[name])
    for name, values in ours.enum_types_by_name.items():
        for value in values.values:
            assert theirs.enum_types_by_name[name].values_by_name[value.name].number == value.number

fields = 0
for name, module in (("inference.proto", service_pb2), ("model_config.proto", model_config_pb2)):
    ours = _messages.file_by_name(name)
    for message, descriptor in ours.message_types_by_name.items():
        compare(descriptor, module.DESCRIPTOR.message_types_by_name[message])
    for service in ours.services_by_name.values():
        theirs = module.DESCRIPTOR.services_by_name[service.name]
        for method in service.methods:
            other = theirs.methods_by_name[method.name]
            assert method.input_type.full_name == other.input_type.full_name
            assert method.output_type.full_name == other.output_type.full_name
for name, message in _messages.file_by_name("health.proto").message_types_by_name.items():
    if name in health_pb2.DESCRIPTOR.message_types_by_name:
        compare(message, health_pb2.DESCRIPTOR.message_types_by_name[name])
print(fields)
"""


def client_python() -> str:
    """An interpreter that has tritonclient, this one or that of LINNET_CLIENT_PYTHON; skips where there is none."""
    python = os.environ.get("LINNET_CLIENT_PYTHON", sys.executable)
    probe = subprocess.run([python, "-c", "import tritonclient.grpc, grpc_health"], capture_output=True)
    if probe.returncode:
        pytest.skip("no tritonclient[grpc] and grpcio-health-checking (set LINNET_CLIENT_PYTHON)")
    return python


def run(python: str, lines: list[str]) -> str:
    done = subprocess.run(
        [python, "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("order", list(itertools.permutations(_IMPORTS)), ids="-".join)
def test_beside_other_clients_in_every_order(order: tuple[str, ...]) -> None:
    run(client_python(), [_IMPORTS[name] for name in order])


def test_names_and_numbers_are_those_of_the_clients() -> None:
    lines = [*_IMPORTS.values(), _COMPARE]
    assert int(run(client_python(), lines)) > 200
