"""TF Serving's services but for Predict: metadata, status, reload."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from linnet import _core
from linnet._errors import ServeError
from linnet.serve import _dtypes, _messages, _pbtxt
from linnet.serve._codes import Code
from linnet.serve._config import ConfigError, ModelConfig
from linnet.serve._messages import Message
from linnet.serve._oip import dims_of
from linnet.serve._repository import Repository
from linnet.serve._states import ModelView, VersionStatus

PREDICTION, MODEL, SESSION = (f"tensorflow.serving.{name}Service" for name in ("Prediction", "Model", "Session"))
_SIGNATURE = "serving_default"
_METHOD = "tensorflow/serving/predict"
_MAP = "tensorflow.serving.SignatureDefMap"


class TensorFlow:
    """The services' methods, as functions of request messages.

    Args:
        repository: the models.
        roots: folders that a reload may name folders in.
    """

    def __init__(self, repository: Repository, roots: Sequence[Path] = ()) -> None:
        self._repository = repository
        self._roots = [*roots, *_roots(repository)]

    def methods(self, admin: bool) -> dict[str, Callable[[bytes], bytes]]:
        """Paths of the calls, and functions from a request's bytes to an answer's."""
        reload = partial(self.reload, admin=admin)
        table = {
            f"/{PREDICTION}/GetModelMetadata": _handler("GetModelMetadataRequest", self.metadata),
            f"/{MODEL}/GetModelStatus": _handler("GetModelStatusRequest", self.status),
            f"/{MODEL}/HandleReloadConfigRequest": _handler("ReloadConfigRequest", reload),
        }
        for path in (
            f"/{PREDICTION}/Classify",
            f"/{PREDICTION}/Regress",
            f"/{PREDICTION}/MultiInference",
            f"/{SESSION}/SessionRun",
        ):
            name = path.rsplit("/", 1)[-1]
            table[path] = _messages.absent(f"{name} is not offered: ONNX models are asked with Predict")
        return table

    def metadata(self, request: Message) -> Message:
        """GetModelMetadata: the one signature that an ONNX model has."""
        if not request.HasField("model_spec"):
            raise ServeError(Code.INVALID_ARGUMENT, "Missing ModelSpec")
        if not request.metadata_field:
            raise ServeError(Code.INVALID_ARGUMENT, "GetModelMetadataRequest must name at least one metadata_field")
        for name in request.metadata_field:
            if name != "signature_def":
                raise ServeError(Code.INVALID_ARGUMENT, f"Metadata field {name} is not supported: signature_def is")
        view = self._view(request.model_spec)
        version = self._version(view, request.model_spec)
        loaded = None if view.default is None else view.active.get(view.default if version is None else version)
        if loaded is None:
            raise _not_found(request.model_spec)
        signatures = _new("SignatureDefMap")
        signature = signatures.signature_def[_SIGNATURE]
        signature.method_name = _METHOD
        for ports, to in ((loaded.inputs, signature.inputs), (loaded.outputs, signature.outputs)):
            for port in ports:
                _describe(port, to[port["name"]])
        answer = _new("GetModelMetadataResponse")
        answer.model_spec.name = view.name
        answer.model_spec.version.value = loaded.version
        packed = answer.metadata["signature_def"]
        packed.type_url = f"type.googleapis.com/{_MAP}"
        packed.value = signatures.SerializeToString(deterministic=True)
        return answer

    def status(self, request: Message) -> Message:
        """GetModelStatus: of one version, or of all."""
        if not request.HasField("model_spec"):
            raise ServeError(Code.INVALID_ARGUMENT, "Missing ModelSpec")
        view = self._view(request.model_spec)
        version = self._version(view, request.model_spec)
        statuses = [s for s in view.statuses.values() if version is None or s.version == version]
        if not statuses:
            where = f"version {version}" if version is not None else "any versions"
            raise ServeError(Code.NOT_FOUND, f"Could not find {where} of model {view.name}")
        answer = _new("GetModelStatusResponse")
        for status in sorted(statuses, key=lambda s: -s.version):
            _describe_status(status, answer.model_version_status.add())
        return answer

    def reload(self, request: Message, admin: bool = False) -> Message:
        """HandleReloadConfigRequest: these models instead of all others. Known models keep what it does not set."""
        if not admin:
            raise ServeError(
                Code.PERMISSION_DENIED, "the models are changed on the administration port (admin_port) only"
            )
        if request.config.WhichOneof("config") != "model_config_list":
            raise ServeError(Code.INVALID_ARGUMENT, "the request has no model_config_list")
        try:
            asked = list(_pbtxt.from_tensorflow(request.config, "the request", None))
        except ConfigError as error:
            raise ServeError(Code.INVALID_ARGUMENT, str(error)) from None
        self._repository.reload([self._merged(config) for config in asked])
        return _new("ReloadConfigResponse", status=_new("StatusProto"))

    def _merged(self, asked: ModelConfig) -> ModelConfig:
        path = asked.path.resolve()
        if not any(path.is_relative_to(root) for root in self._roots):
            raise ServeError(
                Code.PERMISSION_DENIED, f"model '{asked.name}': {asked.path} is in none of the server's model folders"
            )
        known = self._repository.views.get(asked.name)
        if known is None:
            return asked
        layout = known.config.layout if known.config.path.resolve() == path else asked.layout
        return dataclasses.replace(
            known.config, path=asked.path, layout=layout, policy=asked.policy, labels=asked.labels, source=asked.source
        )

    def _view(self, spec: Message) -> ModelView:
        try:
            return self._repository.view(spec.name)
        except ServeError:
            raise _not_found(spec) from None

    def _version(self, view: ModelView, spec: Message) -> int | None:
        """The version that is asked for; None: no particular one."""
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return int(spec.version.value)
        if choice == "version_label":
            if spec.version_label not in view.labels:
                raise ServeError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec.version_label}")
            return view.labels[spec.version_label]
        return None


def _roots(repository: Repository) -> list[Path]:
    configuration = repository.configuration
    folders = [*configuration.repositories, *(model.path.parent for model in configuration.models)]
    if configuration.origin is not None:
        folders.append(configuration.origin if configuration.origin.is_dir() else configuration.origin.parent)
    return [folder.resolve() for folder in folders]


def _new(kind: str, **fields: object) -> Message:
    return _messages.message_class(f"tensorflow.serving.{kind}")(**fields)


def _handler(name: str, function: Callable[[Message], Message]) -> Callable[[bytes], bytes]:
    return _messages.handler(f"tensorflow.serving.{name}", function)


def _not_found(spec: Message) -> ServeError:
    text = f"Servable not found for request: {spec.name}"
    choice = spec.WhichOneof("version_choice")
    if choice == "version":
        text += f" version {spec.version.value}"
    return ServeError(Code.NOT_FOUND, text)


def _describe(port: _core.Port, to: Message) -> None:
    """A ``tensorflow.TensorInfo``."""
    to.name = port["name"]
    to.dtype = _dtypes.tensorflow_number(port["dtype"])
    if port["shape"] is None:
        to.tensor_shape.unknown_rank = True
        return
    to.tensor_shape.SetInParent()
    for size, dim in zip(dims_of(port), port["shape"], strict=True):
        to.tensor_shape.dim.add(size=size, name=dim if isinstance(dim, str) else "")


def _describe_status(status: VersionStatus, to: Message) -> None:
    to.version = status.version
    to.state = int(status.state)
    to.status.error_code = int(status.code)
    to.status.error_message = status.error
