"""The same mistake has the same code on every wire: Triton's and TF Serving's tables."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

import serving_models as models
from codec_messages import message
from linnet.serve import Server
from server_process import INFER

PREDICT = "/tensorflow.serving.PredictionService/Predict"
HTTP = {"NOT_FOUND": 404, "INVALID_ARGUMENT": 400, "UNAVAILABLE": 503, "UNIMPLEMENTED": 501, "DEADLINE_EXCEEDED": 504}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("repository")
    models.sum_and_difference(folder / "arithmetic" / "1" / "model.onnx")
    models.lookup(folder / "lookup" / "1" / "model.onnx")
    models.mlp(folder / "limited" / "1" / "model.onnx")
    (folder / "limited" / "config.pbtxt").write_text("max_batch_size: 4\n")
    models.mlp(folder / "absent" / "1" / "model.onnx")
    load = ("arithmetic", "lookup", "limited")
    with Server(folder, grpc_port=0, http_port=0, control="explicit", load=load, settle_seconds=0.0) as made:
        yield made


def request(model: str = "arithmetic", rows: int = 2, **change: Any) -> Any:
    """A ModelInferRequest of ``arithmetic``."""
    made = message("inference.ModelInferRequest")
    made.model_name = model
    for name in ("a", "b"):
        made.inputs.add(name=name, datatype="FP32", shape=[rows, 4])
        made.raw_input_contents.append(np.zeros((rows, 4), np.float32).tobytes())
    for key, value in change.items():
        setattr(made, key, value)
    return made


def changed(change: Callable[[Any], object], **more: Any) -> Any:
    made = request(**more)
    change(made)
    return made


def lookup(index: int) -> Any:
    made = message("inference.ModelInferRequest")
    made.model_name = "lookup"
    made.inputs.add(name="indices", datatype="INT64", shape=[1])
    made.raw_input_contents.append(np.array([index], np.int64).tobytes())
    return made


def limited(rows: int) -> Any:
    made = message("inference.ModelInferRequest")
    made.model_name = "limited"
    made.inputs.add(name="x", datatype="FP32", shape=[rows, 40])
    made.raw_input_contents.append(np.zeros((rows, 40), np.float32).tobytes())
    return made


def resized(made: Any) -> None:
    made.inputs[0].shape[:] = [1 << 31, 1 << 31]


def mixed(made: Any) -> None:
    made.inputs[0].contents.fp32_contents.extend([0.0] * 8)


CASES = {
    "good": (request, "OK"),
    "unknown model": (lambda: request("none"), "NOT_FOUND"),
    "no model's name": (lambda: request(""), "NOT_FOUND"),
    "model that is not loaded": (lambda: request("absent"), "UNAVAILABLE"),
    "unknown version": (lambda: request(model_version="7"), "NOT_FOUND"),
    "version that is no number": (lambda: request(model_version="one"), "INVALID_ARGUMENT"),
    "unknown input": (lambda: changed(lambda r: setattr(r.inputs[0], "name", "c")), "INVALID_ARGUMENT"),
    "missing input": (
        lambda: changed(lambda r: (r.inputs.pop(), r.raw_input_contents.pop())),
        "INVALID_ARGUMENT",
    ),
    "unknown output": (lambda: changed(lambda r: r.outputs.add(name="none")), "INVALID_ARGUMENT"),
    "output asked for twice": (
        lambda: changed(lambda r: (r.outputs.add(name="sum"), r.outputs.add(name="sum"))),
        "INVALID_ARGUMENT",
    ),
    "wrong type": (lambda: changed(lambda r: setattr(r.inputs[0], "datatype", "INT32")), "INVALID_ARGUMENT"),
    "no such type": (lambda: changed(lambda r: setattr(r.inputs[0], "datatype", "FP31")), "INVALID_ARGUMENT"),
    "wrong dimensions": (lambda: changed(lambda r: r.inputs[0].shape.reverse()), "INVALID_ARGUMENT"),
    "too few bytes": (
        lambda: changed(lambda r: r.raw_input_contents.__setitem__(0, b"1234")),
        "INVALID_ARGUMENT",
    ),
    "sizes that overflow": (lambda: changed(resized), "INVALID_ARGUMENT"),
    "negative size": (lambda: changed(lambda r: r.inputs[0].shape.__setitem__(0, -2)), "INVALID_ARGUMENT"),
    "raw and typed elements": (lambda: changed(mixed), "INVALID_ARGUMENT"),
    "rows that do not fit each other": (
        lambda: changed(
            lambda r: (r.inputs[0].shape.__setitem__(0, 3), r.raw_input_contents.__setitem__(0, bytes(48)))
        ),
        "INVALID_ARGUMENT",
    ),
    "fails when it runs": (lambda: lookup(99), "INVALID_ARGUMENT"),
    "more rows than the model is to take": (lambda: limited(5), "INVALID_ARGUMENT"),
    "as many as it takes": (lambda: limited(4), "OK"),
    "shared memory": (
        lambda: changed(lambda r: r.inputs[0].parameters["shared_memory_region"].MergeFrom(_text("region"))),
        "UNIMPLEMENTED",
    ),
}


def _text(value: str) -> Any:
    made = message("inference.InferParameter")
    made.string_param = value
    return made


def call(server: Server, path: str, body: bytes) -> str:
    with grpc.insecure_channel(server.grpc_address) as channel:
        try:
            channel.unary_unary(path)(body, timeout=20)
        except grpc.RpcError as error:
            assert error.details()  # never without a reason
            return str(error.code().name)
    return "OK"


@pytest.mark.parametrize("case", CASES)
def test_infer(server: Server, case: str) -> None:
    make, code = CASES[case]
    assert call(server, INFER, make().SerializeToString()) == code


@pytest.mark.parametrize("case", [name for name, (_, code) in CASES.items() if name != "no model's name"])
def test_infer_over_http(server: Server, case: str) -> None:
    """The same request with the binary extension."""
    make, code = CASES[case]
    made = make()
    if case == "raw and typed elements":
        pytest.skip("the binary extension has another form for it")
    inputs = []
    for tensor, raw in zip(made.inputs, made.raw_input_contents, strict=True):
        parameters = {"binary_data_size": len(raw)}
        parameters |= {name: value.string_param for name, value in tensor.parameters.items()}
        inputs.append(
            {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), "parameters": parameters}
        )
    head: dict[str, Any] = {"inputs": inputs}
    if made.outputs:
        head["outputs"] = [{"name": output.name} for output in made.outputs]
    text = json.dumps(head).encode()
    path = f"/v2/models/{made.model_name}"
    path += f"/versions/{made.model_version}" if made.model_version else ""
    asked = urllib.request.Request(
        f"{server.http_address}{path}/infer",
        text + b"".join(made.raw_input_contents),
        {"Inference-Header-Content-Length": str(len(text))},
    )
    try:
        with urllib.request.urlopen(asked, timeout=20) as response:
            status = response.status
    except urllib.error.HTTPError as error:
        with error:
            status = error.code
            assert json.loads(error.read())["error"]
    assert status == HTTP.get(code, 200)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/inference.GRPCInferenceService/SystemSharedMemoryStatus", "UNIMPLEMENTED"),
        ("/inference.GRPCInferenceService/TraceSetting", "UNIMPLEMENTED"),
        ("/inference.GRPCInferenceService/NoSuchMethod", "UNIMPLEMENTED"),
        ("/tensorflow.serving.PredictionService/Classify", "UNIMPLEMENTED"),
        ("/tensorflow.serving.PredictionService/GetModelMetadata", "INVALID_ARGUMENT"),
        ("/tensorflow.serving.ModelService/GetModelStatus", "INVALID_ARGUMENT"),
        ("/tensorflow.serving.ModelService/HandleReloadConfigRequest", "PERMISSION_DENIED"),
        (PREDICT, "NOT_FOUND"),
    ],
)
def test_empty_messages(server: Server, path: str, code: str) -> None:
    assert call(server, path, b"") == code


@pytest.mark.parametrize("path", [INFER, PREDICT, "/inference.GRPCInferenceService/ModelMetadata"])
def test_bytes_that_are_no_message(server: Server, path: str) -> None:
    assert call(server, path, b"\xff" * 40) == "INVALID_ARGUMENT"
