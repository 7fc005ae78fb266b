// A libFuzzer target (CMake option LINNET_FUZZ, Clang): any bytes as a model give a session or an Error. Also reads
// them as serialized values. Seeds: a folder of small .onnx and .pb files.
//
//   CXX=clang++ cmake -G Ninja -B build-fuzz -DLINNET_FUZZ=ON -DLINNET_SANITIZE=address,undefined .
//   ninja -C build-fuzz fuzz_onnx
//   build-fuzz/fuzz_onnx -max_len=4096 -rss_limit_mb=4096 corpus/
#include "base/error.h"
#include "onnx/writer.h"
#include "runtime/session.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace linnet;
    const onnx::Bytes bytes = std::as_bytes(std::span<const uint8_t>(data, size));
    using Kind = onnx::TypeProto::Kind;
    for (const Kind kind : {Kind::tensor, Kind::sparse, Kind::sequence, Kind::optional, Kind::map}) {
        try {
            onnx::write_value_pb(onnx::read_value_pb(bytes, kind));
        } catch (const Error&) {
        }
    }
    try {
        SessionOptions options;
        options.threads = 1;
        Session session(bytes, nullptr, options);
    } catch (const Error&) {
    }
    return 0;
}
