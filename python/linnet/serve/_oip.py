"""The Open Inference Protocol but for inference: health, metadata, configuration, statistics, repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from google.protobuf import json_format

from linnet import _core
from linnet._errors import ServeError
from linnet.serve import _dtypes, _messages
from linnet.serve._codes import Code
from linnet.serve._loading import Loaded
from linnet.serve._messages import Message
from linnet.serve._repository import Repository
from linnet.serve._states import ModelView, State

SERVICE = "inference.GRPCInferenceService"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "statistics",
)
PLATFORM = "linnet_onnx"

_ABSENT = {
    "SystemSharedMemoryStatus": "shared memory",
    "SystemSharedMemoryRegister": "shared memory",
    "SystemSharedMemoryUnregister": "shared memory",
    "CudaSharedMemoryStatus": "CUDA shared memory",
    "CudaSharedMemoryRegister": "CUDA shared memory",
    "CudaSharedMemoryUnregister": "CUDA shared memory",
    "TraceSetting": "changing what is traced",
    "LogSettings": "changing what is logged",
}
_STATES = {
    State.START: "LOADING",
    State.LOADING: "LOADING",
    State.AVAILABLE: "READY",
    State.UNLOADING: "UNLOADING",
    State.END: "UNAVAILABLE",
}


class Oip:
    """The service's methods, as functions of request messages.

    Args:
        repository: the models.
        name, version: of the server.
    """

    def __init__(self, repository: Repository, name: str, version: str) -> None:
        self._repository, self._name, self._version = repository, name, version

    def methods(self, admin: bool) -> dict[str, Callable[[bytes], bytes]]:
        """Paths of the calls, and functions from a request's bytes to an answer's."""
        served: dict[str, Callable[[Message], Message]] = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            "RepositoryIndex": self.repository_index,
            "RepositoryModelLoad": partial(self.load, admin=admin),
            "RepositoryModelUnload": partial(self.unload, admin=admin),
        }
        table = {
            f"/{SERVICE}/{name}": _messages.handler(f"inference.{name}Request", function)
            for name, function in served.items()
        }
        return table | {
            f"/{SERVICE}/{name}": _messages.absent(f"{what} is not offered") for name, what in _ABSENT.items()
        }

    def server_live(self, request: Message) -> Message:
        return _new("ServerLiveResponse", live=True)

    def server_ready(self, request: Message) -> Message:
        return _new("ServerReadyResponse", ready=self._repository.ready)

    def model_ready(self, request: Message) -> Message:
        return _new("ModelReadyResponse", ready=self.is_ready(request.name, request.version))

    def is_ready(self, name: str, version: str) -> bool:
        """Whether the model (and version) answers requests; unknown ones do not."""
        try:
            self._repository.view(name).find(version)
        except ServeError:
            return False
        return True

    def server_metadata(self, request: Message) -> Message:
        return _new("ServerMetadataResponse", name=self._name, version=self._version, extensions=EXTENSIONS)

    def model_metadata(self, request: Message) -> Message:
        view = self._repository.view(request.name)
        loaded = view.find(request.version)
        answer = _new("ModelMetadataResponse", name=view.name, platform=PLATFORM)
        answer.versions.extend(str(version) for version in view.active)
        for ports, to in ((loaded.inputs, answer.inputs), (loaded.outputs, answer.outputs)):
            for port in ports:
                to.add(name=port["name"], datatype=_dtypes.oip_name(port["dtype"]), shape=dims_of(port))
        return answer

    def model_config(self, request: Message) -> Message:
        view = self._repository.view(request.name)
        answer = _new("ModelConfigResponse")
        _describe(view, view.find(request.version), answer.config)
        return answer

    def model_statistics(self, request: Message) -> Message:
        views = [self._repository.view(request.name)] if request.name else self._repository.views.values()
        answer = _new("ModelStatisticsResponse")
        for view in views:
            chosen = [view.find(request.version)] if request.version else list(view.active.values())
            for loaded in chosen:
                _count(view, loaded, answer.model_stats.add())
        return answer

    def repository_index(self, request: Message) -> Message:
        _refuse_repository(request)
        answer = _new("RepositoryIndexResponse")
        for view in self._repository.views.values():
            rows = 0
            for status in view.statuses.values():
                state = _STATES[status.state]
                rows += 1
                if state == "READY" or not request.ready:
                    reason = status.error or ("" if state == "READY" else status.state.name.lower())
                    if state == "READY" and status.version == view.default:
                        reason = view.problem
                    answer.models.add(name=view.name, version=str(status.version), state=state, reason=reason)
            if not rows and not request.ready:
                reason = view.problem or ("" if view.wanted else "not loaded")
                answer.models.add(name=view.name, state="UNAVAILABLE", reason=reason)
        return answer

    def load(self, request: Message, admin: bool = False) -> Message:
        """RepositoryModelLoad. Linnet's own parameter ``rollback``: true returns to the model's former versions."""
        _refuse_repository(request)
        self._check_control(admin)
        overrides = None
        for key, value in request.parameters.items():
            if key == "rollback" and value.bool_param and len(request.parameters) == 1:
                self._repository.rollback(request.model_name)
                return _new("RepositoryModelLoadResponse")
            if key != "config":
                raise ServeError(
                    Code.INVALID_ARGUMENT, f"parameter '{key}' is not supported: models come from the repository only"
                )
            overrides = _read_overrides(value.string_param)
        self._repository.load(request.model_name, overrides)
        return _new("RepositoryModelLoadResponse")

    def unload(self, request: Message, admin: bool = False) -> Message:
        _refuse_repository(request)
        self._check_control(admin)
        for key in request.parameters:
            if key != "unload_dependents":
                raise ServeError(Code.INVALID_ARGUMENT, f"parameter '{key}' is not supported")
        self._repository.unload(request.model_name)
        return _new("RepositoryModelUnloadResponse")

    def rollback(self, name: str, admin: bool) -> list[int]:
        """Returns to a model's former versions; gives those that serve now. Linnet's own REST call."""
        self._check_control(admin)
        return self._repository.rollback(name)

    def _check_control(self, admin: bool) -> None:
        control = self._repository.configuration.server.control
        if not admin and control != "explicit":
            raise ServeError(
                Code.UNAVAILABLE,
                "models are not loaded and unloaded by request here: the server runs with "
                f"control '{control}', not 'explicit'",
            )


def _new(kind: str, **fields: object) -> Message:
    return _messages.message_class(f"inference.{kind}")(**fields)


def _refuse_repository(request: Message) -> None:
    if request.repository_name:
        raise ServeError(Code.UNIMPLEMENTED, "repositories have no names here: leave repository_name empty")


def _read_overrides(text: str) -> Message:
    """A configuration in a request: what it may say, it says of how the model runs, never of files."""
    try:
        message = json_format.Parse(text, _new("ModelConfig"))
    except json_format.ParseError as error:
        raise ServeError(Code.INVALID_ARGUMENT, f"parameter 'config': {error}") from None
    named = [name for name in ("default_model_filename",) if getattr(message, name)]
    if any(one.input_data_file for warmup in message.model_warmup for one in warmup.inputs.values()):
        named.append("input_data_file")
    if named:
        raise ServeError(Code.INVALID_ARGUMENT, f"parameter 'config': {named[0]} names a file: a request may not")
    return message


def dims_of(port: _core.Port) -> list[int]:
    """A port's dimensions, -1 where they are free."""
    return [d if isinstance(d, int) else -1 for d in port["shape"] or ()]


