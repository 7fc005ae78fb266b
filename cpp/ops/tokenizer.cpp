// com.microsoft Tokenizer (1): strings [C] or [N, C] to rows of tokens, filled up to the longest. Attributes mark (1: a
// row begins with "\x02" and ends with "\x03"), pad_value, mincharnum (shorter tokens are left out), and one of
// tokenexp (what a token is; "." is each character) and separators (what is between tokens, tried one after another;
// one empty separator: each character is a token). Expressions match as early, then as long as they can.
#include "ops/shared/facts.h"
#include "ops/shared/regex.h"
#include "ops/shared/utf8.h"

namespace linnet {
namespace {

using Tokens = std::vector<std::string_view>;

size_t next_character(std::string_view text, size_t at) {
    if (at >= text.size()) return at + 1;
    decode_utf8(text, at);
    return at;
}

int64_t characters(std::string_view text) {
    int64_t count = 0;
    for (size_t at = 0; at < text.size(); ++count) at = next_character(text, at);
    return count;
}

struct Tokenizer {
    std::vector<Regex> separators;
    std::optional<Regex> token;  // neither: each character is one
    int64_t shortest = 1;

    explicit Tokenizer(const Attributes& attributes) : shortest(attributes.i("mincharnum", 1)) {
        require(shortest > 0, "mincharnum is ", shortest, ", expected at least 1");
        const std::vector<std::string> between = attributes.strings("separators");
        const std::string& expression = attributes.s("tokenexp", "");
        require(!between.empty() || !expression.empty(), "neither separators nor tokenexp is given");
        const bool each = between.empty() ? expression == "." : between.size() == 1 && between[0].empty();
        require(!each || shortest == 1, "mincharnum is ", shortest, ", but each character is a token");
        if (each) return;
        for (const std::string& pattern : between) separators.emplace_back(pattern);
        if (between.empty()) token.emplace(expression);
    }

    Tokens split(std::string_view text) const {
        if (token) return matches(text);
        if (separators.empty()) {
            Tokens tokens;
            for (size_t at = 0; at < text.size();) {
                const size_t begin = at;
                at = next_character(text, at);
                tokens.push_back(text.substr(begin, at - begin));
            }
            return tokens;
        }
        Tokens tokens{text};
        for (const Regex& separator : separators) {
            Tokens parts;
            for (std::string_view part : tokens) split_at(separator, part, parts);
            tokens = std::move(parts);
        }
        return tokens;
    }

  private:
    void add(Tokens& tokens, std::string_view part) const {
        if (characters(part) >= shortest) tokens.push_back(part);
    }

    void split_at(const Regex& separator, std::string_view text, Tokens& parts) const {
        size_t from = 0;
        while (from <= text.size()) {
            const auto found = separator.find(text, from);
            if (!found) return add(parts, text.substr(from));
            add(parts, text.substr(from, found->begin - from));
            from = found->end > found->begin ? found->end : next_character(text, found->begin);
        }
    }

    Tokens matches(std::string_view text) const {
        Tokens tokens;
        size_t from = 0;
        while (from <= text.size()) {
            const auto found = token->find(text, from);
            if (!found) break;
            const std::string_view match = text.substr(found->begin, found->end - found->begin);
            const bool long_enough = characters(match) >= shortest;
            if (long_enough) tokens.push_back(match);
            from = long_enough ? found->end : next_character(text, found->begin);
        }
        return tokens;
    }
};

void infer(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    require(x.dtype == DType::string || x.dtype == DType::undefined, "the input must be strings, not ",
            dtype_name(x.dtype));
    const Tokenizer checked(ctx.attributes);
    if (!x.ranked) return ctx.output_unranked(0, DType::string);
    require(x.rank() == 1 || x.rank() == 2, "the input must have shape [C] or [N, C], not ", ctx.dims.text(x.shape));
    Shape shape = x.shape;
    shape.push_back(kUnknownDim);
    ctx.output(0, DType::string, shape);
}

void run(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    const Tokenizer tokenizer(ctx.attributes);
    std::vector<Tokens> all;
    size_t longest = 0;
    for (int64_t i = 0; i < x.count(); ++i) {
        all.push_back(tokenizer.split(x.as<std::string>()[i]));
        longest = std::max(longest, all.back().size());
    }
    const bool mark = ctx.attributes.i("mark", 0) != 0 && longest > 0;
    Shape shape = x.shape;
    shape.push_back(static_cast<int64_t>(longest) + (mark ? 2 : 0));
    Tensor& y = ctx.allocate(0, DType::string, shape);
    const std::string& pad = ctx.attributes.s("pad_value", "");
    std::string* to = y.as<std::string>();
    for (const Tokens& tokens : all) {
        if (mark) *to++ = "\x02";
        for (std::string_view token : tokens) {
            count_text(token.size());
            *to++ = token;
        }
        if (mark) *to++ = "\x03";
        for (size_t i = tokens.size(); i < longest; ++i) copy_text(pad, *to++);
    }
}

}  // namespace

std::span<const OpDef> tokenizer_ops() {
    static const OpDef rows[] = {
        {.name = "Tokenizer",
         .domain = "com.microsoft",
         .infer = infer,
         .run = run,
         .flags = kDynamic,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
