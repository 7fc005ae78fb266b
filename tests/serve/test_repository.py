"""Versions come and go as files, settings and calls say; a bad one never takes a good one's place."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from linnet._errors import ServeError
from linnet.serve import Client, Server, _layouts, _loading
from linnet.serve._codes import Code
from linnet.serve._config import Configuration, ModelConfig, ServerConfig, VersionPolicy
from linnet.serve._repository import Repository
from linnet.serve._states import State
from repository_models import RecordingEngine, adds, open_repository, serve, until, version


def engine_of(repository: Repository) -> RecordingEngine:
    assert isinstance(repository.engine, RecordingEngine)
    return repository.engine


def states(repository: Repository, name: str) -> dict[int, str]:
    return {v: s.state.name for v, s in repository.view(name).statuses.items()}


def one_model(path: Path, **settings: object) -> Configuration:
    config = ModelConfig(path.name, path, "tensorflow", **settings)  # type: ignore[arg-type]
    return Configuration(ServerConfig(settle_seconds=0.0), (config,))


def failure(call: object, *arguments: object) -> ServeError:
    with pytest.raises(ServeError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value


def test_one_file(tmp_path: Path) -> None:
    repository = open_repository(adds(1, tmp_path / "net.onnx"))
    assert repository.ready
    assert engine_of(repository).models == {"net": {"versions": [1], "labels": {}, "split": {}, "default": 1}}
    assert states(repository, "net") == {1: "AVAILABLE"}
    repository.stop()


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (VersionPolicy(), [10]),
        (VersionPolicy(latest=2), [9, 10]),
        (VersionPolicy(latest=0), [1, 9, 10]),
        (VersionPolicy(specific=(1, 9)), [1, 9]),
    ],
)
def test_policies(tmp_path: Path, policy: VersionPolicy, expected: list[int]) -> None:
    for number in (1, 9, 10):
        version(tmp_path / "m", number)
    repository = serve(one_model(tmp_path / "m", policy=policy))
    assert engine_of(repository).versions("m") == expected
    assert engine_of(repository).models["m"]["default"] == expected[-1]
    repository.stop()


def test_a_specific_version_that_is_not_there(tmp_path: Path) -> None:
    version(tmp_path / "m", 1)
    repository = serve(one_model(tmp_path / "m", policy=VersionPolicy(specific=(1, 5))))
    assert engine_of(repository).versions("m") == [1]
    status = repository.view("m").statuses[5]
    assert (status.state, status.code) == (State.END, Code.NOT_FOUND)
    assert "version 5 is not in" in status.error
    repository.stop()


def test_a_new_version_takes_over_and_can_be_rolled_back_from(tmp_path: Path) -> None:
    version(tmp_path / "m", 1)
    repository = serve(one_model(tmp_path / "m"))
    engine = engine_of(repository)
    first = repository.view("m").active[1]
    version(tmp_path / "m", 2)
    repository.poll()
    assert engine.versions("m") == [2]
    until(lambda: states(repository, "m") == {1: "END", 2: "AVAILABLE"})
    assert repository.view("m").previous == ((1,),)

    assert repository.rollback("m") == [1]
    assert engine.versions("m") == [1]
    assert repository.view("m").active[1] is first, "what was in memory serves again"
    repository.poll()
    assert engine.versions("m") == [1], "the version that was rolled back from is not taken again"
    until(lambda: states(repository, "m") == {1: "AVAILABLE", 2: "END"})
    error = failure(repository.rollback, "m")
    assert error.code == Code.FAILED_PRECONDITION

    version(tmp_path / "m", 3)
    repository.poll()
    assert engine.versions("m") == [3], "a later one is"
    repository.rollback("m")
    repository.load("m")
    assert engine.versions("m") == [3], "and so is any that is asked for"
    assert [told for _, told in engine.told] == [[], [1], [2], [1], [3], [1], [3]], (
        "known at first; then one switch each, never without a version"
    )
    repository.stop()


def test_a_file_that_is_replaced(tmp_path: Path) -> None:
    path = adds(1, tmp_path / "net.onnx")
    repository = open_repository(path)
    first = repository.view("net").active[1]
    os.replace(adds(2, tmp_path / "next.onnx"), path)
    repository.poll()
    second = repository.view("net").active[1]
    assert second is not first
    repository.rollback("net")
    assert repository.view("net").active[1] is first
    repository.poll()
    assert repository.view("net").active[1] is first
    repository.stop()


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "fails"])
def test_a_bad_version_leaves_the_old_one(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    version(tmp_path / "m", 1)
    repository = serve(one_model(tmp_path / "m"))
    path = version(tmp_path / "m", 2, weights=1 << 16)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[: 1 << 15])
    elif damage == "garbage":
        path.write_bytes(os.urandom(1000))
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(_fails_when_run())
    repository.poll()
    view = repository.view("m")
    assert engine_of(repository).versions("m") == [1]
    assert view.statuses[2].state == State.END
    assert view.statuses[2].code == Code.INVALID_ARGUMENT
    assert str(path) in view.statuses[2].error
    assert "version 2" in view.problem
    assert "m: version 2 was not loaded" in caplog.text
    assert repository.ready

    caplog.clear()
    repository.poll()
    assert "not loaded" not in caplog.text, "it is not tried again until its files change"
    version(tmp_path / "m", 2)
    repository.poll()
    assert engine_of(repository).versions("m") == [2]
    assert repository.view("m").problem == ""
    repository.stop()


def _fails_when_run() -> bytes:
    """A model that loads, and fails in every run: it takes the element 7 of 2."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Gather", ["x", "i"], ["z"], axis=1), helper.make_node("Concat", ["z", "z"], ["y"], axis=1)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.array([7]), "i")],
    )
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return data


