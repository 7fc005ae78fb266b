// A libFuzzer target (CMake option LINNET_FUZZ, Clang): any bytes as a model's file, or as serialized values, are read
// or give an Error; so do the tensors in what was read.
#include "base/error.h"
#include "base/memory.h"
#include "onnx/writer.h"

namespace {

using namespace linnet;
using Kind = onnx::TypeProto::Kind;

template <class Fn>
void attempt(const Fn& fn) {
    try {
        fn();
    } catch (const Error&) {
    }
}

void read_tensors(const onnx::Model& model, const onnx::GraphProto& graph) {
    for (const auto& tensor : graph.initializers) attempt([&] { onnx::read_tensor(model, tensor); });
    for (const auto& tensor : graph.sparse_initializers) attempt([&] { onnx::read_sparse_tensor(model, tensor); });
    for (const auto& node : graph.nodes)
        for (const auto& attribute : node.attributes) {
            for (const auto& tensor : attribute.t) attempt([&] { onnx::read_tensor(model, tensor); });
            for (const auto& tensor : attribute.sparse) attempt([&] { onnx::read_sparse_tensor(model, tensor); });
            for (const auto& inner : attribute.g) read_tensors(model, inner);
        }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const onnx::Bytes bytes = std::as_bytes(std::span<const uint8_t>(data, size));
    const auto account = std::make_shared<MemoryAccount>(int64_t{256} << 20);
    const MemoryAccount::Scope counted(account.get());
    for (const Kind kind : {Kind::tensor, Kind::sparse, Kind::sequence, Kind::optional, Kind::map})
        attempt([&] { onnx::write_value_pb(onnx::read_value_pb(bytes, kind)); });
    attempt([&] {
        const auto model = onnx::read_model(bytes, nullptr);
        read_tensors(*model, model->proto.graph);
    });
    return 0;
}
