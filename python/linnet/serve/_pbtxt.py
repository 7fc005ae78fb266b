"""Settings in protobuf's text format: Triton's config.pbtxt, and TF Serving's list of models."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from linnet.serve import _dtypes, _messages
from linnet.serve._config import ConfigError, ModelConfig, PortConfig, VersionPolicy, Warmup, WarmupInput, check_name

_BACKENDS = ("", "onnxruntime", "linnet", "onnxruntime_onnx")
_NO_EFFECT = (
    "metric_tags",
    "response_cache",
    "dynamic_batching.preserve_ordering",
    "dynamic_batching.priority_queue_policy",
    "dynamic_batching.default_queue_policy.timeout_action",
)
"""Fields that are known, as files from elsewhere have them, and change nothing here."""
_UNKNOWN = re.compile(r'(\d+):(\d+) : .*has no field named "([^"]+)"', re.DOTALL)


def parse(full_name: str, text: str, where: str) -> tuple[_messages.Message, list[str]]:
    """A message, and a warning for each field that is not known.

    Raises:
        ConfigError: with file and line.
    """
    warnings: list[str] = []
    lines = text.splitlines()
    while True:
        try:
            return _messages.parse_text(full_name, "\n".join(lines)), warnings
        except _messages.ParseError as error:
            unknown = _UNKNOWN.match(str(error))
            if unknown is None:
                line, column = error.GetLine(), error.GetColumn()
                place = f"{where}:{line}:{column}" if line else where
                raise ConfigError(f"{place}: {re.sub(r'^[0-9]+:[0-9]+ : ', '', str(error))}") from None
            line, column = int(unknown[1]), int(unknown[2])
            warnings.append(f"{where}:{line}: {unknown[3]} is not known and has no effect")
            if not _blank_field(lines, line - 1, column - 1, unknown[3]):
                raise ConfigError(f"{where}:{line}: {unknown[3]}: its value does not end") from None


def _blank_field(lines: list[str], line: int, column: int, name: str) -> bool:
    """Overwrites the field that begins about there, and its value, with spaces; False when it does not end."""
    start = lines[line].rfind(name, 0, column + len(name))
    if start < 0:
        start = lines[line].find(name)
    text = "\n".join(lines)
    begin = sum(len(one) + 1 for one in lines[:line]) + max(start, 0)
    end = _end_of_value(text, begin + len(name))
    if end < 0:
        return False
    blanked = re.sub(r"[^\n]", " ", text[begin:end])
    lines[:] = (text[:begin] + blanked + text[end:]).split("\n")
    return True


def _end_of_value(text: str, at: int) -> int:
    """Where the value ends that follows a field's name at ``at``; -1 when it does not."""
    depth, seen = 0, False
    for token in re.finditer(
        r'#[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|[{}\[\]<>]|[:;,]|[^\s{}\[\]<>:;,"\'#]+', text[at:]
    ):
        word = token[0]
        if word in "{[<":
            depth += 1
        elif word in "}]>":
            depth -= 1
            if depth < 0:
                return -1
        if word[0] not in "#:;,":
            seen = True
        if seen and depth == 0:
            return at + token.end()
    return -1


def read_triton(folder: Path) -> tuple[ModelConfig, list[str]]:
    """A model of a Triton repository: its folder's name and config.pbtxt, which may be absent.

    Raises:
        ConfigError: with file and line or field.
    """
    name = check_name(folder.name, str(folder))
    file = folder / "config.pbtxt"
    plain = ModelConfig(name, folder, "triton", source=str(folder))
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return plain, []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    message, warnings = parse("inference.ModelConfig", text, str(file))
    warnings += [f"{file}: {field} has no effect" for field in _NO_EFFECT if _is_set(message, field)]
    return from_triton(message, plain, str(file)), warnings


def _is_set(message: _messages.Message, path: str) -> bool:
    field, _, rest = path.partition(".")
    if not any(one.name == field for one, _ in message.ListFields()):
        return False
    return not rest or _is_set(getattr(message, field), rest)


