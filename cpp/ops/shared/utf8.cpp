// UTF-8 and letter case. The ranges are those of the Unicode Character Database's simple case mappings.
#include "ops/shared/utf8.h"

namespace linnet {

char32_t decode_utf8(std::string_view text, size_t& at) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    const char32_t lead = byte(at++);
    if (lead < 0x80) return lead;
    const int more = lead >= 0xf0 && lead < 0xf5   ? 3
                     : lead >= 0xe0 && lead < 0xf0 ? 2
                     : lead >= 0xc2 && lead < 0xe0 ? 1
                                                   : 0;
    if (more == 0 || text.size() - at < static_cast<size_t>(more)) return kBadByte + lead;
    char32_t code = lead & (0x3f >> more);
    for (int i = 0; i < more; ++i) {
        const char32_t next = byte(at + static_cast<size_t>(i));
        if ((next & 0xc0) != 0x80) return kBadByte + lead;
        code = code << 6 | (next & 0x3f);
    }
    const bool overlong = (more == 2 && code < 0x800) || (more == 3 && code < 0x10000);
    if (overlong || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return kBadByte + lead;
    at += static_cast<size_t>(more);
    return code;
}

void append_utf8(std::string& text, char32_t code) {
    auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
    if (code >= kBadByte) {
        put(code - kBadByte);
    } else if (code < 0x80) {
        put(code);
    } else if (code < 0x800) {
        put(0xc0 | code >> 6);
        put(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        put(0xe0 | code >> 12);
        put(0x80 | (code >> 6 & 0x3f));
        put(0x80 | (code & 0x3f));
    } else {
        put(0xf0 | code >> 18);
        put(0x80 | (code >> 12 & 0x3f));
        put(0x80 | (code >> 6 & 0x3f));
        put(0x80 | (code & 0x3f));
    }
}

namespace {

// Upper-case letters [first, last]: their lower case is `shift` further. A shift of 1 is for alternating letters, the
// first of which is upper case; those ranges end with a lower-case letter.
struct CaseRange {
    char32_t first, last;
    int32_t shift;
};
constexpr CaseRange kCases[] = {
    {0x41, 0x5a, 32},   {0xc0, 0xd6, 32},    {0xd8, 0xde, 32},     {0x100, 0x12f, 1},    {0x132, 0x137, 1},
    {0x139, 0x148, 1},  {0x14a, 0x177, 1},   {0x178, 0x178, -121}, {0x179, 0x17e, 1},    {0x1cd, 0x1dc, 1},
    {0x1de, 0x1ef, 1},  {0x1f8, 0x21f, 1},   {0x222, 0x233, 1},    {0x386, 0x386, 38},   {0x388, 0x38a, 37},
    {0x38c, 0x38c, 64}, {0x38e, 0x38f, 63},  {0x391, 0x3a1, 32},   {0x3a3, 0x3ab, 32},   {0x400, 0x40f, 80},
    {0x410, 0x42f, 32}, {0x460, 0x481, 1},   {0x48a, 0x4bf, 1},    {0x4c1, 0x4ce, 1},    {0x4d0, 0x52f, 1},
    {0x531, 0x556, 48}, {0x1e00, 0x1e95, 1}, {0x1ea0, 0x1eff, 1},  {0xff21, 0xff3a, 32},
};

template <char32_t (*map)(char32_t)>
std::string map_text(std::string_view text) {
    std::string out;
    for (size_t at = 0; at < text.size();) append_utf8(out, map(decode_utf8(text, at)));
    return out;
}

}  // namespace

char32_t lower_case(char32_t code) {
    for (const CaseRange& range : kCases) {
        if (code < range.first || code > range.last) continue;
        if (range.shift != 1) return code + static_cast<char32_t>(range.shift);
        return (code - range.first) % 2 == 0 ? code + 1 : code;
    }
    return code;
}

char32_t upper_case(char32_t code) {
    if (code == 0x3c2) return 0x3a3;  // final sigma
    for (const CaseRange& range : kCases) {
        if (range.shift == 1) {
            if (code >= range.first && code <= range.last) return (code - range.first) % 2 == 1 ? code - 1 : code;
            continue;
        }
        const char32_t upper = code - static_cast<char32_t>(range.shift);
        if (upper >= range.first && upper <= range.last) return upper;
    }
    return code;
}

std::string lower_case(std::string_view text) { return map_text<lower_case>(text); }
std::string upper_case(std::string_view text) { return map_text<upper_case>(text); }

}  // namespace linnet
