"""Messages as JSON objects, as the REST forms of the protocols have them."""

from __future__ import annotations

import base64
import json
from typing import Any

from linnet.serve import _messages

_INTEGERS_64 = {3, 4, 6, 16, 18}  # types of fields: int64, uint64, fixed64, sfixed64, sint64
_MESSAGE, _ENUM, _BYTES = 11, 14, 12


def as_json(message: _messages.Message, *, text_numbers: bool = False) -> dict[str, Any]:
    """All fields by their names in the protocol, those at their default included; messages that are absent are left
    out. ``text_numbers``: 64-bit integers are texts, as protobuf's own JSON has them."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            kind = field.message_type.fields_by_name["value"]
            entries = getattr(message, field.name)
            found[field.name] = {str(key): _value(kind, entries[key], text_numbers) for key in sorted(entries)}
        elif _is_repeated(field):
            found[field.name] = [_value(field, one, text_numbers) for one in getattr(message, field.name)]
        elif field.has_presence:
            if message.HasField(field.name):
                found[field.name] = _value(field, getattr(message, field.name), text_numbers)
        else:
            found[field.name] = _value(field, getattr(message, field.name), text_numbers)
    return found


def _is_repeated(field: Any) -> bool:
    repeated = getattr(field, "is_repeated", None)  # `label` before protobuf 6
    return bool(field.label == 3 if repeated is None else repeated)


def _value(field: Any, value: Any, text_numbers: bool) -> Any:
    if field.type == _MESSAGE:
        return as_json(value, text_numbers=text_numbers)
    if field.type == _ENUM:
        named = field.enum_type.values_by_number.get(value)
        return value if named is None else named.name
    if field.type == _BYTES:
        return base64.b64encode(value).decode()
    if text_numbers and field.type in _INTEGERS_64:
        return str(value)
    return value


def encode(value: Any) -> bytes:
    """JSON's bytes."""
    return json.dumps(value, separators=(",", ":")).encode()
