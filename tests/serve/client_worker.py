"""Real clients in environments of their own, asked from the tests.

Each environment is made once, by pip from the pinned tests/serve/requirements-NAME.txt, in the folder that
LINNET_TEST_VENVS names (default: build/test-venvs). Where that fails the tests are skipped; with
LINNET_REQUIRE_CLIENTS=1 they fail. A worker is a process of that environment which calls functions of
tests/serve/clients/*.py by name: their results, numpy arrays for instance, come back, and so do exceptions.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class ClientError(Exception):
    """What a function raised in the worker: ``kind`` is the exception's class, ``code`` its status, if it has one."""

    def __init__(self, kind: str, code: str, message: str, trace: str) -> None:
        super().__init__(f"{kind}: {message}\n{trace}")
        self.kind, self.code, self.message = kind, code, message


def unavailable(reason: str) -> None:
    """Skips the test, or fails it where every client must be there."""
    if os.environ.get("LINNET_REQUIRE_CLIENTS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@functools.cache
def _make(name: str) -> tuple[Path | None, str]:
    """The environment's Python, or None and why there is none."""
    files = [HERE / f"requirements-{name}.txt"]
    without = HERE / f"requirements-{name}-no-deps.txt"
    digest = hashlib.sha256(sys.version.encode())
    for file in [*files, without]:
        digest.update(file.read_bytes() if file.exists() else b"")
    base = Path(os.environ.get("LINNET_TEST_VENVS", ROOT / "build" / "test-venvs"))
    folder = base / f"{name}-{digest.hexdigest()[:12]}"
    python = folder / "bin" / "python"
    base.mkdir(parents=True, exist_ok=True)
    with (base / f"{name}.lock").open("w") as lock:  # tests may run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "complete").exists():
            return python, ""
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        steps = [[sys.executable, "-m", "venv", "--clear", str(folder)], [*pip, "-r", str(files[0])]]
        if without.exists():
            steps.append([*pip, "--no-deps", "-r", str(without)])
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True)
            if done.returncode:
                return None, f"no environment for {name}'s client: {done.stderr.strip()[-300:]}"
        (folder / "complete").touch()
    return python, ""


class Worker:
    """A process of an environment; ``call(module, function, ...)`` runs a function there."""

    def __init__(self, name: str) -> None:
        python, reason = _make(name)
        if python is None:
            unavailable(reason)
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "LD_PRELOAD")}
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""}
        self.python = str(python)
        self.environment = environment
        self._process = subprocess.Popen(
            [self.python, str(HERE / "clients" / "serve_calls.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._lock = threading.Lock()

    def call(self, module: str, function: str, *args: Any, **kwargs: Any) -> Any:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        with self._lock:
            pickle.dump((module, function, args, kwargs), process.stdin)
            process.stdin.flush()
            ok, value = pickle.load(process.stdout)
        if not ok:
            raise ClientError(*value)
        return value

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
