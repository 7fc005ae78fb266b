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

// Upper-case letters first, first + step ...: their lower case is `shift` further, and the other way round. From the
// simple case mappings of Unicode 15.
struct CaseRange {
    char32_t first;
    uint16_t count;
    uint8_t step;
    int32_t shift;
};
constexpr CaseRange kCases[] = {
    {0xc0, 23, 1, 32},      {0xd8, 7, 1, 32},       {0x100, 24, 2, 1},      {0x132, 3, 2, 1},
    {0x139, 8, 2, 1},       {0x14a, 23, 2, 1},      {0x178, 1, 1, -121},    {0x179, 3, 2, 1},
    {0x181, 1, 1, 210},     {0x182, 2, 2, 1},       {0x186, 1, 1, 206},     {0x187, 1, 1, 1},
    {0x189, 2, 1, 205},     {0x18b, 1, 1, 1},       {0x18e, 1, 1, 79},      {0x18f, 1, 1, 202},
    {0x190, 1, 1, 203},     {0x191, 1, 1, 1},       {0x193, 1, 1, 205},     {0x194, 1, 1, 207},
    {0x196, 1, 1, 211},     {0x197, 1, 1, 209},     {0x198, 1, 1, 1},       {0x19c, 1, 1, 211},
    {0x19d, 1, 1, 213},     {0x19f, 1, 1, 214},     {0x1a0, 3, 2, 1},       {0x1a6, 1, 1, 218},
    {0x1a7, 1, 1, 1},       {0x1a9, 1, 1, 218},     {0x1ac, 1, 1, 1},       {0x1ae, 1, 1, 218},
    {0x1af, 1, 1, 1},       {0x1b1, 2, 1, 217},     {0x1b3, 2, 2, 1},       {0x1b7, 1, 1, 219},
    {0x1b8, 1, 1, 1},       {0x1bc, 1, 1, 1},       {0x1c4, 1, 1, 2},       {0x1c7, 1, 1, 2},
    {0x1ca, 1, 1, 2},       {0x1cd, 8, 2, 1},       {0x1de, 9, 2, 1},       {0x1f1, 1, 1, 2},
    {0x1f4, 1, 1, 1},       {0x1f6, 1, 1, -97},     {0x1f7, 1, 1, -56},     {0x1f8, 20, 2, 1},
    {0x220, 1, 1, -130},    {0x222, 9, 2, 1},       {0x23a, 1, 1, 10795},   {0x23b, 1, 1, 1},
    {0x23d, 1, 1, -163},    {0x23e, 1, 1, 10792},   {0x241, 1, 1, 1},       {0x243, 1, 1, -195},
    {0x244, 1, 1, 69},      {0x245, 1, 1, 71},      {0x246, 5, 2, 1},       {0x370, 2, 2, 1},
    {0x376, 1, 1, 1},       {0x37f, 1, 1, 116},     {0x386, 1, 1, 38},      {0x388, 3, 1, 37},
    {0x38c, 1, 1, 64},      {0x38e, 2, 1, 63},      {0x391, 17, 1, 32},     {0x3a3, 9, 1, 32},
    {0x3cf, 1, 1, 8},       {0x3d8, 12, 2, 1},      {0x3f7, 1, 1, 1},       {0x3f9, 1, 1, -7},
    {0x3fa, 1, 1, 1},       {0x3fd, 3, 1, -130},    {0x400, 16, 1, 80},     {0x410, 32, 1, 32},
    {0x460, 17, 2, 1},      {0x48a, 27, 2, 1},      {0x4c0, 1, 1, 15},      {0x4c1, 7, 2, 1},
    {0x4d0, 48, 2, 1},      {0x531, 38, 1, 48},     {0x10a0, 38, 1, 7264},  {0x10c7, 1, 1, 7264},
    {0x10cd, 1, 1, 7264},   {0x13a0, 80, 1, 38864}, {0x13f0, 6, 1, 8},      {0x1c90, 43, 1, -3008},
    {0x1cbd, 3, 1, -3008},  {0x1e00, 75, 2, 1},     {0x1ea0, 48, 2, 1},     {0x1f08, 8, 1, -8},
    {0x1f18, 6, 1, -8},     {0x1f28, 8, 1, -8},     {0x1f38, 8, 1, -8},     {0x1f48, 6, 1, -8},
    {0x1f59, 4, 2, -8},     {0x1f68, 8, 1, -8},     {0x1f88, 8, 1, -8},     {0x1f98, 8, 1, -8},
    {0x1fa8, 8, 1, -8},     {0x1fb8, 2, 1, -8},     {0x1fba, 2, 1, -74},    {0x1fbc, 1, 1, -9},
    {0x1fc8, 4, 1, -86},    {0x1fcc, 1, 1, -9},     {0x1fd8, 2, 1, -8},     {0x1fda, 2, 1, -100},
    {0x1fe8, 2, 1, -8},     {0x1fea, 2, 1, -112},   {0x1fec, 1, 1, -7},     {0x1ff8, 2, 1, -128},
    {0x1ffa, 2, 1, -126},   {0x1ffc, 1, 1, -9},     {0x2132, 1, 1, 28},     {0x2160, 16, 1, 16},
    {0x2183, 1, 1, 1},      {0x24b6, 26, 1, 26},    {0x2c00, 48, 1, 48},    {0x2c60, 1, 1, 1},
    {0x2c62, 1, 1, -10743}, {0x2c63, 1, 1, -3814},  {0x2c64, 1, 1, -10727}, {0x2c67, 3, 2, 1},
    {0x2c6d, 1, 1, -10780}, {0x2c6e, 1, 1, -10749}, {0x2c6f, 1, 1, -10783}, {0x2c70, 1, 1, -10782},
    {0x2c72, 1, 1, 1},      {0x2c75, 1, 1, 1},      {0x2c7e, 2, 1, -10815}, {0x2c80, 50, 2, 1},
    {0x2ceb, 2, 2, 1},      {0x2cf2, 1, 1, 1},      {0xa640, 23, 2, 1},     {0xa680, 14, 2, 1},
    {0xa722, 7, 2, 1},      {0xa732, 31, 2, 1},     {0xa779, 2, 2, 1},      {0xa77d, 1, 1, -35332},
    {0xa77e, 5, 2, 1},      {0xa78b, 1, 1, 1},      {0xa78d, 1, 1, -42280}, {0xa790, 2, 2, 1},
    {0xa796, 10, 2, 1},     {0xa7aa, 1, 1, -42308}, {0xa7ab, 1, 1, -42319}, {0xa7ac, 1, 1, -42315},
    {0xa7ad, 1, 1, -42305}, {0xa7ae, 1, 1, -42308}, {0xa7b0, 1, 1, -42258}, {0xa7b1, 1, 1, -42282},
    {0xa7b2, 1, 1, -42261}, {0xa7b3, 1, 1, 928},    {0xa7b4, 8, 2, 1},      {0xa7c4, 1, 1, -48},
    {0xa7c5, 1, 1, -42307}, {0xa7c6, 1, 1, -35384}, {0xa7c7, 2, 2, 1},      {0xa7d0, 1, 1, 1},
    {0xa7d6, 2, 2, 1},      {0xa7f5, 1, 1, 1},      {0xff21, 26, 1, 32},    {0x10400, 40, 1, 40},
    {0x104b0, 36, 1, 40},   {0x10570, 11, 1, 39},   {0x1057c, 15, 1, 39},   {0x1058c, 7, 1, 39},
    {0x10594, 2, 1, 39},    {0x10c80, 51, 1, 64},   {0x118a0, 32, 1, 32},   {0x16e40, 32, 1, 32},
    {0x1e900, 34, 1, 34}};

