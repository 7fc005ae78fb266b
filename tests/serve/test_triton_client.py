"""Triton's own client, unmodified: what it gets is what a run in this process gives, bit for bit."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import serving_models as models
from client_worker import ClientError, Worker
from linnet.serve import Server, Tls

VIAS = ["grpc", "grpc.aio", "http", "http.aio"]
SHAPES = [(), (1,), (5,), (0,), (3, 0, 2), (2, 3), (1, 2, 3, 4, 5)]


def arrays(datatype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Any bits there are."""
    rng = np.random.default_rng(len(shape))
    count = int(np.prod(shape, dtype=np.int64))
    if datatype == "BYTES":
        made = np.empty(count, object)
        made[:] = [rng.bytes(i % 9) for i in range(count)]
        return made.reshape(shape)
    names = {"BOOL": "bool", "BF16": ml_dtypes.bfloat16, "FP16": "float16", "FP32": "float32", "FP64": "float64"}
    dtype = np.dtype(names.get(datatype, datatype.lower()))
    if datatype == "BOOL":
        return np.asarray(rng.integers(0, 2, shape), bool)
    return np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).reshape(shape)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape:
        return False
    return a.tolist() == b.tolist() if a.dtype == object else a.dtype == b.dtype and a.tobytes() == b.tobytes()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for datatype in models.DATATYPES:
        models.identity(folder / f"identity_{datatype.lower()}" / "1" / "model.onnx", datatype)
    models.sum_and_difference(folder / "arithmetic" / "1" / "model.onnx")
    models.mlp(folder / "mlp" / "1" / "model.onnx")
    models.lookup(folder / "lookup" / "1" / "model.onnx")
    models.heavy(folder / "heavy" / "1" / "model.onnx")
    (folder / "heavy" / "config.pbtxt").write_text("max_batch_size: 1\n")
    for version, value in ((1, 1.0), (2, 2.0)):
        models.constant(folder / "constant" / str(version) / "model.onnx", value)
    (folder / "constant" / "config.pbtxt").write_text("version_policy { all {} }\n")
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    made = Server(repository, grpc_port=0, http_port=0, settle_seconds=0.0, control="explicit", load=("*",))
    with made:
        yield made


def address(server: Server, via: str) -> str:
    return server.grpc_address if via.startswith("grpc") else server.http_address.split("//")[1]


@pytest.mark.parametrize("via", VIAS)
@pytest.mark.parametrize("datatype", models.DATATYPES)
def test_every_type_and_shape_comes_back(server: Server, triton: Worker, via: str, datatype: str) -> None:
    for shape in SHAPES:
        x = arrays(datatype, shape)
        model = f"identity_{datatype.lower()}"
        for named in (None, ["y"]):
            answer = triton.call("triton", "infer", via, address(server, via), model, {"x": (datatype, x)}, named)
            assert same_bits(answer["y"], x), (shape, named)


@pytest.mark.parametrize("datatype", ["FP32", "INT64", "UINT8", "BOOL", "BYTES"])
def test_http_with_elements_as_json(server: Server, triton: Worker, datatype: str) -> None:
    for shape in [(3,), (2, 2), (1,)]:
        x = arrays(datatype, shape)
        if datatype == "FP32":
            x = np.arange(x.size, dtype=np.float32).reshape(shape) / 3
        if datatype == "BYTES":
            x = np.array([b"text", "größer".encode(), b""][: x.size] + [b"more"] * (x.size - 3), object).reshape(shape)
        model = f"identity_{datatype.lower()}"
        answer = triton.call(
            "triton", "infer", "http", address(server, "http"), model, {"x": (datatype, x)}, ["y"], binary=False
        )
        found = answer["y"]
        if datatype == "BYTES":
            found = np.array([s.encode() if isinstance(s, str) else s for s in found.ravel()], object).reshape(shape)
        assert same_bits(found, x)


@pytest.mark.parametrize("via", VIAS)
def test_outputs_are_those_of_a_run_here(
    server: Server, triton: Worker, repository: Path, in_process, via: str
) -> None:
    rng = np.random.default_rng(0)
    for rows in (1, 2, 7, 16, 40):
        a, b = rng.standard_normal((2, rows, 4)).astype(np.float32)
        expected = in_process(repository / "arithmetic" / "1" / "model.onnx", {"a": a, "b": b})
        feeds = {"b": ("FP32", b), "a": ("FP32", a)}
        answer = triton.call("triton", "infer", via, address(server, via), "arithmetic", feeds)
        assert answer.keys() == expected.keys() and all(same_bits(answer[k], expected[k]) for k in expected)
        one = triton.call("triton", "infer", via, address(server, via), "arithmetic", feeds, ["difference"])
        assert list(one) == ["difference"] and same_bits(one["difference"], expected["difference"])
        x = rng.standard_normal((rows, 40)).astype(np.float32)
        answer = triton.call("triton", "infer", via, address(server, via), "mlp", {"x": ("FP32", x)})
        expected = in_process(repository / "mlp" / "1" / "model.onnx", {"x": x})
        assert same_bits(answer["probabilities"], expected["probabilities"])


