// The elements of TensorProto, with or without a model around it.
#pragma once
#include <map>
#include <mutex>

#include "base/mapped_file.h"
#include "onnx/model.h"

namespace linnet::onnx {

// Tensors usually share one file: each is mapped once, for as long as a tensor views it.
struct ExternalFiles {
    std::shared_ptr<const MappedFile> open(const std::filesystem::path& folder, std::string_view location);

    std::mutex mutex;
    std::map<std::string, std::weak_ptr<const MappedFile>, std::less<>> mapped;
    int64_t most_bytes = INT64_MAX;  // of all files together
    int64_t bytes = 0;               // of those that were opened
};

// What a tensor's bytes may refer to.
struct TensorSource {
    std::shared_ptr<const void> owner;  // keeps the proto's bytes alive; null: the tensor must own a copy
    std::filesystem::path folder;       // where external data may lie; empty: nowhere
    ExternalFiles* external = nullptr;
    int64_t most_rank = kMostRank;
};

Tensor decode_tensor(const TensorProto& proto, const TensorSource& source);
Tensor decode_sparse_tensor(const SparseTensorProto& proto, const TensorSource& source);

}  // namespace linnet::onnx
