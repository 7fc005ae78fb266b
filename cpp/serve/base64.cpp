// Base64, strict: no white space, no other characters, no bits left over.
#include "serve/base64.h"

#include <array>
#include <cstdint>

namespace linnet::serve {
namespace {

constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<int8_t, 256> make_values() {
    std::array<int8_t, 256> values{};
    for (int8_t& value : values) value = -1;
    for (int i = 0; i < 64; ++i) values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<int8_t>(i);
    return values;
}
constexpr std::array<int8_t, 256> kValues = make_values();

}  // namespace

void put_base64(std::string& out, std::string_view bytes) {
    for (size_t i = 0; i < bytes.size(); i += 3) {
        const size_t have = bytes.size() - i;
        uint32_t group = static_cast<uint32_t>(static_cast<unsigned char>(bytes[i])) << 16;
        if (have > 1) group |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[i + 1])) << 8;
        if (have > 2) group |= static_cast<unsigned char>(bytes[i + 2]);
        out += kAlphabet[group >> 18];
        out += kAlphabet[group >> 12 & 63];
        out += have > 1 ? kAlphabet[group >> 6 & 63] : '=';
        out += have > 2 ? kAlphabet[group & 63] : '=';
    }
}

bool from_base64(std::string_view text, std::string& bytes) {
    bytes.clear();
    if (text.size() % 4 == 0)
        for (int i = 0; i < 2 && !text.empty() && text.back() == '='; ++i) text.remove_suffix(1);
    if (text.size() % 4 == 1) return false;
    bytes.reserve(text.size() / 4 * 3 + 2);
    uint32_t bits = 0;
    int have = 0;
    for (const char c : text) {
        const int8_t value = kValues[static_cast<unsigned char>(c)];
        if (value < 0) return false;
        bits = bits << 6 | static_cast<uint32_t>(value);
        have += 6;
        if (have >= 8) {
            have -= 8;
            bytes += static_cast<char>(bits >> have & 0xff);
        }
    }
    return (bits & ((1u << have) - 1)) == 0;
}

}  // namespace linnet::serve
