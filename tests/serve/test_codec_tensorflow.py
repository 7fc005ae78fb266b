"""Predict's messages, made and read by protobuf in a private pool, against what TensorFlow makes of a TensorProto."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from numpy.typing import DTypeLike

from codec_messages import (
    INVALID_ARGUMENT,
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

# DataType's number, and the list of elements.
TYPES: dict[DTypeLike, tuple[int, str]] = {
    np.float32: (1, "float_val"),
    np.float64: (2, "double_val"),
    np.int32: (3, "int_val"),
    np.uint8: (4, "int_val"),
    np.int16: (5, "int_val"),
    np.int8: (6, "int_val"),
    np.object_: (7, "string_val"),
    np.complex64: (8, "scomplex_val"),
    np.int64: (9, "int64_val"),
    np.bool_: (10, "bool_val"),
    ml_dtypes.bfloat16: (14, "half_val"),
    np.uint16: (17, "int_val"),
    np.complex128: (18, "dcomplex_val"),
    np.float16: (19, "half_val"),
    np.uint32: (22, "uint32_val"),
    np.uint64: (23, "uint64_val"),
    ml_dtypes.float8_e5m2: (24, "float8_val"),
    ml_dtypes.float8_e4m3fn: (25, "float8_val"),
    ml_dtypes.float8_e4m3fnuz: (26, "float8_val"),
    ml_dtypes.float8_e5m2fnuz: (28, "float8_val"),
    ml_dtypes.int4: (29, "int_val"),
    ml_dtypes.uint4: (30, "int_val"),
}
NUMBERS = {number: np.dtype(dtype) for dtype, (number, _) in TYPES.items()}


def set_shape(tensor: Any, shape: tuple[int, ...]) -> None:
    tensor.tensor_shape.SetInParent()
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)


def fill(tensor: Any, array: Array, as_list: bool) -> None:
    """Sets a TensorProto to the array: its elements as bytes, or in the list of their type."""
    number, name = TYPES[array.dtype.type]
    tensor.dtype = number
    set_shape(tensor, array.shape)
    flat = array.ravel()
    if name == "float8_val":
        tensor.float8_val = flat.tobytes()
    elif name == "half_val" and as_list:
        tensor.half_val.extend(flat.view(np.uint16).tolist())
    elif name.endswith("complex_val") and as_list:
        getattr(tensor, name).extend(flat.view(flat.real.dtype).tolist())
    elif as_list or array.dtype == np.object_:
        getattr(tensor, name).extend(flat.astype(np.int64).tolist() if name == "int_val" else flat.tolist())
    else:
        tensor.tensor_content = flat.tobytes()


def make(arrays: dict[str, Array], as_list: bool = False) -> Any:
    made = message("tensorflow.serving.PredictRequest")
    made.model_spec.name = "m"
    for name, array in arrays.items():
        fill(made.inputs[name], array, as_list)
    return made


def inputs(made: Any) -> dict[str, Array]:
    return {name: array for name, array, _ in testing.decode("tensorflow", made.SerializeToString())["inputs"]}


def array_of(tensor: Any) -> Array:
    """As TensorFlow's make_ndarray reads an answer."""
    dtype = NUMBERS[tensor.dtype]
    shape = [d.size for d in tensor.tensor_shape.dim]
    if dtype == np.object_:
        array = np.empty(len(tensor.string_val), dtype=object)
        array[:] = list(tensor.string_val)
        return array.reshape(shape)
    if not tensor.tensor_content:
        return np.zeros(shape, dtype)
    return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
def test_tensors_come_and_go_bit_for_bit(dtype: Any, as_list: bool) -> None:
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        array = random_array(rng, dtype, shape)
        if np.dtype(dtype) in (np.dtype(ml_dtypes.int4), np.dtype(ml_dtypes.uint4)):
            array = rng.integers(0, 7, shape).astype(dtype)
        if as_list and array.dtype in (np.float32, np.complex64):
            array = np.asarray(np.nan_to_num(array))  # Python's floats lose the bits of a NaN
        body = make({"x": array}, as_list).SerializeToString()
        ((name, decoded, _),) = testing.decode("tensorflow", body)["inputs"]
        assert name == "x"
        assert same_bits(decoded, array), (shape, decoded, array)
        answer = type(message("tensorflow.serving.PredictResponse")).FromString(
            testing.answer("tensorflow", body, [("y", array)], model="m", version=5)[0]
        )
        assert same_bits(array_of(answer.outputs["y"]), array)
        spec = answer.model_spec
        assert (spec.name, spec.version.value, spec.signature_name) == ("m", 5, "serving_default")