@pytest.mark.parametrize("via", VIAS)
@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(server: Server, triton: Worker, via: str, algorithm: str) -> None:
    x = np.zeros((300, 100), np.float32)
    x[::7] = 1.5
    more = {"compression_algorithm": algorithm}
    if via.startswith("http"):
        more = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
    answer = triton.call("triton", "infer", via, address(server, via), "identity_fp32", {"x": ("FP32", x)}, **more)
    assert same_bits(answer["y"], x)


@pytest.mark.parametrize("via", VIAS)
def test_classes(server: Server, triton: Worker, repository: Path, in_process, via: str) -> None:
    x = np.random.default_rng(3).standard_normal((2, 40)).astype(np.float32)
    probabilities = in_process(repository / "mlp" / "1" / "model.onnx", {"x": x})["probabilities"]
    answer = triton.call(
        "triton", "infer", via, address(server, via), "mlp", {"x": ("FP32", x)}, ["probabilities"], classes=3
    )["probabilities"]
    assert answer.shape == (2, 3)
    for row, texts in zip(probabilities, answer, strict=True):
        for text, index in zip(texts, np.argsort(-row, kind="stable")[:3], strict=True):
            value, label = text.decode().split(":")[:2]
            assert int(label) == index and float(value) == pytest.approx(float(row[index]), rel=1e-5)


@pytest.mark.parametrize("via", VIAS)
def test_many_at_once(server: Server, triton: Worker, repository: Path, in_process, via: str) -> None:
    """Rows are answered as they are in batches of some size: each equals, bit for bit, its row of a run here."""
    rng = np.random.default_rng(1)
    xs = [rng.standard_normal((1, 40)).astype(np.float32) for _ in range(64)]
    found = triton.call(
        "triton", "infer_again_and_again", via, address(server, via), "mlp", [{"x": ("FP32", x)} for x in xs],
        "probabilities",
    )  # fmt: skip
    path = repository / "mlp" / "1" / "model.onnx"
    for x, y in zip(xs, found, strict=True):
        candidates = [
            in_process(path, {"x": np.repeat(x, rows, axis=0)})["probabilities"][:1] for rows in (1, 2, 3, 4, 8, 16)
        ]
        assert any(same_bits(y, one) for one in candidates)


def test_stream(server: Server, triton: Worker) -> None:
    feeds = [{"indices": ("INT64", np.array([i, 7 - i]))} for i in range(8)]
    found = triton.call("triton", "stream", server.grpc_address, "lookup", feeds, "y")
    assert [i for i, _ in found] == [str(i) for i in range(8)]
    for i, (_, y) in enumerate(found):
        assert same_bits(y, np.array([10.0 * i, 10.0 * (7 - i)], np.float32))
    assert len(triton.call("triton", "stream_aio", server.grpc_address, "lookup", feeds, "y")) == 8
    assert len(triton.call("triton", "stream", server.grpc_address, "lookup", feeds, "y", compression="gzip")) == 8


def test_an_error_is_one_of_the_streams_messages(server: Server, triton: Worker) -> None:
    feeds = [{"indices": ("INT64", np.array([i]))} for i in (1, 99, 2)]
    for call in ("stream", "stream_aio"):
        found = triton.call("triton", call, server.grpc_address, "lookup", feeds, "y")
        assert [isinstance(y, str) for _, y in found] == [False, True, False], found
        assert same_bits(found[2][1], np.array([20], np.float32))


def test_an_error_ends_the_stream_where_the_client_asks_for_that(server: Server, triton: Worker) -> None:
    feeds = [{"indices": ("INT64", np.array([i]))} for i in (1, 99, 2)]
    headers = {"triton_grpc_error": "true"}
    found = triton.call("triton", "stream", server.grpc_address, "lookup", feeds, "y", headers=headers, count=2)
    assert same_bits(found[0][1], np.array([10], np.float32))
    assert found[1][0] == "StatusCode.INVALID_ARGUMENT" and "99" in found[1][1]


