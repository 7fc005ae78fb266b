// Protobuf's wire format: a cursor over the fields of one message. Every malformed byte is an invalid_protobuf error
// that names its offset and the message ("byte 512, graph.node[3].attribute[0]: ...").
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace linnet::onnx {

using Bytes = std::span<const std::byte>;

class Cursor {
  public:
    // Messages inside messages: a subgraph adds three levels.
    static constexpr int kMaxDepth = 100;
    // Memory for parsed structs: so much, and so many times the file's size (while lists grow, up to three times that
    // is held). An empty message takes two bytes in a file and some hundred here; those of real models take about ten
    // times theirs.
    static constexpr int64_t kMostStructBytes = int64_t{16} << 20, kMostGrowth = 20;

    explicit Cursor(Bytes bytes) : begin_(bytes.data()), end_(begin_ + bytes.size()), at_(begin_), root_(&own_root_) {
        own_root_.begin = begin_;
        own_root_.left = kMostStructBytes + kMostGrowth * static_cast<int64_t>(bytes.size());
    }
    Cursor(const Cursor&) = delete;
    Cursor& operator=(const Cursor&) = delete;

    // Goes to the next field; false at the end of the message.
    bool next() {
        if (at_ == end_) return false;
        field_at_ = at_;
        const uint64_t tag = read_varint();
        if ((tag >> 3) == 0 || (tag >> 3) > kMaxField) error("a field number of ", tag >> 3);
        field_ = static_cast<uint32_t>(tag >> 3);
        wire_ = static_cast<Wire>(tag & 7);
        switch (wire_) {
            case Wire::varint: number_ = read_varint(); break;
            case Wire::fixed64: payload_ = take(8); break;
            case Wire::bytes: payload_ = take(read_varint()); break;
            case Wire::fixed32: payload_ = take(4); break;
            default: error("field ", field_, " has wire type ", tag & 7, ", which is none of proto3's");
        }
        return true;
    }
    uint32_t field() const noexcept { return field_; }

    // The current field as what the message declares it to be.
    uint64_t varint(const char* name) const {
        expect(Wire::varint, name);
        return number_;
    }
    int64_t i64(const char* name) const { return static_cast<int64_t>(varint(name)); }
    int32_t i32(const char* name) const { return static_cast<int32_t>(varint(name)); }
    float f32(const char* name) const {
        expect(Wire::fixed32, name);
        return load<float>(payload_.data());
    }
    double f64(const char* name) const {
        expect(Wire::fixed64, name);
        return load<double>(payload_.data());
    }
    Bytes bytes(const char* name) const {
        expect(Wire::bytes, name);
        return payload_;
    }
    std::string_view text(const char* name) const {
        expect(Wire::bytes, name);
        return {reinterpret_cast<const char*>(payload_.data()), payload_.size()};
    }
    // Calls `fn` with one element, or with each of a packed run of them.
    template <class Fn>
    void each_varint(const char* name, Fn&& fn) {
        if (wire_ == Wire::varint) return fn(number_);
        expect(Wire::bytes, name);
        const std::byte* const rest = at_;
        const std::byte* const limit = end_;
        at_ = payload_.data();
        end_ = at_ + payload_.size();
        while (at_ != end_) fn(read_varint());
        at_ = rest;
        end_ = limit;
    }
    // The bytes of one element of `size` bytes (4 or 8), or of a packed run of them.
    Bytes fixed_bytes(const char* name, size_t size) const {
        if (wire_ != (size == 4 ? Wire::fixed32 : Wire::fixed64)) {
            expect(Wire::bytes, name);
            if (payload_.size() % size != 0)
                error("'", name, "' has ", payload_.size(), " bytes, which is no multiple of ", size);
        }
        return payload_;
    }
    // Append what the two above find.
    template <class T>
    void varints(const char* name, std::vector<T>& list) {
        each_varint(name, [&](uint64_t value) { list.push_back(static_cast<T>(value)); });
    }
    template <class T>
    void fixed(const char* name, std::vector<T>& list) const {
        static_assert(sizeof(T) == 4 || sizeof(T) == 8);
        const Bytes found = fixed_bytes(name, sizeof(T));
        const size_t old = list.size();
        list.resize(old + found.size() / sizeof(T));
        if (!found.empty()) std::memcpy(list.data() + old, found.data(), found.size());
    }
    // The current field as an embedded message. `index` < 0: not a repeated field. Parsing twice into one object
    // merges, as protobuf wants it of a field that should occur once.
    template <class T>
    void message(const char* name, T& out, int64_t index = -1) const {
        expect(Wire::bytes, name);
        Cursor inner(*this, name, index);
        parse(inner, out);
    }
    template <class T>
    void message(const char* name, std::vector<T>& list) const {
        root_->left -= static_cast<int64_t>(sizeof(T));
        if (root_->left < 0) error("more messages than a model of its size has");
        const auto index = static_cast<int64_t>(list.size());
        message(name, list.emplace_back(), index);
    }

    template <class... Parts>
    [[noreturn]] void error(const Parts&... parts) const {
        const std::string where = path();
        fail(ErrorKind::invalid_protobuf, "byte ", (field_at_ ? field_at_ : begin_) - root_->begin,
             where.empty() ? "" : ", ", where, ": ", parts...);
    }

  private:
    enum class Wire : uint8_t { varint = 0, fixed64 = 1, bytes = 2, group = 3, end_group = 4, fixed32 = 5 };
    static constexpr uint64_t kMaxField = (uint64_t{1} << 29) - 1;
    struct Root {
        const std::byte* begin = nullptr;
        int64_t left = 0;
    };

    Cursor(const Cursor& outer, const char* name, int64_t index)
        : begin_(outer.payload_.data()),
          end_(begin_ + outer.payload_.size()),
          at_(begin_),
          root_(outer.root_),
          outer_(&outer),
          name_(name),
          index_(index),
          depth_(outer.depth_ + 1) {
        if (depth_ > kMaxDepth) error("messages are nested more than ", kMaxDepth, " deep");
    }

    template <class T>
    static T load(const std::byte* from) noexcept {
        T value;
        std::memcpy(&value, from, sizeof(T));
        return value;
    }
    uint64_t read_varint() {
        uint64_t value = 0;
        for (int shift = 0; shift < 70; shift += 7) {
            if (at_ == end_) error("the message ends inside a number");
            const auto byte = static_cast<uint64_t>(*at_++);
            if (shift == 63 && byte > 1) error("a number of more than 64 bits");
            value |= (byte & 0x7f) << shift;
            if (byte < 0x80) return value;
        }
        error("a number of more than 64 bits");
    }
    Bytes take(uint64_t size) {
        const auto left = static_cast<uint64_t>(end_ - at_);
        if (size > left)
            error("field ", field_, " has ", size, " bytes, but its message has only ", left, " left",
                  outer_ ? "" : " (is it cut short?)");
        const Bytes taken(at_, static_cast<size_t>(size));
        at_ += size;
        return taken;
    }
    void expect(Wire wire, const char* name) const {
        if (wire_ != wire)
            error("'", name, "' (field ", field_, ") has wire type ", static_cast<int>(wire_), " where ",
                  static_cast<int>(wire), " is expected");
    }
    std::string path() const {
        if (!outer_) return {};
        std::string text = outer_->path();
        if (depth_ > 8) {  // graph.node[3].attribute[0].g.node[0]...
            if (text.size() < 3 || text.substr(text.size() - 3) != "...") text += "...";
            return text;
        }
        if (!text.empty()) text += '.';
        text += name_;
        if (index_ >= 0) text += cat('[', index_, ']');
        return text;
    }

    const std::byte* begin_;
    const std::byte* end_;
    const std::byte* at_;
    Root own_root_;
    Root* root_;
    const Cursor* outer_ = nullptr;
    const char* name_ = "";
    int64_t index_ = -1;
    int depth_ = 0;
    const std::byte* field_at_ = nullptr;
    uint32_t field_ = 0;
    Wire wire_ = Wire::varint;
    uint64_t number_ = 0;
    Bytes payload_;
};

}  // namespace linnet::onnx