@pytest.mark.parametrize("dtype", TYPES)
def test_short_lists_repeat_their_last_element(dtype: Any) -> None:
    given = np.array([3, 2]).astype(dtype) if dtype is not np.object_ else np.array([b"a", b"bc"], dtype=object)
    made = make({"x": given, "one": given[:1]}, as_list=True)
    for name in ("x", "one"):
        del made.inputs[name].tensor_shape.dim[:]
        set_shape(made.inputs[name], (2, 3))
    decoded = inputs(made)
    assert same_bits(decoded["x"], np.array([*given, *[given[-1]] * 4], dtype=given.dtype).reshape(2, 3))
    assert same_bits(decoded["one"], np.array([given[0]] * 6, dtype=given.dtype).reshape(2, 3))


@pytest.mark.parametrize("dtype", TYPES)
def test_no_element_at_all_is_zero(dtype: Any) -> None:
    made = make({"x": np.zeros(0, dtype)})
    made.inputs["x"].tensor_shape.dim[0].size = 4
    expected = np.array([b""] * 4, dtype=object) if dtype is np.object_ else np.zeros(4, dtype)
    assert same_bits(inputs(made)["x"], expected)


def test_a_tensor_without_a_shape_is_a_scalar() -> None:
    made = make({"x": np.array(5, np.int64)}, as_list=True)
    made.inputs["x"].ClearField("tensor_shape")
    assert same_bits(inputs(made)["x"], np.array(5, np.int64))


def test_what_the_request_says() -> None:
    made = make({"x": np.zeros(1, np.float32)})
    made.output_filter.extend(["b", "a"])
    made.model_spec.signature_name = "other"
    made.model_spec.version.value = 7
    decoded = testing.decode("tensorflow", made.SerializeToString())
    assert (decoded["model"], decoded["version"], decoded["label"], decoded["signature"]) == ("m", "7", "", "other")
    assert [name for name, _, _ in decoded["outputs"]] == ["b", "a"]
    answer, _ = testing.answer("tensorflow", made.SerializeToString(), [("b", np.zeros(1))], version=7)
    assert type(message("tensorflow.serving.PredictResponse")).FromString(answer).model_spec.signature_name == "other"
    made.model_spec.version.value = 0  # is given, too
    assert testing.decode("tensorflow", made.SerializeToString())["version"] == "0"
    made.model_spec.version_label = "stable"
    decoded = testing.decode("tensorflow", made.SerializeToString())
    assert (decoded["version"], decoded["label"]) == ("", "stable")


def test_of_entries_with_one_key_the_last_counts() -> None:
    first = make({"x": np.zeros(1, np.float32), "a": np.ones(1, np.float32)}).SerializeToString()
    second = make({"x": np.full(2, 7, np.int32)}).SerializeToString()
    decoded = testing.decode("tensorflow", first + second)["inputs"]
    assert [name for name, _, _ in decoded] == ["a", "x"]
    assert same_bits(decoded[1][1], np.full(2, 7, np.int32))


def test_outputs_of_several_types_in_one_answer() -> None:
    outputs = [
        ("large", np.random.default_rng(0).random((300, 7)).astype(np.float32)),
        ("text", np.array([[b"a", b"\xff\0"]], dtype=object)),
        ("none", np.zeros((0, 3), np.int16)),
        ("scalar", np.array(True)),
    ]
    body = make({"x": np.zeros(1)}).SerializeToString()
    answer = type(message("tensorflow.serving.PredictResponse")).FromString(
        testing.answer("tensorflow", body, outputs)[0]
    )
    assert set(answer.outputs) == {name for name, _ in outputs}
    for name, array in outputs:
        assert same_bits(array_of(answer.outputs[name]), array)


