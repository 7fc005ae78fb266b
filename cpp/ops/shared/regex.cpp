// Parsing into a tree, the tree into a program, and the simulation of the program. Syntax as RE2 documents it.
#include "ops/shared/regex.h"

#include <algorithm>
#include <memory>
#include <string>

#include "base/error.h"
#include "ops/shared/utf8.h"

namespace linnet {
namespace {

constexpr size_t kMostInstructions = 20000, kMostPattern = 4000;
constexpr int64_t kMostVisits = 200000;  // of the tree, while it becomes a program
constexpr int kMostDepth = 200, kMostRepeat = 1000;
constexpr char32_t kLast = 0x10ffff + 0x100;  // bad bytes are characters too

using Ranges = Regex::Ranges;
using Op = Regex::Op;

struct Tree {
    enum class Kind { empty, set, assertion, both, either, repeat } kind = Kind::empty;
    Ranges set;
    Op assertion = Op::match;
    int least = 0, most = -1;  // of a repeat; -1: no end
    std::vector<std::unique_ptr<Tree>> parts;
};
using Node = std::unique_ptr<Tree>;

Node make(Tree::Kind kind) {
    auto node = std::make_unique<Tree>();
    node->kind = kind;
    return node;
}

Ranges normal(Ranges set) {
    std::sort(set.begin(), set.end());
    Ranges merged;
    for (auto [first, last] : set) {
        if (!merged.empty() && first <= merged.back().second + 1)
            merged.back().second = std::max(merged.back().second, last);
        else merged.push_back({first, last});
    }
    return merged;
}

Ranges negated(Ranges set) {
    Ranges rest;
    char32_t next = 0;
    for (auto [first, last] : normal(std::move(set))) {
        if (first > next) rest.push_back({next, first - 1});
        next = last + 1;
    }
    if (next <= kLast) rest.push_back({next, kLast});
    return rest;
}

const Ranges kDigit{{'0', '9'}}, kSpace{{'\t', '\n'}, {'\f', '\r'}, {' ', ' '}},
    kWord{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};

// [:name:] of POSIX.
bool posix_class(std::string_view name, Ranges& set) {
    static const std::pair<std::string_view, Ranges> classes[] = {
        {"alnum", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}},
        {"alpha", {{'A', 'Z'}, {'a', 'z'}}},
        {"ascii", {{0, 0x7f}}},
        {"blank", {{'\t', '\t'}, {' ', ' '}}},
        {"cntrl", {{0, 0x1f}, {0x7f, 0x7f}}},
        {"digit", {{'0', '9'}}},
        {"graph", {{'!', '~'}}},
        {"lower", {{'a', 'z'}}},
        {"print", {{' ', '~'}}},
        {"punct", {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}}},
        {"space", {{'\t', '\r'}, {' ', ' '}}},
        {"upper", {{'A', 'Z'}}},
        {"word", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}},
        {"xdigit", {{'0', '9'}, {'A', 'F'}, {'a', 'f'}}},
    };
    for (const auto& [known, ranges] : classes)
        if (known == name) return set = ranges, true;
    return false;
}

class Parser {
  public:
    explicit Parser(std::string_view pattern) : text_(pattern) {
        if (text_.size() > kMostPattern) wrong("the pattern is too long");
    }
    Node parse() {
        Node node = alternatives(0);
        if (at_ < text_.size()) wrong("unexpected )");
        return node;
    }

  private:
    struct Flags {
        bool fold = false, lines = false, dot_all = false;
    };

    [[noreturn]] void wrong(const char* what) const {
        fail(ErrorKind::invalid_argument, "pattern '", text_.substr(0, 100), "' at ", at_, ": ", what);
    }
    bool more() const { return at_ < text_.size(); }
    char peek() const { return text_[at_]; }
    bool take(std::string_view wanted) {
        if (text_.substr(at_, wanted.size()) != wanted) return false;
        at_ += wanted.size();
        return true;
    }

    Node alternatives(int depth) {
        if (depth > kMostDepth) wrong("nested too deeply");
        const Flags outer = flags_;
        Node either = make(Tree::Kind::either);
        either->parts.push_back(sequence(depth));
        while (take("|")) either->parts.push_back(sequence(depth));
        flags_ = outer;
        if (either->parts.size() == 1) return std::move(either->parts[0]);
        return either;
    }

    Node sequence(int depth) {
        Node both = make(Tree::Kind::both);
        while (more() && peek() != '|' && peek() != ')') {
            Node item = atom(depth);
            if (!item) continue;  // flags, or an empty quotation
            bool repeated = false;
            int least, most;
            while (quantifier(least, most)) {
                if (repeated) wrong("a repetition is repeated");
                repeated = true;
                Node repeat = make(Tree::Kind::repeat);
                repeat->least = least;
                repeat->most = most;
                repeat->parts.push_back(std::move(item));
                item = std::move(repeat);
            }
            both->parts.push_back(std::move(item));
        }
        return both;
    }

