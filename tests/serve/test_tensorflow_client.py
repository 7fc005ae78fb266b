"""TF Serving's own client, unmodified. Its environment takes 1.6 GB: only with LINNET_TEST_TENSORFLOW_SERVING=1."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import linnet
import serving_models as models
from client_worker import ClientError, Worker
from linnet.serve import Server

CLIENT = "tensorflow_serving_client"
DTYPES = {
    "BOOL": "bool",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("models")
    for datatype in models.DATATYPES:
        models.identity(base / f"identity_{datatype.lower()}" / "1" / "model.onnx", datatype)
    models.sum_and_difference(base / "arithmetic" / "1" / "model.onnx")
    models.mlp(base / "mlp" / "3" / "model.onnx")
    for version in (1, 2, 3):
        models.constant(base / "constant" / str(version) / "model.onnx", float(version))
    return base


def config_text(folder: Path, names: list[str], more: str = "") -> str:
    rows = [f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "onnx" {more} }}' for name in names]
    return "model_config_list { " + "\n".join(rows) + " }"


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != "constant")
    more = """model_version_policy { specific { versions: 1 versions: 2 } }
              version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }"""
    text = config_text(folder, names)[:-1] + config_text(folder, ["constant"], more)[len("model_config_list { ") :]
    file = folder / "models.config"
    file.write_text(text)
    with Server(file, grpc_port=0, http_port=0, admin_port=0, settle_seconds=0.0) as made:
        yield made


def array_of(datatype: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(5)
    if datatype == "BOOL":
        return np.asarray(rng.integers(0, 2, shape), bool)
    dtype = np.dtype(DTYPES[datatype])
    if dtype.kind == "f":
        return np.asarray(rng.standard_normal(shape), dtype)
    info = np.iinfo(dtype)
    return np.asarray(rng.integers(info.min, info.max, shape, dtype, endpoint=True), dtype)


@pytest.mark.parametrize("datatype", DTYPES)
def test_make_tensor_proto_of_any_size(server: Server, tensorflow: Worker, datatype: str) -> None:
    """None, one and many elements stand in different fields of the message."""
    for shape in [(), (1,), (1, 1), (0,), (2, 0, 3), (7,), (2, 3, 4)]:
        x = array_of(datatype, shape)
        (name, version, signature), found, fields = tensorflow.call(
            CLIENT, "predict", server.grpc_address, f"identity_{datatype.lower()}", {"x": x}
        )
        assert (name, version, signature) == (f"identity_{datatype.lower()}", 1, "serving_default")
        y = found["y"]
        assert y.dtype == x.dtype and y.shape == x.shape and y.tobytes() == x.tobytes(), shape
        if x.size:
            assert "tensor_content" in fields["y"]
    if datatype == "FP32":
        facts = [tensorflow.call(CLIENT, "tensor_facts", array_of(datatype, shape)) for shape in [(1,), (7,)]]
        assert ["tensor_content" in fields for fields in facts] == [False, True]


def test_bfloat16(server: Server, tensorflow: Worker) -> None:
    for values in ([1.5], [1.5, -2.0, 0.25], []):
        _, found, _ = tensorflow.call(
            CLIENT, "predict", server.grpc_address, "identity_bf16", {"x": values}, dtypes={"x": "bfloat16"}
        )
        assert found["y"].dtype.name == "bfloat16" and found["y"].astype(float).tolist() == values


def test_strings(server: Server, tensorflow: Worker) -> None:
    for values in (b"one", [b"one"], [b"", b"\xff\x00raw", "größer".encode()], [[b"a"], [b"b"]]):
        _, found, fields = tensorflow.call(CLIENT, "predict", server.grpc_address, "identity_bytes", {"x": values})
        assert found["y"].tolist() == values and "string_val" in fields["y"]


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("FP32", "float_val", [1.5, -2.5]),
        ("FP64", "double_val", [1.5]),
        ("INT32", "int_val", [3, -4, 5]),
        ("INT8", "int_val", [-4]),
        ("INT64", "int64_val", [1 << 40]),
        ("UINT32", "uint32_val", [7]),
        ("UINT64", "uint64_val", [1 << 63]),
        ("BOOL", "bool_val", [True, False]),
        ("FP16", "half_val", [0x3C00]),
        ("BYTES", "string_val", [b"x", b"y"]),
    ],
)
def test_a_short_list_of_values_is_padded_with_its_last(
    server: Server, tensorflow: Worker, datatype: str, field: str, values: list
) -> None:
    dtype = "string" if datatype == "BYTES" else DTYPES[datatype]
    found, expected = tensorflow.call(
        CLIENT, "predict_values", server.grpc_address, f"identity_{datatype.lower()}", "x", dtype, field, values, [2, 3]
    )
    assert found.dtype == expected.dtype and found.tolist() == expected.tolist() and found.shape == (2, 3)


def test_make_tensor_proto_that_broadcasts(server: Server, tensorflow: Worker) -> None:
    """One value and a shape."""
    _, found, _ = tensorflow.call(
        CLIENT, "predict", server.grpc_address, "identity_fp32", {"x": 2.5}, shapes={"x": [3, 2]}
    )
    assert found["y"].tolist() == [[2.5, 2.5]] * 3


def test_outputs_are_those_of_a_run_here(server: Server, tensorflow: Worker, folder: Path, in_process) -> None:
    rng = np.random.default_rng(0)
    for rows in (1, 3, 16):
        a, b = rng.standard_normal((2, rows, 4)).astype(np.float32)
        expected = in_process(folder / "arithmetic" / "1" / "model.onnx", {"a": a, "b": b})
        _, found, _ = tensorflow.call(CLIENT, "predict", server.grpc_address, "arithmetic", {"a": a, "b": b})
        assert found.keys() == expected.keys()
        assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)
        _, found, _ = tensorflow.call(CLIENT, "predict", server.grpc_address, "arithmetic", {"a": a, "b": b}, ["sum"])
        assert list(found) == ["sum"]
        x = rng.standard_normal((rows, 40)).astype(np.float32)
        (_, version, _), found, _ = tensorflow.call(CLIENT, "predict", server.grpc_address, "mlp", {"x": x})
        expected = in_process(folder / "mlp" / "3" / "model.onnx", {"x": x})
        assert version == 3 and found["probabilities"].tobytes() == expected["probabilities"].tobytes()


def test_versions_and_labels(server: Server, tensorflow: Worker) -> None:
    x = {"x": np.zeros((1, 1), np.float32)}
    for spec, version in [
        ({}, 2), ({"version": 1}, 1), ({"version": 2}, 2), ({"label": "stable"}, 1), ({"label": "canary"}, 2),
        ({"signature": "serving_default"}, 2),
    ]:  # fmt: skip
        told, found, _ = tensorflow.call(CLIENT, "predict", server.grpc_address, "constant", x, **spec)
        assert told == ("constant", version, "serving_default") and found["y"].tolist() == [[float(version)]]


@pytest.mark.parametrize(
    ("model", "inputs", "outputs", "spec", "code", "text"),
    [
        ("none", ["a", "b"], [], {}, "NOT_FOUND", "none"),
        ("arithmetic", ["a", "b"], [], {"version": 9}, "NOT_FOUND", "9"),
        ("arithmetic", ["a", "b"], [], {"label": "none"}, "INVALID_ARGUMENT", "none"),
        ("arithmetic", ["a", "b"], [], {"signature": "other"}, "FAILED_PRECONDITION", "other"),
        ("arithmetic", ["a"], [], {}, "INVALID_ARGUMENT", "'b'"),
        ("arithmetic", ["a", "b", "c"], [], {}, "INVALID_ARGUMENT", "'c'"),
        ("arithmetic", ["a", "b"], ["none"], {}, "INVALID_ARGUMENT", "none"),
        ("arithmetic", ["a", "b"], ["sum", "sum"], {}, "INVALID_ARGUMENT", "sum"),
    ],
)
def test_errors_of_predict(server: Server, tensorflow: Worker, model, inputs, outputs, spec, code, text) -> None:
    feeds = {name: np.zeros((2, 4), np.float32) for name in inputs}
    with pytest.raises(ClientError) as caught:
        tensorflow.call(CLIENT, "predict", server.grpc_address, model, feeds, outputs, **spec)
    assert caught.value.code == f"StatusCode.{code}" and text in caught.value.message


@pytest.mark.parametrize("method", ["Classify", "Regress", "MultiInference"])
def test_what_onnx_models_have_no_use_for(server: Server, tensorflow: Worker, method: str) -> None:
    with pytest.raises(ClientError) as caught:
        tensorflow.call(CLIENT, "call_of", server.grpc_address, method, "mlp")
    assert caught.value.code == "StatusCode.UNIMPLEMENTED"


def test_metadata(server: Server, tensorflow: Worker) -> None:
    told, found = tensorflow.call(CLIENT, "metadata", server.grpc_address, "mlp")
    assert told == ("mlp", 3)
    method, inputs, outputs = found["serving_default"]
    assert method == "tensorflow/serving/predict"
    assert inputs == {"x": ("float32", [-1, 40])} and outputs == {"probabilities": ("float32", [-1, 10])}
    for fields, spec, code in [((), {}, "INVALID_ARGUMENT"), (("other",), {}, "INVALID_ARGUMENT"),
                               (("signature_def",), {"version": 9}, "NOT_FOUND")]:  # fmt: skip
        with pytest.raises(ClientError) as caught:
            tensorflow.call(CLIENT, "metadata", server.grpc_address, "mlp", fields, **spec)
        assert caught.value.code == f"StatusCode.{code}"


def test_status_and_reload(tmp_path: Path, folder: Path, tensorflow: Worker, serve) -> None:
    for version in (1, 2):
        shutil.copytree(folder / "constant" / str(version), tmp_path / "constant" / str(version))
    shutil.copytree(folder / "mlp", tmp_path / "mlp")
    file = tmp_path / "models.config"
    file.write_text(config_text(tmp_path, ["constant"]))
    server = serve(file, admin_port=0, settle_seconds=0.0)
    x = {"x": np.zeros((1, 1), np.float32)}

    def ask(address: str = server.grpc_address, **spec) -> float:
        return float(tensorflow.call(CLIENT, "predict", address, "constant", x, **spec)[1]["y"][0, 0])

    def states(**spec) -> dict[int, str]:
        return {row[0]: row[1] for row in tensorflow.call(CLIENT, "status", server.grpc_address, "constant", **spec)}

    assert states() == {2: "AVAILABLE"} and states(version=2) == {2: "AVAILABLE"} and ask() == 2.0
    with pytest.raises(ClientError) as caught:
        states(version=7)
    assert caught.value.code == "StatusCode.NOT_FOUND"

    policy = "model_version_policy { all {} }"
    with pytest.raises(ClientError) as caught:  # not on the port that everybody reaches
        tensorflow.call(CLIENT, "reload", server.grpc_address, config_text(tmp_path, ["constant"], policy))
    assert caught.value.code == "StatusCode.PERMISSION_DENIED"
    assert tensorflow.call(
        CLIENT, "reload", server.admin_address, config_text(tmp_path, ["constant", "mlp"], policy)
    ) == (0, "")
    assert states() == {1: "AVAILABLE", 2: "AVAILABLE"} and ask(version=1) == 1.0
    assert tensorflow.call(CLIENT, "status", server.grpc_address, "mlp") == [(3, "AVAILABLE", 0, "")]

    # Status through a reload, asked without end: what is there stays available; requests never fail.
    seen: list[dict[int, str]] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.append(states())
            ask()

    watcher = threading.Thread(target=watch)
    watcher.start()
    policy = "model_version_policy { specific { versions: 1 } }"
    tensorflow_of_reload = Worker("tensorflow")
    try:
        done = tensorflow_of_reload.call(
            CLIENT, "reload", server.admin_address, config_text(tmp_path, ["constant"], policy)
        )
    finally:
        tensorflow_of_reload.close()
        stop.set()
        watcher.join()
    assert done == (0, "") and ask() == 1.0
    assert seen and all("AVAILABLE" in found.values() for found in seen)
    deadline = time.monotonic() + 10
    while states().get(2) not in ("END", None) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert states()[1] == "AVAILABLE" and states().get(2) in ("END", None)
    with pytest.raises(ClientError) as caught:  # omitted: unloaded
        tensorflow.call(CLIENT, "predict", server.grpc_address, "mlp", {"x": np.zeros((1, 40), np.float32)})
    assert caught.value.code == "StatusCode.NOT_FOUND"


def test_importing_all_clients_and_the_server_in_any_order(tensorflow: Worker) -> None:
    names = ["tritonclient.grpc", "tensorflow_serving.apis.predict_pb2", "linnet.serve"]
    path = str(Path(linnet.__file__).parents[1])
    use = "import linnet.serve._messages as m; m.message_class('tensorflow.serving.PredictRequest')"
    running = []
    for order in itertools.permutations(names):
        code = "; ".join([*(f"import {name}" for name in order), use])
        environment = tensorflow.environment | {"PYTHONPATH": path}
        command = [tensorflow.python, "-c", code]
        running.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-500:]
