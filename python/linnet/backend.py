"""Linnet as an ONNX backend (onnx.backend.base): `prepare(model).run(inputs)`."""

from __future__ import annotations

from typing import Any

import onnx
from onnx.backend.base import Backend, BackendRep

from linnet import _core


class LinnetRep(BackendRep):
    """A loaded model."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._session = _core.Session.from_bytes(model.SerializeToString(), _core.SessionOptions())
        self._names = [port["name"] for port in self._session.inputs()]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Runs the model on inputs in the order of the graph's (or by name) and gives all outputs."""
        feeds = inputs if isinstance(inputs, dict) else dict(zip(self._names, inputs, strict=False))
        return tuple(self._session.run(feeds))


class LinnetBackend(Backend):
    """The backend's functions, as onnx.backend expects them."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> LinnetRep:
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
