"""The REST forms of the control calls: v2 of the Open Inference Protocol, v1 of TF Serving."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from linnet._errors import ServeError
from linnet.serve import _messages
from linnet.serve._codes import Code, http_status
from linnet.serve._json import as_json, encode
from linnet.serve._messages import Message
from linnet.serve._oip import Oip
from linnet.serve._tensorflow import TensorFlow

Answer = tuple[int, str, bytes]
"""Status, content type, content."""

_JSON = "application/json"
_V1 = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[^/:]+)|/labels/(?P<label>[^/:]+))?(?P<metadata>/metadata)?"
)
_V2_MODEL = re.compile(
    r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/(?P<what>ready|config|stats|trace/setting))?"
)
_V2_REPOSITORY = re.compile(r"/v2/repository/models/(?P<model>[^/]+)/(?P<what>load|unload|rollback)")
_ABSENT = re.compile(r"/v2/(systemsharedmemory|cudasharedmemory|trace|logging)(/.*)?|/v2/models/[^/]+/trace/setting")


class Rest:
    """Answers requests by method, path and body."""

    def __init__(self, oip: Oip, tensorflow: TensorFlow) -> None:
        self._oip, self._tensorflow = oip, tensorflow

    def answer(self, method: str, path: str, body: bytes, admin: bool = False) -> Answer | None:
        """The answer; None for a path that is not one of these. Errors are JSON objects with the key "error"."""
        try:
            return self._answer(method, path.split("?", 1)[0].rstrip("/"), body, admin)
        except ServeError as error:
            return http_status(error.code), _JSON, encode({"error": str(error)})

    def _answer(self, method: str, path: str, body: bytes, admin: bool) -> Answer | None:
        if path == "/v2":
            return _only("GET", method) or _found(as_json(self._oip.server_metadata(None)))
        if path in ("/v2/health/live", "/v2/health/ready"):
            ready = path.endswith("live") or self._oip.server_ready(None).ready
            return _only("GET", method) or _ready(ready, "the server is not ready")
        if path == "/v2/models/stats":
            return _only("GET", method) or _found(as_json(self._oip.model_statistics(_v2("ModelStatisticsRequest"))))
        if path == "/v2/repository/index":
            return _only("POST", method) or self._index(_object(body))
        if _ABSENT.fullmatch(path):
            raise ServeError(Code.UNIMPLEMENTED, f"{path} is not offered")
        if match := _V2_REPOSITORY.fullmatch(path):
            return _only("POST", method) or self._change(match, _object(body), admin)
        if match := _V2_MODEL.fullmatch(path):
            return _only("GET", method) or self._model(match)
        if match := _V1.fullmatch(path):
            return _only("GET", method) or self._v1(match)
        return None

    def _model(self, match: re.Match[str]) -> Answer:
        name, version, what = unquote(match["model"]), unquote(match["version"] or ""), match["what"]
        if what == "ready":
            return _ready(self._oip.is_ready(name, version), f"model '{name}' is not ready")
        call: dict[str | None, tuple[str, Callable[[Message], Message]]] = {
            None: ("ModelMetadataRequest", self._oip.model_metadata),
            "config": ("ModelConfigRequest", self._oip.model_config),
            "stats": ("ModelStatisticsRequest", self._oip.model_statistics),
        }
        kind, function = call[what]
        found = as_json(function(_v2(kind, name=name, version=version)))
        if what is None:
            del found["properties"]  # as Triton answers; it is the protocol's own and always empty here
        return _found(found["config"] if what == "config" else found)

    def _index(self, body: dict[str, Any]) -> Answer:
        request = _v2("RepositoryIndexRequest", ready=bool(body.get("ready", False)))
        return _found([_without_empty(row) for row in as_json(self._oip.repository_index(request))["models"]])

    def _change(self, match: re.Match[str], body: dict[str, Any], admin: bool) -> Answer:
        name, what = unquote(match["model"]), match["what"]
        if what == "rollback":
            return _found({"versions": [str(version) for version in self._oip.rollback(name, admin)]})
        kind = "RepositoryModelLoadRequest" if what == "load" else "RepositoryModelUnloadRequest"
        request = _v2(kind, model_name=name)
        parameters = body.get("parameters", {})
        if not isinstance(parameters, dict):
            raise ServeError(Code.INVALID_ARGUMENT, "parameters: not a JSON object")
        for key, value in parameters.items():
            if isinstance(value, bool):
                request.parameters[key].bool_param = value
            else:
                request.parameters[key].string_param = value if isinstance(value, str) else json.dumps(value)
        (self._oip.load if what == "load" else self._oip.unload)(request, admin=admin)
        return _found({})

    def _v1(self, match: re.Match[str]) -> Answer:
        spec = _messages.message_class("tensorflow.serving.ModelSpec")(name=unquote(match["model"]))
        if match["version"]:
            if not re.fullmatch(r"[0-9]{1,18}", match["version"]):
                raise ServeError(Code.INVALID_ARGUMENT, f"'{match['version']}' is not a version's number")
            spec.version.value = int(match["version"])
        elif match["label"]:
            spec.version_label = unquote(match["label"])
        if match["metadata"]:
            return _found(self._metadata(spec))
        answer = self._tensorflow.status(_v1("GetModelStatusRequest", model_spec=spec))
        found = as_json(answer, text_numbers=True)
        for row in found["model_version_status"]:
            row["status"]["error_code"] = Code(row["status"]["error_code"]).name
        return _found(found)

    def _metadata(self, spec: Message) -> dict[str, Any]:
        answer = self._tensorflow.metadata(
            _v1("GetModelMetadataRequest", model_spec=spec, metadata_field=["signature_def"])
        )
        packed = answer.metadata["signature_def"]
        signatures = _messages.parse(packed.type_url.rsplit("/", 1)[-1], packed.value)
        model = {
            "name": answer.model_spec.name,
            "signature_name": answer.model_spec.signature_name,
            "version": str(answer.model_spec.version.value),
        }
        return {"model_spec": model, "metadata": {"signature_def": as_json(signatures, text_numbers=True)}}


def _v2(kind: str, **fields: object) -> Message:
    return _messages.message_class(f"inference.{kind}")(**fields)


def _v1(kind: str, **fields: object) -> Message:
    return _messages.message_class(f"tensorflow.serving.{kind}")(**fields)


def _found(value: Any) -> Answer:
    return 200, _JSON, encode(value)


def _ready(ready: bool, text: str) -> Answer:
    return (200, _JSON, b"{}") if ready else (503, _JSON, encode({"error": text}))


def _only(wanted: str, method: str) -> Answer | None:
    if method == wanted or (method == "HEAD" and wanted == "GET"):
        return None
    return 405, _JSON, encode({"error": f"{method} is not offered here: {wanted} is"})


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise ServeError(Code.INVALID_ARGUMENT, f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ServeError(Code.INVALID_ARGUMENT, "the body is not a JSON object")
    return value


def _without_empty(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value != "" or key == "name"}
