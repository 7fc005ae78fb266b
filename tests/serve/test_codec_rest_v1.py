"""TensorFlow Serving's REST predict: rows and columns of JSON, base64, and answers by the same rules."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from codec_messages import INVALID_ARGUMENT, mutations, refused, same_bits, survives, truncations
from linnet._core import testing

ONE = [("x", "float32")]
TWO = [("a", "float32"), ("b", "int64")]


def decode(request: Any, ports: list[tuple[str, str]]) -> dict[str, Any]:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    decoded: dict[str, Any] = testing.decode("rest_v1", body, ports=ports)
    return decoded


def inputs(request: Any, ports: list[tuple[str, str]]) -> dict[str, Any]:
    return {name: array for name, array, _ in decode(request, ports)["inputs"]}


@pytest.mark.parametrize(
    ("instances", "shape"),
    [
        ([1.0, 2.0], (2,)),
        ([[1, 2], [3, 4], [5, 6]], (3, 2)),
        ([[[1]], [[2]]], (2, 1, 1)),
        ([[], []], (2, 0)),
        ([[[], []]], (1, 2, 0)),
    ],
)
def test_rows_of_one_input(instances: Any, shape: tuple[int, ...]) -> None:
    expected = np.array(instances, np.float32).reshape(shape)
    decoded = decode({"signature_name": "s", "instances": instances}, ONE)
    assert decoded["rows"] and decoded["signature"] == "s"
    assert same_bits(decoded["inputs"][0][1], expected)
    named = decode({"instances": [{"x": row} for row in instances]}, ONE)
    assert same_bits(named["inputs"][0][1], expected)
    column = decode({"inputs": instances}, ONE)
    assert not column["rows"] and same_bits(column["inputs"][0][1], expected)
    assert same_bits(inputs({"inputs": {"x": instances}}, ONE)["x"], expected)


def test_scalars() -> None:
    assert same_bits(inputs({"inputs": 2.5}, ONE)["x"], np.array(2.5, np.float32))
    both = inputs({"inputs": {"b": 3, "a": 1}}, TWO)
    assert same_bits(both["a"], np.array(1, np.float32)) and same_bits(both["b"], np.array(3, np.int64))
    rows = inputs({"instances": [{"a": 1, "b": 2}, {"b": 3, "a": 4}]}, TWO)
    assert rows["a"].tolist() == [1, 4] and rows["b"].tolist() == [2, 3]


def test_rows_of_several_inputs() -> None:
    rows = [{"a": [[1, 2], [3, 4]], "b": [i]} for i in range(5)]
    decoded = inputs({"instances": rows}, TWO)
    assert decoded["a"].shape == (5, 2, 2) and decoded["b"].tolist() == [[i] for i in range(5)]


def test_base64() -> None:
    data = [b"", b"a", b"ab", b"abc", b"\xff\0\x80" * 11]
    coded = [{"b64": base64.b64encode(item).decode()} for item in data]
    ports = [("s", "str")]
    assert inputs({"instances": coded}, ports)["s"].tolist() == data
    assert inputs({"instances": [{"s": item} for item in coded]}, ports)["s"].tolist() == data
    assert inputs({"inputs": coded[2]}, ports)["s"].tolist() == b"ab"
    assert inputs({"instances": ["text", coded[1]]}, ports)["s"].tolist() == [b"text", b"a"]
    unpadded = [{"b64": item["b64"].rstrip("=")} for item in coded]
    assert inputs({"instances": unpadded}, ports)["s"].tolist() == data
    for bad in ("a", "ab=c", "a b=", "ab==ab==", "a-_b", "aGVsbG9=", "=", "====", "aaaaa"):
        refused(
            INVALID_ARGUMENT, "is not base64", "rest_v1", json.dumps({"inputs": [{"b64": bad}]}).encode(), ports=ports
        )
    refused(INVALID_ARGUMENT, "a number is expected", "rest_v1", b'{"inputs": [{"b64": "YQ=="}]}', ports=ONE)


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        ({"instances": [[1, 2], [3]]}, "instances[1]: JSON, byte 26: 1 element where the lists before have 2"),
        ({"instances": [[[1], [2]], [[3], [4, 5]]]}, "instances[1]: [1]: JSON"),
        ({"instances": [[1, 2], 3]}, "instances[1]: JSON, byte 23: a value where a list is expected"),
        ({"instances": [1, [2]]}, "instances[1]: JSON, byte 18: a list where a value is expected"),
        ({"instances": [[1, [2]]]}, "instances[0]: [1]: JSON, byte 19: a list where a value is expected"),
        ({"instances": [[1, "2"]]}, "instances[0]: [1]: JSON, byte 19: a number is expected"),
        ({"instances": [[], [[]]]}, "a list where a value is expected"),
        ({"instances": [[[]], []]}, "0 elements where the lists before have 1"),
        ({"instances": [None]}, "a number is expected"),
        ({"instances": []}, '"instances" is empty'),
        ({"instances": 1}, "a list is expected"),
        ({"instances": [{"x": 1}, 2]}, "instances[1]: JSON, byte 25: an object with the inputs is expected"),
        ({"instances": [{"x": 1}, {}]}, "instances[1]: JSON, byte 27: input 'x' is missing"),
        ({"instances": [{"y": 1}]}, "instances[0]: the model has no input 'y'; its inputs are 'x'"),
        ({"instances": [{}]}, ""),
        ({"inputs": {"y": 1}}, "the model has no input 'y'"),
        ({"inputs": [1], "instances": [1]}, "only one of"),
        ({"signature_name": 1, "inputs": [1]}, "text in quotes is expected"),
        ({}, "neither"),
        ([1], "an object is expected"),
    ],
)
def test_what_is_refused_and_where(request_: Any, match: str) -> None:
    if request_ == {"instances": [{}]}:  # rows of no inputs: what the model lacks is found later
        assert inputs(request_, ONE) == {}
        return
    refused(INVALID_ARGUMENT, match, "rest_v1", json.dumps(request_).encode(), ports=ONE)


def test_several_inputs_must_be_named() -> None:
    for key in ("instances", "inputs"):
        refused(INVALID_ARGUMENT, f'"{key}" must name the inputs', "rest_v1", f'{{"{key}": [1]}}'.encode(), ports=TWO)
    for body, match in [
        (b'{"instances": [{"a": 1, "b": 1}, {"a": 1}]}', "instances[1]: JSON, byte 41: input 'b' is missing"),
        (b'{"instances": [{"a": 1}, {"a": 1, "b": 1}]}', "input 'b' is not in the instances before"),
        (b'{"instances": [{"a": 1, "a": 1}]}', "input 'a' is named twice"),
        (b'{"inputs": {"a": 1, "a": 2}}', "input 'a' is named twice"),
        (b'{"instances": [{"a": 1, "b": 0.5}]}', "instances[0]: input 'b': JSON, byte 32: 0.5 is no int64"),
        (b'{"inputs": [1], "inputs": [1]}', "must name"),
    ]:
        refused(INVALID_ARGUMENT, match, "rest_v1", body, ports=TWO)


def answer(outputs: list[tuple[str, Any]], rows: bool) -> Any:
    body = b'{"instances": [1]}' if rows else b'{"inputs": [1]}'
    return json.loads(testing.answer("rest_v1", body, outputs, ports=ONE)[0])


def test_answers() -> None:
    y, z = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([7, 8], np.int64)
    assert answer([("y", y)], rows=True) == {"predictions": [[0, 1, 2], [3, 4, 5]]}
    assert answer([("z", z)], rows=True) == {"predictions": [7, 8]}
    assert answer([("y", y)], rows=False) == {"outputs": [[0, 1, 2], [3, 4, 5]]}
    assert answer([("y", y), ("z", z)], rows=True) == {
        "predictions": [{"y": [0, 1, 2], "z": 7}, {"y": [3, 4, 5], "z": 8}]
    }
    assert answer([("y", y), ("z", np.array(1.5))], rows=False) == {"outputs": {"y": y.tolist(), "z": 1.5}}
    assert answer([("y", np.zeros((0, 3)))], rows=True) == {"predictions": []}
    assert answer([("y", np.zeros((2, 0, 3), np.int8))], rows=False) == {"outputs": [[], []]}


def test_text_in_answers() -> None:
    text = np.array([b"abc", "ü".encode()], dtype=object)
    raw = np.array([b"\xff", b"b"], dtype=object)
    assert answer([("y", text)], rows=True) == {"predictions": ["abc", "ü"]}
    assert answer([("y_bytes", text)], rows=True) == {"predictions": [{"b64": "YWJj"}, {"b64": "w7w="}]}
    assert answer([("y", raw)], rows=True) == {"predictions": [{"b64": "/w=="}, {"b64": "Yg=="}]}


def test_answers_that_have_no_rows() -> None:
    for outputs in ([("y", np.array(1.0))], [("y", np.zeros(2)), ("z", np.zeros(3))]):
        with pytest.raises(ValueError, match="does not have a row for each"):
            answer(outputs, rows=True)
    with pytest.raises(ValueError, match="output 'y': JSON has no form for elements of type complex64"):
        answer([("y", np.zeros(2, np.complex64))], rows=False)


def test_malformed_bytes() -> None:
    ports = [*TWO, ("s", "str"), ("f", "bool"), ("h", "float16")]
    rows = [{"a": [[1.5, 2]], "b": i, "s": ['ü\\"', {"b64": "YWI="}], "f": [True], "h": [1e-3]} for i in range(2)]
    for request in ({"signature_name": "x", "instances": rows}, {"inputs": rows[0], "other": [None, {"a": {}}]}):
        body = json.dumps(request, ensure_ascii=False).encode()
        assert survives("rest_v1", truncations(body), ports=ports) == len(body)
        assert survives("rest_v1", mutations(body, 3000, 2), ports=ports) > 500
