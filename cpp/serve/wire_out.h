// Writing protobuf's wire format: fields appended to text, and payloads too large to copy as pieces between.
#pragma once
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "serve/message.h"

namespace linnet::serve {

enum class Wire : uint32_t { varint = 0, bytes = 2 };

inline void put_varint(std::string& out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
    out += static_cast<char>(value);
}
inline size_t varint_size(uint64_t value) {
    size_t size = 1;
    for (; value >= 0x80; value >>= 7) ++size;
    return size;
}
inline void put_tag(std::string& out, uint32_t field, Wire wire) {
    put_varint(out, field << 3 | static_cast<uint32_t>(wire));
}
// The beginning of a field of `size` bytes, which follow.
inline void put_head(std::string& out, uint32_t field, size_t size) {
    put_tag(out, field, Wire::bytes);
    put_varint(out, size);
}
inline void put_bytes(std::string& out, uint32_t field, std::string_view bytes) {
    put_head(out, field, bytes.size());
    out += bytes;
}
// Fields that are left out when they have their default.
inline void put_text(std::string& out, uint32_t field, std::string_view text) {
    if (!text.empty()) put_bytes(out, field, text);
}
inline void put_number(std::string& out, uint32_t field, uint64_t value) {
    if (value == 0) return;
    put_tag(out, field, Wire::varint);
    put_varint(out, value);
}

// Text and views in the order in which they were put.
class PieceWriter {
  public:
    std::string text;  // what is not yet in a piece

    void put(Bytes bytes) {
        constexpr size_t kShort = 512;  // copied at once rather than made a piece
        if (bytes.size() <= kShort) {
            text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
            return;
        }
        pieces_.add(std::exchange(text, {}));
        pieces_.add(bytes);
    }
    Pieces finish() {
        pieces_.add(std::exchange(text, {}));
        return std::move(pieces_);
    }

  private:
    Pieces pieces_;
};

}  // namespace linnet::serve
