// Two libFuzzer targets (CMake option LINNET_FUZZ, Clang) with a mutator that knows what a model is made of:
// fuzz_build reads, builds, rewrites and plans; fuzz_run also runs, on inputs that are made from the model's bytes. The
// answer is an Error or results, whatever the model. Seeds: tests/fuzz/make_seeds.py.
//
//   build-fuzz/fuzz_run -max_len=4096 -timeout=10 -rss_limit_mb=2048 corpus/models
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "base/error.h"
#include "runtime/session.h"
#include "tools/fuzz_mutator.h"

namespace {

using namespace linnet;

constexpr bool kRuns = LINNET_FUZZ_RUNS;
constexpr int64_t kMostElements = 4096;

uint32_t hash_of(const uint8_t* data, size_t size) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < size; ++i) hash = (hash ^ data[i]) * 16777619u;
    return hash;
}

class Inputs {
  public:
    explicit Inputs(uint32_t seed) : random_(seed) {}

    // False where the model wants more than is made here.
    bool make(const PortInfo& port, Value& value) {
        if (port.fact.kind == Value::Kind::sequence) {
            std::vector<Value> items;
            for (int i = 0; i < 2 && port.fact.map_key == DType::undefined; ++i)
                items.emplace_back(tensor(port.fact.dtype, {2}));
            value = Value::sequence(std::move(items));
            return true;
        }
        if (port.fact.kind != Value::Kind::tensor || port.fact.dtype == DType::undefined) return false;
        Shape shape = port.fact.shape;
        if (!port.fact.ranked) shape.resize(random_() % 4, kUnknownDim);
        if (shape.size() > 8) return false;
        int64_t count = 1;
        for (int64_t& dim : shape) {
            if (!is_number(dim)) dim = random_() % 4;
            if (dim < 0 || dim > kMostElements) return false;
            count *= dim;
            if (count > kMostElements) return false;
        }
        value = tensor(port.fact.dtype, shape);
        return true;
    }

    uint32_t next() { return static_cast<uint32_t>(random_()); }

  private:
    Tensor tensor(DType dtype, const Shape& shape) {
        Tensor made = Tensor::allocate(dtype, shape);
        const uint32_t style = next() % 4;  // 0: any bits; 1: extreme; else small numbers
        const int64_t count = made.count();
        for (int64_t i = 0; i < count; ++i) {
            const auto small = static_cast<int64_t>(next() % 8) - 3;
            if (dtype == DType::string) {
                made.as<std::string>()[i] = std::string(next() % 5, static_cast<char>('a' + next() % 30));
            } else if (dtype == DType::boolean) {
                made.as<uint8_t>()[i] = next() & 1;
            } else if (style == 0) {
                for (size_t b = 0; b < dtype_size(dtype); ++b)
                    made.as<uint8_t>()[static_cast<size_t>(i) * dtype_size(dtype) + b] =
                        static_cast<uint8_t>(next() >> 8);
            } else if (dtype == DType::f32) {
                made.as<float>()[i] = style == 1 && small < 0 ? extreme() : static_cast<float>(small) * 0.5f;
            } else if (dtype == DType::f64) {
                made.as<double>()[i] = style == 1 && small < 0 ? extreme() : static_cast<double>(small) * 0.5;
            } else if (dtype == DType::i64) {
                made.as<int64_t>()[i] = style == 1 && small < 0 ? small << (next() % 64) : small;
            } else if (dtype == DType::i32) {
                made.as<int32_t>()[i] =
                    style == 1 && small < 0 ? static_cast<int32_t>(next()) : static_cast<int32_t>(small);
            } else {
                std::memcpy(made.as<std::byte>() + static_cast<size_t>(i) * dtype_size(dtype), &small,
                            std::min<size_t>(dtype_size(dtype), 8));
            }
        }
        return canonical(made);
    }
    float extreme() {
        static constexpr float kReals[] = {INFINITY, -INFINITY, NAN,          3e38f,
                                           -3e38f,   1e-45f,    2.1474836e9f, 9.2233720e18f};
        return kReals[next() % std::size(kReals)];
    }

    std::minstd_rand random_;
};

// Reads elements, so that a sanitizer sees what lies outside.
uint64_t touched(const Value& value) {
    uint64_t sum = 0;
    if (value.items)
        for (const Value& item : *value.items) sum += touched(item);
    const Tensor& tensor = value.tensor;
    if (value.kind != Value::Kind::tensor) return sum;
    const auto count = tensor.count();
    if (tensor.dtype == DType::string) {
        for (int64_t i = 0; i < count; ++i)
            for (const char c : tensor.as<std::string>()[i]) sum += static_cast<unsigned char>(c);
    } else {
        // Of large ones the ends, and a byte of each line.
        const size_t bytes = tensor.bytes(), ends = 4096;
        for (size_t i = 0; i<bytes; i += i> ends && i + ends < bytes ? 64 : 1) sum += tensor.as<uint8_t>()[i];
    }
    return sum;
}

void load_and_run(onnx::Bytes bytes, uint32_t seed) {
    Inputs inputs(seed);
    SessionOptions options;
    options.threads = seed % 7 == 0 ? 2 : 1;
    options.optimization = static_cast<int>(seed % 5 > 1 ? 2 : seed % 5);
    options.memory_limit = int64_t{32} << 20;
    Session session(bytes, nullptr, options);
    std::vector<std::pair<std::string, Value>> feeds;
    std::vector<std::pair<std::string, Shape>> shapes;
    bool tensors = true;
    for (const PortInfo& port : session.inputs()) {
        Value value;
        if (!inputs.make(port, value)) return;
        tensors = tensors && value.kind == Value::Kind::tensor;
        shapes.emplace_back(port.name, value.tensor.shape);
        feeds.emplace_back(port.name, std::move(value));
    }
    if (!kRuns) {
        if (tensors) session.plan_for(shapes);
        return;
    }
    RunOptions limits;
    limits.time_limit = std::chrono::milliseconds(500);
    uint64_t sum = 0;
    for (int run = 0; run < 2; ++run)
        for (const Value& result : session.run(feeds, {}, limits)) sum += touched(result);
    [[maybe_unused]] static volatile uint64_t sink;
    sink = sum;
}

size_t taken(const std::string& made, uint8_t* data, size_t most) {
    if (made.empty() || made.size() > most) return 0;
    std::memcpy(data, made.data(), made.size());
    return made.size();
}

}  // namespace

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
    const std::string_view model(reinterpret_cast<const char*>(data), size);
    if (seed % 32 != 0)
        if (const size_t made = taken(fuzz::mutate_model(model, seed), data, most)) return made;
    return LLVMFuzzerMutate(data, size, most);
}

extern "C" size_t LLVMFuzzerCustomCrossOver(const uint8_t* data, size_t size, const uint8_t* other, size_t other_size,
                                            uint8_t* out, size_t most, unsigned seed) {
    return taken(fuzz::cross_models({reinterpret_cast<const char*>(data), size},
                                    {reinterpret_cast<const char*>(other), other_size}, seed),
                 out, most);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    try {
        load_and_run(std::as_bytes(std::span<const uint8_t>(data, size)), hash_of(data, size));
    } catch (const Error&) {
    }
    return 0;
}