    bool quantifier(int& least, int& most) {
        if (!more()) return false;
        if (take("*")) least = 0, most = -1;
        else if (take("+")) least = 1, most = -1;
        else if (take("?")) least = 0, most = 1;
        else if (!counted(least, most)) return false;
        take("?");  // a lazy repetition matches the same texts
        return true;
    }

    // {n}, {n,} or {n,m}; anything else in braces is text.
    bool counted(int& least, int& most) {
        const size_t start = at_;
        if (!take("{") || !number(least)) return at_ = start, false;
        most = least;
        if (take(",") && !number(most)) most = -1;
        if (!take("}")) return at_ = start, false;
        if (least > kMostRepeat || most > kMostRepeat) wrong("more than 1000 repetitions");
        if (most >= 0 && most < least) wrong("a repetition with its bounds swapped");
        return true;
    }
    bool number(int& value) {
        if (!more() || peek() < '0' || peek() > '9') return false;
        value = 0;
        while (more() && peek() >= '0' && peek() <= '9') value = std::min(value * 10 + (text_[at_++] - '0'), 100000);
        return true;
    }

    Node set(Ranges ranges) const {
        Node node = make(Tree::Kind::set);
        node->set = normal(std::move(ranges));
        return node;
    }
    Node assertion(Op op) const {
        Node node = make(Tree::Kind::assertion);
        node->assertion = op;
        return node;
    }
    Node character(char32_t code) const {
        Ranges ranges{{code, code}};
        if (flags_.fold) add_cases(ranges);
        return set(std::move(ranges));
    }
    static void add_cases(Ranges& ranges) {
        Ranges more;
        for (auto [first, last] : ranges)
            for (char32_t code = first; code <= last && code < 0x2000; ++code) {
                for (char32_t other : {lower_case(code), upper_case(code)})
                    if (other != code) more.push_back({other, other});
            }
        ranges.insert(ranges.end(), more.begin(), more.end());
    }

    Node atom(int depth) {
        if (take("(")) return group(depth);
        if (take("[")) return bracket();
        if (take(".")) return set(flags_.dot_all ? Ranges{{0, kLast}} : negated({{'\n', '\n'}}));
        if (take("^")) return assertion(flags_.lines ? Op::begin_line : Op::begin_text);
        if (take("$")) return assertion(flags_.lines ? Op::end_line : Op::end_text);
        if (peek() == '*' || peek() == '+' || peek() == '?') wrong("nothing to repeat");
        if (take("\\")) return escape();
        return character(decode_utf8(text_, at_));
    }

    Node group(int depth) {
        const Flags outer = flags_;
        if (take("?")) {
            if (take("P<") || take("<")) {
                while (more() && peek() != '>') ++at_;
                if (!take(">")) wrong("a group's name does not end");
            } else {
                bool on = true;
                for (; more() && peek() != ':' && peek() != ')'; ++at_) {
                    if (peek() == '-') on = false;
                    else if (peek() == 'i') flags_.fold = on;
                    else if (peek() == 'm') flags_.lines = on;
                    else if (peek() == 's') flags_.dot_all = on;
                    else if (peek() != 'U') wrong("an unknown flag");
                }
                if (take(")")) return nullptr;  // holds until the enclosing group ends
                if (!take(":")) wrong("a group does not end");
            }
        }
        Node node = alternatives(depth + 1);
        flags_ = outer;
        if (!take(")")) wrong("a group does not end");
        return node;
    }

    // \d, \w, \s and their opposites; false for another letter.
    bool class_escape(char letter, Ranges& ranges) const {
        switch (letter) {
            case 'd': ranges = kDigit; return true;
            case 'D': ranges = negated(kDigit); return true;
            case 's': ranges = kSpace; return true;
            case 'S': ranges = negated(kSpace); return true;
            case 'w': ranges = kWord; return true;
            case 'W': ranges = negated(kWord); return true;
            case 'p':
            case 'P': fail(ErrorKind::not_implemented, "pattern '", text_.substr(0, 100), "': Unicode classes (\\p)");
            default: return false;
        }
    }

