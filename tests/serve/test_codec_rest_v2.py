"""REST v2: tensors inside the JSON and as bytes after it, both ways."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from codec_messages import (
    INVALID_ARGUMENT,
    OIP_TYPES,
    SHAPES,
    UNIMPLEMENTED,
    Array,
    mutations,
    random_array,
    refused,
    same_bits,
    survives,
    truncations,
)
from linnet._core import testing


def raw_bytes(array: Array) -> bytes:
    if array.dtype != np.object_:
        return array.tobytes()
    return b"".join(len(item).to_bytes(4, "little") + item for item in array.ravel().tolist())


def array_of_raw(data: bytes, datatype: str, shape: list[int]) -> Array:
    if datatype != "BYTES":
        return np.frombuffer(data, OIP_TYPES[datatype]).reshape(shape)
    items = []
    while data:
        size = int.from_bytes(data[:4], "little")
        items.append(data[4 : 4 + size])
        data = data[4 + size :]
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)


def tensor(datatype: str, shape: list[int], data: Any = None, name: str = "x", **parameters: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "shape": shape, "datatype": datatype}
    if parameters:
        made["parameters"] = parameters
    if data is not None:
        made["data"] = data
    return made


def decode(request: Any, after: bytes | None = None) -> dict[str, Any]:
    body = json.dumps(request).encode()
    size = -1 if after is None else len(body)
    decoded: dict[str, Any] = testing.decode("rest_v2", body + (after or b""), json_size=size)
    return decoded


def refuse(request: Any, match: str, after: bytes | None = None, code: int = INVALID_ARGUMENT) -> None:
    body = json.dumps(request).encode()
    size = -1 if after is None else len(body)
    refused(code, match, "rest_v2", body + (after or b""), json_size=size)


@pytest.mark.parametrize("datatype", OIP_TYPES)
def test_binary_tensors_come_and_go_bit_for_bit(datatype: str) -> None:
    rng = np.random.default_rng(1)
    for first in range(len(SHAPES)):
        arrays = {f"x{i}": random_array(rng, OIP_TYPES[datatype], SHAPES[(first + i) % len(SHAPES)]) for i in range(3)}
        made = [
            tensor(datatype, list(array.shape), name=name, binary_data_size=len(raw_bytes(array)))
            for name, array in arrays.items()
        ]
        request = {"inputs": made, "parameters": {"binary_data_output": True}, "id": "7"}
        body = json.dumps(request).encode()
        body, size = body + b"".join(raw_bytes(a) for a in arrays.values()), len(body)
        decoded = testing.decode("rest_v2", body, json_size=size)
        assert decoded["binary_outputs"] and decoded["id"] == "7"
        for name, array, _ in decoded["inputs"]:
            assert same_bits(array, arrays[name]), name
        reply, json_size = testing.answer("rest_v2", body, list(arrays.items()), "m", 4, json_size=size)
        head, after = json.loads(reply[:json_size]), reply[json_size:]
        assert (head["model_name"], head["model_version"], head["id"]) == ("m", "4", "7")
        for output in head["outputs"]:
            length = output["parameters"]["binary_data_size"]
            assert output["datatype"] == datatype and "data" not in output
            assert same_bits(array_of_raw(after[:length], datatype, output["shape"]), arrays[output["name"]])
            after = after[length:]
        assert not after


@pytest.mark.parametrize("datatype", [t for t in OIP_TYPES if t != "BYTES"])
def test_json_tensors_come_and_go(datatype: str) -> None:
    rng = np.random.default_rng(2)
    for shape in SHAPES:
        array = np.asarray(random_array(rng, OIP_TYPES[datatype], shape))
        if datatype.startswith(("FP", "BF")):
            array = np.asarray(np.nan_to_num(array.astype(np.float64), nan=1.5).astype(OIP_TYPES[datatype]))
            array = np.asarray(np.where(np.isinf(array.astype(np.float64)), np.ones_like(array), array))
        plain = array.astype(np.float64) if datatype.startswith(("FP", "BF")) else array
        for data in (plain.ravel().tolist(), plain.tolist() if shape else [plain.tolist()]):
            decoded = decode({"inputs": [tensor(datatype, list(shape), data)]})
            assert same_bits(decoded["inputs"][0][1], array), (shape, data)
        body = json.dumps({"inputs": []}).encode()
        reply, json_size = testing.answer("rest_v2", body, [("y", array)])
        assert json_size == -1
        (output,) = json.loads(reply)["outputs"]
        assert (output["name"], output["datatype"], output["shape"]) == ("y", datatype, list(shape))
        assert same_bits(np.array(output["data"], np.float64 if "F" in datatype else array.dtype)
                         .astype(array.dtype).reshape(shape), array)  # fmt: skip


def test_text_in_json() -> None:
    texts = ["ü", "", "a\0b\\"]
    decoded = decode({"inputs": [tensor("BYTES", [3], texts)]})
    assert decoded["inputs"][0][1].tolist() == [t.encode() for t in texts]
    reply, _ = testing.answer("rest_v2", b'{"inputs": []}', [("y", decoded["inputs"][0][1])])
    assert json.loads(reply)["outputs"][0]["data"] == texts
    with pytest.raises(ValueError, match="output 'y': bytes that are not UTF-8"):
        testing.answer("rest_v2", b'{"inputs": []}', [("y", np.array([b"\xff"], object))])


def test_keys_may_come_in_any_order() -> None:
    body = b'{"outputs": [{"parameters": {"binary_data": true}, "name": "y"}], "inputs": [{"data": [[1, 2]], "x": [{}],'
    body += b' "datatype": "INT8", "shape": [1, 2], "name": "x"}], "more": {"a": [1, null, "b"]}}'
    decoded = testing.decode("rest_v2", body)
    assert same_bits(decoded["inputs"][0][1], np.array([[1, 2]], np.int8))
    assert decoded["outputs"] == [("y", 0, True)]


def test_what_the_request_says() -> None:
    parameters = {"priority": 2, "timeout": 1000, "sequence_id": 2**64 - 1, "sequence_start": True, "x": None, "y": [1]}
    request: dict[str, Any] = {
        "id": "an id ✓",
        "parameters": parameters,
        "inputs": [],
        "outputs": [
            {"name": "a"},
            {"name": "b", "parameters": {"binary_data": True, "classification": 3}},
            {"name": "c", "parameters": {"binary_data": False}},
        ],
    }
    decoded = decode(request)
    assert (decoded["id"], decoded["priority"], decoded["timeout_us"]) == ("an id ✓", 2, 1000)
    assert decoded["sequence"] == str(2**64 - 1)
    assert decoded["outputs"] == [("a", 0, False), ("b", 3, True), ("c", 0, False)]
    parameters["binary_data_output"] = True
    assert decode(request)["outputs"] == [("a", 0, True), ("b", 3, True), ("c", 0, False)]
    reply, size = testing.answer(
        "rest_v2", json.dumps(request).encode(), [(n, np.arange(4, dtype=np.float32)) for n in "abc"]
    )
    a, b, c = json.loads(reply[:size])["outputs"]
    assert a["parameters"]["binary_data_size"] == 16 and c["data"] == [0, 1, 2, 3]
    assert (b["datatype"], b["shape"]) == ("BYTES", [3])
    assert array_of_raw(reply[size + 16 :], "BYTES", [3]).tolist() == [b"3.0:3", b"2.0:2", b"1.0:1"]


def test_an_empty_binary_output_is_said_to_be_one() -> None:
    request = {"inputs": [], "parameters": {"binary_data_output": True}}
    reply, size = testing.answer("rest_v2", json.dumps(request).encode(), [("y", np.zeros((0, 2), np.float32))])
    assert size == len(reply) and json.loads(reply)["outputs"][0]["parameters"] == {"binary_data_size": 0}


def test_what_is_refused() -> None:
    refuse({}, 'the request has no "inputs"')
    refuse({"inputs": [tensor("FP31", [1], [1])]}, "input 'x': no datatype is called 'FP31'")
    refuse({"inputs": [{"name": "x", "datatype": "FP32", "data": [1]}]}, "input 'x': has no \"shape\"")
    refuse({"inputs": [{"name": "x", "shape": [1], "data": [1]}]}, "input 'x': has no \"datatype\"")
    for key, value in (("shape", "[1]"), ("datatype", '"INT8"'), ("data", "[1]")):
        body = json.dumps({"inputs": [tensor("INT8", [1], [1])]}).replace('"name"', f'"{key}": {value}, "name"')
        refused(INVALID_ARGUMENT, f'"{key}" occurs twice', "rest_v2", body.encode())
    refuse({"inputs": [tensor("FP32", [2])]}, 'has neither "data" nor')
    refuse({"inputs": [tensor("FP32", [2], [1, 2, 3])]}, '"data" of shape 3 where "shape" is 2')
    refuse({"inputs": [tensor("FP32", [2, 2], [[1, 2, 3, 4]])]}, '"data" of shape 1x4 where "shape" is 2x2')
    refuse({"inputs": [tensor("FP32", [2, 2], [[1, 2], [3]])]}, "input 'x': [1]: JSON, byte")
    refuse({"inputs": [tensor("FP32", [1], 1)]}, '"data" must be a list')
    refuse({"inputs": [tensor("INT32", [1], [1.5])]}, "input 'x': [0]: JSON, byte")
    refuse({"inputs": [tensor("INT32", [-1], [1])]}, "-1 is no size of a dimension")
    refuse({"inputs": [tensor("INT32", [1.0], [1])]}, "1.0 is no size of a dimension")  # type: ignore[list-item]
    refuse({"inputs": [tensor("INT32", [1e30], [1])]}, "1e+30 is no size of a dimension")  # type: ignore[list-item]
    refuse({"inputs": [tensor("INT32", [float("nan")], [1])]}, "NaN is no size of a dimension")  # type: ignore[list-item]
    refuse({"inputs": [tensor("INT32", [2**40, 2**40], [1])]}, "overflows")
    refuse({"inputs": [tensor("INT32", [1] * 33, [1])]}, "more than 32 dimensions")
    refuse({"inputs": [tensor("INT8", [1], [1]), tensor("INT8", [1], [1])]}, "input 'x' is named twice")
    refuse({"inputs": [], "outputs": [{"name": "y"}, {"name": "y"}]}, "output 'y' is named twice")
    refuse({"inputs": [], "parameters": {"priority": 1.5}}, "'priority' must be a whole number")
    refuse({"inputs": [], "parameters": {"binary_data_output": 1}}, "must be true or false")
    refuse({"inputs": [tensor("INT8", [1], [1], shared_memory_region="r")]}, "shared memory", code=UNIMPLEMENTED)
    refuse({"inputs": [], "outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]}, "shared memory",
           code=UNIMPLEMENTED)  # fmt: skip


def test_binary_sizes_that_do_not_fit() -> None:
    one = {"inputs": [tensor("INT16", [2], binary_data_size=4)]}
    assert decode(one, b"\1\0\2\0")["inputs"][0][1].tolist() == [1, 2]
    refuse(one, "the header Inference-Header-Content-Length is missing")
    refuse(one, 'has "binary_data_size" 4, but only 3 bytes are left', b"\1\0\2")
    refuse(one, "1 bytes follow after those of the last input", b"\1\0\2\0\3")
    refuse({"inputs": [tensor("INT16", [2], binary_data_size=2)]}, "2 bytes where shape 2 of int16 takes 4", b"\1\0")
    refuse({"inputs": [tensor("INT16", [2], [1, 2], binary_data_size=4)]}, "has both", b"\1\0\2\0")
    for size in (-1, 1.5, 2**63, "4"):
        refuse({"inputs": [tensor("INT16", [2], binary_data_size=size)]}, '"binary_data_size" must be', b"\1\0\2\0")
    body = json.dumps(one).encode()
    refused(INVALID_ARGUMENT, "Inference-Header-Content-Length is 1000", "rest_v2", body, json_size=1000)
    refused(INVALID_ARGUMENT, "JSON, byte 0", "rest_v2", body, json_size=0)
    refused(INVALID_ARGUMENT, "something follows", "rest_v2", json.dumps({"inputs": []}).encode() + b"\1\2")


def test_malformed_bytes() -> None:
    request = {
        "id": "1",
        "inputs": [
            tensor("FP32", [2, 2], [[1, 2.5], [-3e2, 0]], name="f"),
            tensor("BYTES", [2], ['aü\\"', ""], name="s"),
            tensor("BF16", [2], name="h", binary_data_size=4),
            tensor("BYTES", [1], name="b", binary_data_size=6),
        ],
        "outputs": [{"name": "y", "parameters": {"classification": 2, "binary_data": True}}],
        "parameters": {"priority": 1, "sequence_id": "s"},
    }
    head = json.dumps(request, ensure_ascii=False).encode()
    body = head + b"\1\2\3\4\2\0\0\0ab"
    assert len(testing.decode("rest_v2", body, json_size=len(head))["inputs"]) == 4
    assert survives("rest_v2", truncations(body), json_size=len(head)) == len(body)
    assert survives("rest_v2", mutations(body, 3000, 3), json_size=len(head)) > 500
    assert survives("rest_v2", mutations(body, 1000, 4), json_size=len(head) - 5) > 500
