// The codecs of the wires that Linnet serves: bytes to Request, Answer to bytes. Each is a file of its own. Malformed
// bytes throw Failure(invalid_argument) that says where and of which tensor; what is well-formed but not supported
// throws Failure(unimplemented). Nothing is read beyond the bytes, and no more memory is asked for than some ten times
// their size (but for kMostPaddedBytes). What an Answer's outputs are called and in which order is the request's
// `outputs`.
#pragma once
#include <string>
#include <string_view>

#include "runtime/session.h"
#include "serve/message.h"

namespace linnet::serve {

// oip.cpp: Open Inference Protocol v2, package `inference` (protos/inference.proto).
Request decode_oip(Bytes model_infer_request);
Pieces encode_oip(const Request& request, const Answer& answer);         // ModelInferResponse
Pieces encode_oip_stream(const Request& request, const Answer& answer);  // ModelStreamInferResponse around it
Pieces encode_oip_stream_error(std::string_view id, std::string_view message);

// tensorflow.cpp: TensorFlow Serving's PredictionService.Predict (protos/tensorflow_serving.proto). The inputs are a
// map, and come sorted by name.
Request decode_tensorflow(Bytes predict_request);
Pieces encode_tensorflow(const Request& request, const Answer& answer);  // PredictResponse

// rest_v2.cpp: POST v2/models/{model}[/versions/{version}]/infer with the binary extension. `json_size`: the header
// Inference-Header-Content-Length; negative: the whole body is JSON.
Request decode_rest_v2(Bytes body, int64_t json_size);
// `json_size` gets the length of the JSON part when tensors follow as bytes, -1 otherwise.
Pieces encode_rest_v2(const Request& request, const Answer& answer, int64_t& json_size);

// rest_v1.cpp: TF Serving's POST v1/models/{model}[/versions/{v}|/labels/{l}]:predict. JSON carries no element types:
// they are the ports'. Text of outputs whose names end in "_bytes", or that is not UTF-8, is sent as {"b64": "..."}.
Request decode_rest_v1(Bytes body, std::span<const PortInfo> inputs);
Pieces encode_rest_v1(const Request& request, const Answer& answer);

// tensor_text.cpp: names of element types on the wires.
DType dtype_of_oip(std::string_view name);  // "FP32" ...; undefined when there is none
std::string_view oip_name(DType dtype);     // empty where the protocol has none
DType dtype_of_tensorflow(int64_t number);  // types.proto
int64_t tensorflow_number(DType dtype);     // 0 where it has none

}  // namespace linnet::serve
