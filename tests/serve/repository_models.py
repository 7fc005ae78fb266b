"""Tiny models that tell which one they are, and a repository of them that is served without a port."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from linnet._core import serve as engine
from linnet.serve import _layouts
from linnet.serve._config import Configuration
from linnet.serve._repository import Repository


def adds(number: float, path: Path, *, batch: int | str = "batch", weights: int = 0, external: str = "") -> Path:
    """y = x + number, for x of [batch, 2]. ``weights``: bytes of ballast, in the file ``external`` when it is named."""
    nodes = [helper.make_node("Add", ["x", "n"], ["y"])]
    constants = [numpy_helper.from_array(np.full(2, number, np.float32), "n")]
    if weights:
        values = numpy_helper.from_array(np.arange(weights // 4, dtype=np.float32), "w")
        if external:
            (path.parent / external).write_bytes(values.raw_data)
            values.ClearField("raw_data")
            values.data_location = TensorProto.EXTERNAL
            for key, value in (("location", external), ("offset", "0"), ("length", str(weights // 4 * 4))):
                values.external_data.add(key=key, value=value)
        constants.append(values)
        nodes = [
            helper.make_node("ReduceMin", ["w"], ["least"], keepdims=0),
            helper.make_node("Add", ["x", "n"], ["z"]),
            helper.make_node("Add", ["z", "least"], ["y"]),
        ]
    return save(nodes, constants, path, [batch, 2], [batch, 2])


def save(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    path: Path,
    x: Sequence[int | str],
    y: Sequence[int | str],
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """A model from x to y."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", dtype, list(x))],
        [helper.make_tensor_value_info("y", dtype, list(y))],
        list(constants),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def version(folder: Path, number: int, adding: float | None = None, **options: Any) -> Path:
    """``folder/number/model.onnx``, which adds its version."""
    path = folder / str(number) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    return adds(number if adding is None else adding, path, **options)


class RecordingEngine:
    """The engine, and what it was told."""

    def __init__(self) -> None:
        self.real = engine.Engine(1)
        self.models: dict[str, dict[str, Any]] = {}
        self.told: list[tuple[str, list[int]]] = []

    def set_model(self, name: str, versions: Sequence[Any], **routing: Any) -> None:
        self.real.set_model(name, list(versions), **routing)
        self.models[name] = {"versions": [one.version for one in versions], **routing}
        self.told.append((name, [one.version for one in versions]))

    def remove_model(self, name: str) -> None:
        self.real.remove_model(name)
        del self.models[name]

    def versions(self, name: str) -> list[int]:
        """Those that answer."""
        found: list[int] = self.models[name]["versions"]
        return found


def open_repository(path: Path, start: bool = True, **server: Any) -> Repository:
    """A repository that serves to a `RecordingEngine`; files settle at once unless ``server`` says otherwise."""
    from dataclasses import replace

    configuration = _layouts.open_path(path)
    settings = replace(configuration.server, **{"settle_seconds": 0.0, **server})
    return serve(replace(configuration, server=settings), start)


def serve(configuration: Configuration, start: bool = True) -> Repository:
    """The same, for settings."""
    repository = Repository(configuration, RecordingEngine(), engine.Served)
    if start:
        repository.start()
    return repository


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits; fails when it takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
