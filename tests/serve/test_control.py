"""The calls besides inference, as bytes and as REST: what they answer, and how they fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linnet import _errors
from linnet.serve import _messages
from linnet.serve._codes import Code
from linnet.serve._config import Configuration, ModelConfig, ServerConfig, VersionPolicy
from linnet.serve._control import Control
from repository_models import RecordingEngine, adds, open_repository, serve, version

OIP, PREDICTION, MODEL = (
    "inference.GRPCInferenceService",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2):
        version(tmp_path / "models" / "m", number)
    return tmp_path / "models"


@pytest.fixture
def control(folder: Path) -> Iterator[Control]:
    config = ModelConfig(
        "m", folder / "m", "triton", policy=VersionPolicy(latest=2), labels={"stable": 1}, parameters={"k": "v"}
    )
    server = ServerConfig(settle_seconds=0.0, control="explicit", load=("*",))
    repository = serve(Configuration(server, (config,), origin=folder))
    yield Control(repository, "linnet", "1.2.3")
    repository.stop()


def call(control: Control, service: str, method: str, *, admin: bool = False, **fields: Any) -> Any:
    """A call through bytes."""
    taken, given = _messages.service_methods(service)[method]
    request = _messages.message_class(taken)(**fields)
    answer = control.unary(admin)[f"/{service}/{method}"](request.SerializeToString())
    return _messages.parse(given, answer)


def failure(control: Control, service: str, method: str, *, admin: bool = False, **fields: Any) -> tuple[int, str]:
    with pytest.raises(_errors.ServeError) as caught:
        call(control, service, method, admin=admin, **fields)
    return caught.value.code, str(caught.value)


def rest(control: Control, method: str, path: str, body: Any = None, admin: bool = False) -> tuple[int, Any]:
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = control.rest(method, path, data, admin)
    assert answer is not None
    assert answer[1] == "application/json"
    return answer[0], json.loads(answer[2])


def spec(name: str, version: int | None = None, label: str = "") -> Any:
    found = _messages.message_class("tensorflow.serving.ModelSpec")(name=name, version_label=label)
    if version is not None:
        found.version.value = version
    elif not label:
        found.ClearField("version_choice")
    return found


def test_every_declared_method_is_there(control: Control) -> None:
    served = {*control.unary(), *control.streams()}
    elsewhere = {f"/{OIP}/ModelInfer", f"/{OIP}/ModelStreamInfer", f"/{PREDICTION}/Predict"}
    for service in control.reflection.services:
        for method in _messages.service_methods(service):
            assert f"/{service}/{method}" in served | elsewhere
    assert control.unary().keys() == control.unary(admin=True).keys()


def test_health_of_the_server(control: Control) -> None:
    assert call(control, OIP, "ServerLive").live
    assert call(control, OIP, "ServerReady").ready
    assert rest(control, "GET", "/v2/health/live") == (200, {})
    assert rest(control, "GET", "/v2/health/ready") == (200, {})
    control.repository.drain()
    assert not call(control, OIP, "ServerReady").ready
    assert rest(control, "GET", "/v2/health/ready") == (503, {"error": "the server is not ready"})
    assert rest(control, "GET", "/v2/health/live") == (200, {})


def test_ready_models(control: Control) -> None:
    for text, ready in (("", True), ("1", True), ("stable", True), ("3", False), ("x", False)):
        assert call(control, OIP, "ModelReady", name="m", version=text).ready == ready
    assert not call(control, OIP, "ModelReady", name="other").ready
    assert rest(control, "GET", "/v2/models/m/ready") == (200, {})
    assert rest(control, "GET", "/v2/models/m/versions/1/ready") == (200, {})
    assert rest(control, "GET", "/v2/models/m/versions/9/ready")[0] == 503


def test_server_metadata(control: Control) -> None:
    answer = call(control, OIP, "ServerMetadata")
    assert (answer.name, answer.version) == ("linnet", "1.2.3")
    assert "statistics" in answer.extensions
    assert not {"cuda_shared_memory", "system_shared_memory", "trace", "logging"} & set(answer.extensions)
    assert rest(control, "GET", "/v2/")[1] == {
        "name": "linnet",
        "version": "1.2.3",
        "extensions": list(answer.extensions),
    }


def test_model_metadata(control: Control) -> None:
    answer = call(control, OIP, "ModelMetadata", name="m")
    assert (answer.name, list(answer.versions), answer.platform) == ("m", ["1", "2"], "linnet_onnx")
    (x,) = answer.inputs
    assert (x.name, x.datatype, list(x.shape)) == ("x", "FP32", [-1, 2])
    assert rest(control, "GET", "/v2/models/m/versions/1")[1] == {
        "name": "m",
        "versions": ["1", "2"],
        "platform": "linnet_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }
    assert failure(control, OIP, "ModelMetadata", name="m", version="7")[0] == Code.NOT_FOUND
    assert failure(control, OIP, "ModelMetadata", name="other") == (Code.NOT_FOUND, "unknown model 'other'")
    assert rest(control, "GET", "/v2/models/other") == (404, {"error": "unknown model 'other'"})
    control.repository.unload("m")
    assert failure(control, OIP, "ModelMetadata", name="m")[0] == Code.UNAVAILABLE
    assert rest(control, "GET", "/v2/models/m")[0] == 503


def test_model_config(control: Control) -> None:
    config = call(control, OIP, "ModelConfig", name="m").config
    assert (config.name, config.max_batch_size) == ("m", 16)
    assert (config.input[0].name, list(config.input[0].dims)) == ("x", [2])
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert config.version_policy.latest.num_versions == 2
    assert config.parameters["k"].string_value == "v"
    status, body = rest(control, "GET", "/v2/models/m/config")
    assert status == 200
    assert body["input"][0]["data_type"] == "TYPE_FP32"
    assert body["max_batch_size"] == 16


def test_config_of_a_model_without_rows(tmp_path: Path) -> None:
    repository = open_repository(adds(1, tmp_path / "m.onnx", batch=3))
    config = call(Control(repository, "", ""), OIP, "ModelConfig", name="m").config
    assert (config.max_batch_size, list(config.input[0].dims)) == (0, [3, 2])
    assert config.WhichOneof("scheduling_choice") is None
    repository.stop()


def infer(control: Control, rows: int) -> None:
    request = _messages.message_class("inference.ModelInferRequest")(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[rows, 2])
    request.raw_input_contents.append(np.zeros((rows, 2), np.float32).tobytes())
    engine = control.repository.engine
    assert isinstance(engine, RecordingEngine)
    engine.real.infer_oip(request.SerializeToString())


def test_statistics(control: Control) -> None:
    for rows in (1, 3, 3):
        infer(control, rows)
    (one,) = call(control, OIP, "ModelStatistics", name="m", version="2").model_stats
    assert (one.name, one.version, one.inference_count, one.execution_count) == ("m", "2", 7, 3)
    assert one.inference_stats.success.count == 3
    assert one.inference_stats.compute_infer.ns > 0
    assert {b.batch_size: b.compute_infer.count for b in one.batch_stats} == {1: 1, 3: 2}
    assert one.last_inference > 1_600_000_000_000
    assert len(call(control, OIP, "ModelStatistics").model_stats) == 2
    assert failure(control, OIP, "ModelStatistics", name="other")[0] == Code.NOT_FOUND
    status, body = rest(control, "GET", "/v2/models/m/versions/2/stats")
    assert status == 200
    assert body["model_stats"][0]["inference_count"] == 7
    assert len(rest(control, "GET", "/v2/models/stats")[1]["model_stats"]) == 2


def test_repository(control: Control, folder: Path) -> None:
    version(folder / "m", 3).write_bytes(b"bad")
    code, text = failure(control, OIP, "RepositoryModelLoad", model_name="m")
    assert code == Code.INVALID_ARGUMENT
    assert text.startswith("load failed for model 'm': version 3: ")
    rows = [(r.name, r.version, r.state) for r in call(control, OIP, "RepositoryIndex").models]
    assert rows == [("m", "1", "READY"), ("m", "2", "READY"), ("m", "3", "UNAVAILABLE")]
    assert len(call(control, OIP, "RepositoryIndex", ready=True).models) == 2
    status, body = rest(control, "POST", "/v2/repository/index", {"ready": False})
    assert status == 200
    assert body[0] == {"name": "m", "version": "1", "state": "READY"}
    assert "reading" in body[2]["reason"] or str(folder) in body[2]["reason"]

    version(folder / "m", 3)
    call(control, OIP, "RepositoryModelLoad", model_name="m")
    assert call(control, OIP, "ModelMetadata", name="m").versions == ["2", "3"]
    assert rest(control, "POST", "/v2/repository/models/m/rollback") == (200, {"versions": ["1", "2"]})
    assert rest(control, "POST", "/v2/repository/models/m/unload", {"parameters": {"unload_dependents": True}}) == (
        200,
        {},
    )
    assert not call(control, OIP, "ModelReady", name="m").ready
    assert rest(control, "POST", "/v2/repository/models/m/load") == (200, {})
    assert call(control, OIP, "ModelReady", name="m").ready
    assert failure(control, OIP, "RepositoryModelLoad", model_name="../m")[0] == Code.NOT_FOUND
    assert failure(control, OIP, "RepositoryModelUnload", model_name="other")[0] == Code.NOT_FOUND
    assert failure(control, OIP, "RepositoryIndex", repository_name="r")[0] == Code.UNIMPLEMENTED


def test_settings_in_a_load_request(control: Control) -> None:
    def load(**parameters: Any) -> tuple[int, Any]:
        return rest(control, "POST", "/v2/repository/models/m/load", {"parameters": parameters})

    assert load(config='{"max_batch_size": 4, "dynamic_batching": {}, "version_policy": {"all": {}}}') == (200, {})
    config = call(control, OIP, "ModelConfig", name="m").config
    assert (config.max_batch_size, config.version_policy.WhichOneof("policy_choice")) == (4, "all")
    assert load(config='{"max_batch_sise": 4}')[0] == 400
    assert load(config='{"platform": "pytorch"}')[0] == 400
    status, body = load(config='{"default_model_filename": "/etc/passwd"}')
    assert (status, body["error"]) == (
        400,
        "parameter 'config': default_model_filename names a file: a request may not",
    )
    assert load(**{"file:1/model.onnx": "AAAA"})[0] == 400
    assert load() == (200, {})
    assert call(control, OIP, "ModelConfig", name="m").config.max_batch_size == 16, "and back to the folder's own"


@pytest.mark.parametrize("mode", ["none", "poll"])
def test_other_control_modes(folder: Path, mode: str) -> None:
    repository = open_repository(folder, control=mode)
    control = Control(repository, "", "")
    for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
        code, text = failure(control, OIP, method, model_name="m")
        assert code == Code.UNAVAILABLE
        assert f"control '{mode}', not 'explicit'" in text
    version(folder / "m", 3)
    call(control, OIP, "RepositoryModelLoad", admin=True, model_name="m")
    parameter = _messages.message_class("inference.ModelRepositoryParameter")(bool_param=True)
    call(control, OIP, "RepositoryModelLoad", admin=True, model_name="m", parameters={"rollback": parameter})
    assert call(control, OIP, "ModelMetadata", name="m").versions == ["2"]
    call(control, OIP, "RepositoryModelUnload", admin=True, model_name="m")
    assert rest(control, "POST", "/v2/repository/models/m/load")[0] == 503
    assert rest(control, "POST", "/v2/repository/models/m/load", admin=True)[0] == 200
    repository.stop()


def test_what_is_not_offered(control: Control) -> None:
    for method in ("SystemSharedMemoryRegister", "CudaSharedMemoryStatus", "TraceSetting", "LogSettings"):
        assert failure(control, OIP, method)[0] == Code.UNIMPLEMENTED
    for method in ("Classify", "Regress", "MultiInference"):
        assert failure(control, PREDICTION, method)[0] == Code.UNIMPLEMENTED
    with pytest.raises(_errors.ServeError) as caught:
        control.unary()["/tensorflow.serving.SessionService/SessionRun"](b"")
    assert caught.value.code == Code.UNIMPLEMENTED
    for path in ("/v2/systemsharedmemory/status", "/v2/trace/setting", "/v2/logging", "/v2/models/m/trace/setting"):
        assert rest(control, "GET", path)[0] == 501


def test_rest_paths(control: Control) -> None:
    assert control.rest("GET", "/metrics", b"") is None
    assert control.rest("POST", "/v2/models/m/infer", b"") is None
    assert control.rest("GET", "/v1/models/m:predict", b"") is None
    assert rest(control, "PUT", "/v2/models/m") == (405, {"error": "PUT is not offered here: GET is"})
    assert rest(control, "GET", "/v2/repository/index")[0] == 405
    assert rest(control, "POST", "/v2/repository/index", b"{")[0] == 400
    assert rest(control, "POST", "/v2/repository/index", b"[" * 100_000)[0] == 400
    assert rest(control, "POST", "/v2/repository/index", b"[]")[0] == 400
    assert rest(control, "GET", "/v2/models/m?x=1")[0] == 200
    assert rest(control, "GET", "/v2/models/%2e%2e")[0] == 404


def test_tensorflow_metadata(control: Control) -> None:
    answer = call(control, PREDICTION, "GetModelMetadata", model_spec=spec("m"), metadata_field=["signature_def"])
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("m", 2)
    packed = answer.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signatures = _messages.parse("tensorflow.serving.SignatureDefMap", packed.value)
    signature = signatures.signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    assert [d.size for d in signature.inputs["x"].tensor_shape.dim] == [-1, 2]
    assert signature.outputs["y"].dtype == 1

    def error(model_spec: Any, *fields: str) -> int:
        return failure(control, PREDICTION, "GetModelMetadata", model_spec=model_spec, metadata_field=fields)[0]

    assert error(spec("m")) == Code.INVALID_ARGUMENT
    assert error(spec("m"), "other") == Code.INVALID_ARGUMENT
    assert error(None, "signature_def") == Code.INVALID_ARGUMENT
    assert error(spec("other"), "signature_def") == Code.NOT_FOUND
    assert error(spec("m", 9), "signature_def") == Code.NOT_FOUND
    assert error(spec("m", label="none"), "signature_def") == Code.INVALID_ARGUMENT
    answer = call(
        control, PREDICTION, "GetModelMetadata", model_spec=spec("m", label="stable"), metadata_field=["signature_def"]
    )
    assert answer.model_spec.version.value == 1

    status, body = rest(control, "GET", "/v1/models/m/versions/1/metadata")
    assert status == 200
    assert body["model_spec"] == {"name": "m", "signature_name": "", "version": "1"}
    port = body["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["x"]
    assert port["dtype"] == "DT_FLOAT"
    assert port["tensor_shape"]["dim"][0]["size"] == "-1"


def test_tensorflow_status(control: Control, folder: Path) -> None:
    def status(**of: Any) -> list[tuple[int, int, int]]:
        answer = call(control, MODEL, "GetModelStatus", model_spec=spec("m", **of))
        return [(s.version, s.state, s.status.error_code) for s in answer.model_version_status]

    assert status() == [(2, 30, 0), (1, 30, 0)]
    assert status(version=1) == status(label="stable") == [(1, 30, 0)]
    version(folder / "m", 3).write_bytes(b"bad")
    failure(control, OIP, "RepositoryModelLoad", model_name="m")
    assert status(version=3) == [(3, 50, Code.INVALID_ARGUMENT)]
    assert failure(control, MODEL, "GetModelStatus", model_spec=spec("m", 9))[0] == Code.NOT_FOUND
    assert failure(control, MODEL, "GetModelStatus", model_spec=spec("other"))[0] == Code.NOT_FOUND
    assert failure(control, MODEL, "GetModelStatus", model_spec=spec("m", label="x"))[0] == Code.INVALID_ARGUMENT
    assert failure(control, MODEL, "GetModelStatus")[0] == Code.INVALID_ARGUMENT
    code, body = rest(control, "GET", "/v1/models/m/labels/stable")
    assert (code, body) == (
        200,
        {
            "model_version_status": [
                {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            ]
        },
    )
    assert rest(control, "GET", "/v1/models/other")[0] == 404
    assert rest(control, "GET", "/v1/models/m/versions/x")[0] == 400


def reload_request(models: str) -> Any:
    text = f"config {{ model_config_list {{ {models} }} }}"
    return _messages.parse_text("tensorflow.serving.ReloadConfigRequest", text)


def test_reload(control: Control, folder: Path) -> None:
    def reload(models: str, admin: bool = True) -> Any:
        path = f"/{MODEL}/HandleReloadConfigRequest"
        return control.unary(admin)[path](reload_request(models).SerializeToString())

    def error(models: str, admin: bool = True) -> tuple[int, str]:
        with pytest.raises(_errors.ServeError) as caught:
            reload(models, admin)
        return caught.value.code, str(caught.value)

    version(folder / "n", 4)
    both = f'config {{ name: "m" base_path: "{folder}/m" }} config {{ name: "n" base_path: "{folder}/n" }}'
    assert error(both, admin=False)[0] == Code.PERMISSION_DENIED
    assert list(control.repository.views) == ["m"]
    reload(both)
    assert {name: list(v.active) for name, v in control.repository.views.items()} == {"m": [2], "n": [4]}
    assert control.repository.view("m").config.parameters == {"k": "v"}, "what it does not set stays as it was"
    label = 'version_labels { key: "canary" value: 9 }'
    code, text = error(f'config {{ name: "n" base_path: "{folder}/n" {label} }}')
    assert code == Code.FAILED_PRECONDITION
    assert "label 'canary'" in text
    assert list(control.repository.views) == ["n"], "what is omitted is unloaded"

    outside = folder.parent.parent / "outside"
    assert error(f'config {{ name: "o" base_path: "{outside}" }}')[0] == Code.PERMISSION_DENIED
    assert error(f'config {{ name: "o" base_path: "{folder}/../.." }}')[0] == Code.PERMISSION_DENIED
    assert error('config { name: "o" base_path: "relative" }')[0] == Code.INVALID_ARGUMENT
    with pytest.raises(_errors.ServeError) as caught:
        control.unary(True)[f"/{MODEL}/HandleReloadConfigRequest"](b"")
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert list(control.repository.views) == ["n"]


class Caller:
    """As much of a gRPC call as a stream sees."""

    active = True

    def is_active(self) -> bool:
        return self.active


def check(control: Control, service: str) -> int:
    request = _messages.message_class("grpc.health.v1.HealthCheckRequest")(service=service)
    answer = control.unary()["/grpc.health.v1.Health/Check"](request.SerializeToString())
    return int(_messages.parse("grpc.health.v1.HealthCheckResponse", answer).status)


def test_health(control: Control) -> None:
    for name in ("", OIP, PREDICTION, MODEL, "grpc.health.v1.Health", "m"):
        assert check(control, name) == 1
    with pytest.raises(_errors.ServeError) as caught:
        check(control, "other")
    assert caught.value.code == Code.NOT_FOUND
    control.repository.unload("m")
    assert check(control, "m") == 2
    assert check(control, "") == 1, "a model that is not wanted does not count"
    control.repository.load("m")
    control.repository.drain()
    assert [check(control, name) for name in ("", OIP, "m")] == [2, 2, 2]
    listed = control.unary()["/grpc.health.v1.Health/List"](b"")
    statuses = _messages.parse("grpc.health.v1.HealthListResponse", listed).statuses
    assert {statuses[name].status for name in ("", OIP, "m")} == {2}


def test_health_watch(control: Control, folder: Path) -> None:
    def watch(service: str, caller: Caller) -> Iterator[int]:
        request = _messages.message_class("grpc.health.v1.HealthCheckRequest")(service=service)
        for answer in control.streams()["/grpc.health.v1.Health/Watch"](iter([request.SerializeToString()]), caller):
            yield int(_messages.parse("grpc.health.v1.HealthCheckResponse", answer).status)

    caller = Caller()
    server, model, absent = watch("", caller), watch("m", caller), watch("n", caller)
    assert [next(server), next(model), next(absent)] == [1, 1, 3]
    control.repository.unload("m")
    assert next(model) == 2
    control.repository.load("m")
    assert next(model) == 1
    version(folder / "n", 1)
    control.repository.reload(
        [replace(control.repository.view("m").config), ModelConfig("n", folder / "n", "tensorflow")]
    )
    assert next(absent) == 1
    control.repository.drain()
    assert next(server) == 2
    caller.active = False
    assert list(server) == []
    caller.active = True
    control.close()
    assert list(model) == [2], "the last change, and no more"


def test_too_many_watches(tmp_path: Path) -> None:
    repository = open_repository(adds(1, tmp_path / "m.onnx"))
    control = Control(repository, "", "", watchers=1)
    watch = control.streams()["/grpc.health.v1.Health/Watch"]
    first = iter(watch(iter([b""]), Caller()))
    next(first)
    with pytest.raises(_errors.ServeError) as caught:
        next(iter(watch(iter([b""]), Caller())))
    assert caught.value.code == Code.RESOURCE_EXHAUSTED
    first.close()  # type: ignore[attr-defined]
    assert next(iter(watch(iter([b""]), Caller())))
    repository.stop()


@pytest.mark.parametrize("v", ["v1", "v1alpha"])
def test_reflection(control: Control, v: str) -> None:
    from google.protobuf import descriptor_pb2, descriptor_pool

    def ask(**fields: Any) -> Any:
        request = _messages.message_class(f"grpc.reflection.{v}.ServerReflectionRequest")(**fields)
        stream = control.streams()[f"/grpc.reflection.{v}.ServerReflection/ServerReflectionInfo"]
        (answer,) = stream(iter([request.SerializeToString()]), Caller())
        return _messages.parse(f"grpc.reflection.{v}.ServerReflectionResponse", answer)

    answer = ask(list_services="", host="h")
    assert answer.valid_host == "h"
    names = [s.name for s in answer.list_services_response.service]
    assert names == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        OIP,
        MODEL,
        PREDICTION,
    ]
    for symbol in [*names, f"{OIP}.ModelInfer", "tensorflow.serving.PredictRequest", "inference.ModelConfig"]:
        answer = ask(file_containing_symbol=symbol)
        pool = descriptor_pool.DescriptorPool()
        files = {}
        for data in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
            files[file.name] = file
        added: set[str] = set()

        def add(name: str, files: Any = files, pool: Any = pool, added: set[str] = added) -> None:
            for dependency in files[name].dependency:
                if dependency not in added:
                    add(dependency)
            pool.Add(files[name])
            added.add(name)

        for name in files:
            if name not in added:
                add(name)
        pool.FindFileContainingSymbol(symbol.removesuffix(".ModelInfer"))
    assert ask(file_by_filename="health.proto").file_descriptor_response.file_descriptor_proto
    for unknown in (
        {"file_containing_symbol": "no.Such"},
        {"file_containing_symbol": f"{OIP}.NoSuch"},
        {"file_by_filename": "../etc/passwd"},
        {"all_extension_numbers_of_type": "no.Such"},
    ):
        assert ask(**unknown).error_response.error_code == Code.NOT_FOUND
    assert ask().error_response.error_code == Code.INVALID_ARGUMENT