def test_a_bad_newest_version_at_start(tmp_path: Path) -> None:
    version(tmp_path / "m", 1)
    version(tmp_path / "m", 2).write_bytes(b"no model")
    repository = serve(one_model(tmp_path / "m"))
    assert engine_of(repository).versions("m") == [1]
    assert states(repository, "m") == {1: "AVAILABLE", 2: "END"}
    repository.stop()


def test_no_good_version(tmp_path: Path) -> None:
    version(tmp_path / "m", 1).write_bytes(b"no model")
    version(tmp_path / "good", 1)
    repository = open_repository(tmp_path)
    assert not repository.ready
    assert engine_of(repository).versions("m") == []
    assert failure(repository.view("m").find).code == Code.UNAVAILABLE
    relaxed = open_repository(tmp_path, strict_readiness=False)
    assert relaxed.ready
    for one in (repository, relaxed):
        one.stop()


def test_a_load_that_fails_in_an_unforeseen_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    version(tmp_path / "m", 1)

    def load(*_: object) -> None:
        raise KeyError("odd")

    monkeypatch.setattr(_loading, "load", load)
    repository = open_repository(tmp_path)
    assert engine_of(repository).versions("m") == []
    assert failure(repository.view("m").find).code == Code.UNAVAILABLE
    assert "KeyError: 'odd'" in repository.view("m").statuses[1].error
    assert "KeyError: 'odd'" in str(failure(repository.load, "m"))
    assert not repository.load_counts("m").last_good
    assert "Traceback" in caplog.text
    monkeypatch.undo()
    repository.load("m")
    assert engine_of(repository).versions("m") == [1]
    repository.stop()


def test_a_model_is_known_before_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version(tmp_path / "m", 1)
    go, load = threading.Event(), _loading.load
    monkeypatch.setattr(_loading, "load", lambda *given: load(*given) if go.wait(20) else None)
    made = Server(tmp_path, grpc_port=0, http_port=None)
    made.start(wait=False)
    with Client(made.grpc_address) as client:
        with pytest.raises(ServeError, match="not ready") as caught:
            client.infer("m", {"x": np.zeros((1, 2), np.float32)})
        assert caught.value.code == Code.UNAVAILABLE
        go.set()
        until(lambda: made.repository.ready)
        assert client.infer("m", {"x": np.zeros((1, 2), np.float32)})["y"].tolist() == [[1.0, 1.0]]
    made.stop()


def test_settings_that_do_not_fit_the_model(tmp_path: Path) -> None:
    version(tmp_path / "m", 1)
    config = tmp_path / "m" / "config.pbtxt"
    config.write_text(
        """max_batch_size: 4
        input { name: "x" data_type: TYPE_FP16 dims: 2 }
        input { name: "extra" data_type: TYPE_FP32 dims: 2 }
        output { name: "y" data_type: TYPE_FP32 dims: 3 }"""
    )
    repository = open_repository(tmp_path)
    error = repository.view("m").statuses[1].error
    assert str(config) in error
    assert "input 'x' is float16, the model's is float32" in error
    assert "input 'extra' is not in the model; it has 'x'" in error
    assert "output 'y' has dims [3] after the batch, the model's is [batch, 2]" in error

    config.write_text('max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: 2 }')
    repository.poll()
    assert engine_of(repository).versions("m") == [1]
    config.write_text("max_batch_size: x")
    repository.poll()
    assert engine_of(repository).versions("m") == [1], "settings that cannot be read leave the model as it is"
    assert "Couldn't parse" in repository.view("m").problem
    repository.stop()


