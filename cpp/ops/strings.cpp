// Operators on text: StringNormalizer (10), StringConcat, StringSplit and RegexFullMatch (20).
#include <algorithm>
#include <limits>
#include <set>

#include "ops/shared/copy.h"
#include "ops/shared/facts.h"
#include "ops/shared/regex.h"
#include "ops/shared/utf8.h"

namespace linnet {
namespace {

const Fact& string_input(const InferContext& ctx, int i) {
    const Fact& fact = tensor_input(ctx, i);
    require(fact.dtype == DType::string || fact.dtype == DType::undefined, "input ", i, " must be strings, not ",
            dtype_name(fact.dtype));
    return fact;
}

const Tensor& string_tensor(const RunContext& ctx, int i) {
    if (ctx.value(i).kind != Value::Kind::tensor || ctx.input(i).dtype != DType::string)
        fail(ErrorKind::invalid_argument, "input ", i, " must be a tensor of strings");
    return ctx.input(i);
}

// ---- StringNormalizer ----------------------------------------------------------------------------------------------
void infer_normalizer(InferContext& ctx) {
    const Fact& x = string_input(ctx, 0);
    const std::string& action = ctx.attributes.s("case_change_action", "NONE");
    require(action == "NONE" || action == "LOWER" || action == "UPPER", "case_change_action '", action,
            "' is none of NONE, LOWER, UPPER");
    if (!x.ranked) return ctx.output_unranked(0, DType::string);
    const bool row = x.rank() == 2;
    require(x.rank() == 1 || (row && (!is_number(x.shape[0]) || x.shape[0] == 1)),
            "the input must have shape [C] or [1, C], not ", ctx.dims.text(x.shape));
    ctx.output(0, DType::string, row ? Shape{1, kUnknownDim} : Shape{kUnknownDim});
}

void run_normalizer(RunContext& ctx) {
    const Tensor& x = string_tensor(ctx, 0);
    if (x.rank() != 1 && !(x.rank() == 2 && x.shape[0] == 1))
        fail(ErrorKind::invalid_argument, "the input must have shape [C] or [1, C], not ", shape_text(x.shape));
    const std::string& action = ctx.attributes.s("case_change_action", "NONE");
    const bool exact = ctx.attributes.i("is_case_sensitive", 0) != 0;
    std::set<std::string> stop;
    for (const std::string& word : ctx.attributes.strings("stopwords")) stop.insert(exact ? word : lower_case(word));
    std::vector<std::string> kept;
    for (int64_t i = 0; i < x.count(); ++i) {
        const std::string& word = x.as<std::string>()[i];
        if (!stop.empty() && stop.count(exact ? word : lower_case(word))) continue;
        kept.push_back(action == "LOWER" ? lower_case(word) : action == "UPPER" ? upper_case(word) : word);
    }
    if (kept.empty()) kept.emplace_back();
    const auto count = static_cast<int64_t>(kept.size());
    Tensor& y = ctx.allocate(0, DType::string, x.rank() == 2 ? Shape{1, count} : Shape{count});
    std::move(kept.begin(), kept.end(), y.as<std::string>());
}

// ---- StringConcat --------------------------------------------------------------------------------------------------
void infer_concat(InferContext& ctx) {
    string_input(ctx, 0);
    string_input(ctx, 1);
    Shape shape;
    if (ctx.broadcast({0, 1}, shape)) ctx.output(0, DType::string, shape);
    else ctx.output_unranked(0, DType::string);
}

void run_concat(RunContext& ctx) {
    Tensor& y = ctx.output(0);
    const auto count = y.count();
    // Copied in with broadcasting, then each is appended.
    auto spread = [&](const Tensor& x) {
        Tensor full = Tensor::allocate(DType::string, y.shape);
        const Shape strides = strides_of(x.shape);
        Shape from(y.shape.size(), 0);
        const size_t skip = y.shape.size() - x.shape.size();
        for (size_t i = 0; i < x.shape.size(); ++i)
            if (x.shape[i] != 1) from[skip + i] = strides[i];
        copy_box(ctx.parallel(), DType::string, y.shape, x.data, from, full.data, strides_of(y.shape));
        return full;
    };
    const Tensor a = spread(ctx.input(0)), b = spread(ctx.input(1));
    for (int64_t i = 0; i < count; ++i) {
        const std::string &left = a.as<std::string>()[i], &right = b.as<std::string>()[i];
        count_text(left.size() + right.size());
        y.as<std::string>()[i] = left + right;
    }
}

// ---- StringSplit ---------------------------------------------------------------------------------------------------
void infer_split(InferContext& ctx) {
    const Fact& x = string_input(ctx, 0);
    require(!ctx.attributes.has("maxsplit") || ctx.attributes.i("maxsplit", 0) >= 0, "maxsplit is negative");
    if (!x.ranked) {
        ctx.output_unranked(0, DType::string);
        return ctx.output_unranked(1, DType::i64);
    }
    Shape shape = x.shape;
    ctx.output(1, DType::i64, shape);
    shape.push_back(kUnknownDim);
    ctx.output(0, DType::string, shape);
}

// As Python's str.split: at each delimiter, or at runs of white space when there is none.
std::vector<std::string> split(const std::string& text, const std::string& delimiter, int64_t most) {
    std::vector<std::string> parts;
    if (!delimiter.empty()) {
        size_t from = 0;
        for (; most > 0; --most) {
            const size_t found = text.find(delimiter, from);
            if (found == std::string::npos) break;
            parts.push_back(text.substr(from, found - from));
            from = found + delimiter.size();
        }
        parts.push_back(text.substr(from));
        return parts;
    }
    size_t begin = std::string::npos, last = 0;  // of the part that has begun; the end of its last letter
    for (size_t at = 0; at < text.size();) {
        const size_t from = at;
        const bool space = is_space(decode_utf8(text, at));
        if (!space) {
            if (begin == std::string::npos) begin = from;
            last = at;
        } else if (begin != std::string::npos && most > 0) {
            parts.push_back(text.substr(begin, last - begin));
            begin = std::string::npos;
            --most;
        }
    }
    if (begin != std::string::npos) parts.push_back(text.substr(begin, last - begin));
    return parts;
}

void run_split(RunContext& ctx) {
    const Tensor& x = string_tensor(ctx, 0);
    const std::string& delimiter = ctx.attributes.s("delimiter", "");
    const int64_t most = ctx.attributes.i("maxsplit", std::numeric_limits<int64_t>::max());
    std::vector<std::vector<std::string>> all;
    size_t longest = 0;
    int64_t* counts = ctx.allocate(1, DType::i64, x.shape).as<int64_t>();
    for (int64_t i = 0; i < x.count(); ++i) {
        all.push_back(split(x.as<std::string>()[i], delimiter, most));
        longest = std::max(longest, all.back().size());
        counts[i] = static_cast<int64_t>(all.back().size());
    }
    Shape shape = x.shape;
    shape.push_back(static_cast<int64_t>(longest));
    std::string* to = ctx.allocate(0, DType::string, shape).as<std::string>();
    for (auto& parts : all) {
        std::move(parts.begin(), parts.end(), to);
        to += longest;
    }
}

// ---- RegexFullMatch ------------------------------------------------------------------------------------------------
void infer_regex(InferContext& ctx) {
    const Fact& x = string_input(ctx, 0);
    require(ctx.attributes.has("pattern"), "attribute pattern is missing");
    Regex(ctx.attributes.s("pattern", ""));  // says what is wrong with it
    if (x.ranked) ctx.output(0, DType::boolean, x.shape);
    else ctx.output_unranked(0, DType::boolean);
}

void run_regex(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    const Regex regex(ctx.attributes.s("pattern", ""));
    uint8_t* y = ctx.output(0).as<uint8_t>();
    for (int64_t i = 0; i < x.count(); ++i) y[i] = regex.full_match(x.as<std::string>()[i]);
}

}  // namespace

std::span<const OpDef> strings_ops() {
    static const OpDef rows[] = {
        {.name = "StringNormalizer",
         .since = 10,
         .infer = infer_normalizer,
         .run = run_normalizer,
         .flags = kDynamic,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "StringConcat",
         .since = 20,
         .infer = infer_concat,
         .run = run_concat,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "StringSplit",
         .since = 20,
         .infer = infer_split,
         .run = run_split,
         .flags = kDynamic,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "RegexFullMatch",
         .since = 20,
         .infer = infer_regex,
         .run = run_regex,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
