"""The bytes that real clients send, and what they make of the answers."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from client_worker import Worker
from codec_messages import OIP_TYPES, SHAPES, Array, random_array, same_bits
from linnet._core import testing

CLIENT = "triton_messages"


def arrays_of(datatype: str) -> dict[str, Array]:
    rng = np.random.default_rng(4)
    return {f"x{i}": random_array(rng, OIP_TYPES[datatype], shape) for i, shape in enumerate(SHAPES)}


def check(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert same_bits(np.asarray(found[name]), array), name


def inputs(decoded: dict[str, Any]) -> dict[str, Array]:
    return {name: array for name, array, _ in decoded["inputs"]}


@pytest.mark.parametrize("datatype", OIP_TYPES)
def test_tritonclient_grpc(triton: Worker, datatype: str) -> None:
    arrays = arrays_of(datatype)
    classes = 0 if datatype == "BYTES" else 2
    body, for_all = triton.call(CLIENT, "grpc_request", arrays, datatype, classes)
    decoded = testing.decode("oip", body)
    check(inputs(decoded), arrays)
    said = (decoded["model"], decoded["version"], decoded["id"], decoded["sequence"], decoded["priority"])
    assert said == ("m", "3", "id", "42", 1) and decoded["timeout_us"] == 2000

    reply, _ = testing.answer("oip", for_all, list(arrays.items()))
    check(triton.call(CLIENT, "grpc_read", reply, list(arrays)), arrays)
    if classes:
        reply, _ = testing.answer("oip", body, [("x2", np.array([0.5, 0.25, 1], np.float32))])
        assert triton.call(CLIENT, "grpc_read", reply, ["x2"])["x2"].tolist() == [b"1.0:2", b"0.5:0"]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", OIP_TYPES)
def test_tritonclient_http(triton: Worker, datatype: str, binary: bool) -> None:
    arrays = arrays_of(datatype)
    body, size = triton.call(CLIENT, "http_request", arrays, datatype)
    decoded = testing.decode("rest_v2", body, json_size=-1 if size is None else size)
    check(inputs(decoded), arrays)
    assert decoded["binary_outputs"] and decoded["id"] == "7" and decoded["sequence"] == "3"

    answers = arrays
    if not binary:  # numbers that JSON can carry
        answers = {n: a for n, a in arrays.items() if a.dtype != np.object_}
        answers = {n: np.ones_like(a) if a.dtype.kind in "fV" else a for n, a in answers.items()}
    body, size = triton.call(CLIENT, "http_request", arrays, datatype, list(answers), binary)
    reply, json_size = testing.answer("rest_v2", body, list(answers.items()), json_size=-1 if size is None else size)
    check(triton.call(CLIENT, "http_read", reply, None if json_size < 0 else json_size, list(answers)), answers)


TENSORFLOW_TYPES = [np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
TENSORFLOW_TYPES += [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.complex64, np.complex128, np.object_]


def test_tensorflow_makes_and_reads_the_tensors(tensorflow: Worker) -> None:
    client = "tensorflow_serving_client"
    rng = np.random.default_rng(5)
    for dtype in TENSORFLOW_TYPES:
        for shape in SHAPES:
            array = random_array(rng, dtype, shape)
            if array.dtype.kind in "fcV":
                array = np.asarray(np.ones_like(array) * rng.integers(0, 9).astype(array.dtype))
            body, full = tensorflow.call(client, "predict_request", array)
            decoded = inputs(testing.decode("tensorflow", body))
            assert same_bits(decoded["x"], array), (dtype, shape)
            assert same_bits(decoded["full"], np.asarray(full)), (dtype, shape)
            reply, _ = testing.answer("tensorflow", body, [("y", array)])
            assert same_bits(np.asarray(tensorflow.call(client, "predict_read", reply, "y")), array), (dtype, shape)