@pytest.mark.parametrize("via", VIAS)
def test_versions(server: Server, triton: Worker, via: str) -> None:
    x = {"x": ("FP32", np.zeros((1, 1), np.float32))}
    for version, value in (("", 2.0), ("1", 1.0), ("2", 2.0)):
        answer = triton.call(
            "triton", "infer", via, address(server, via), "constant", x, model_version=version, request_id="r1"
        )
        assert answer["y"].tolist() == [[value]]


@pytest.mark.parametrize("via", VIAS)
def test_timeout_and_priority(server: Server, triton: Worker, via: str) -> None:
    x = {"x": ("FP32", np.zeros((1, 192), np.float32))}
    where = address(server, via)
    triton.call("triton", "infer", via, where, "heavy", x)
    answer = triton.call("triton", "infer", via, where, "heavy", x, priority=1, timeout=60_000_000)
    assert answer["y"].shape == (1, 192)
    with pytest.raises(ClientError) as caught:  # a microsecond is over before it can run
        triton.call("triton", "infer", via, where, "heavy", x, timeout=1)
    assert caught.value.code == ("StatusCode.DEADLINE_EXCEEDED" if via.startswith("grpc") else "504")
    if via.startswith("grpc"):
        with pytest.raises(ClientError) as caught:
            triton.call("triton", "infer", via, where, "heavy", x, client_timeout=1e-4)
        assert caught.value.code == "StatusCode.DEADLINE_EXCEEDED"


@pytest.mark.parametrize("via", VIAS)
def test_health_and_metadata(server: Server, triton: Worker, via: str) -> None:
    def ask(method: str, *args, **kwargs):
        return triton.call("triton", "ask", via, address(server, via), method, *args, **kwargs)

    assert ask("is_server_live") and ask("is_server_ready")
    assert ask("is_model_ready", "mlp") and ask("is_model_ready", "mlp", "1")
    assert not ask("is_model_ready", "mlp", "9") and not ask("is_model_ready", "none")
    metadata = ask("get_server_metadata")
    assert metadata["name"] == "linnet" and "statistics" in metadata["extensions"]
    metadata = ask("get_model_metadata", "mlp")
    assert metadata["name"] == "mlp" and metadata["versions"] == ["1"]
    (x,), (y,) = metadata["inputs"], metadata["outputs"]
    assert x["name"] == "x" and x["datatype"] == "FP32" and [int(d) for d in x["shape"]] == [-1, 40]
    assert y["name"] == "probabilities" and [int(d) for d in y["shape"]] == [-1, 10]
    config = ask("get_model_config", "mlp")
    config = config.get("config", config)
    assert config["name"] == "mlp" and config["input"][0]["data_type"] == "TYPE_FP32"
    assert config["max_batch_size"] == 16 and [int(d) for d in config["input"][0]["dims"]] == [40]


@pytest.mark.parametrize("via", VIAS)
def test_statistics_count_what_was_asked(server: Server, triton: Worker, via: str) -> None:
    def counts() -> tuple[int, int]:
        found = triton.call("triton", "ask", via, where, "get_inference_statistics", "arithmetic")["model_stats"][0]
        return int(found.get("inference_count", 0)), int(found["inference_stats"]["success"].get("count", 0))

    where = address(server, via)
    before = counts()
    rows = np.zeros((3, 4), np.float32)
    for _ in range(5):
        triton.call("triton", "infer", via, where, "arithmetic", {"a": ("FP32", rows), "b": ("FP32", rows)})
    after = counts()
    assert (after[0] - before[0], after[1] - before[1]) == (15, 5)


@pytest.mark.parametrize("via", VIAS)
def test_repository(server: Server, triton: Worker, via: str) -> None:
    where = address(server, via)

    def ask(method: str, *args, **kwargs):
        return triton.call("triton", "ask", via, where, method, *args, **kwargs)

    def index() -> dict[tuple[str, str], str]:
        found = ask("get_model_repository_index")
        rows = found["models"] if isinstance(found, dict) else found
        return {(row["name"], row.get("version", "")): row.get("state", "") for row in rows}

    assert index()["lookup", "1"] == "READY"
    assert index()["constant", "1"] == index()["constant", "2"] == "READY"
    feed = {"indices": ("INT64", np.array([3]))}
    ask("unload_model", "lookup")
    deadline = time.monotonic() + 10  # the answer comes when it takes no more requests; those under way end after it
    while index()["lookup", "1"] != "UNAVAILABLE" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert index()["lookup", "1"] == "UNAVAILABLE"
    assert not ask("is_model_ready", "lookup")
    with pytest.raises(ClientError) as caught:
        triton.call("triton", "infer", via, where, "lookup", feed)
    assert caught.value.code == ("StatusCode.UNAVAILABLE" if via.startswith("grpc") else "503")
    ask("load_model", "lookup")
    assert index()["lookup", "1"] == "READY"
    assert triton.call("triton", "infer", via, where, "lookup", feed)["y"].tolist() == [30.0]
    ask("load_model", "lookup", config='{"max_batch_size": 4, "dynamic_batching": {}}')
    config = ask("get_model_config", "lookup")
    assert config.get("config", config)["max_batch_size"] == 4
    ask("load_model", "lookup")
    with pytest.raises(ClientError) as caught:
        ask("load_model", "none")
    assert caught.value.code == ("StatusCode.NOT_FOUND" if via.startswith("grpc") else "404")


