// Rules that turn statically quantized graphs (DequantizeLinear, a float operator, QuantizeLinear) into integer
// operators (domain linnet). docs/int8.md has the formulas. They run before operators are lowered, on ONNX's axis
// order.
#pragma once
#include <optional>
#include <string>

#include "graph/op.h"

namespace linnet {

// What a byte of a tensor means: (byte - zero) * scale.
struct Quantization {
    float scale = 1;
    int32_t zero = 0;
    DType dtype = DType::u8;  // u8 or i8
    bool operator==(const Quantization&) const = default;
    int32_t lowest() const { return dtype == DType::u8 ? 0 : -128; }
    int32_t highest() const { return dtype == DType::u8 ? 255 : 127; }
    int32_t quantize(float x) const;  // QuantizeLinear
};

struct Bytes {
    ValueId value = kNoValue;
    Quantization real;
};

bool is_quantize(const Node& node);
bool is_dequantize(const Node& node);
// Parameters of a QuantizeLinear or DequantizeLinear between float32 and bytes, of known values for the whole tensor.
std::optional<Quantization> quantization(const Graph& graph, const Node& node);
// The bytes behind a value that a DequantizeLinear of the kind above makes.
std::optional<Bytes> dequantized(const Graph& graph, ValueId value);

// A Relu or Clip with known bounds is skipped, and narrows [lo, hi], as long as it is the only reader of its input.
ValueId skip_clamps(const Graph& graph, ValueId value, const Quantization& real, int32_t& lo, int32_t& hi);

// The attributes by which an operator gives bytes of kind `y` from lo to hi.
void set_result(Attributes& attributes, const Quantization& y, int32_t lo, int32_t hi);

// One form of a QuantizeLinear with what is in front of it. False: not this form; `why` then says what is missing, if
// the float operator is one that the form is for.
using IntegerForm = bool (*)(const Graph&, const Node& quantize, Patch&, std::string& why);

bool integer_table(const Graph& graph, const Node& quantize, Patch& patch, std::string& why);
bool integer_conv(const Graph& graph, const Node& quantize, Patch& patch, std::string& why);
bool integer_product(const Graph& graph, const Node& quantize, Patch& patch, std::string& why);
bool integer_binary(const Graph& graph, const Node& quantize, Patch& patch, std::string& why);
bool integer_pool(const Graph& graph, const Node& quantize, Patch& patch, std::string& why);
bool integer_resize(const Graph& graph, const Node& quantize, Patch& patch, std::string& why);
// QuantizeLinear moves in front of what only moves or selects elements.
bool quantize_earlier(const Graph& graph, const Node& quantize, Patch& patch, std::string& why);

// A float or dequantized bias in steps of x_scale * w_scale; kNoValue with `why` set if it has no such form.
ValueId integer_bias(const Graph& graph, ValueId bias, int64_t filters, float x_scale, const Tensor& w_scale,
                     float y_scale, Patch& patch, std::string& why);

// The passes: each form above on each QuantizeLinear; and DequantizeLinear moves behind what only moves elements.
bool integer_forms(const Graph& graph, NodeId id, Patch& patch);
// Products whose integer sums are read as float: after integer_forms.
bool float_products(const Graph& graph, NodeId id, Patch& patch);
bool dequantize_later(const Graph& graph, NodeId id, Patch& patch);
// Operators of com.microsoft on bytes become their QDQ form.
bool unfold_qlinear(const Graph& graph, NodeId id, Patch& patch);
// A simplification: constant weights take their order of axes before DequantizeLinear.
bool move_weights(const Graph& graph, NodeId id, Patch& patch);
// Notes in `float_nodes` of the graph why operators between DequantizeLinear and QuantizeLinear stay float.
bool explain_float_nodes(Graph& graph);

// After layouts are chosen: tables and sums become part of the convolution in front of them.
bool fuse_bytes(const Graph& graph, NodeId id, Patch& patch);

}  // namespace linnet
