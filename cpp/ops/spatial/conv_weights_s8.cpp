// Weights of convolutions on bytes: signed, less their zero points where that is possible, and packed.
#include <algorithm>
#include <vector>

#include "base/give_way.h"
#include "ops/spatial/conv_s8.h"

namespace linnet {
namespace {

// Weights as signed bytes, group by group [columns][k][taps], or [columns][taps][k] when merged; then packed. Windows
// that are copied into rows have a few bytes more, which meet zero weights. The last column, of wide weights, is ones.
void pack_gemm(const ConvPlanS8& plan, const Tensor& w, std::byte* out) {
    const auto& table = kernels::kernels();
    const int64_t columns = plan.columns(), channels = plan.in_channels / plan.groups;
    const int64_t own = channels * plan.all_taps, each = plan.k * plan.taps;
    std::vector<uint8_t> bytes(static_cast<size_t>(columns * each));
    for (int64_t i = 0; i < own && columns > plan.n; ++i) bytes[static_cast<size_t>(plan.n * each + i)] = 1;
    kernels::PackB layout;
    layout.taps = static_cast<size_t>(plan.taps), layout.k = static_cast<size_t>(plan.k);
    layout.n = static_cast<size_t>(columns);
    layout.tap_stride = plan.merged ? plan.k : 1;
    layout.k_stride = plan.merged ? 1 : plan.taps;
    layout.n_stride = each;
    const uint8_t flip = w.dtype == DType::u8 ? 0x80 : 0;  // minus 128
    for (int64_t g = 0; g < plan.groups; ++g) {
        for (int64_t o = 0; o < plan.n; ++o) {
            give_way();
            const uint8_t* from = w.as<uint8_t>() + (g * plan.n + o) * own;
            uint8_t* to = bytes.data() + o * each;
            if (plan.merged)
                table.transpose(1, static_cast<size_t>(channels), static_cast<size_t>(plan.all_taps), from,
                                plan.all_taps, to, channels);
            else std::copy_n(from, own, to);
            for (int64_t i = 0; i < own; ++i) to[i] ^= flip;
        }
        table.pack_b_s8(layout, reinterpret_cast<const int8_t*>(bytes.data()),
                        out + static_cast<size_t>(g) * plan.packed_group, 0, static_cast<size_t>(plan.panels()));
    }
}

// Depthwise weights less their zero points: [taps][channels].
void subtract_zeros(const ConvPlanS8& plan, const Tensor& w, const Tensor* w_zero, int16_t* out) {
    for (int64_t c = 0; c < plan.in_channels; ++c)
        for (int64_t t = 0; t < plan.all_taps; ++t)
            out[t * plan.in_channels + c] =
                static_cast<int16_t>(int_at(w, c * plan.all_taps + t) - conv_parameter(w_zero, c));
}

}  // namespace

void pack_weights(const ConvPlanS8& plan, const Tensor& w, const Tensor* w_zero, std::byte* out) {
    if (plan.path == ConvPath::winograd) {
        const auto columns = static_cast<int64_t>(kernels::kernels().winograd_s8_cols);
        return kernels::kernels().pack_winograd_s8(static_cast<size_t>(plan.winograd.m), static_cast<size_t>(plan.k),
                                                   static_cast<size_t>(plan.n), w.as<int8_t>(), out, 0,
                                                   static_cast<size_t>((plan.n + columns - 1) / columns));
    }
    if (!plan.is_depthwise()) return pack_gemm(plan, w, out);
    if (plan.path == ConvPath::depthwise_sums) return subtract_zeros(plan, w, w_zero, reinterpret_cast<int16_t*>(out));
    std::vector<int16_t> weights(static_cast<size_t>(plan.all_taps * plan.in_channels));
    subtract_zeros(plan, w, w_zero, weights.data());
    kernels::kernels().pack_depthwise_s8(plan.window.kernel[1], plan.window.kernel[2],
                                         static_cast<size_t>(plan.in_channels), plan.wide, weights.data(),
                                         plan.in_channels, 1, out);
}

void narrow_weights(const Graph& graph, Patch& patch, ValueIds& inputs, const ConvOperands& at) {
    const auto w_at = static_cast<size_t>(at.w), zero_at = static_cast<size_t>(at.w_zero);
    const ValueId zero_value = zero_at < inputs.size() ? inputs[zero_at] : kNoValue;
    const Tensor *w = graph.constant(inputs[w_at]), *zero = graph.constant(zero_value);
    if (!w || (zero_value != kNoValue && !zero) || w->rank() < 1) return;
    const int64_t filters = w->shape[0], count = w->count();
    if (zero && zero->count() != 1 && zero->count() != filters) return;
    bool none = w->dtype == DType::i8;  // no zero point but 0
    for (int64_t i = 0; zero && i < zero->count(); ++i) none &= int_at(*zero, i) == 0;
    if (!none) {
        Tensor out = Tensor::allocate(DType::i8, w->shape);
        for (int64_t i = 0; i < count; ++i) {
            const int64_t value = int_at(*w, i) - conv_parameter(zero, i / (count / filters));
            if (value < -128 || value > 127) return;
            out.as<int8_t>()[i] = static_cast<int8_t>(value);
        }
        inputs[w_at] = patch.constant(std::move(out), graph.value(inputs[w_at]).name);
    }
    if (zero_at < inputs.size()) inputs[zero_at] = kNoValue;
}

}  // namespace linnet
