// A tree of protobuf fields with just enough of onnx.proto's schema to change it sensibly.
#include "tools/fuzz_mutator.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "base/dtype.h"
#include "graph/op.h"

namespace linnet::fuzz {
namespace {

enum class Kind : uint8_t {
    unknown,
    integer,
    real,
    text,
    numbers,
    reals,
    raw,
    op_type,
    value_name,  // scalars
    model,
    opset,
    graph,
    node,
    attribute,
    tensor,
    sparse,
    value_info,
    type,
    tensor_type,
    shape,
    dim,
    function,
};  // clang-format off

struct Rule {
    Kind message;
    uint32_t field;
    Kind kind;
};
constexpr Rule kRules[] = {
    {Kind::model, 1, Kind::integer}, {Kind::model, 7, Kind::graph}, {Kind::model, 8, Kind::opset},
    {Kind::model, 25, Kind::function},
    {Kind::opset, 1, Kind::text}, {Kind::opset, 2, Kind::integer},
    {Kind::graph, 1, Kind::node}, {Kind::graph, 5, Kind::tensor}, {Kind::graph, 11, Kind::value_info},
    {Kind::graph, 12, Kind::value_info}, {Kind::graph, 13, Kind::value_info}, {Kind::graph, 15, Kind::sparse},
    {Kind::node, 1, Kind::value_name}, {Kind::node, 2, Kind::value_name}, {Kind::node, 4, Kind::op_type},
    {Kind::node, 5, Kind::attribute}, {Kind::node, 7, Kind::text},
    {Kind::attribute, 1, Kind::text}, {Kind::attribute, 2, Kind::real}, {Kind::attribute, 3, Kind::integer},
    {Kind::attribute, 4, Kind::text}, {Kind::attribute, 5, Kind::tensor}, {Kind::attribute, 6, Kind::graph},
    {Kind::attribute, 7, Kind::reals}, {Kind::attribute, 8, Kind::numbers}, {Kind::attribute, 9, Kind::text},
    {Kind::attribute, 10, Kind::tensor}, {Kind::attribute, 11, Kind::graph}, {Kind::attribute, 14, Kind::type},
    {Kind::attribute, 20, Kind::integer}, {Kind::attribute, 22, Kind::sparse},
    {Kind::tensor, 1, Kind::numbers}, {Kind::tensor, 2, Kind::integer}, {Kind::tensor, 4, Kind::reals},
    {Kind::tensor, 5, Kind::numbers}, {Kind::tensor, 6, Kind::text}, {Kind::tensor, 7, Kind::numbers},
    {Kind::tensor, 8, Kind::value_name}, {Kind::tensor, 9, Kind::raw}, {Kind::tensor, 11, Kind::numbers},
    {Kind::tensor, 14, Kind::integer},
    {Kind::sparse, 1, Kind::tensor}, {Kind::sparse, 2, Kind::tensor}, {Kind::sparse, 3, Kind::numbers},
    {Kind::value_info, 1, Kind::value_name}, {Kind::value_info, 2, Kind::type},
    {Kind::type, 1, Kind::tensor_type}, {Kind::type, 4, Kind::value_info}, {Kind::type, 8, Kind::tensor_type},
    {Kind::type, 9, Kind::value_info},
    {Kind::tensor_type, 1, Kind::integer}, {Kind::tensor_type, 2, Kind::shape},
    {Kind::shape, 1, Kind::dim}, {Kind::dim, 1, Kind::integer}, {Kind::dim, 2, Kind::text},
    {Kind::function, 1, Kind::text}, {Kind::function, 4, Kind::value_name}, {Kind::function, 5, Kind::value_name},
    {Kind::function, 7, Kind::node}, {Kind::function, 9, Kind::opset}, {Kind::function, 10, Kind::text},
};
// clang-format on

Kind kind_of(Kind message, uint32_t field) {
    for (const Rule& rule : kRules)
        if (rule.message == message && rule.field == field) return rule.kind;
    return Kind::unknown;
}

struct Field {
    uint32_t number = 0;
    uint32_t wire = 0;  // 0: varint, 1: 8 bytes, 2: bytes, 5: 4 bytes
    Kind kind = Kind::unknown;
    uint64_t value = 0;         // of a varint
    std::string bytes;          // of everything else that is no message
    std::vector<Field> fields;  // of a message
    bool is_message() const { return kind >= Kind::model; }
};

constexpr int kMostDepth = 40;

bool read_varint(std::string_view& in, uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64 && !in.empty(); shift += 7) {
        const auto byte = static_cast<uint8_t>(in.front());
        in.remove_prefix(1);
        value |= static_cast<uint64_t>(byte & 0x7f) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

bool read_fields(std::string_view in, Field& message, int depth) {
    while (!in.empty()) {
        uint64_t tag = 0, size = 0;
        Field& field = message.fields.emplace_back();
        if (!read_varint(in, tag)) return false;
        field.number = static_cast<uint32_t>(tag >> 3);
        field.wire = static_cast<uint32_t>(tag & 7);
        field.kind = kind_of(message.kind, field.number);
        if (field.wire == 0) {
            if (!read_varint(in, field.value)) return false;
            continue;
        }
        if (field.wire == 2 && !read_varint(in, size)) return false;
        if (field.wire == 1) size = 8;
        if (field.wire == 5) size = 4;
        if ((field.wire != 1 && field.wire != 2 && field.wire != 5) || size > in.size()) return false;
        field.bytes = in.substr(0, size);
        in.remove_prefix(size);
        if (!field.is_message()) continue;
        const std::string inner = std::move(field.bytes);
        field.bytes.clear();
        if (field.wire != 2 || depth > kMostDepth || !read_fields(inner, field, depth + 1)) return false;
    }
    return true;
}

void write_varint(std::string& out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
    out += static_cast<char>(value);
}

void write_fields(std::string& out, const Field& message) {
    for (const Field& field : message.fields) {
        write_varint(out, uint64_t{field.number} << 3 | field.wire);
        if (field.wire == 0) {
            write_varint(out, field.value);
            continue;
        }
        std::string inner = field.bytes;
        if (field.is_message()) write_fields(inner, field);
        if (field.wire == 2) write_varint(out, inner.size());
        out += inner;
    }
}

bool read_model(std::string_view bytes, Field& model) {
    model.kind = Kind::model;
    return read_fields(bytes, model, 0);
}

class Mutator {
  public:
    Mutator(Field& model, uint32_t seed) : model_(model), random_(seed) {}

    void mutate() {
        const int changes = 1 + static_cast<int>(below(4));
        for (int i = 0; i < changes; ++i) {
            list_.clear();
            collect(model_);
            if (list_.empty()) return;
            const Place place = list_[below(list_.size())];
            if (place.field().is_message()) change_message(place);
            else change_scalar(place);
        }
        if (below(4)) repair(model_);
    }

    void cross(Field& other) {
        collect(other);
        const std::vector<Place> theirs = list_;
        list_.clear();
        collect(model_);
        for (int attempt = 0; attempt < 50 && !list_.empty() && !theirs.empty(); ++attempt) {
            Field& mine = list_[below(list_.size())].field();
            const Field& given = theirs[below(theirs.size())].field();
            if (!mine.is_message() || mine.kind != given.kind) continue;
            mine = given;
            break;
        }
        if (below(4)) repair(model_);
    }

  private:
    struct Place {
        Field* parent;
        size_t index;
        Field& field() const { return parent->fields[index]; }
    };

    size_t below(size_t count) { return count ? random_() % count : 0; }

    // Names and bytes of no meaning are left alone.
    void collect(Field& message) {
        for (size_t i = 0; i < message.fields.size(); ++i) {
            Field& field = message.fields[i];
            if (field.kind != Kind::unknown) list_.push_back({&message, i});
            // What is inside nodes counts more than that there are nodes.
            if (field.kind == Kind::numbers || field.kind == Kind::raw) list_.push_back({&message, i});
            if (field.is_message()) collect(field);
        }
    }

    int64_t number() {
        static constexpr int64_t kNumbers[] = {0,
                                               1,
                                               2,
                                               3,
                                               4,
                                               5,
                                               7,
                                               8,
                                               16,
                                               17,
                                               31,
                                               63,
                                               64,
                                               65,
                                               127,
                                               128,
                                               255,
                                               256,
                                               1000,
                                               4096,
                                               65535,
                                               1 << 20,
                                               -1,
                                               -2,
                                               -3,
                                               -4,
                                               -7,
                                               -100,
                                               std::numeric_limits<int32_t>::max(),
                                               std::numeric_limits<int32_t>::min(),
                                               int64_t{1} << 31,
                                               int64_t{1} << 32,
                                               (int64_t{1} << 32) + 1,
                                               int64_t{1} << 40,
                                               int64_t{1} << 61,
                                               int64_t{1} << 62,
                                               std::numeric_limits<int64_t>::max(),
                                               std::numeric_limits<int64_t>::min()};
        if (below(2)) return static_cast<int64_t>(below(8));
        return kNumbers[below(std::size(kNumbers))];
    }
    float real() {
        static constexpr float kReals[] = {0.f,
                                           -0.f,
                                           0.5f,
                                           1.f,
                                           -1.f,
                                           2.f,
                                           1e-45f,
                                           1e-30f,
                                           1e30f,
                                           -1e38f,
                                           0.999999f,
                                           std::numeric_limits<float>::infinity(),
                                           -std::numeric_limits<float>::infinity(),
                                           std::numeric_limits<float>::quiet_NaN(),
                                           2147483648.f,
                                           9.3e18f,
                                           1e10f};
        return kReals[below(std::size(kReals))];
    }

    // The bytes of another field of this kind, or of any kind of name.
    std::string another(Kind kind) {
        std::vector<const Field*> found;
        for (const Place& place : list_)
            if (place.field().kind == kind && place.field().wire == 2) found.push_back(&place.field());
        return found.empty() ? std::string() : found[below(found.size())]->bytes;
    }

    void change_scalar(const Place& place) {
        Field& field = place.field();
        if (below(12) == 0) return change_message(place);  // removed, doubled ...
        switch (field.kind) {
            case Kind::integer:
            case Kind::numbers:
                if (field.wire == 0) field.value = changed(field.value);
                else change_packed(field.bytes);
                return;
            case Kind::real:
            case Kind::reals:
                if (field.bytes.size() >= 4) put(field.bytes, below(field.bytes.size() / 4) * 4, real());
                return;
            case Kind::raw: return change_raw(field.bytes);
            case Kind::op_type: {
                static const std::vector<const OpDef*> ops = all_ops();
                const OpDef& op = *ops[below(ops.size())];
                field.bytes = op.name;
                std::erase_if(place.parent->fields, [](const Field& f) { return f.number == 7; });
                Field& domain = place.parent->fields.emplace_back();
                domain.number = 7;
                domain.wire = 2;
                domain.bytes = op.domain;
                return;
            }
            case Kind::value_name: field.bytes = below(8) ? another(Kind::value_name) : std::string(); return;
            default:
                if (field.wire != 2) return;
                if (below(3) && !field.bytes.empty())
                    field.bytes[below(field.bytes.size())] = static_cast<char>(below(256));
                else field.bytes = another(Kind::text);
        }
    }

    uint64_t changed(uint64_t value) {
        switch (below(4)) {
            case 0: return value + 1;
            case 1: return value - 1;
            default: return static_cast<uint64_t>(number());
        }
    }

    void change_packed(std::string& bytes) {
        std::vector<uint64_t> values;
        std::string_view in = bytes;
        for (uint64_t value = 0; !in.empty() && read_varint(in, value);) values.push_back(value);
        if (values.empty() || below(6) == 0) values.push_back(static_cast<uint64_t>(number()));
        uint64_t& chosen = values[below(values.size())];
        chosen = changed(chosen);
        bytes.clear();
        for (const uint64_t value : values) write_varint(bytes, value);
    }

    template <class T>
    static void put(std::string& bytes, size_t at, T value) {
        if (at + sizeof(T) <= bytes.size()) std::memcpy(bytes.data() + at, &value, sizeof(T));
    }

    void change_raw(std::string& bytes) {
        if (bytes.empty()) return;
        switch (below(5)) {
            case 0: return put(bytes, below(bytes.size() / 8 + 1) * 8, number());
            case 1: return put(bytes, below(bytes.size() / 4 + 1) * 4, static_cast<int32_t>(number()));
            case 2: return put(bytes, below(bytes.size() / 4 + 1) * 4, real());
            case 3: return put(bytes, below(bytes.size() / 8 + 1) * 8, static_cast<double>(real()));
            default: bytes[below(bytes.size())] = static_cast<char>(below(256));
        }
    }

    // Removed, doubled, exchanged for a neighbour or for another of its kind.
    void change_message(const Place& place) {
        std::vector<Field>& siblings = place.parent->fields;
        const Field copy = place.field();
        switch (below(5)) {
            case 0: siblings.erase(siblings.begin() + static_cast<std::ptrdiff_t>(place.index)); return;
            case 1:
                if (siblings.size() < 200)
                    siblings.insert(siblings.begin() + static_cast<std::ptrdiff_t>(below(siblings.size() + 1)), copy);
                return;
            case 2: std::swap(siblings[place.index], siblings[below(siblings.size())]); return;
            default: {
                std::vector<Field*> found;
                for (const Place& other : list_)
                    if (other.field().kind == copy.kind) found.push_back(&other.field());
                const Field given = *found[below(found.size())];
                place.field() = given;
                place.field().number = copy.number;
            }
        }
    }

    // Tensors get as many raw bytes as their shapes need, where that is little.
    void repair(Field& message) {
        for (Field& field : message.fields) {
            if (field.kind != Kind::tensor) {
                if (field.is_message()) repair(field);
                continue;
            }
            double count = 1;
            int64_t type = 0;
            Field* raw = nullptr;
            for (Field& part : field.fields) {
                if (part.number == 1 && part.wire == 0) count *= static_cast<double>(part.value);
                if (part.number == 2) type = static_cast<int64_t>(part.value);
                if (part.number == 9) raw = &part;
            }
            if (!raw || raw->wire != 2 || type <= 0 || type >= kDTypeCount || count > 2000) continue;
            const int bits = dtype_file_bits(static_cast<DType>(type));
            const auto needed = static_cast<size_t>((count * bits + 7) / 8);
            const std::string pattern = raw->bytes.empty() ? std::string("\1") : raw->bytes;
            while (raw->bytes.size() < needed) raw->bytes += pattern;
            raw->bytes.resize(needed);
        }
    }

    Field& model_;
    std::minstd_rand random_;
    std::vector<Place> list_;
};

std::string written(const Field& model) {
    std::string out;
    write_fields(out, model);
    return out;
}

}  // namespace

std::string mutate_model(std::string_view bytes, uint32_t seed) {
    Field model;
    if (!read_model(bytes, model)) return {};
    Mutator(model, seed).mutate();
    return written(model);
}

std::string cross_models(std::string_view bytes, std::string_view other, uint32_t seed) {
    Field model, second;
    if (!read_model(bytes, model) || !read_model(other, second)) return {};
    Mutator(model, seed).cross(second);
    return written(model);
}

}  // namespace linnet::fuzz
