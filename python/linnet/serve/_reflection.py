"""Server reflection (v1 and v1alpha, which differ in their name only): what services there are, and their messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from linnet.serve import _messages
from linnet.serve._codes import Code

VERSIONS = ("v1", "v1alpha")


def service(version: str = "v1") -> str:
    """The reflection service's full name."""
    return f"grpc.reflection.{version}.ServerReflection"


class Reflection:
    """Answers reflection requests for the services it is given (full names)."""

    def __init__(self, services: Sequence[str]) -> None:
        self.services = sorted({*services, *(service(version) for version in VERSIONS)})

    def info(self, requests: Iterable[bytes], version: str = "v1") -> Iterator[bytes]:
        """ServerReflectionInfo: a ServerReflectionResponse for each ServerReflectionRequest."""
        for request in requests:
            yield self.answer(request, version)

    def answer(self, request: bytes, version: str = "v1") -> bytes:
        """One answer; what cannot be found is an ErrorResponse in it, as the protocol has it."""
        package = f"grpc.reflection.{version}"
        asked = _messages.parse(f"{package}.ServerReflectionRequest", request)
        answer = _messages.message_class(f"{package}.ServerReflectionResponse")()
        answer.valid_host = asked.host
        answer.original_request.CopyFrom(asked)
        kind = asked.WhichOneof("message_request")
        try:
            if kind == "list_services":
                for name in self.services:
                    answer.list_services_response.service.add(name=name)
            elif kind == "file_by_filename":
                answer.file_descriptor_response.file_descriptor_proto.extend(
                    _with_dependencies(_messages.file_by_name(asked.file_by_filename))
                )
            elif kind == "file_containing_symbol":
                answer.file_descriptor_response.file_descriptor_proto.extend(
                    _with_dependencies(_messages.file_with_symbol(asked.file_containing_symbol))
                )
            elif kind == "all_extension_numbers_of_type":
                _messages.message_class(asked.all_extension_numbers_of_type)  # proto3 has no extensions
                answer.all_extension_numbers_response.base_type_name = asked.all_extension_numbers_of_type
            elif kind == "file_containing_extension":
                raise KeyError(asked.file_containing_extension.containing_type)
            else:
                answer.error_response.error_code = Code.INVALID_ARGUMENT
                answer.error_response.error_message = "the request asks for nothing that reflection knows"
        except KeyError:
            asked_for = asked.file_containing_extension.containing_type or getattr(asked, str(kind))
            answer.error_response.error_code = Code.NOT_FOUND
            answer.error_response.error_message = f"not found: {asked_for}"
        return bytes(answer.SerializeToString())


def _with_dependencies(file: Any) -> list[bytes]:
    """The file and all that it imports, serialized: a client needs no second question."""
    found: dict[str, bytes] = {}
    waiting = [file]
    while waiting:
        descriptor = waiting.pop()
        if descriptor.name not in found:
            found[descriptor.name] = descriptor.serialized_pb
            waiting.extend(descriptor.dependencies)
    return list(found.values())