def test_max_batch_size_of_a_model_without_rows(tmp_path: Path) -> None:
    version(tmp_path / "m", 1, batch=1)
    (tmp_path / "m" / "config.pbtxt").write_text("max_batch_size: 4")
    repository = open_repository(tmp_path)
    assert "'x' [1, 2] has no free first dimension" in repository.view("m").statuses[1].error
    repository.stop()


def test_labels_go_onto_available_versions_only(tmp_path: Path) -> None:
    for number in (1, 2):
        version(tmp_path / "m", number)
    config = one_model(tmp_path / "m", policy=VersionPolicy(latest=0), labels={"stable": 1, "canary": 3})
    repository = serve(config)
    engine = engine_of(repository)
    assert engine.models["m"]["labels"] == {"stable": 1}
    assert "label 'canary' is not set: version 3 is not available" in repository.view("m").problem

    version(tmp_path / "m", 3).write_bytes(b"bad")
    model = replace(config.models[0], labels={"stable": 3})
    error = failure(repository.reload, [model])
    assert engine.models["m"]["labels"] == {"stable": 1}, "a label moves onto a version that is loaded"
    assert "version 3" in str(error)

    version(tmp_path / "m", 3)
    repository.reload([model])
    assert engine.models["m"]["labels"] == {"stable": 3}
    assert repository.view("m").find("stable").version == 3
    assert failure(repository.view("m").find, "canary").code == Code.NOT_FOUND

    error = failure(repository.reload, [replace(model, labels={"new": 9})])
    assert error.code == Code.FAILED_PRECONDITION
    assert "label 'new' is not set: version 9 is not available" in str(error)
    repository.stop()


def test_labels_for_absent_versions_by_a_switch(tmp_path: Path) -> None:
    version(tmp_path / "m", 1)
    config = one_model(tmp_path / "m", labels={"next": 2})
    config = replace(config, server=replace(config.server, allow_labels_for_absent_versions=True))
    repository = serve(config)
    assert engine_of(repository).models["m"]["labels"] == {"next": 2}
    repository.stop()


def test_split(tmp_path: Path) -> None:
    for number in (1, 2):
        version(tmp_path / "m", number)
    labels = {"stable": 1, "canary": 2}
    config = one_model(
        tmp_path / "m", policy=VersionPolicy(latest=0), labels=labels, split={"stable": 0.9, "canary": 0.05, "2": 0.05}
    )
    repository = serve(config)
    assert engine_of(repository).models["m"]["split"] == {1: 0.9, 2: 0.1}
    repository.reload([replace(config.models[0], split={"7": 1.0})])
    assert engine_of(repository).models["m"]["split"] == {}, "what is not there has no share"
    repository.stop()


def test_reload_replaces_all_models(tmp_path: Path) -> None:
    for name in ("a", "b"):
        version(tmp_path / name, 1)
    repository = serve(one_model(tmp_path / "a"))
    repository.reload(one_model(tmp_path / "b").models)
    assert list(repository.views) == ["b"]
    assert engine_of(repository).models.keys() == {"b"}
    error = failure(repository.reload, one_model(tmp_path / "absent").models)
    assert "load failed for model 'absent'" in str(error)
    repository.stop()


def test_control_explicit(tmp_path: Path) -> None:
    for name in ("a", "b"):
        version(tmp_path / name, 1)
    repository = open_repository(tmp_path, control="explicit", load=("a",))
    engine = engine_of(repository)
    assert (engine.versions("a"), engine.versions("b")) == ([1], [])
    assert repository.ready, "a model that is not wanted does not count"
    assert not repository.view("b").wanted
    repository.load("b")
    assert engine.versions("b") == [1]
    repository.unload("a")
    assert engine.versions("a") == []
    until(lambda: states(repository, "a") == {1: "END"})
    assert failure(repository.load, "c").code == Code.NOT_FOUND
    assert failure(repository.unload, "../a").code == Code.NOT_FOUND
    version(tmp_path / "c", 1)
    repository.load("c")
    assert engine.versions("c") == [1], "a model that is new in the folder"
    version(tmp_path / "c", 2).write_bytes(b"bad")
    error = failure(repository.load, "c")
    assert error.code == Code.INVALID_ARGUMENT
    assert "version 2" in str(error)
    assert engine.versions("c") == [1]
    repository.stop()


def test_watching(tmp_path: Path) -> None:
    version(tmp_path / "a", 1)
    repository = open_repository(tmp_path, control="poll", poll_seconds=0.05)
    engine = engine_of(repository)
    version(tmp_path / "a", 2)
    version(tmp_path / "b", 1)
    until(lambda: engine.models.get("b", {}).get("versions") == [1] and engine.versions("a") == [2])
    (tmp_path / "b").rename(tmp_path / ".gone")
    until(lambda: "b" not in engine.models)
    assert "b" not in repository.views
    (tmp_path / "a" / "1").rename(tmp_path / "a" / ".1")
    (tmp_path / "a" / "2").rename(tmp_path / "a" / ".2")
    until(lambda: "has no versions" in repository.view("a").problem)
    assert engine.versions("a") == [2], "an empty folder takes nothing out of service"
    repository.stop()


