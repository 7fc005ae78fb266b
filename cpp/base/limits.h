// How much of anything a model may ask for. What is beyond is an error before memory or time is spent on it.
#pragma once
#include <cstdint>

namespace linnet {

struct Limits {
    int64_t model_bytes = int64_t{1} << 40;  // of the model's file and those of its external data, together
    int64_t nodes = 250'000;                 // of the graph and its subgraphs, with functions inlined
    int64_t nesting = 32;                    // of subgraphs and functions
    int64_t rank = 64;                       // of any tensor
};
// No tensor has more dimensions, whatever the limits say.
constexpr int64_t kMostRank = 64;

}  // namespace linnet
