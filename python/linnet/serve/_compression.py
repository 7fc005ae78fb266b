"""Compressed messages, made plain without ever holding more than a message may have."""

from __future__ import annotations

import zlib

from linnet._errors import ServeError
from linnet.serve._codes import Code

_FIRST = (b"\x1f", b"\x78")
"""What gzip's and zlib's formats begin with. No message of ours does: in protobuf, these are a field with a type that
does not exist, and a field 15."""


class TooLarge(ServeError):
    """A message has more bytes than are allowed, as it came or decompressed."""

    def __init__(self, limit: int) -> None:
        super().__init__(Code.RESOURCE_EXHAUSTED, f"the request has more than {limit} bytes")


def plain(message: bytes, limit: int) -> bytes:
    """A gRPC message as it was before the client compressed it.

    The library leaves that to us: it would inflate a message whatever became of it, and look at its size then.
    """
    if message[:1] not in _FIRST:
        return message
    try:
        return inflate(message, limit, zlib.MAX_WBITS | 32)
    except zlib.error:
        return message  # not compressed; the codec says what is wrong with it


def inflate(data: bytes, limit: int, wbits: int) -> bytes:
    """Decompresses.

    Raises:
        TooLarge: there are more than ``limit`` bytes.
        ServeError: INVALID_ARGUMENT, the data end too early.
        zlib.error: they are of another format.
    """
    reader = zlib.decompressobj(wbits)
    found = reader.decompress(data, limit + 1)
    if len(found) > limit:
        raise TooLarge(limit)
    if not reader.eof:
        raise ServeError(Code.INVALID_ARGUMENT, "the compressed message is not whole")
    return found


def inflate_http(data: bytes, encoding: str, limit: int) -> bytes:
    """A body as its Content-Encoding says it is.

    Raises:
        ServeError: as `inflate`; UNIMPLEMENTED for another encoding.
    """
    try:
        if encoding == "gzip":
            return inflate(data, limit, zlib.MAX_WBITS | 16)
        if encoding == "deflate":
            try:
                return inflate(data, limit, zlib.MAX_WBITS)
            except zlib.error:
                return inflate(data, limit, -zlib.MAX_WBITS)  # what some take "deflate" for
    except zlib.error as error:
        raise ServeError(Code.INVALID_ARGUMENT, f"the body is not {encoding}: {error}") from None
    if encoding in ("", "identity"):
        return data
    raise ServeError(Code.UNIMPLEMENTED, f"bodies in {encoding!r} are not taken: use gzip or deflate")