    Node escape() {
        if (!more()) wrong("a backslash at the end");
        Ranges ranges;
        if (class_escape(peek(), ranges)) return ++at_, set(std::move(ranges));
        if (take("A")) return assertion(Op::begin_text);
        if (take("z")) return assertion(Op::end_text);
        if (take("b")) return assertion(Op::word);
        if (take("B")) return assertion(Op::not_word);
        if (take("Q")) {
            Node both = make(Tree::Kind::both);
            while (more() && !take("\\E")) both->parts.push_back(character(decode_utf8(text_, at_)));
            return both;
        }
        if (take("E")) return nullptr;
        return character(escaped_character());
    }

    char32_t escaped_character() {
        if (!more()) wrong("a backslash at the end");
        const char letter = text_[at_];
        const auto hex = [](char c) {
            return c >= '0' && c <= '9'   ? c - '0'
                   : c >= 'a' && c <= 'f' ? c - 'a' + 10
                   : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                          : -1;
        };
        switch (letter) {
            case 'a': return ++at_, '\a';
            case 'f': return ++at_, '\f';
            case 'n': return ++at_, '\n';
            case 'r': return ++at_, '\r';
            case 't': return ++at_, '\t';
            case 'v': return ++at_, '\v';
            case 'x': {
                ++at_;
                const bool braces = take("{");
                char32_t code = 0;
                int digits = 0;
                for (; more() && hex(peek()) >= 0 && (braces || digits < 2) && code <= 0x10ffff; ++at_, ++digits)
                    code = code * 16 + static_cast<char32_t>(hex(peek()));
                if (digits == 0 || (!braces && digits != 2) || (braces && !take("}")) || code > 0x10ffff)
                    wrong("no hexadecimal character");
                return code;
            }
            default: break;
        }
        if (letter >= '0' && letter <= '7') {  // octal; a digit alone would be a back-reference, which RE2 has not
            char32_t code = 0;
            int digits = 0;
            for (; more() && peek() >= '0' && peek() <= '7' && digits < 3; ++at_, ++digits)
                code = code * 8 + static_cast<char32_t>(peek() - '0');
            if (letter != '0' && digits < 3) wrong("back-references are not part of the syntax");
            return code;
        }
        if ((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '8' && letter <= '9'))
            wrong("an unknown escape");
        return decode_utf8(text_, at_);
    }

    Node bracket() {
        const bool negative = take("^");
        Ranges ranges;
        for (bool first = true;; first = false) {
            if (!more()) wrong("a [ does not end");
            if (!first && take("]")) break;
            Ranges part;
            if (take("[:")) {
                const size_t end = text_.find(":]", at_);
                if (end == std::string_view::npos) wrong("a [: does not end");
                std::string_view name = text_.substr(at_, end - at_);
                const bool opposite = !name.empty() && name[0] == '^';
                if (!posix_class(name.substr(opposite ? 1 : 0), part)) wrong("an unknown class");
                if (opposite) part = negated(std::move(part));
                at_ = end + 2;
            } else if (peek() == '\\' && at_ + 1 < text_.size() && class_escape(text_[at_ + 1], part)) {
                at_ += 2;
            } else {
                const char32_t from = one();
                char32_t to = from;
                if (text_.substr(at_, 1) == "-" && text_.substr(at_ + 1, 1) != "]" && at_ + 1 < text_.size()) {
                    ++at_;
                    to = one();
                    if (to < from) wrong("a range with its bounds swapped");
                }
                part.push_back({from, to});
            }
            ranges.insert(ranges.end(), part.begin(), part.end());
        }
        if (flags_.fold) add_cases(ranges);
        return set(negative ? negated(std::move(ranges)) : std::move(ranges));
    }
    char32_t one() { return take("\\") ? escaped_character() : decode_utf8(text_, at_); }

    std::string_view text_;
    size_t at_ = 0;
    Flags flags_;
};

struct Compiler {
    std::vector<Regex::Instruction>& program;
    std::vector<Ranges>& sets;
    int64_t visits = 0;

