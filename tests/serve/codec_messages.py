"""The protocols' messages in a private pool, tensors of every type, and what the codec tests do with the wires."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import DTypeLike, NDArray

import linnet
from linnet._core import testing

Array = NDArray[Any]

INVALID_ARGUMENT, UNIMPLEMENTED = 3, 12

SHAPES: list[tuple[int, ...]] = [(), (1,), (7,), (0,), (2, 3), (2, 0, 3), (1, 1, 1, 5), (3, 1, 2, 1, 2, 1, 2, 1)]

OIP_TYPES: dict[str, DTypeLike] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}


@functools.cache
def pool() -> descriptor_pool.DescriptorPool:
    made = descriptor_pool.DescriptorPool()
    path = Path(linnet.__file__).parent / "serve" / "_descriptors.binpb"
    for file in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file:
        made.Add(file)
    return made


def message(full_name: str) -> Any:
    """A new message of that full name."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(full_name))()


def random_array(rng: np.random.Generator, dtype: DTypeLike, shape: tuple[int, ...]) -> Array:
    """Any bits there are, NaN included; texts of bytes."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    if dtype == np.object_:
        texts = [rng.bytes(int(rng.integers(0, 20))) for _ in range(count)]
        array = np.empty(count, dtype=object)
        array[:] = texts
        return array.reshape(shape)
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(bool)
    return np.frombuffer(rng.bytes(count * dtype.itemsize), dtype=dtype).reshape(shape)


def same_bits(a: Array, b: Array) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.tolist() == b.tolist() if a.dtype == np.object_ else a.tobytes() == b.tobytes()


def refused(code: int, match: str, wire: str, body: bytes, **more: Any) -> None:
    """The request is refused with that code, and a message that has ``match`` in it."""
    with pytest.raises(ValueError) as caught:
        testing.decode(wire, body, **more)
    got, text = caught.value.args
    assert (got, match in text) == (code, True), (got, text)


def truncations(body: bytes) -> Iterator[bytes]:
    for size in range(len(body)):
        yield body[:size]


def mutations(body: bytes, count: int, seed: int) -> Iterator[bytes]:
    """The bytes with some of them replaced, removed, doubled or moved, by chance."""
    chance = random.Random(seed)
    for _ in range(count):
        changed = bytearray(body)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(changed))
            kind = chance.randrange(4)
            if kind == 0:
                changed[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
            elif kind == 1:
                del changed[at : at + chance.randint(1, 4)]
            elif kind == 2:
                changed[at:at] = changed[at : at + chance.randint(1, 8)]
            else:
                changed[at:at] = chance.randbytes(chance.randint(1, 8))
            changed = changed or bytearray(b"\0")
        yield bytes(changed)


def survives(wire: str, bodies: Iterator[bytes], valid: Callable[[bytes], bool] | None = None, **more: Any) -> int:
    """Every one of the bodies gives a request or a clear refusal. What ``valid`` finds malformed must be refused.

    Returns how many were refused.
    """
    count = 0
    for body in bodies:
        try:
            testing.decode(wire, body, **more)
        except ValueError as error:
            code, text = error.args
            assert code in (INVALID_ARGUMENT, UNIMPLEMENTED) and text
            count += 1
        else:
            assert valid is None or valid(body), body
    return count
