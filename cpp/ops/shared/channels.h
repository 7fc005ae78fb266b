// Tensors with a batch axis, a channel axis and positions, for operators that treat channels apart. ONNX puts the
// channels at axis 1; layout propagation moves them to the end and says so in an internal attribute.
#pragma once
#include "graph/op.h"

namespace linnet {

constexpr const char* kChannelAxis = "channel_axis";  // 1 when absent

// Element (n, c, p) is at (n * channels * positions) + c * channel_step + p * position_step.
struct ChannelView {
    int64_t batch = 1, channels = 1, positions = 1;
    int64_t channel_step = 1, position_step = 1;
    bool last = false;  // channels are neighbours
    int64_t image() const noexcept { return channels * positions; }
};

// The channel axis: 1, or the last one.
int64_t channel_axis(const Attributes& attributes, int64_t rank);
ChannelView channel_view(const Attributes& attributes, const Shape& shape);

// The permute hook: the batch axis stays, the channels become axis 1 or the last.
bool permute_channels(const Graph& graph, Node& node, const Shape& perm, Patch& patch);

// Mean and population variance of groups of `group` neighbouring channels, for each image, into mean[n * channels + c]
// and var[...] (the same number for each channel of a group).
void group_statistics(const Parallel& parallel, const ChannelView& view, int64_t group, const float* x, float* mean,
                      float* var);
// y = (x - mean) * factor + shift, all three of [batch][channels] (with batch_step 0: of [channels]); mean may be null.
void affine_channels(const Parallel& parallel, const ChannelView& view, const float* x, const float* mean,
                     const float* factor, const float* shift, int64_t batch_step, float* y);

}  // namespace linnet
