"""Names of element types: Linnet's, those of the Open Inference Protocol, of Triton's files and of TensorFlow."""

from __future__ import annotations

# Linnet's (as in a port's `dtype`), the protocol's, that of config.pbtxt, DataType in TensorFlow's types.proto.
_TABLE = (
    ("bool", "BOOL", "TYPE_BOOL", 10),
    ("uint8", "UINT8", "TYPE_UINT8", 4),
    ("uint16", "UINT16", "TYPE_UINT16", 17),
    ("uint32", "UINT32", "TYPE_UINT32", 22),
    ("uint64", "UINT64", "TYPE_UINT64", 23),
    ("int8", "INT8", "TYPE_INT8", 6),
    ("int16", "INT16", "TYPE_INT16", 5),
    ("int32", "INT32", "TYPE_INT32", 3),
    ("int64", "INT64", "TYPE_INT64", 9),
    ("float16", "FP16", "TYPE_FP16", 19),
    ("float32", "FP32", "TYPE_FP32", 1),
    ("float64", "FP64", "TYPE_FP64", 2),
    ("str", "BYTES", "TYPE_STRING", 7),
    ("bfloat16", "BF16", "TYPE_BF16", 14),
    ("complex64", "", "", 8),
    ("complex128", "", "", 18),
)
_OIP = {row[0]: row[1] for row in _TABLE}
_TRITON = {row[0]: row[2] for row in _TABLE}
_TENSORFLOW = {row[0]: row[3] for row in _TABLE}
_FROM_TRITON = {row[2]: row[0] for row in _TABLE if row[2]}

_FROM_OIP = {row[1]: row[0] for row in _TABLE if row[1]}


def from_oip(name: str) -> str:
    """Linnet's name for one of the protocol; empty where there is none."""
    return _FROM_OIP.get(name, "")


def oip_name(dtype: str) -> str:
    """As in ModelMetadata ("FP32"); Linnet's own name, in capitals, where the protocol has none."""
    return _OIP.get(dtype, "") or dtype.upper()


def triton_name(dtype: str) -> str:
    """As in config.pbtxt ("TYPE_FP32"); "TYPE_INVALID" where it has none."""
    return _TRITON.get(dtype, "") or "TYPE_INVALID"


def from_triton(name: str) -> str:
    """Linnet's name for one of config.pbtxt; empty where there is none."""
    return _FROM_TRITON.get(name, "")


def tensorflow_number(dtype: str) -> int:
    """The number in TensorFlow's types.proto; 0 where it has none."""
    return _TENSORFLOW.get(dtype, 0)
