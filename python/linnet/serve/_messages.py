"""The protocols' messages, for what is not the request path (that is C++ and reads bytes).

They live in a descriptor pool of their own. protobuf's default pool is left alone: a client library that registers
messages of the same names there can be imported in the same process, before or after this module.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import resources
from typing import Any

try:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
    from google.protobuf.message import DecodeError
except ImportError as error:
    raise ImportError(f"serving needs protobuf ({error}); install it with: pip install 'linnet[serve]'") from error

from linnet._errors import ServeError
from linnet.serve._codes import Code

Message = Any
"""A protobuf message; their classes are made at run time."""

ParseError = text_format.ParseError


@functools.cache
def _pool() -> Any:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(
        resources.files(__package__).joinpath("_descriptors.binpb").read_bytes()
    ).file:
        pool.Add(file)
    return pool


@functools.cache
def message_class(full_name: str) -> Any:
    """The class of messages of that full name, as in ``inference.ModelConfig``."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(full_name))


def parse(full_name: str, data: bytes) -> Message:
    """A message from its bytes.

    Raises:
        ServeError: INVALID_ARGUMENT; the bytes are no such message.
    """
    try:
        return message_class(full_name).FromString(data)
    except DecodeError as error:
        raise ServeError(Code.INVALID_ARGUMENT, f"the request is not a {full_name}: {error}") from None


def handler(request: str, function: Callable[[Message], Message]) -> Callable[[bytes], bytes]:
    """A function of messages as one of bytes; ``request`` is the full name of what goes in."""

    def call(data: bytes) -> bytes:
        return bytes(function(parse(request, data)).SerializeToString())

    return call


def absent(text: str) -> Callable[[bytes], bytes]:
    """A method that is declared and not offered."""

    def call(_: bytes) -> bytes:
        raise ServeError(Code.UNIMPLEMENTED, text)

    return call


def parse_text(full_name: str, text: str, *, ignore_unknown: bool = False) -> Message:
    """A message from protobuf's text format; `ParseError` says the line."""
    return text_format.Parse(
        text, message_class(full_name)(), allow_unknown_field=ignore_unknown, descriptor_pool=_pool()
    )


def enum_number(full_name: str, value: str) -> int:
    """The number of an enumeration's value."""
    return int(_pool().FindEnumTypeByName(full_name).values_by_name[value].number)


def enum_name(full_name: str, number: int) -> str:
    """The name of an enumeration's value; the number as text where it has none."""
    value = _pool().FindEnumTypeByName(full_name).values_by_number.get(number)
    return str(number) if value is None else str(value.name)


def service_methods(full_name: str) -> dict[str, tuple[str, str]]:
    """Names of the messages that go in and out of each method of a service."""
    service = _pool().FindServiceByName(full_name)
    return {m.name: (m.input_type.full_name, m.output_type.full_name) for m in service.methods}


def file_by_name(name: str) -> Any:
    """The descriptor of a ``.proto`` file; KeyError when there is none."""
    return _pool().FindFileByName(name)


def file_with_symbol(symbol: str) -> Any:
    """The descriptor of the file that defines a message, field, service, method ...; KeyError when there is none."""
    try:
        return _pool().FindFileContainingSymbol(symbol)
    except KeyError:  # some implementations do not find a method by its name
        service, _, method = symbol.rpartition(".")
        return _pool().FindServiceByName(service).methods_by_name[method].containing_service.file
