// Text as code points: decoding, encoding, and the case of letters without a locale.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace linnet {

// The code point at `at`, which is moved behind it. A byte that begins no valid sequence stands for itself as
// kBadByte + byte, so that any bytes come back as they were.
constexpr char32_t kBadByte = 0x110000;
char32_t decode_utf8(std::string_view text, size_t& at);
void append_utf8(std::string& text, char32_t code);

// White space as Unicode has it, and the separators 0x1c to 0x1f.
bool is_space(char32_t code);

// One letter for one: the simple mappings of Unicode, without a locale. Everything else stays.
char32_t lower_case(char32_t code);
char32_t upper_case(char32_t code);
std::string lower_case(std::string_view text);
std::string upper_case(std::string_view text);

}  // namespace linnet
