// Inputs from files or random numbers, outputs compared with files.
#include "tools/feeds.h"

#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/half.h"
#include "tools/files.h"

namespace linnet::tools {
namespace {

// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers on every machine.
class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed) {}
    uint64_t bits() {
        uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    float unit() { return static_cast<float>(bits() >> 40) / static_cast<float>(1 << 24); }  // [0, 1)

  private:
    uint64_t state_;
};

// Floats lie in [-1, 1), 8-bit integers anywhere, other integers are 0 or 1 (they are often indices).
void fill(Tensor& tensor, Random& random) {
    const auto each = [&](auto* to, const auto& make) {
        for (int64_t i = 0, count = tensor.count(); i < count; ++i) to[i] = make();
    };
    const auto real = [&] { return 2 * random.unit() - 1; };
    const auto bit = [&] { return static_cast<uint8_t>(random.bits() >> 63); };
    switch (tensor.dtype) {
        case DType::f32: return each(tensor.as<float>(), real);
        case DType::f64: return each(tensor.as<double>(), real);
        case DType::f16: return each(tensor.as<Half>(), [&] { return to_half(real()); });
        case DType::bf16: return each(tensor.as<BFloat16>(), [&] { return to_bfloat16(real()); });
        case DType::u8:
        case DType::i8: return each(tensor.as<uint8_t>(), [&] { return static_cast<uint8_t>(random.bits() >> 56); });
        case DType::u16:
        case DType::i16: return each(tensor.as<uint16_t>(), bit);
        case DType::u32:
        case DType::i32: return each(tensor.as<uint32_t>(), bit);
        case DType::u64:
        case DType::i64: return each(tensor.as<uint64_t>(), bit);
        case DType::string: return each(tensor.as<std::string>(), [&] { return bit() ? "a" : "b"; });
        default:
            if (dtype_size(tensor.dtype) == 1) return each(tensor.as<uint8_t>(), bit);
            std::memset(tensor.data, 0, tensor.bytes());
    }
}

Value random_input(const PortInfo& port, const Arguments& arguments, Random& random) {
    Shape shape = port.fact.shape;
    bool given = false;
    for (const auto& [name, sizes] : arguments.shapes) {
        if (name != port.name) continue;
        shape = sizes;
        given = true;
    }
    if (!given && !port.fact.ranked)
        fail(ErrorKind::invalid_argument, "input '", port.name, "' may have any shape: give one with --shape");
    if (port.fact.kind != Value::Kind::tensor)
        fail(ErrorKind::invalid_argument, "input '", port.name, "' is not a tensor: give its value with --input");
    for (int64_t& size : shape)
        if (!is_number(size)) size = 1;
    Tensor tensor = Tensor::allocate(port.fact.dtype, shape);
    fill(tensor, random);
    return tensor;
}

}  // namespace

std::string describe(const PortInfo& port) {
    std::string text = cat(port.name, ": ", dtype_name(port.fact.dtype));
    if (port.fact.kind == Value::Kind::sequence) text += " sequence";
    if (port.fact.kind == Value::Kind::map) text += " map";
    if (!port.fact.ranked) return text + " [any shape]";
    text += " [";
    for (size_t i = 0; i < port.fact.shape.size(); ++i) {
        if (i > 0) text += ", ";
        if (is_number(port.fact.shape[i])) text += std::to_string(port.fact.shape[i]);
        else text += port.dimension_names[i].empty() ? "?" : port.dimension_names[i];
    }
    return text + "]";
}

std::string describe(const Value& value) {
    switch (value.kind) {
        case Value::Kind::tensor: return cat(dtype_name(value.tensor.dtype), ' ', shape_text(value.tensor.shape));
        case Value::Kind::sequence: return cat("sequence of ", value.items->size());
        case Value::Kind::map: return cat("map of ", value.items->at(0).tensor.count());
        default: return "absent";
    }
}

const PortInfo& port_named(const std::vector<PortInfo>& ports, const std::string& name, const char* what) {
    std::string names;
    for (const PortInfo& port : ports) {
        if (port.name == name) return port;
        names += (names.empty() ? "'" : ", '") + port.name + "'";
    }
    fail(ErrorKind::invalid_argument, "there is no ", what, " '", name, "'; the model has ", names);
}

std::vector<Feed> make_feeds(const Session& session, const Arguments& arguments) {
    for (const auto& [name, file] : arguments.inputs) port_named(session.inputs(), name, "input");
    for (const auto& [name, shape] : arguments.shapes) port_named(session.inputs(), name, "input");
    Random random(arguments.seed);
    std::vector<Feed> feeds;
    for (size_t i = 0; i < session.inputs().size(); ++i) {
        const PortInfo& port = session.inputs()[i];
        Feed feed{port.name, {}, ""};
        for (const auto& [name, file] : arguments.inputs)
            if (name == port.name) feed.source = file;
        const std::filesystem::path tested = std::filesystem::path(arguments.check_folder) / cat("input_", i, ".pb");
        if (feed.source.empty() && !arguments.check_folder.empty() && std::filesystem::exists(tested))
            feed.source = tested.string();
        if (!feed.source.empty()) {
            feed.value = read_value(feed.source, port.fact);
        } else if (port.fact.optional) {
            continue;
        } else {
            feed.value = random_input(port, arguments, random);
            feed.source = cat("random, seed ", arguments.seed);
        }
        feeds.push_back(std::move(feed));
    }
    return feeds;
}

std::vector<std::pair<std::string, Value>> values_of(const std::vector<Feed>& feeds) {
    std::vector<std::pair<std::string, Value>> values;
    for (const Feed& feed : feeds) values.emplace_back(feed.name, feed.value);
    return values;
}

std::vector<Check> check_outputs(const Session& session, const Arguments& arguments,
                                 const std::vector<Value>& results) {
    std::vector<Check> checks;
    const auto add = [&](size_t i, const std::filesystem::path& file) {
        const PortInfo& port = session.outputs()[i];
        checks.push_back({port.name, compare(results[i], read_value(file, port.fact), arguments.rtol, arguments.atol)});
    };
    for (const auto& [name, file] : arguments.checks)
        add(static_cast<size_t>(&port_named(session.outputs(), name, "output") - session.outputs().data()), file);
    if (!arguments.check_folder.empty()) {
        for (size_t i = 0; i < results.size(); ++i) {
            const auto file = std::filesystem::path(arguments.check_folder) / cat("output_", i, ".pb");
            if (std::filesystem::exists(file)) add(i, file);
        }
        if (checks.empty()) fail(ErrorKind::no_such_file, "there is no output_0.pb in '", arguments.check_folder, "'");
    }
    return checks;
}

}  // namespace linnet::tools