def test_reflection_describes_the_services(server: Server, triton: Worker) -> None:
    found = triton.call("triton", "reflect", server.grpc_address)
    assert found["inference.GRPCInferenceService"]["ModelInfer"] == (
        "inference.ModelInferRequest",
        "inference.ModelInferResponse",
    )
    assert {"Predict", "GetModelMetadata"} <= found["tensorflow.serving.PredictionService"].keys()
    assert {"grpc.health.v1.Health", "tensorflow.serving.ModelService"} <= found.keys()
    assert found["fields"]["model_name"] == 1 and found["fields"]["raw_input_contents"] == 7


def test_health_by_its_own_stubs(serve, triton: Worker, repository: Path) -> None:
    server = serve(repository / "mlp" / "1" / "model.onnx")
    for service in ("", "inference.GRPCInferenceService", "tensorflow.serving.PredictionService"):
        assert triton.call("triton", "check_health", server.grpc_address, service) == "SERVING"
    with pytest.raises(ClientError) as caught:
        triton.call("triton", "check_health", server.grpc_address, "none")
    assert caught.value.code == "StatusCode.NOT_FOUND"
    assert triton.call("triton", "watch_health", server.grpc_address, "none") == "SERVICE_UNKNOWN"
    assert triton.call("triton", "watch_health", server.grpc_address) == "SERVING"
    server.repository.drain()
    assert triton.call("triton", "next_health", server.grpc_address) == "NOT_SERVING"
    assert triton.call("triton", "check_health", server.grpc_address) == "NOT_SERVING"
    feed = {"x": ("FP32", np.zeros((1, 40), np.float32))}
    triton.call("triton", "infer", "grpc", server.grpc_address, "model", feed)  # it still answers


def certificate(folder: Path, name: str, signer: str | None = None) -> None:
    """name.pem and name.key, for localhost; signed by ``signer``, or by itself."""
    import subprocess

    def run(*command: str) -> None:
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)

    subject = ("-subj", f"/CN={name}", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key")
    if signer is None:
        run("req", "-x509", *subject, "-out", f"{name}.pem", "-days", "2", "-addext", "basicConstraints=CA:TRUE")
        return
    (folder / f"{name}.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    run("req", *subject, "-out", f"{name}.csr")
    run(
        "x509", "-req", "-in", f"{name}.csr", "-CA", f"{signer}.pem", "-CAkey", f"{signer}.key", "-CAcreateserial",
        "-out", f"{name}.pem", "-days", "2", "-extfile", f"{name}.ext",
    )  # fmt: skip


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(serve, triton: Worker, repository: Path, tmp_path: Path, mutual: bool) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    for name, signer in (("ca", None), ("server", "ca"), ("client", "ca"), ("other", None)):
        certificate(tmp_path, name, signer)

    def file(name: str) -> str:
        return str(tmp_path / name)

    tls = Tls(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem" if mutual else None)
    server = serve(repository / "mlp" / "1" / "model.onnx", tls=tls)
    own = (file("client.key"), file("client.pem")) if mutual else ()
    feed = {"x": ("FP32", np.zeros((1, 40), np.float32))}
    for via in VIAS:
        where = address(server, via).replace("127.0.0.1", "localhost")
        found = triton.call("triton", "infer_with_tls", via, where, "model", feed, file("ca.pem"), *own)
        assert found["probabilities"].shape == (1, 10)
        with pytest.raises(ClientError):  # a server that cannot show who it is
            triton.call("triton", "infer_with_tls", via, where, "model", feed, file("other.pem"), *own)
        if mutual:
            with pytest.raises(ClientError):  # a client that does not say who it is
                triton.call("triton", "infer_with_tls", via, where, "model", feed, file("ca.pem"))