// Letters of one way only.
struct CasePair {
    char32_t from, to;
};
constexpr CasePair kOnlyLower[] = {{0x130, 0x69},  {0x1c5, 0x1c6}, {0x1c8, 0x1c9},  {0x1cb, 0x1cc}, {0x1f2, 0x1f3},
                                   {0x3f4, 0x3b8}, {0x1e9e, 0xdf}, {0x2126, 0x3c9}, {0x212a, 0x6b}, {0x212b, 0xe5}};
constexpr CasePair kOnlyUpper[] = {
    {0xb5, 0x39c},    {0x131, 0x49},    {0x17f, 0x53},   {0x1c5, 0x1c4},  {0x1c8, 0x1c7},  {0x1cb, 0x1ca},
    {0x1f2, 0x1f1},   {0x345, 0x399},   {0x3c2, 0x3a3},  {0x3d0, 0x392},  {0x3d1, 0x398},  {0x3d5, 0x3a6},
    {0x3d6, 0x3a0},   {0x3f0, 0x39a},   {0x3f1, 0x3a1},  {0x3f5, 0x395},  {0x1c80, 0x412}, {0x1c81, 0x414},
    {0x1c82, 0x41e},  {0x1c83, 0x421},  {0x1c84, 0x422}, {0x1c85, 0x422}, {0x1c86, 0x42a}, {0x1c87, 0x462},
    {0x1c88, 0xa64a}, {0x1e9b, 0x1e60}, {0x1fbe, 0x399}};

bool is_in(const CaseRange& range, char32_t upper) {
    return upper >= range.first && upper - range.first < char32_t{range.count} * range.step &&
           (upper - range.first) % range.step == 0;
}

template <char32_t (*map)(char32_t)>
std::string map_text(std::string_view text) {
    std::string out;
    for (size_t at = 0; at < text.size();) append_utf8(out, map(decode_utf8(text, at)));
    return out;
}

}  // namespace

bool is_space(char32_t code) {
    return (code >= 9 && code <= 13) || (code >= 0x1c && code <= 0x20) || code == 0x85 || code == 0xa0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f ||
           code == 0x205f || code == 0x3000;
}

char32_t lower_case(char32_t code) {
    if (code < 0x80) return code >= 'A' && code <= 'Z' ? code + 32 : code;
    for (const CasePair& pair : kOnlyLower)
        if (pair.from == code) return pair.to;
    for (const CaseRange& range : kCases)
        if (is_in(range, code)) return code + static_cast<char32_t>(range.shift);
    return code;
}

char32_t upper_case(char32_t code) {
    if (code < 0x80) return code >= 'a' && code <= 'z' ? code - 32 : code;
    for (const CasePair& pair : kOnlyUpper)
        if (pair.from == code) return pair.to;
    for (const CaseRange& range : kCases)
        if (const char32_t upper = code - static_cast<char32_t>(range.shift); is_in(range, upper)) return upper;
    return code;
}

std::string lower_case(std::string_view text) { return map_text<lower_case>(text); }
std::string upper_case(std::string_view text) { return map_text<upper_case>(text); }

}  // namespace linnet