def test_files_settle_before_they_are_loaded(tmp_path: Path) -> None:
    version(tmp_path / "m", 1)
    config = one_model(tmp_path / "m")
    repository = serve(replace(config, server=replace(config.server, settle_seconds=0.4)))
    engine = engine_of(repository)
    whole = adds(2, tmp_path / "whole.onnx", weights=1 << 16).read_bytes()
    target = tmp_path / "m" / "2" / "model.onnx"
    target.parent.mkdir()
    with target.open("wb") as file:
        for at in range(0, len(whole), 8192):  # a slow copy
            file.write(whole[at : at + 8192])
            file.flush()
            repository.poll()
            assert engine.versions("m") == [1]
            assert states(repository, "m") in ({1: "AVAILABLE"}, {1: "AVAILABLE", 2: "START"})
            time.sleep(0.05)
    until(lambda: engine.versions("m") == [2])
    assert [told for _, told in engine.told] == [[], [1], [2]]
    assert not repository.view("m").problem
    repository.stop()


def test_old_files_need_no_time_to_settle(tmp_path: Path) -> None:
    settling = _layouts.Settling(2.0, clock=lambda: 100.0, wall=lambda: 1e10)
    path = adds(1, tmp_path / "net.onnx")
    files = _layouts.versions(_layouts.file_model(path))[1]
    assert settling.remaining(files) == 0.0
    now = [100.0]
    young = _layouts.Settling(2.0, clock=lambda: now[0], wall=lambda: files.changed - 50)  # a clock that is behind
    assert young.remaining(files) == 2.0
    now[0] += 1.5
    assert young.remaining(files) == 0.5
    now[0] += 0.5
    assert young.remaining(files) == 0.0


def test_drained_before_it_is_dropped(tmp_path: Path) -> None:
    version(tmp_path / "m", 1)
    repository = serve(one_model(tmp_path / "m", keep_previous=0))
    held = _Held(repository.view("m").active[1].served)
    model = repository._models["m"]
    model._active[1] = replace(model._active[1], served=held)
    version(tmp_path / "m", 2)
    repository.poll()
    time.sleep(0.1)
    assert states(repository, "m") == {1: "UNLOADING", 2: "AVAILABLE"}
    assert repository.view("m").previous == ()
    held.in_flight = 0
    until(lambda: states(repository, "m") == {1: "END", 2: "AVAILABLE"})
    assert repository._retired == {}
    repository.stop()


class _Held:
    """A version with one request that does not end."""

    def __init__(self, served: object) -> None:
        self._served = served
        self.in_flight = 1

    def __getattr__(self, name: str) -> object:
        return getattr(self._served, name)


def test_memory_limit(tmp_path: Path) -> None:
    size = 1 << 20
    version(tmp_path / "m", 1, weights=size)
    config = one_model(tmp_path / "m")
    config = replace(config, server=replace(config.server, memory_limit_bytes=int(2.6 * size)))
    repository = serve(config)
    for number in (2, 3):
        version(tmp_path / "m", number, weights=size)
        repository.poll()
        assert engine_of(repository).versions("m") == [number]
        assert repository.view("m").previous == ((number - 1,),), "the one before that makes room"
    version(tmp_path / "m", 4, weights=3 * size)
    repository.poll()
    assert engine_of(repository).versions("m") == [3]
    assert "raise memory_limit_bytes, or unload a model" in repository.view("m").problem
    repository.stop()


def test_waiting_for_changes(tmp_path: Path) -> None:
    version(tmp_path / "m", 1)
    repository = serve(one_model(tmp_path / "m"))
    seen = repository.changes
    assert repository.wait_change(seen, 0.01) == seen
    threading.Timer(0.05, repository.drain).start()
    assert repository.wait_change(seen, 10) > seen
    assert not repository.ready
    assert repository.draining
    repository.stop()


def test_stopping_while_a_load_waits(tmp_path: Path) -> None:
    version(tmp_path / "m", 1)
    repository = open_repository(tmp_path, control="explicit", settle_seconds=60.0)
    failures: list[BaseException] = []

    def load() -> None:
        try:
            repository.load("m")
        except ServeError as error:
            failures.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    until(lambda: states(repository, "m") == {1: "START"})
    repository.stop()
    thread.join(5)
    assert [str(one) for one in failures] == ["the server is going away"]
    assert failure(repository.load, "m").code == Code.UNAVAILABLE, "and nobody waits for a loader that has ended"
