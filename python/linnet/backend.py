"""Linnet as an ONNX backend (onnx.backend.base): `prepare(model).run(inputs)`."""

from __future__ import annotations

import os
from typing import Any

import onnx
from onnx.backend.base import Backend, BackendRep

from linnet._session import InferenceSession


class LinnetRep(BackendRep):
    """A loaded model."""

    def __init__(self, model: onnx.ModelProto | bytes | str | os.PathLike[str]) -> None:
        given = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
        self._session = InferenceSession(given)._core
        self._names = [port["name"] for port in self._session.inputs()]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Runs the model on its input, or inputs in the graph's order or by name, and gives all outputs."""
        if not isinstance(inputs, (dict, list, tuple)):
            inputs = [inputs]
        feeds = inputs if isinstance(inputs, dict) else dict(zip(self._names, inputs, strict=False))
        return tuple(self._session.run(feeds))


class LinnetBackend(Backend):
    """The backend's functions, as onnx.backend expects them."""

    @classmethod
    def prepare(
        cls, model: onnx.ModelProto | bytes | str | os.PathLike[str], device: str = "CPU", **kwargs: Any
    ) -> LinnetRep:
        return LinnetRep(model)

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"


prepare = LinnetBackend.prepare
run_model = LinnetBackend.run_model
supports_device = LinnetBackend.supports_device
is_compatible = LinnetBackend.is_compatible
