// Changes serialized ONNX models such that most of them can still be read: numbers, names and whole messages are
// exchanged, and lengths fit again. For libFuzzer's custom mutators.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace linnet::fuzz {

// A few random changes of `model`; empty when it cannot be read.
std::string mutate_model(std::string_view model, uint32_t seed);
// `model` with a message of `other` in place of one of its own kind; empty when one of them cannot be read.
std::string cross_models(std::string_view model, std::string_view other, uint32_t seed);

}  // namespace linnet::fuzz