    uint32_t here() const { return static_cast<uint32_t>(program.size()); }
    uint32_t emit(Op op, uint32_t x = 0, uint32_t y = 0) {
        if (program.size() >= kMostInstructions) fail(ErrorKind::invalid_argument, "the pattern is too large");
        program.push_back({op, x, y});
        return here() - 1;
    }
    void add(const Tree& tree) {
        if (++visits > kMostVisits) fail(ErrorKind::invalid_argument, "the pattern is too large");
        switch (tree.kind) {
            case Tree::Kind::empty: return;
            case Tree::Kind::set:
                sets.push_back(tree.set);
                emit(Op::set, static_cast<uint32_t>(sets.size() - 1));
                return;
            case Tree::Kind::assertion: emit(tree.assertion); return;
            case Tree::Kind::both:
                for (const Node& part : tree.parts) add(*part);
                return;
            case Tree::Kind::either: {
                std::vector<uint32_t> ends;
                for (size_t i = 0; i < tree.parts.size(); ++i) {
                    const bool last = i + 1 == tree.parts.size();
                    const uint32_t split = last ? 0 : emit(Op::split, here() + 1);
                    add(*tree.parts[i]);
                    if (last) break;
                    ends.push_back(emit(Op::jump));
                    program[split].y = here();
                }
                for (uint32_t end : ends) program[end].x = here();
                return;
            }
            case Tree::Kind::repeat: repeat(tree); return;
        }
    }
    void repeat(const Tree& tree) {
        for (int i = 0; i < tree.least; ++i) add(*tree.parts[0]);
        if (tree.most < 0) {
            const uint32_t split = emit(Op::split, here() + 1);
            add(*tree.parts[0]);
            emit(Op::jump, split);
            program[split].y = here();
            return;
        }
        std::vector<uint32_t> splits;
        for (int i = tree.least; i < tree.most; ++i) {
            splits.push_back(emit(Op::split, here() + 1));
            add(*tree.parts[0]);
        }
        for (uint32_t split : splits) program[split].y = here();
    }
};

bool is_word(char32_t code) {
    return code < 128 && ((code >= '0' && code <= '9') || (code >= 'a' && code <= 'z') ||
                          (code >= 'A' && code <= 'Z') || code == '_');
}

bool contains(const Ranges& set, char32_t code) {
    const auto after =
        std::upper_bound(set.begin(), set.end(), code, [](char32_t c, const auto& range) { return c < range.first; });
    return after != set.begin() && code <= std::prev(after)->second;
}

}  // namespace

Regex::Regex(std::string_view pattern) {
    const Node tree = Parser(pattern).parse();
    Compiler compiler{program_, sets_};
    compiler.add(*tree);
    compiler.emit(Op::match);
}

// `anywhere`: a match may begin behind `from` too. Ways that began earlier come first in the lists, so that they are
// kept where two ways meet.
std::optional<Regex::Match> Regex::search(std::string_view text, size_t from, bool anywhere) const {
    constexpr char32_t kNone = 0xffffffff;  // before the first character and behind the last
    struct Way {
        uint32_t state;
        size_t begin;
    };
    std::vector<Way> now, next;
    std::vector<uint32_t> stack;
    std::vector<size_t> seen(program_.size(), 0);
    size_t stamp = 0, here = from, ahead = from;
    std::optional<Match> best;
    auto read = [&] { return ahead < text.size() ? decode_utf8(text, ahead) : kNone; };
    // A byte of a longer sequence is no letter and no line's end either.
    char32_t before = from > 0 ? static_cast<unsigned char>(text[from - 1]) : kNone, after = read();
    // Follows what consumes nothing; `ways` gets the sets to be tried.
    auto follow = [&](uint32_t state, size_t begin, std::vector<Way>& ways) {
        stack.push_back(state);
        while (!stack.empty()) {
            const uint32_t at = stack.back();
            stack.pop_back();
            if (seen[at] == stamp) continue;
            seen[at] = stamp;
            const Instruction& i = program_[at];
            const bool edge = is_word(before) != is_word(after);
            bool holds = false;
            switch (i.op) {
                case Op::set: ways.push_back({at, begin}); break;
                case Op::match:
                    if (!best || begin <= best->begin) best = Match{begin, here};
                    break;
                case Op::jump: stack.push_back(i.x); break;
                case Op::split:
                    stack.push_back(i.y);
                    stack.push_back(i.x);
                    break;
                case Op::begin_text: holds = before == kNone; break;
                case Op::end_text: holds = after == kNone; break;
                case Op::begin_line: holds = before == kNone || before == '\n'; break;
                case Op::end_line: holds = after == kNone || after == '\n'; break;
                case Op::word: holds = edge; break;
                case Op::not_word: holds = !edge; break;
            }
            if (holds) stack.push_back(at + 1);
        }
    };
    ++stamp;
    follow(0, here, now);
    while (after != kNone && (!now.empty() || (anywhere && !best))) {
        before = after;
        here = ahead;
        after = read();
        ++stamp;
        next.clear();
        for (const Way& way : now)
            if (!(best && best->begin < way.begin) && contains(sets_[program_[way.state].x], before))
                follow(way.state + 1, way.begin, next);
        if (anywhere && !best) follow(0, here, next);
        now.swap(next);
    }
    return best;
}

bool Regex::full_match(std::string_view text) const {
    const auto match = search(text, 0, false);
    return match && match->end == text.size();
}

std::optional<Regex::Match> Regex::find(std::string_view text, size_t from) const { return search(text, from, true); }

}  // namespace linnet