def from_triton(message: _messages.Message, base: ModelConfig, where: str) -> ModelConfig:
    """``base`` with the settings of an ``inference.ModelConfig``."""
    if message.name and message.name != base.name:
        raise ConfigError(f"{where}: name: {message.name!r}, but the folder is called {base.name!r}: they must agree")
    for field in ("platform", "backend"):
        if getattr(message, field) not in _BACKENDS:
            raise ConfigError(
                f"{where}: {field}: {getattr(message, field)!r} is not served here; an ONNX model has "
                'backend: "onnxruntime" (or "linnet") or platform: "onnxruntime_onnx"'
            )
    scheduling = message.WhichOneof("scheduling_choice")
    if scheduling in ("sequence_batching", "ensemble_scheduling"):
        raise ConfigError(f"{where}: {scheduling}: models that keep state or join others are not served")
    if message.model_transaction_policy.decoupled:
        raise ConfigError(f"{where}: model_transaction_policy.decoupled: every request gets one answer here")
    if message.max_batch_size < 0:
        raise ConfigError(f"{where}: max_batch_size: {message.max_batch_size} is below 0")
    batching = message.dynamic_batching
    queue = batching.default_queue_policy
    if batching.default_priority_level > batching.priority_levels:
        raise ConfigError(
            f"{where}: dynamic_batching.default_priority_level: {batching.default_priority_level} of "
            f"{batching.priority_levels} levels"
        )
    return dataclasses.replace(
        base,
        source=where,
        filename=_plain_name(message.default_model_filename, f"{where}: default_model_filename"),
        policy=_policy(message.version_policy, where),
        max_batch_size=message.max_batch_size,
        batching=True if scheduling == "dynamic_batching" else None,
        refuse_larger_batches=message.max_batch_size > 0,
        queue_delay_us=batching.max_queue_delay_microseconds,
        preferred_batch_sizes=tuple(batching.preferred_batch_size),
        max_queue_requests=queue.max_queue_size or base.max_queue_requests,
        priority_levels=batching.priority_levels,
        default_priority=batching.default_priority_level,
        timeout_us=queue.default_timeout_microseconds,
        instances=sum(max(group.count, 1) for group in message.instance_group),
        inputs=tuple(_port(port, f"{where}: input") for port in message.input),
        outputs=tuple(_port(port, f"{where}: output") for port in message.output),
        warmup=tuple(_warmup(one, base.path, where) for one in message.model_warmup),
        parameters={key: value.string_value for key, value in message.parameters.items()},
    )


def _plain_name(name: str, where: str) -> str:
    if name and (Path(name).name != name or name.startswith(".")):
        raise ConfigError(f"{where}: {name!r} is not the plain name of a file in the version's folder")
    return name


def _policy(policy: _messages.Message, where: str) -> VersionPolicy:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy(latest=0)
    if choice == "specific":
        if not policy.specific.versions:
            raise ConfigError(f"{where}: version_policy.specific: names no version")
        return VersionPolicy(specific=tuple(sorted(policy.specific.versions)))
    return VersionPolicy(latest=policy.latest.num_versions or 1)


def _port(port: _messages.Message, where: str) -> PortConfig:
    if not port.name:
        raise ConfigError(f"{where}: an entry has no name")
    dtype = _messages.enum_name("inference.DataType", port.data_type)
    if not _dtypes.from_triton(dtype):
        raise ConfigError(f"{where} {port.name!r}: data_type is missing; an example is TYPE_FP32")
    if port.HasField("reshape"):
        raise ConfigError(f"{where} {port.name!r}: reshape is not supported: give dims as the model has them")
    return PortConfig(port.name, _dtypes.from_triton(dtype), tuple(port.dims))


def _warmup(one: _messages.Message, folder: Path, where: str) -> Warmup:
    inputs = {}
    for name, value in one.inputs.items():
        place = f"{where}: model_warmup {one.name!r}: {name}"
        dtype = _dtypes.from_triton(_messages.enum_name("inference.DataType", value.data_type))
        if not dtype:
            raise ConfigError(f"{place}: data_type is missing")
        if any(d < 0 for d in value.dims):
            raise ConfigError(f"{place}: dims {list(value.dims)}: every size must be given")
        kind = value.WhichOneof("input_data_type")
        file = _plain_name(value.input_data_file, place) if kind == "input_data_file" else ""
        inputs[name] = WarmupInput(
            dtype, tuple(value.dims), random=kind == "random_data", file=folder / "warmup" / file if file else None
        )
    return Warmup(inputs=inputs, batch_size=one.batch_size, count=one.count or 1)


def read_tensorflow(file: Path) -> tuple[list[ModelConfig], list[str]]:
    """The models of a TF Serving model config file (ModelServerConfig as text).

    Raises:
        ConfigError: with file and line or field.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    message, warnings = parse("tensorflow.serving.ModelServerConfig", text, str(file))
    models = list(from_tensorflow(message, str(file), file.parent))
    return models, warnings


def from_tensorflow(message: _messages.Message, where: str, beside: Path | None) -> Iterator[ModelConfig]:
    """The models of a ``tensorflow.serving.ModelServerConfig``; relative paths start from ``beside``."""
    if message.WhichOneof("config") == "custom_model_config":
        raise ConfigError(f"{where}: custom_model_config is not supported: use model_config_list")
    seen: set[str] = set()
    for one in message.model_config_list.config:
        name = check_name(one.name, f"{where}: model_config_list")
        place = f"{where}: model {name!r}"
        if name in seen:
            raise ConfigError(f"{place}: is listed twice")
        seen.add(name)
        path = Path(one.base_path)
        if not one.base_path or (beside is None and not path.is_absolute()):
            raise ConfigError(f"{place}: base_path: {one.base_path!r} is no absolute path")
        policy = one.model_version_policy.WhichOneof("policy_choice")
        labels = {str(label): int(version) for label, version in one.version_labels.items()}
        for label in labels:
            if not label or label.isdigit():
                raise ConfigError(f"{place}: version_labels: {label!r} is no label: it would read as a version")
        yield ModelConfig(
            name,
            path if beside is None else beside / path,
            "tensorflow",
            source=where,
            policy=_policy(one.model_version_policy, place) if policy else VersionPolicy(),
            labels=labels,
        )
