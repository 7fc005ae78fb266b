"""A published version is seen whole or not at all, whatever happens to the publisher."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from linnet import _errors
from linnet._cli import main
from linnet.serve import _layouts, _manifest
from linnet.serve._manifest import publish
from repository_models import RecordingEngine, adds, open_repository, until, version


def test_publish(tmp_path: Path) -> None:
    model = adds(1, tmp_path / "net.onnx", weights=4096, external="net.weights")
    (tmp_path / "unrelated.txt").write_text("x")
    folder = publish(model, tmp_path / "repository" / "m")
    assert folder == tmp_path / "repository" / "m" / "1"
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "model.onnx", "net.weights"]
    entries = json.loads((folder / "manifest.json").read_text())["files"]
    assert entries["net.weights"]["size"] == 4096
    assert publish(model, folder.parent).name == "2"
    assert publish(model, folder.parent, 7).name == "7"
    assert publish(model, folder.parent).name == "8"
    with pytest.raises(FileExistsError, match="version 7 is there already"):
        publish(model, folder.parent, 7)
    assert sorted(p.name for p in folder.parent.iterdir()) == ["1", "2", "7", "8"]
    repository = open_repository(tmp_path / "repository", settle_seconds=60.0)
    assert isinstance(repository.engine, RecordingEngine)
    assert repository.engine.versions("m") == [8], "a manifest needs no time to settle"
    repository.stop()


def test_what_does_not_load_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no model")
    with pytest.raises(_errors.LinnetError):
        publish(tmp_path / "net.onnx", tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []
    with pytest.raises(_errors.NoSuchFile):
        publish(tmp_path / "absent.onnx", tmp_path / "m")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = adds(1, tmp_path / "net.onnx")
    assert main(["publish", str(model), str(tmp_path / "m"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": 1, "folder": str(tmp_path / "m" / "1")}
    assert main(["publish", str(model), str(tmp_path / "m"), "--version", "5"]) == 0
    assert "is version 5 of m" in capsys.readouterr().out
    assert main(["publish", str(model), str(tmp_path / "m"), "--version", "5"]) == 1
    assert "version 5 is there already" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["shorter", "changed", "missing", "unlisted", "half manifest", "escapes"])
def test_files_that_are_not_those_of_the_manifest(tmp_path: Path, damage: str) -> None:
    version(tmp_path / "m", 1)
    folder = publish(adds(2, tmp_path / "net.onnx", weights=4096), tmp_path / "m")
    model, manifest = folder / "model.onnx", folder / "manifest.json"
    contents = bytearray(model.read_bytes())
    expected = {
        "shorter": "the manifest says",
        "changed": "not those of the manifest",
        "missing": "model.onnx is not there (yet)",
        "unlisted": "is not in the manifest",
        "half manifest": "not a manifest",
        "escapes": "is not the name of a file in the version's folder",
    }[damage]
    if damage == "shorter":
        model.write_bytes(contents[:-1])
    elif damage == "changed":
        contents[len(contents) // 2] ^= 1
        model.write_bytes(contents)
    elif damage == "missing":
        model.unlink()
        shutil.copy(tmp_path / "net.onnx", folder / ".model.onnx.copying")
    elif damage == "unlisted":
        (folder / "more.bin").write_bytes(b"1")
    elif damage == "half manifest":
        manifest.write_bytes(manifest.read_bytes()[:40])
    else:
        text = json.loads(manifest.read_text())
        text["files"]["../../net.onnx"] = text["files"]["model.onnx"]
        manifest.write_text(json.dumps(text))
    repository = open_repository(tmp_path / "m")
    assert isinstance(repository.engine, RecordingEngine)
    assert repository.engine.versions("m") == [1]
    assert expected in repository.view("m").statuses[2].error
    repository.stop()


_PUBLISHER = """
import sys
from pathlib import Path
from linnet.serve._manifest import publish
print("ready", flush=True)
while True:
    publish(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_killed_publishers(tmp_path: Path) -> None:
    """A publisher is killed at random moments while a server watches. Every version that appears is whole, and the
    server takes one after another and never complains."""
    model = adds(1, tmp_path / "net.onnx", weights=1 << 20, external="net.weights")
    target = tmp_path / "repository" / "m"
    publish(model, target)
    repository = open_repository(target.parent, control="poll", poll_seconds=0.01)
    engine = repository.engine
    assert isinstance(engine, RecordingEngine)
    rng = random.Random(4)
    problems = set()

    def newest() -> int:
        return max(int(p.name) for p in target.iterdir() if p.name.isdigit())

    for attempt in range(60):
        if attempt >= 12 and newest() > 3:
            break
        publisher = subprocess.Popen(
            [sys.executable, "-c", _PUBLISHER, str(model), str(target)], stdout=subprocess.PIPE, text=True
        )
        assert publisher.stdout is not None
        assert publisher.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.08 * (1 + attempt / 12)))  # longer on a machine that is slow
        os.kill(publisher.pid, signal.SIGKILL)
        publisher.wait()
        publisher.stdout.close()
        for found in _layouts.versions(repository.view("m").config).values():
            assert not found.problem
            assert found.manifest is not None
            _manifest.check_digests(found.folder, found.manifest)
        problems.add(repository.view("m").problem)
    until(lambda: engine.versions("m") == [newest()])
    assert newest() > 3, "some were published"
    assert problems == {""}
    known, *told = [one for _, one in engine.told]
    assert known == []
    assert all(len(one) == 1 for one in told)
    assert told == sorted(told)
    repository.stop()


def test_what_killed_publishers_leave_behind(tmp_path: Path) -> None:
    model = adds(1, tmp_path / "net.onnx")
    old, young = tmp_path / "m" / ".publish-1-a", tmp_path / "m" / ".publish-2-b"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    publish(model, tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [young.name, "1"]
