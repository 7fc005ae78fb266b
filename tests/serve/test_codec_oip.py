"""ModelInfer's messages, made and read by protobuf in a private pool."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from codec_messages import (
    INVALID_ARGUMENT,
    OIP_TYPES,
    SHAPES,
    UNIMPLEMENTED,
    Array,
    message,
    mutations,
    random_array,
    refused,
    same_bits,
    survives,
    truncations,
)
from linnet._core import testing

TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def raw_bytes(array: Array) -> bytes:
    if array.dtype != np.object_:
        return array.tobytes()
    return b"".join(len(item).to_bytes(4, "little") + item for item in array.ravel().tolist())


def array_of_raw(data: bytes, datatype: str, shape: list[int]) -> Array:
    if datatype != "BYTES":
        return np.frombuffer(data, dtype=OIP_TYPES[datatype]).reshape(shape)
    items: list[bytes] = []
    while data:
        size = int.from_bytes(data[:4], "little")
        items.append(data[4 : 4 + size])
        data = data[4 + size :]
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)


def request(arrays: dict[str, tuple[str, Array]], typed: bool = False) -> Any:
    """A request with inputs of those names, datatypes and elements."""
    made = message("inference.ModelInferRequest")
    made.model_name = "m"
    for name, (datatype, array) in arrays.items():
        tensor = made.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if typed:
            tensor.contents.SetInParent()
            getattr(tensor.contents, TYPED[datatype]).extend(array.ravel().tolist())
        else:
            made.raw_input_contents.append(raw_bytes(array))
    return made


def one(datatype: str = "FP32", shape: tuple[int, ...] = (2, 3), typed: bool = False) -> Any:
    return request({"x": (datatype, random_array(np.random.default_rng(0), OIP_TYPES[datatype], shape))}, typed)


def response(body: bytes) -> Any:
    return type(message("inference.ModelInferResponse")).FromString(body)


@pytest.mark.parametrize("datatype", OIP_TYPES)
def test_raw_tensors_come_and_go_bit_for_bit(datatype: str) -> None:
    rng = np.random.default_rng(1)
    for round_ in range(20):
        arrays = {
            f"input {i}": (datatype, random_array(rng, OIP_TYPES[datatype], SHAPES[(round_ + i) % len(SHAPES)]))
            for i in range(3)
        }
        body = request(arrays).SerializeToString()
        decoded = testing.decode("oip", body)
        assert decoded["raw"] and decoded["model"] == "m"
        assert [name for name, _, _ in decoded["inputs"]] == list(arrays)
        for name, array, _ in decoded["inputs"]:
            assert same_bits(array, arrays[name][1]), name
        outputs = [(name, array) for name, (_, array) in arrays.items()]
        answer, _ = testing.answer("oip", body, outputs, model="m", version=7)
        message_ = response(answer)
        assert (message_.model_name, message_.model_version) == ("m", "7")
        for tensor, raw in zip(message_.outputs, message_.raw_output_contents, strict=True):
            assert tensor.datatype == datatype and not tensor.HasField("contents")
            assert same_bits(array_of_raw(raw, datatype, list(tensor.shape)), arrays[tensor.name][1])


@pytest.mark.parametrize("datatype", TYPED)
def test_typed_tensors_come_and_go(datatype: str) -> None:
    rng = np.random.default_rng(2)
    for shape in SHAPES:
        array = random_array(rng, OIP_TYPES[datatype], shape)
        body = request({"x": (datatype, array)}, typed=True).SerializeToString()
        decoded = testing.decode("oip", body)
        assert not decoded["raw"]
        np.testing.assert_array_equal(decoded["inputs"][0][1], array)
        answer = response(testing.answer("oip", body, [("y", array)])[0])
        assert not answer.raw_output_contents
        values = getattr(answer.outputs[0].contents, TYPED[datatype])
        np.testing.assert_array_equal(np.array(list(values), dtype=OIP_TYPES[datatype]).reshape(shape), array)


def test_typed_requests_get_raw_answers_where_a_type_has_no_list() -> None:
    body = one(typed=True).SerializeToString()
    half = np.arange(3, dtype=np.float16)
    answer = response(testing.answer("oip", body, [("a", half), ("b", np.arange(2, dtype=np.int32))])[0])
    assert list(answer.raw_output_contents) == [half.tobytes(), np.arange(2, dtype=np.int32).tobytes()]
    assert not any(tensor.HasField("contents") for tensor in answer.outputs)


def test_unpacked_lists_are_read_as_well() -> None:
    made = request({"x": ("INT64", np.zeros(3, np.int64))}, typed=True)
    made.inputs[0].contents.Clear()
    body = made.SerializeToString()
    contents = b"\x18\x05\x1a\x02\x06\x07"  # one element, then two packed
    body = body.replace(made.inputs[0].SerializeToString(), made.inputs[0].SerializeToString()[:-2])
    tensor = made.inputs[0].SerializeToString()[:-2] + b"\x2a" + bytes([len(contents)]) + contents
    body = b"\x0a\x01m\x2a" + bytes([len(tensor)]) + tensor
    np.testing.assert_array_equal(testing.decode("oip", body)["inputs"][0][1], [5, 6, 7])


def test_aligned_tensors_are_views_and_others_are_copied() -> None:
    seen = set()
    for pad in range(8):
        made = one("FP64", (64,))
        made.id = "i" * (pad + 1)
        _, array, view = testing.decode("oip", made.SerializeToString())["inputs"][0]
        assert same_bits(array, random_array(np.random.default_rng(0), np.float64, (64,)))
        seen.add(view)
    assert seen == {True, False}
    assert testing.decode("oip", one("INT8", (5,)).SerializeToString())["inputs"][0][2]


def test_what_the_request_says() -> None:
    made = one()
    made.model_version, made.id = "12", "an id ✓"
    made.parameters["priority"].uint64_param = 3
    made.parameters["timeout"].int64_param = 2500
    made.parameters["sequence_id"].int64_param = -42
    made.parameters["sequence_start"].bool_param = True
    made.parameters["something"].double_param = 1.5
    made.parameters["empty"].SetInParent()
    made.outputs.add(name="b")
    made.outputs.add(name="a").parameters["classification"].int64_param = 3
    decoded = testing.decode("oip", made.SerializeToString())
    assert (decoded["version"], decoded["id"]) == ("12", "an id ✓")
    assert (decoded["priority"], decoded["timeout_us"], decoded["sequence"]) == (3, 2500, "-42")
    assert decoded["outputs"] == [("b", 0, False), ("a", 3, False)]
    answer = response(testing.answer("oip", made.SerializeToString(), [("b", np.zeros(2, np.float32))])[0])
    assert answer.id == "an id ✓"
    made.parameters["sequence_id"].string_param = "s"
    assert testing.decode("oip", made.SerializeToString())["sequence"] == "s"


def test_fields_that_are_not_known_are_passed_over() -> None:
    extra = b"\xfa\x07\x03abc" + b"\xf8\x07\x05" + b"\xfd\x07abcd" + b"\xf9\x07abcdefgh"  # field 127, all wire types
    body = one().SerializeToString()
    assert same_bits(testing.decode("oip", extra + body)["inputs"][0][1], testing.decode("oip", body)["inputs"][0][1])


@pytest.mark.parametrize(
    ("parameter", "field", "value", "match"),
    [
        ("priority", "int64_param", -1, "'priority' must be a whole number"),
        ("priority", "string_param", "1", "'priority' must be a whole number"),
        ("timeout", "int64_param", -5, "'timeout' must be a whole number"),
        ("timeout", "uint64_param", 2**63, "'timeout' is too large"),
        ("sequence_id", "double_param", 1.0, "'sequence_id' must be"),
    ],
)
def test_parameters_of_the_wrong_kind(parameter: str, field: str, value: Any, match: str) -> None:
    made = one()
    setattr(made.parameters[parameter], field, value)
    refused(INVALID_ARGUMENT, match, "oip", made.SerializeToString())


def test_shared_memory_is_not_implemented() -> None:
    made = one()
    made.inputs[0].parameters["shared_memory_region"].string_param = "r"
    refused(UNIMPLEMENTED, "input 'x': tensors in shared memory", "oip", made.SerializeToString())
    made = one()
    made.outputs.add(name="y").parameters["shared_memory_byte_size"].int64_param = 4
    refused(UNIMPLEMENTED, "output 'y': tensors in shared memory", "oip", made.SerializeToString())


def test_a_mix_of_raw_and_typed_is_refused() -> None:
    made = request({"a": ("FP32", np.zeros(2, np.float32)), "b": ("INT32", np.zeros(2, np.int32))})
    made.inputs[1].contents.int_contents.extend([1, 2])
    refused(INVALID_ARGUMENT, "input 'b': has 'contents' although", "oip", made.SerializeToString())
    del made.raw_input_contents[1]
    refused(INVALID_ARGUMENT, "1 raw_input_contents for 2 inputs", "oip", made.SerializeToString())


def test_sizes_that_do_not_fit() -> None:
    made = one("FP32", (2, 3))
    made.raw_input_contents[0] += b"\0"
    refused(
        INVALID_ARGUMENT, "input 'x': 25 bytes where shape 2x3 of float32 takes 24", "oip", made.SerializeToString()
    )
    made = one("BYTES", (2,))
    made.raw_input_contents[0] = b"\x01\0\0\0a\x05\0\0\0b"
    refused(INVALID_ARGUMENT, "BYTES element 1 has 5 bytes, of which 1 are there", "oip", made.SerializeToString())
    made.raw_input_contents[0] = b"\x01\0\0\0a\0\0\0"
    refused(INVALID_ARGUMENT, "the bytes end before BYTES element 1 of 2", "oip", made.SerializeToString())
    made.raw_input_contents[0] = b"\0\0\0\0\0\0\0\0a"
    refused(INVALID_ARGUMENT, "1 bytes follow after the last of 2 elements", "oip", made.SerializeToString())
    made = one("INT32", (2, 2), typed=True)
    made.inputs[0].contents.int_contents.pop()
    refused(INVALID_ARGUMENT, "3 elements in int_contents where shape 2x2 has 4", "oip", made.SerializeToString())
    made.inputs[0].contents.int_contents.extend([1, 2])
    refused(INVALID_ARGUMENT, "more elements in int_contents than the 4", "oip", made.SerializeToString())
    made = one("FP32", (2,), typed=True)
    made.inputs[0].contents.fp32_contents.extend([1])
    refused(INVALID_ARGUMENT, "more elements in fp32_contents than the 2", "oip", made.SerializeToString())


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("shape", [[-1, 3], [2**62, 2**62], [2**40, 2**30], [0, 2**62, 4], [2**63 - 1]])
def test_impossible_shapes(shape: list[int], typed: bool) -> None:
    made = one("INT64", (2,), typed)
    made.inputs[0].shape[:] = shape
    refused(INVALID_ARGUMENT, "input 'x'", "oip", made.SerializeToString())


def test_elements_beyond_their_type() -> None:
    for datatype, value in [("INT8", 128), ("INT16", -32769), ("UINT8", 256), ("UINT16", 65536)]:
        made = one(datatype, (1,), typed=True)
        getattr(made.inputs[0].contents, TYPED[datatype])[0] = value
        refused(
            INVALID_ARGUMENT, f"{value} in {TYPED[datatype]} is no {datatype.lower()}", "oip", made.SerializeToString()
        )


def test_what_is_no_tensor() -> None:
    made = one()
    made.inputs[0].datatype = "FP31"
    refused(INVALID_ARGUMENT, "input 'x': no datatype is called 'FP31'", "oip", made.SerializeToString())
    made = request({"x": ("FP32", np.zeros(1, np.float32))})
    made.inputs.add(name="x", datatype="FP32", shape=[1])
    made.raw_input_contents.append(b"\0\0\0\0")
    refused(INVALID_ARGUMENT, "input 'x' is named twice", "oip", made.SerializeToString())
    made = one()
    made.outputs.add(name="y")
    made.outputs.add(name="y")
    refused(INVALID_ARGUMENT, "output 'y' is named twice", "oip", made.SerializeToString())
    made = one("FP32", (2,), typed=True)
    made.inputs[0].contents.int_contents.append(1)
    refused(INVALID_ARGUMENT, "field 2 of 'contents' where FP32", "oip", made.SerializeToString())
    made = request({"x": ("FP16", np.zeros(1, np.float16))})
    made.raw_input_contents.pop()
    made.inputs[0].contents.fp32_contents.append(1)
    refused(INVALID_ARGUMENT, "FP16 elements travel in raw_input_contents only", "oip", made.SerializeToString())
    made = request({"x": ("FP32", np.zeros(1, np.float32))})
    made.raw_input_contents.pop()
    refused(INVALID_ARGUMENT, "input 'x': 'contents' are too short", "oip", made.SerializeToString())


def test_limits() -> None:
    made = one()
    made.inputs[0].shape[:] = [1] * 33
    refused(INVALID_ARGUMENT, "more than 32 dimensions", "oip", made.SerializeToString())
    made = message("inference.ModelInferRequest")
    for i in range(4097):
        made.outputs.add(name=str(i))
    refused(INVALID_ARGUMENT, "more than 4096 outputs", "oip", made.SerializeToString())
    made = one()
    made.inputs[0].name = "n" * 5000
    refused(INVALID_ARGUMENT, "'name' has 5000 bytes", "oip", made.SerializeToString())
    made = one()
    for i in range(4097):
        made.parameters[str(i)].bool_param = True
    refused(INVALID_ARGUMENT, "more than 4096 parameters", "oip", made.SerializeToString())
    made = one("BYTES", (1,))
    made.inputs[0].shape[:] = [2**22 + 1]
    made.raw_input_contents[0] = bytes(4 * (2**22 + 1))
    refused(INVALID_ARGUMENT, "4194305 texts are more than the 4194304", "oip", made.SerializeToString())
    long = one()
    long.inputs[0].name, long.inputs[0].datatype = "ü" * 2000, "X"
    with pytest.raises(ValueError) as caught:
        testing.decode("oip", long.SerializeToString())
    assert len(caught.value.args[1]) < 300 and "..." in caught.value.args[1]


def test_names_must_be_utf8() -> None:
    body = one().SerializeToString().replace(b"\x0a\x01m", b"\x0a\x01\xff")
    refused(INVALID_ARGUMENT, "'model_name' is not UTF-8", "oip", body)


@pytest.mark.parametrize("dtype", [t for t in OIP_TYPES.values() if t != np.object_])
@pytest.mark.parametrize("shape", [(10,), (4, 6), (2, 3, 4), (0, 5), (3, 0), ()])
def test_classification(dtype: Any, shape: tuple[int, ...]) -> None:
    made = one()
    made.outputs.add(name="plain")
    made.outputs.add(name="y").parameters["classification"].int64_param = 3
    scores = np.random.default_rng(5).integers(0, 8, shape).astype(dtype)
    answer = response(testing.answer("oip", made.SerializeToString(), [("plain", scores), ("y", scores)])[0])
    assert list(answer.outputs[0].shape) == list(shape)
    rows = scores.reshape(1, -1) if scores.ndim < 2 else scores.reshape(shape[0], -1 if scores.size else 0)
    taken = min(3, rows.shape[1])
    assert answer.outputs[1].datatype == "BYTES"
    assert list(answer.outputs[1].shape) == ([taken] if scores.ndim < 2 else [shape[0], taken])
    texts = array_of_raw(answer.raw_output_contents[1], "BYTES", [rows.shape[0], taken])
    for row, text in zip(rows, texts, strict=True):
        wide = row.astype(np.float64)
        best = np.argsort(-wide, kind="stable")[:taken]
        assert [int(t.split(b":")[1]) for t in text] == best.tolist()
        assert [float(t.split(b":")[0]) for t in text] == wide[best].tolist()


def test_classification_puts_nan_last_and_refuses_text() -> None:
    made = one()
    made.outputs.add(name="y").parameters["classification"].int64_param = 9
    scores = np.array([np.nan, 0.1, -np.inf, np.inf, np.nan], np.float32)
    answer = response(testing.answer("oip", made.SerializeToString(), [("y", scores)])[0])
    texts = array_of_raw(answer.raw_output_contents[0], "BYTES", [5]).tolist()
    assert texts == [b"Infinity:3", b"0.1:1", b"-Infinity:2", b"NaN:0", b"NaN:4"]
    with pytest.raises(ValueError, match="output 'y': elements of type str"):
        testing.answer("oip", made.SerializeToString(), [("y", np.array([b"a"], object))])


def test_outputs_without_a_name_on_the_wire() -> None:
    with pytest.raises(ValueError) as caught:
        testing.answer("oip", one().SerializeToString(), [("y", np.zeros(2, np.complex64))])
    assert caught.value.args[0] == UNIMPLEMENTED


def test_streams() -> None:
    made = one()
    made.id = "7"
    for outputs in ([("y", np.arange(3, dtype=np.int64))], [("y", np.zeros((100, 100), np.float32))], []):
        body, _ = testing.answer("oip_stream", made.SerializeToString(), outputs, version=2)
        plain, _ = testing.answer("oip", made.SerializeToString(), outputs, version=2)
        item = type(message("inference.ModelStreamInferResponse")).FromString(body)
        assert item.error_message == "" and item.infer_response == response(plain)
    item = type(message("inference.ModelStreamInferResponse")).FromString(testing.stream_error("7", "no such model"))
    assert (item.error_message, item.infer_response.id) == ("no such model", "7")


@pytest.mark.parametrize("typed", [False, True])
def test_malformed_bytes(typed: bool) -> None:
    rng = np.random.default_rng(3)
    arrays = {t: (t, random_array(rng, OIP_TYPES[t], (2, 2))) for t in ("FP32", "INT64", "BYTES", "BOOL", "UINT16")}
    made = request(arrays, typed)
    made.parameters["priority"].uint64_param = 1
    made.parameters["sequence_id"].string_param = "s"
    made.outputs.add(name="y").parameters["classification"].int64_param = 2
    body = made.SerializeToString(deterministic=True)

    def valid(data: bytes) -> bool:
        try:
            type(made).FromString(data)
        except DecodeError:
            return False
        return True

    survives("oip", truncations(body), valid)
    assert survives("oip", mutations(body, 3000, 1), valid) > 500


def test_a_number_in_a_parameter_must_be_one() -> None:
    """A double of no bytes, once read beyond the message's end."""
    refused(INVALID_ARGUMENT, "'double_param' (field 4) has wire type 2", "oip", b'"\x07\n\x01t\x12\x02"\x00')


def test_varints_that_are_too_long() -> None:
    for size in (b"\xff" * 9 + b"\x01", b"\xff" * 10, b"\xff\xff\xff\xff\x0f"):
        refused(INVALID_ARGUMENT, "", "oip", b"\x3a" + size + b"abc")
        refused(INVALID_ARGUMENT, "", "oip", b"\x2a" + size + b"abc")
    refused(INVALID_ARGUMENT, "is it cut short?", "oip", b"\x3a\x7fabc")
    refused(INVALID_ARGUMENT, "wire type 3", "oip", b"\x0b")
