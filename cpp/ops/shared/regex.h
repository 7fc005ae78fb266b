// Regular expressions in the syntax of RE2, matched in time linear in the text: all ways through the pattern are
// followed at once (Thompson's construction), so no pattern and no text can make it slow or deep.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace linnet {

class Regex {
  public:
    // Throws invalid_argument (saying where) for what is no pattern or too large a one, not_implemented for Unicode
    // classes (\p).
    explicit Regex(std::string_view pattern);
    // Whether the whole text matches.
    bool full_match(std::string_view text) const;
    // The match in text[from, end) that begins first, and of those the longest. What is before `from` is seen by the
    // assertions (^, \b) only.
    struct Match {
        size_t begin, end;
    };
    std::optional<Match> find(std::string_view text, size_t from = 0) const;

    using Ranges = std::vector<std::pair<char32_t, char32_t>>;
    enum class Op : uint8_t { set, split, jump, begin_text, end_text, begin_line, end_line, word, not_word, match };
    struct Instruction {
        Op op;
        uint32_t x = 0, y = 0;  // targets; of a set, its index
    };

  private:
    std::optional<Match> search(std::string_view text, size_t from, bool anywhere) const;

    std::vector<Instruction> program_;
    std::vector<Ranges> sets_;  // sorted, disjoint
};

}  // namespace linnet
