"""As much of protobuf's wire format as a client's messages need: length-delimited fields and varints."""

from __future__ import annotations

from collections.abc import Iterator


def varint(value: int) -> bytes:
    """A number of 64 bits; negative ones in two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """A varint field."""
    return varint(field << 3) + varint(value)


def data(field: int, value: bytes) -> bytes:
    """A length-delimited field: bytes, or a message."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def text(field: int, value: str) -> bytes:
    """A string field; nothing for the empty string, as protobuf has it."""
    return data(field, value.encode()) if value else b""


def fields(message: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: numbers of varints, views of all else. ValueError for what is no message."""
    view = memoryview(message)
    at = 0
    while at < len(view):
        tag, at = _read_varint(view, at)
        kind = tag & 7
        if kind == 0:
            value, at = _read_varint(view, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _read_varint(view, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(view):
            raise ValueError("the message ends early")
        yield tag >> 3, view[at : at + size]
        at += size


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(view) and shift < 70:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & ((1 << 64) - 1), at
        shift += 7
    raise ValueError("the message ends inside a number")


def varints(value: int | memoryview) -> list[int]:
    """A repeated int64 field's values: one, or a packed run; signed."""
    if isinstance(value, int):
        return [_signed(value)]
    out, at = [], 0
    while at < len(value):
        one, at = _read_varint(value, at)
        out.append(_signed(one))
    return out


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