def _rows_limit(loaded: Loaded) -> int:
    """``max_batch_size`` as clients are to understand it: 0 when dimensions are given with the batch in them."""
    ports = (*loaded.inputs, *loaded.outputs)
    if not all(dims_of(port)[:1] == [-1] for port in ports):
        return 0
    if loaded.config.max_batch_size is not None:
        return loaded.config.max_batch_size
    return loaded.max_batch if loaded.max_batch > 1 else 0


def _describe(view: ModelView, loaded: Loaded, to: Message) -> None:
    """An ``inference.ModelConfig`` of what runs."""
    config = loaded.config
    limit = _rows_limit(loaded)
    to.name = view.name
    to.platform = PLATFORM
    to.backend = "linnet"
    to.max_batch_size = limit
    to.default_model_filename = "" if loaded.files.model is None else loaded.files.model.name
    policy = view.config.policy
    if policy.specific:
        to.version_policy.specific.versions.extend(policy.specific)
    elif policy.latest:
        to.version_policy.latest.num_versions = policy.latest
    else:
        to.version_policy.all.SetInParent()
    for ports, entries in ((loaded.inputs, to.input), (loaded.outputs, to.output)):
        for port in ports:
            dtype = _messages.enum_number("inference.DataType", _dtypes.triton_name(port["dtype"]))
            entries.add(name=port["name"], data_type=dtype, dims=dims_of(port)[1 if limit else 0 :])
    for entry, port in zip(to.input, loaded.inputs, strict=True):
        entry.optional = port["optional"]
    if loaded.max_batch > 1:
        batching = to.dynamic_batching
        batching.SetInParent()
        batching.preferred_batch_size.extend(config.preferred_batch_sizes)
        batching.max_queue_delay_microseconds = config.queue_delay_us
        batching.priority_levels = config.priority_levels
        batching.default_priority_level = config.default_priority
        batching.default_queue_policy.max_queue_size = config.max_queue_requests
        batching.default_queue_policy.default_timeout_microseconds = config.timeout_us
        batching.default_queue_policy.allow_timeout_override = True
    kind = _messages.enum_number("inference.ModelInstanceGroup.Kind", "KIND_CPU")
    to.instance_group.add(name=view.name, kind=kind, count=max(1, config.instances))
    for key, value in config.parameters.items():
        to.parameters[key].string_value = value


def _count(view: ModelView, loaded: Loaded, to: Message) -> None:
    """An ``inference.ModelStatistics`` of a version."""
    counts = loaded.served.statistics()
    to.name, to.version = view.name, str(loaded.version)
    to.last_inference = counts["last_ms"]
    to.inference_count = counts["inference_count"]
    to.execution_count = counts["execution_count"]
    stats = to.inference_stats
    for ours, theirs in (
        ("success", stats.success),
        ("fail", stats.fail),
        ("queue", stats.queue),
        ("decode", stats.compute_input),
        ("run", stats.compute_infer),
        ("encode", stats.compute_output),
    ):
        _spent(counts[ours], theirs)
    for rows, spent in sorted(counts["batches"].items()):
        batch = to.batch_stats.add(batch_size=rows)
        _spent(spent, batch.compute_infer)
        for other in (batch.compute_input, batch.compute_output):  # not counted by size of batch
            other.count = spent["count"]
    to.memory_usage.add(type="CPU", byte_size=loaded.bytes)


def _spent(spent: Mapping[str, int], to: Message) -> None:
    to.count, to.ns = spent["count"], spent["ns"]
