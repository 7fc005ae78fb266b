"""Drift: references from samples and files, and what the server measures against them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import linnet.serve
from linnet import _core
from linnet._cli import main
from linnet.serve import _drift, _layouts
from linnet.serve._config import ConfigError, Configuration, ModelConfig
from linnet.serve._drift import record_reference, save_reference
from linnet.serve._manifest import publish
from repository_models import adds, open_repository

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape, dtype=np.float32)


def test_bins_hold_about_as_much(tmp_path: Path) -> None:
    path = adds(10, tmp_path / "m.onnx")
    reference = record_reference(path, {"x": normal(2000, 2)}, bins=20)
    x, y = reference["tensors"]
    assert (x["name"], x["output"], y["name"], y["output"]) == ("x", False, "y", True)
    assert len(x["edges"]) == 19
    assert x["bins"] == [200] * 20
    assert np.allclose(np.array(y["edges"]), np.array(x["edges"]) + 10, atol=1e-5)


def test_a_value_that_is_often_there_has_a_bin_of_its_own() -> None:
    values = np.concatenate([np.zeros(2400), np.linspace(0.1, 1, 1600)])
    collector = _drift._Collector()
    collector.add(np.where(np.arange(4000) % 10 == 0, np.nan, values))
    found = collector.sketch(10)
    assert found["nans"] == pytest.approx(0.1)
    assert found["edges"][0] == 0
    assert found["bins"][:2] == [0, 2160]
    assert min(found["bins"][2:]) > 300
    classes = _drift._Collector()
    classes.add(np.array([3, 3, 3, 5, 5, 9]))
    found = classes.sketch(10)
    assert [n for n in found["bins"] if n] == [3, 2, 1]


def drifts(server: linnet.serve.Server, name: str) -> dict[str, dict[str, float]]:
    served: Any = server.repository.view(name).active[1].served
    return {row["name"]: row for row in served.drift()}


def test_shifted_inputs_are_told(tmp_path: Path, serve: Any) -> None:
    path = adds(0, tmp_path / "m.onnx")
    save_reference(record_reference(path, {"x": normal(2000, 2)}), tmp_path / "m.drift.json")
    server = serve(path)
    with linnet.serve.Client(server.grpc_address) as client:
        for _ in range(300):
            client.infer("m", {"x": normal(4, 2)})
        alike = drifts(server, "m")
        assert {row["elements"] for row in alike.values()} == {2400}
        assert max(row["psi"] for row in alike.values()) < 0.1
        assert max(row["ks"] for row in alike.values()) < 0.1
        for _ in range(300):
            client.infer("m", {"x": normal(4, 2) + np.float32(2)})
        shifted = drifts(server, "m")
        assert min(row["psi"] for row in shifted.values()) > 0.25
        assert min(row["ks"] for row in shifted.values()) > 0.25
        client.infer("m", {"x": np.full((4, 2), np.nan, np.float32)})
        assert drifts(server, "m")["x"]["nans"] == pytest.approx(8 / 4808)


def test_a_reference_is_found_in_a_versions_folder(tmp_path: Path, serve: Any) -> None:
    path = adds(1, tmp_path / "repository" / "m" / "1" / "model.onnx")
    np.savez(tmp_path / "samples.npz", x=normal(500, 2))
    assert main(["drift", str(path), "--data", str(tmp_path / "samples.npz"), "--window", "50"]) == 0
    assert (path.parent / "drift.json").exists()
    server = serve(tmp_path / "repository", settle_seconds=0.0)
    with linnet.serve.Client(server.grpc_address) as client:
        for _ in range(200):
            client.infer("m", {"x": normal(1, 2) + np.float32(9)})
        assert drifts(server, "m")["y"]["psi"] > 0.25
        for _ in range(100):
            client.infer("m", {"x": normal(1, 2)})
        assert drifts(server, "m")["y"]["psi"] < 0.25, "two windows later what was long ago is forgotten"


def test_publishing_takes_the_reference_along(tmp_path: Path, serve: Any) -> None:
    path = adds(0, tmp_path / "m.onnx")
    save_reference(record_reference(path, {"x": normal(100, 2)}), _drift.place_for(path))
    folder = publish(path, tmp_path / "repository" / "m")
    assert drifts(serve(tmp_path / "repository"), "m").keys() == {"x", "y"}
    assert (folder / "drift.json").exists()


def test_samples_can_be_the_reference(tmp_path: Path) -> None:
    session = _core.Session(adds(10, tmp_path / "m.onnx"), _core.SessionOptions())
    np.savez(tmp_path / "samples.npz", x=normal(500, 2))
    found = _drift.reference(tmp_path / "samples.npz", session, session.run)
    assert [(t["name"], t["output"], sum(t["bins"])) for t in found["tensors"]] == [
        ("x", False, 1000),
        ("y", True, 1000),
    ]
    save_reference(found, tmp_path / "r.json")
    tensors = _drift.reference(tmp_path / "r.json", session, session.run)["tensors"]
    assert [t["edges"] for t in tensors] == [t["edges"] for t in found["tensors"]]


def whole(**changes: Any) -> str:
    tensor = {"name": "x", "output": False, "edges": [1, 2], "bins": [1, 1, 1], **changes}
    return json.dumps({"format": _drift.FORMAT, "window": 10, "tensors": [tensor]})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": "linnet-drift-1"}',
        '{"format": "linnet-drift-1", "window": 0, "tensors": []}',
        whole(edges=[2, 1]),
        whole(edges=[1, float("nan")]),
        whole(bins=[1, 1]),
        whole(bins=[1, -1, 1]),
        whole(bins=[0, 0, 0]),
        whole(name="z"),
        whole(output=True),
        whole(edges="ab"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    session = _core.Session(adds(0, tmp_path / "m.onnx"), _core.SessionOptions())
    with pytest.raises(ConfigError, match=r"r\.json"):
        _drift.reference(tmp_path / "r.json", session, session.run)


def test_a_wrong_reference_fails_the_load(tmp_path: Path) -> None:
    adds(0, tmp_path / "m.onnx")
    file = tmp_path / "linnet.toml"
    file.write_text('[models.m]\npath = "m.onnx"\ndrift_reference = "absent.json"')
    repository = open_repository(file)
    assert "absent.json: cannot be read" in repository.view("m").statuses[1].error
    assert _layouts.open_path(file).models[0].drift_reference == tmp_path / "absent.json"
    repository.stop()


def test_the_setting_wins(tmp_path: Path, serve: Any) -> None:
    path = adds(0, tmp_path / "m.onnx")
    save_reference(record_reference(path, {"x": normal(100, 2)}), tmp_path / "m.drift.json")
    save_reference(record_reference(path, {"x": normal(100, 2)}, bins=3), tmp_path / "other.json")
    config = ModelConfig("m", path, drift_reference=tmp_path / "other.json")
    assert len(drifts(serve(Configuration(models=(config,))), "m")["x"]["edges"]) == 2