def test_what_is_refused() -> None:
    def refuse(match: str, code: int = INVALID_ARGUMENT) -> None:
        refused(code, match, "tensorflow", made.SerializeToString())

    made = make({"x": np.zeros((2, 3), np.float32)})
    made.inputs["x"].tensor_content += b"\0"
    refuse("input 'x': 25 bytes where shape 2x3 of float32 takes 24")
    made.inputs["x"].tensor_shape.dim[0].size = -1
    refuse("input 'x': shape")
    made.inputs["x"].tensor_shape.unknown_rank = True
    refuse("input 'x': its shape has no rank")
    made = make({"x": np.zeros(3, np.int32)}, as_list=True)
    made.inputs["x"].tensor_shape.dim[0].size = 2
    refuse("input 'x': more elements in int_val than the 2")
    made = make({"x": np.zeros(1, np.int32)})
    for number in (0, 11, 20, 21, 27, 101, 1000, -1):
        made.inputs["x"].dtype = number
        refuse(f"input 'x': its dtype is number {number}, which is not supported")
    made = make({"x": np.array([b"a"], object)})
    made.inputs["x"].tensor_content = b"\x01a"
    refuse("text is expected in string_val")
    made = make({"x": np.zeros(1, np.complex64)}, as_list=True)
    made.inputs["x"].scomplex_val.append(1)
    refuse("more elements in scomplex_val")
    made.inputs["x"].scomplex_val[:] = [1]
    refuse("scomplex_val has an odd number of elements")
    for dtype, value in ((4, 256), (4, -1), (6, 128), (5, -32769), (17, 65536), (29, 8), (30, 16), (31, 2), (32, 4)):
        made = make({"x": np.zeros(1, np.int32)}, as_list=True)
        made.inputs["x"].dtype = dtype
        made.inputs["x"].int_val[0] = value
        refuse(f"{value} in int_val is no ")
    made = make({"x": np.zeros(1, np.float16)}, as_list=True)
    made.inputs["x"].half_val[0] = 65536
    refuse("65536 in half_val is no float16")
    made = make({"x": np.zeros(1, np.float32)})
    made.output_filter.extend(["a", "b", "a"])
    refuse("output 'a' is named twice")
    with pytest.raises(ValueError) as caught:
        testing.answer("tensorflow", b"", [("y", np.zeros(1, ml_dtypes.float8_e8m0fnu))])
    assert caught.value.args[0] == UNIMPLEMENTED


@pytest.mark.parametrize("shape", [(2**62, 2**62), (2**40, 2**30), (0, 2**62, 4), (2**63 - 1,), (-1,), (2**24,)])
def test_shapes_that_are_too_large(shape: tuple[int, ...]) -> None:
    for as_list in (False, True):
        made = make({"x": np.zeros(2, np.float64)}, as_list)
        del made.inputs["x"].tensor_shape.dim[:]
        set_shape(made.inputs["x"], shape)
        refused(INVALID_ARGUMENT, "input 'x'", "tensorflow", made.SerializeToString())


def test_elements_left_out_are_limited_in_all_inputs_together() -> None:
    made = message("tensorflow.serving.PredictRequest")
    for name in "abcd":
        made.inputs[name].dtype = 1
        made.inputs[name].float_val.append(1.5)
        set_shape(made.inputs[name], (2**20,))
    assert sum(array.nbytes for array in inputs(made).values()) == 2**24
    set_shape(made.inputs["e"], (8,))
    made.inputs["e"].dtype = 1
    refused(INVALID_ARGUMENT, "input 'e': 8 of the elements that the shape has", "tensorflow", made.SerializeToString())
    made = message("tensorflow.serving.PredictRequest")
    made.inputs["x"].dtype = 7
    made.inputs["x"].string_val.append(b"t" * 10000)
    set_shape(made.inputs["x"], (5000,))
    refused(INVALID_ARGUMENT, "input 'x': 4999 of the elements", "tensorflow", made.SerializeToString())


def test_texts_are_counted_in_all_inputs_together() -> None:
    made = make({"a": np.array([b"1", b"2", b"3"], object)})
    made.inputs["b"].dtype = 7
    set_shape(made.inputs["b"], (2**22 - 2,))
    refused(INVALID_ARGUMENT, "input 'b': 4194302 texts after those before", "tensorflow", made.SerializeToString())


def test_limits() -> None:
    made = make({"x": np.zeros((1,) * 33, np.float32)})
    refused(INVALID_ARGUMENT, "more than 32 dimensions", "tensorflow", made.SerializeToString())
    made = message("tensorflow.serving.PredictRequest")
    for i in range(4097):
        made.inputs[str(i)].dtype = 1
    refused(INVALID_ARGUMENT, "more than 4096 inputs", "tensorflow", made.SerializeToString())


@pytest.mark.parametrize("as_list", [False, True])
def test_malformed_bytes(as_list: bool) -> None:
    rng = np.random.default_rng(3)
    dtypes = (np.float32, np.int64, np.object_, np.bool_, np.complex64, np.float16, np.uint64)
    made = make({str(i): random_array(rng, dtype, (2, 2)) for i, dtype in enumerate(dtypes)}, as_list)
    made.model_spec.version.value = 3
    made.output_filter.append("y")
    body = made.SerializeToString(deterministic=True)

    def valid(data: bytes) -> bool:
        try:
            type(made).FromString(data)
        except DecodeError:
            return False
        return True

    survives("tensorflow", truncations(body), valid)
    # Lists that are not of the tensor's type are passed over unread.
    assert survives("tensorflow", mutations(body, 3000, 1)) > 500
