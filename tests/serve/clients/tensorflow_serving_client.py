"""TF Serving's client: the messages of tensorflow-serving-api and tensorflow's own tensors."""

import grpc
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2


def _spec(spec, model, version=None, label=None, signature=""):
    spec.name = model
    spec.signature_name = signature
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label


def tensor_facts(array, shape=None, dtype=None):
    """Which fields make_tensor_proto fills: the tests are to cover them."""
    return sorted(field.name for field, _ in tf.make_tensor_proto(array, shape=shape, dtype=dtype).ListFields())


def predict(address, model, inputs, outputs=(), shapes=None, dtypes=None, **spec):
    """(model spec, outputs by name, fields of each output). ``inputs``: arrays or plain values by name."""
    request = predict_pb2.PredictRequest()
    _spec(request.model_spec, model, **spec)
    for name, value in inputs.items():
        dtype = (dtypes or {}).get(name)
        made = tf.make_tensor_proto(value, shape=(shapes or {}).get(name), dtype=dtype and tf.as_dtype(dtype))
        request.inputs[name].CopyFrom(made)
    request.output_filter.extend(outputs)
    with grpc.insecure_channel(address) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
    told = answer.model_spec
    found = {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}
    fields = {name: sorted(f.name for f, _ in tensor.ListFields()) for name, tensor in answer.outputs.items()}
    return (told.name, told.version.value, told.signature_name), found, fields


def predict_values(address, model, name, dtype, field, values, shape):
    """Predict with a tensor whose elements are a short list in one of the typed fields."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    tensor = request.inputs[name]
    tensor.dtype = tf.as_dtype(dtype).as_datatype_enum
    tensor.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    getattr(tensor, field).extend(values)
    expected = tf.make_ndarray(tensor)
    with grpc.insecure_channel(address) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
    (found,) = answer.outputs.values()
    return tf.make_ndarray(found), expected


def call_of(address, method, model):
    """The methods that ONNX models have no use for."""
    from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2

    request = {
        "Classify": classification_pb2.ClassificationRequest,
        "Regress": regression_pb2.RegressionRequest,
        "MultiInference": inference_pb2.MultiInferenceRequest,
    }[method]()
    with grpc.insecure_channel(address) as channel:
        getattr(prediction_service_pb2_grpc.PredictionServiceStub(channel), method)(request, timeout=30)


def metadata(address, model, fields=("signature_def",), **spec):
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    _spec(request.model_spec, model, **spec)
    request.metadata_field.extend(fields)
    with grpc.insecure_channel(address) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata(request, timeout=30)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    found = {}
    for name, signature in signatures.signature_def.items():
        found[name] = (
            signature.method_name,
            *(
                {
                    key: (tf.as_dtype(info.dtype).name, [dim.size for dim in info.tensor_shape.dim])
                    for key, info in ports.items()
                }
                for ports in (signature.inputs, signature.outputs)
            ),
        )
    return (answer.model_spec.name, answer.model_spec.version.value), found


def status(address, model, **spec):
    """(version, state, error code, message) of each version."""
    request = get_model_status_pb2.GetModelStatusRequest()
    _spec(request.model_spec, model, **spec)
    with grpc.insecure_channel(address) as channel:
        answer = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=30)
    names = get_model_status_pb2.ModelVersionStatus.State.Name
    return [
        (row.version, names(row.state), row.status.error_code, row.status.error_message)
        for row in answer.model_version_status
    ]


def reload(address, text):
    """HandleReloadConfigRequest with a config in protobuf's text form: (code, message)."""
    request = model_management_pb2.ReloadConfigRequest()
    request.config.CopyFrom(text_format.Parse(text, model_server_config_pb2.ModelServerConfig()))
    with grpc.insecure_channel(address) as channel:
        answer = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=60)
    return answer.status.error_code, answer.status.error_message


def predict_request(array):
    """The bytes of a request with that array as ``x`` and, as ``full``, a shorthand for a 2x2 tensor of one value; and
    what TensorFlow makes of the shorthand."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(array, shape=array.shape))
    full = tf.make_tensor_proto(array.ravel()[0] if array.size else 0, shape=(2, 2))
    request.inputs["full"].CopyFrom(full)
    return request.SerializeToString(), tf.make_ndarray(full)


def predict_read(reply, name):
    """An output of an answer's bytes."""
    return tf.make_ndarray(predict_pb2.PredictResponse.FromString(reply).outputs[name])
