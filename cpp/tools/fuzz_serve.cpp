// A libFuzzer target (CMake option LINNET_FUZZ, Clang): any bytes on any of the server's wires give a request or a
// Failure, and a request can be answered with its own tensors. The first byte says which wire, the second how long the
// JSON before raw tensors is. Seeds: tests/serve/make_fuzz_seeds.py.
//
//   build-fuzz/fuzz_serve -max_len=4096 -rss_limit_mb=2048 corpus/
#include "serve/codecs.h"

namespace {

using namespace linnet;
using namespace linnet::serve;

const std::vector<PortInfo>& ports() {
    static const std::vector<PortInfo> list = [] {
        std::vector<PortInfo> made;
        for (const auto& [name, dtype] : std::initializer_list<std::pair<const char*, DType>>{{"f", DType::f32},
                                                                                              {"i", DType::i64},
                                                                                              {"s", DType::string},
                                                                                              {"b", DType::boolean},
                                                                                              {"h", DType::f16}}) {
            made.emplace_back().name = name;
            made.back().fact = Fact::unranked(dtype);
        }
        return made;
    }();
    return list;
}

// Reads each element, so that a sanitizer sees what lies outside.
uint64_t touched(const Tensor& tensor) {
    uint64_t sum = 0;
    if (tensor.dtype == DType::string) {
        for (int64_t i = 0; i < tensor.count(); ++i)
            for (const char c : tensor.as<std::string>()[i]) sum += static_cast<unsigned char>(c);
    } else {
        for (size_t i = 0; i < tensor.bytes(); ++i) sum += tensor.as<uint8_t>()[i];
    }
    return sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 2) return 0;
    const uint8_t wire = data[0] % 6;
    const Bytes body = std::as_bytes(std::span(data + 2, size - 2));
    const auto json_size = static_cast<int64_t>(data[1]) * 4;
    try {
        Request request;
        switch (wire) {
            case 0: request = decode_oip(body); break;
            case 1: request = decode_tensorflow(body); break;
            case 2: request = decode_rest_v2(body, -1); break;
            case 3: request = decode_rest_v2(body, json_size); break;
            case 4: request = decode_rest_v1(body, ports()); break;
            default: request = decode_rest_v1(body, std::span(ports()).subspan(data[1] % ports().size(), 1)); break;
        }
        uint64_t sum = 0;
        Answer answer;
        answer.model = request.model;
        for (const NamedTensor& input : request.inputs) {
            sum += touched(input.tensor);
            answer.outputs.push_back(input);
        }
        int64_t header = -1;
        const Pieces pieces = wire == 0   ? encode_oip_stream(request, answer)
                              : wire == 1 ? encode_tensorflow(request, answer)
                              : wire <= 3 ? encode_rest_v2(request, answer, header)
                                          : encode_rest_v1(request, answer);
        std::vector<std::byte> joined(pieces.size());
        pieces.copy_to(joined.data());
        static volatile uint64_t sink;
        sink = sum + joined.size();
    } catch (const Failure&) {
    }
    return 0;
}
