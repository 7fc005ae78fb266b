"""The bytes that real clients send, and what they make of the answers. Each part runs where its client is installed.

tritonclient registers its messages in protobuf's default pool: that ours are not there is part of what is tested.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codec_messages import OIP_TYPES, SHAPES, Array, pool, random_array, same_bits
from linnet._core import testing


def triton(module: str) -> Any:
    return pytest.importorskip(f"tritonclient.{module}", exc_type=ImportError)


def arrays_of(datatype: str) -> dict[str, Array]:
    rng = np.random.default_rng(4)
    return {f"x{i}": random_array(rng, OIP_TYPES[datatype], shape) for i, shape in enumerate(SHAPES)}


def infer_inputs(module: Any, datatype: str) -> list[Any]:
    made = []
    for name, array in arrays_of(datatype).items():
        made.append(module.InferInput(name, array.shape, datatype))
        made[-1].set_data_from_numpy(array)
    return made


def check_inputs(decoded: dict[str, Any], arrays: dict[str, Array]) -> None:
    assert [name for name, _, _ in decoded["inputs"]] == list(arrays)
    for name, array, _ in decoded["inputs"]:
        assert same_bits(array, arrays[name]), name


@pytest.mark.parametrize("datatype", OIP_TYPES)
def test_tritonclient_grpc(datatype: str) -> None:
    grpc = triton("grpc")
    from tritonclient.grpc import _utils, service_pb2

    wanted = [
        grpc.InferRequestedOutput("x2", class_count=2) if datatype != "BYTES" else grpc.InferRequestedOutput("x2")
    ]
    request = _utils._get_inference_request(
        "m", infer_inputs(grpc, datatype), "3", "id", wanted, 42, True, False, 1, 2000, {"mine": "text"}
    )
    body = request.SerializeToString()
    decoded = testing.decode("oip", body)
    arrays = arrays_of(datatype)
    check_inputs(decoded, arrays)
    said = (decoded["model"], decoded["version"], decoded["id"], decoded["sequence"], decoded["priority"])
    assert said == ("m", "3", "id", "42", 1) and decoded["timeout_us"] == 2000

    request.ClearField("outputs")
    reply, _ = testing.answer("oip", request.SerializeToString(), list(arrays.items()))
    result = grpc.InferResult(service_pb2.ModelInferResponse.FromString(reply))
    for name, array in arrays.items():
        assert same_bits(result.as_numpy(name), array), name
    if datatype != "BYTES":
        reply, _ = testing.answer("oip", body, [("x2", np.array([0.5, 0.25, 1], np.float32))])
        assert grpc.InferResult(service_pb2.ModelInferResponse.FromString(reply)).as_numpy("x2").tolist() == [
            b"1.0:2",
            b"0.5:0",
        ]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", OIP_TYPES)
def test_tritonclient_http(datatype: str, binary: bool) -> None:
    http = triton("http")
    arrays = arrays_of(datatype)
    body, size = http.InferenceServerClient.generate_request_body(
        infer_inputs(http, datatype), request_id="7", priority=1, timeout=5, sequence_id=3
    )
    decoded = testing.decode("rest_v2", body, json_size=-1 if size is None else size)
    check_inputs(decoded, arrays)
    assert decoded["binary_outputs"] and decoded["id"] == "7" and decoded["sequence"] == "3"

    if not binary:  # numbers that JSON can carry
        arrays = {n: a for n, a in arrays.items() if a.dtype != np.object_}
        arrays = {n: np.ones_like(a) if a.dtype.kind in "fV" else a for n, a in arrays.items()}
    wanted = [http.InferRequestedOutput(name, binary_data=binary) for name in arrays]
    body, size = http.InferenceServerClient.generate_request_body(infer_inputs(http, datatype), outputs=wanted)
    reply, json_size = testing.answer("rest_v2", body, list(arrays.items()), json_size=-1 if size is None else size)
    result = http.InferenceServerClient.parse_response_body(reply, header_length=None if json_size < 0 else json_size)
    for name, array in arrays.items():
        assert same_bits(result.as_numpy(name), array), name


def described(message: Any) -> dict[str, tuple[int, int, int, str]]:
    """Fields of a message: name to number, type, label, and the name of the message or enum that it is."""
    fields = {}
    for field in message.fields:
        inner = field.message_type or field.enum_type
        repeated = getattr(field, "is_repeated", None)
        fields[field.name] = (field.number, field.type, int(bool(repeated)), inner.full_name if inner else "")
    return fields


def compare_file(theirs: Any, our_file: str, extra: set[str], left_out: set[str]) -> int:
    """Every message, field and method of their file is ours with the same number and type; returns how many fields."""
    ours = pool().FindFileByName(our_file)
    count = 0

    def compare(their_message: Any, our_message: Any) -> None:
        nonlocal count
        their_fields, our_fields = described(their_message), described(our_message)
        names = {f"{their_message.full_name}.{n}" for n in their_fields.keys() - our_fields.keys()}
        assert names <= left_out, names - left_out
        names = {f"{their_message.full_name}.{n}" for n in our_fields.keys() - their_fields.keys()}
        assert names <= extra, names - extra
        for name in their_fields.keys() & our_fields.keys():
            if f"{their_message.full_name}.{name}" not in left_out:
                assert their_fields[name] == our_fields[name], (their_message.full_name, name)
                count += 1
        for name, nested in their_message.nested_types_by_name.items():
            if name in our_message.nested_types_by_name:
                compare(nested, our_message.nested_types_by_name[name])

    for their_message in theirs.message_types_by_name.values():
        if their_message.full_name in left_out:
            continue
        compare(their_message, pool().FindMessageTypeByName(their_message.full_name))
    for name, enum in theirs.enum_types_by_name.items():
        their_values = {v.name: v.number for v in enum.values if not v.name.endswith("_REF")}
        assert their_values == {v.name: v.number for v in pool().FindEnumTypeByName(enum.full_name).values}, name
    for name, service in theirs.services_by_name.items():
        ours_service = ours.services_by_name[name]
        for method in service.methods:
            ours_method = ours_service.methods_by_name[method.name]
            assert ours_method.input_type.full_name == method.input_type.full_name
            assert ours_method.output_type.full_name == method.output_type.full_name
            assert ours_method.client_streaming == method.client_streaming
            assert ours_method.server_streaming == method.server_streaming
    return count


def test_the_contract_of_oip_is_tritons() -> None:
    triton("grpc")
    from tritonclient.grpc import service_pb2

    extra = {"inference.ModelMetadataResponse.properties"}
    assert compare_file(service_pb2.DESCRIPTOR, "inference.proto", extra, set()) > 100


def test_the_contract_of_tensorflow_serving() -> None:
    pytest.importorskip("tensorflow_serving", exc_type=ImportError)
    from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        model_pb2,
        model_service_pb2,
        predict_pb2,
        prediction_service_pb2,
        regression_pb2,
        status_pb2,
    )
    from tensorflow_serving.config import file_system_storage_path_source_pb2, model_server_config_pb2

    left_out = {
        "tensorflow.serving.PredictStreamedOptions",
        "tensorflow.serving.PredictRequest.predict_streamed_options",
        "tensorflow.serving.PredictRequest.client_id",
        "tensorflow.serving.PredictRequest.request_options",
        "tensorflow.serving.StatusProto.error_code",  # an enum there, whose bytes are the same
        "tensorflow.TensorProto.resource_handle_val",
        "tensorflow.TensorProto.variant_val",
        "tensorflow.VariantTensorDataProto",
        "tensorflow.SerializedDType",
    }
    count = 0
    for module in (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        model_pb2,
        model_service_pb2,
        predict_pb2,
        prediction_service_pb2,
        regression_pb2,
        status_pb2,
        file_system_storage_path_source_pb2,
        model_server_config_pb2,
    ):
        count += compare_file(module.DESCRIPTOR, "tensorflow_serving.proto", set(), left_out)
    for module in (tensor_pb2, tensor_shape_pb2, types_pb2):
        count += compare_file(module.DESCRIPTOR, "tensorflow.proto", set(), left_out)
    assert count > 80


def test_tensorflow_makes_and_reads_the_tensors() -> None:
    pytest.importorskip("tensorflow_serving", exc_type=ImportError)
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    rng = np.random.default_rng(5)
    dtypes = [np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.float16]
    dtypes += [tf.bfloat16.as_numpy_dtype, np.float32, np.float64, np.complex64, np.complex128, np.object_]
    for dtype in dtypes:
        for shape in SHAPES:
            array = random_array(rng, dtype, shape)
            if array.dtype.kind in "fcV":
                array = np.asarray(np.ones_like(array) * rng.integers(0, 9))
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "m"
            request.inputs["x"].CopyFrom(tf.make_tensor_proto(array, shape=array.shape))
            full = tf.make_tensor_proto(array.ravel()[0] if array.size else 0, shape=(2, 2))
            request.inputs["full"].CopyFrom(full)
            body = request.SerializeToString()
            decoded = {name: a for name, a, _ in testing.decode("tensorflow", body)["inputs"]}
            assert same_bits(decoded["x"], array), (dtype, shape)
            assert same_bits(decoded["full"], np.asarray(tf.make_ndarray(full))), (dtype, shape)
            reply, _ = testing.answer("tensorflow", body, [("y", array)])
            response = predict_pb2.PredictResponse.FromString(reply)
            assert same_bits(np.asarray(tf.make_ndarray(response.outputs["y"])), array), (dtype, shape)
