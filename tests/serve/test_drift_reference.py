"""The reference for drift: from samples or a file, and the engine measures against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linnet import _core
from linnet._core import serve as engine
from linnet.serve import _drift, _layouts, _messages
from linnet.serve._config import ConfigError, Configuration, ModelConfig, ServerConfig
from repository_models import adds, open_repository, serve


def test_sketch() -> None:
    values = np.arange(1000.0)
    found = _drift.sketch("x", False, values)
    assert len(found["edges"]) == 19
    assert found["bins"] == [50.0] * 20
    constant = _drift.sketch("x", True, np.array([3.0, 3.0, np.nan, np.inf]))
    assert (constant["edges"], constant["bins"]) == ([3.0], [0.0, 2.0]), "a bin holds what is >= its lower edge"


def test_from_samples_and_from_a_file(tmp_path: Path) -> None:
    session = _core.Session(adds(10, tmp_path / "m.onnx"), _core.SessionOptions())
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "samples.npz", x=rng.standard_normal((500, 2), dtype=np.float32))
    sketches = _drift.reference(tmp_path / "samples.npz", session, lambda feeds: session.run(feeds))
    assert [(s["name"], s["output"]) for s in sketches] == [("x", False), ("y", True)]
    assert sketches[1]["edges"][9] == pytest.approx(sketches[0]["edges"][9] + 10, abs=1e-5)
    assert sum(sketches[0]["bins"]) == 1000
    _drift.write(tmp_path / "r.json", sketches)
    assert _drift.reference(tmp_path / "r.json", session, lambda feeds: []) == sketches


@pytest.mark.parametrize(
    "text", ["", "[]", '{"sketches": [{"name": "x", "output": false, "edges": [2, 1], "bins": [1, 1, 1]}]}']
)
def test_wrong_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    session: Any = None
    with pytest.raises(ConfigError, match=r"r\.json"):
        _drift.reference(tmp_path / "r.json", session, lambda feeds: [])


def test_measured_by_the_engine(tmp_path: Path) -> None:
    path = adds(0, tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "samples.npz", x=rng.standard_normal((1000, 2), dtype=np.float32))
    config = ModelConfig("m", path, drift_reference=tmp_path / "samples.npz")
    repository = serve(Configuration(ServerConfig(settle_seconds=0.0), (config,)))

    def ask(shift: float) -> dict[str, float]:
        for _ in range(200):
            request = _messages.message_class("inference.ModelInferRequest")(model_name="m")
            request.inputs.add(name="x", datatype="FP32", shape=[4, 2])
            x = rng.standard_normal((4, 2), dtype=np.float32) + np.float32(shift)
            request.raw_input_contents.append(x.tobytes())
            repository.engine.real.infer_oip(request.SerializeToString())  # type: ignore[attr-defined]
        served = repository.view("m").active[1].served
        assert isinstance(served, engine.Served)
        return {row["name"]: row["psi"] for row in served.drift()}

    alike = ask(0.0)
    shifted = ask(2.0)
    assert max(alike.values()) < 0.1
    assert min(shifted.values()) > 0.5
    repository.stop()


def test_a_wrong_reference_fails_the_load(tmp_path: Path) -> None:
    adds(0, tmp_path / "m.onnx")
    file = tmp_path / "linnet.toml"
    file.write_text('[models.m]\npath = "m.onnx"\ndrift_reference = "absent.json"')
    repository = open_repository(file)
    assert "absent.json: not a reference" in repository.view("m").statuses[1].error
    assert _layouts.open_path(file).models[0].drift_reference == tmp_path / "absent.json"
    repository.stop()
