// TfIdfVectorizer (9): counts n-grams of strings or integers. Attributes mode ("TF", "IDF", "TFIDF"), min_gram_length,
// max_gram_length, max_skip_count, pool_strings or pool_int64s (1-grams, then 2-grams ...), ngram_counts (where each
// length begins), ngram_indexes (the column of each n-gram), weights (of each n-gram, 1).
#include <algorithm>
#include <limits>
#include <map>
#include <unordered_map>

#include "ops/shared/facts.h"
#include "ops/shared/numbers.h"

namespace linnet {
namespace {

enum class Weighting : uint8_t { tf, idf, tfidf };

struct Vectorizer {
    Weighting weighting = Weighting::tf;
    int64_t shortest = 1, longest = 1, skips = 0, columns = 0;
    std::unordered_map<std::string, int32_t> strings;  // the number of each token
    std::unordered_map<int64_t, int32_t> ints;
    std::map<std::vector<int32_t>, size_t> grams;  // the number of each n-gram of tokens
    std::vector<int64_t> indexes;                  // the column of each n-gram
    std::vector<float> weights;                    // one for each n-gram
    bool text = false;
};

int64_t required_int(const Attributes& attributes, const char* name, int64_t least) {
    require(attributes.has(name), "attribute ", name, " is missing");
    const int64_t value = attributes.i(name, 0);
    require(value >= least, name, " is ", value, ", expected at least ", least);
    return value;
}

Vectorizer parse(const Attributes& attributes) {
    Vectorizer v;
    const std::string& mode = attributes.s("mode", "");
    require(mode == "TF" || mode == "IDF" || mode == "TFIDF", "mode '", mode, "' is none of TF, IDF, TFIDF");
    v.weighting = mode == "TF" ? Weighting::tf : mode == "IDF" ? Weighting::idf : Weighting::tfidf;
    v.shortest = required_int(attributes, "min_gram_length", 1);
    v.longest = required_int(attributes, "max_gram_length", v.shortest);  // of those that the pool has
    v.skips = required_int(attributes, "max_skip_count", 0);
    const std::vector<std::string> strings = attributes.strings("pool_strings");
    const std::vector<int64_t> ints = attributes.ints("pool_int64s"), starts = attributes.ints("ngram_counts");
    v.indexes = attributes.ints("ngram_indexes");
    require(strings.empty() != ints.empty(), "one of pool_strings and pool_int64s must be given");
    v.text = !strings.empty();
    std::vector<int32_t> pool;
    for (const std::string& s : strings)
        pool.push_back(v.strings.emplace(s, static_cast<int32_t>(v.strings.size())).first->second);
    for (int64_t i : ints) pool.push_back(v.ints.emplace(i, static_cast<int32_t>(v.ints.size())).first->second);
    const auto count = static_cast<int64_t>(pool.size());
    for (size_t n = 1; n <= starts.size(); ++n) {
        const int64_t begin = starts[n - 1], end = n < starts.size() ? starts[n] : count;
        require(begin >= 0 && begin <= end && end <= count, "ngram_counts: ", n, "-grams from ", begin, " to ", end,
                " of a pool of ", count);
        const auto length = static_cast<int64_t>(n);
        require((end - begin) % length == 0, "ngram_counts: ", end - begin, " tokens are no ", n, "-grams");
        for (int64_t at = begin; at < end; at += length)
            require(v.grams.emplace(std::vector<int32_t>(pool.begin() + at, pool.begin() + at + length), v.grams.size())
                        .second,
                    "the pool has an n-gram twice, at ", at);
    }
    v.longest = std::min(v.longest, static_cast<int64_t>(starts.size()));
    require(!v.grams.empty() && v.grams.size() == v.indexes.size(), "ngram_indexes has ", v.indexes.size(),
            " elements for ", v.grams.size(), " n-grams");
    for (int64_t column : v.indexes)
        require(column >= 0 && column < std::numeric_limits<int32_t>::max(), "ngram_indexes has ", column);
    v.columns = *std::max_element(v.indexes.begin(), v.indexes.end()) + 1;
    v.weights = attributes.floats("weights");
    if (v.weights.empty()) v.weights.assign(v.indexes.size(), 1.0f);
    require(v.weights.size() == v.indexes.size(), "weights has ", v.weights.size(), " elements for ", v.indexes.size(),
            " n-grams");
    if (v.weighting == Weighting::tf) std::fill(v.weights.begin(), v.weights.end(), 1.0f);
    return v;
}

void infer(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    const Vectorizer v = parse(ctx.attributes);
    require(x.dtype == DType::undefined ||
                (v.text ? x.dtype == DType::string : x.dtype == DType::i64 || x.dtype == DType::i32),
            "the input is ", dtype_name(x.dtype), ", the pool has ", v.text ? "strings" : "integers");
    if (!x.ranked) return ctx.output_unranked(0, DType::f32);
    require(x.rank() == 1 || x.rank() == 2, "the input must have shape [C] or [N, C], not ", ctx.dims.text(x.shape));
    ctx.output(0, DType::f32, x.rank() == 1 ? Shape{v.columns} : Shape{x.shape[0], v.columns});
}

std::shared_ptr<const void> prepare(PrepareContext& ctx) { return std::make_shared<Vectorizer>(parse(ctx.attributes)); }

// How often each n-gram is in one row.
void count_grams(const Vectorizer& v, const std::vector<int32_t>& tokens, const StopSignal* stop,
                 std::vector<float>& counts) {
    const auto size = static_cast<int64_t>(tokens.size());
    std::vector<int32_t> gram;
    for (int64_t n = v.shortest; n <= std::min(v.longest, size); ++n)
        for (int64_t skip = 1; skip <= 1 || (n > 1 && skip - 1 <= v.skips); ++skip) {
            if ((n - 1) > (size - 1) / skip) break;
            if (stop) stop->check();
            for (int64_t at = 0; at + (n - 1) * skip < size; ++at) {
                gram.clear();
                for (int64_t i = 0; i < n; ++i) gram.push_back(tokens[static_cast<size_t>(at + i * skip)]);
                if (const auto found = v.grams.find(gram); found != v.grams.end()) ++counts[found->second];
            }
        }
}

void run(RunContext& ctx) {
    const Vectorizer& v = *ctx.state<Vectorizer>();
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const int64_t length = x.shape.back(), rows = y.count() / v.columns;
    if (rows == 0) return;  // a length without elements may be any number
    std::fill_n(y.as<float>(), y.count(), 0.0f);
    std::vector<int32_t> tokens(static_cast<size_t>(length));
    std::vector<float> counts;
    auto number = [](const auto& pool, const auto& token) {
        const auto found = pool.find(token);
        return found == pool.end() ? -1 : found->second;
    };
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < length; ++i) {
            const int64_t at = r * length + i;
            tokens[static_cast<size_t>(i)] =
                v.text ? number(v.strings, x.as<std::string>()[at]) : number(v.ints, int_at(x, at));
        }
        counts.assign(v.indexes.size(), 0.0f);
        count_grams(v, tokens, ctx.parallel().stop, counts);
        for (size_t g = 0; g < counts.size(); ++g)
            y.as<float>()[r * v.columns + v.indexes[g]] +=
                v.weights[g] * (v.weighting == Weighting::idf ? std::min(counts[g], 1.0f) : counts[g]);
    }
}

}  // namespace

std::span<const OpDef> tfidf_vectorizer_ops() {
    static const OpDef rows[] = {
        {.name = "TfIdfVectorizer",
         .since = 9,
         .infer = infer,
         .run = run,
         .prepare = prepare,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
