// libFuzzer targets (CMake option LINNET_FUZZ, Clang), one for each of the server's wires: fuzz_oip, fuzz_tensorflow,
// fuzz_rest_v2 and fuzz_rest_v1. Any bytes give a request or a Failure, and a request can be answered with its own
// tensors. On the REST wires the first byte is not the request's: it says how long the JSON before raw tensors is (in
// fours; 0: all is JSON), or which inputs the model has (0: all). Seeds: tests/serve/make_fuzz_seeds.py.
//
//   build-fuzz/fuzz_oip -max_len=4096 -rss_limit_mb=2048 corpus/oip
#include "serve/codecs.h"

namespace {

using namespace linnet;
using namespace linnet::serve;

enum class Wire { oip, tensorflow, rest_v2, rest_v1 };
constexpr Wire kWire = Wire::LINNET_FUZZ_WIRE;

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
    const Bytes bytes = std::as_bytes(std::span(data, size));
    if (kWire != Wire::oip && kWire != Wire::tensorflow && bytes.empty()) return 0;
    try {
        Request request;
        switch (kWire) {
            case Wire::oip: request = decode_oip(bytes); break;
            case Wire::tensorflow: request = decode_tensorflow(bytes); break;
            case Wire::rest_v2:
                request = decode_rest_v2(bytes.subspan(1), data[0] ? static_cast<int64_t>(data[0]) * 4 : -1);
                break;
            case Wire::rest_v1: {
                const std::span<const PortInfo> all = ports();
                request = decode_rest_v1(bytes.subspan(1), data[0] ? all.subspan(data[0] % all.size(), 1) : all);
                break;
            }
        }
        uint64_t sum = 0;
        Answer answer;
        answer.model = request.model;
        for (const NamedTensor& input : request.inputs) {
            sum += touched(input.tensor);
            answer.outputs.push_back(input);
        }
        int64_t header = -1;
        const Pieces pieces = kWire == Wire::oip          ? encode_oip_stream(request, answer)
                              : kWire == Wire::tensorflow ? encode_tensorflow(request, answer)
                              : kWire == Wire::rest_v2    ? encode_rest_v2(request, answer, header)
                                                          : encode_rest_v1(request, answer);
        std::vector<std::byte> joined(pieces.size());
        pieces.copy_to(joined.data());
        [[maybe_unused]] static volatile uint64_t sink;
        sink = sum + joined.size();
    } catch (const Failure&) {
    }
    return 0;
}
