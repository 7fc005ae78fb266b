"""What tritonclient sends and reads, without a server."""

import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import _utils, service_pb2


def _inputs(module, arrays, datatype):
    made = []
    for name, array in arrays.items():
        made.append(module.InferInput(name, array.shape, datatype))
        made[-1].set_data_from_numpy(array)
    return made


def grpc_request(arrays, datatype, classes):
    """The bytes of a request for output x2, as classes where there is a number, and of one for all outputs."""
    module = tritonclient.grpc
    wanted = [module.InferRequestedOutput("x2", class_count=classes)]
    request = _utils._get_inference_request(
        "m", _inputs(module, arrays, datatype), "3", "id", wanted, 42, True, False, 1, 2000, {"mine": "text"}
    )
    body = request.SerializeToString()
    request.ClearField("outputs")
    return body, request.SerializeToString()


def grpc_read(reply, names):
    result = tritonclient.grpc.InferResult(service_pb2.ModelInferResponse.FromString(reply))
    return {name: result.as_numpy(name) for name in names}


def http_request(arrays, datatype, names=None, binary=True):
    """A body and the size of its JSON part, None without binary data."""
    module = tritonclient.http
    outputs = names and [module.InferRequestedOutput(name, binary_data=binary) for name in names]
    return module.InferenceServerClient.generate_request_body(
        _inputs(module, arrays, datatype), outputs=outputs, request_id="7", priority=1, timeout=5, sequence_id=3
    )


def http_read(reply, json_size, names):
    result = tritonclient.http.InferenceServerClient.parse_response_body(reply, header_length=json_size)
    return {name: result.as_numpy(name) for name in names}
