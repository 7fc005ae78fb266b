// Arithmetic on sizes that may be symbols; equal expressions get equal codes.
#include "graph/dims.h"

#include <algorithm>

#include "base/error.h"

namespace linnet {
namespace {

int64_t floor_quotient(int64_t a, int64_t b) { return a / b - ((a % b != 0) && ((a < 0) != (b < 0))); }

}  // namespace

// A number that comes from a file or from data may lie where the codes are.
const DimTable::Entry& DimTable::entry(int64_t code) const {
    const auto index = static_cast<size_t>(code - kUnknownDim - 1);
    if (index >= entries_.size()) fail(ErrorKind::invalid_argument, code, " is no size");
    return entries_[index];
}

int64_t DimTable::symbol(const std::string& name) {
    auto [it, fresh] = by_name_.try_emplace(name, 0);
    if (fresh) {
        entries_.push_back({name});
        it->second = kUnknownDim + static_cast<int64_t>(entries_.size());
    }
    return it->second;
}

int64_t DimTable::expression(char op, int64_t a, int64_t b) {
    if (a == kUnknownDim || b == kUnknownDim) return kUnknownDim;
    auto [it, fresh] = by_expression_.try_emplace({op, a, b}, 0);
    if (fresh) {
        entries_.push_back({"", op, a, b});
        it->second = kUnknownDim + static_cast<int64_t>(entries_.size());
    }
    return it->second;
}

int64_t DimTable::add(int64_t a, int64_t b) {
    if (is_number(a) && is_number(b)) return as_dim(checked_add(a, b));
    if (a == 0) return b;
    if (b == 0) return a;
    if (is_number(a) || (!is_number(b) && a > b)) std::swap(a, b);  // numbers last, symbols in order
    if (is_symbol(a) && is_number(b)) {
        const Entry& e = entry(a);
        if (e.op == '+' && is_number(e.b)) return add(e.a, checked_add(e.b, b));
    }
    return expression('+', a, b);
}

int64_t DimTable::sub(int64_t a, int64_t b) {
    if (a == b && a != kUnknownDim) return 0;
    if (is_number(b)) return add(a, -b);
    if (is_symbol(a)) {  // (x + y) - y
        const Entry& e = entry(a);
        if (e.op == '+' && e.a == b) return e.b;
        if (e.op == '+' && e.b == b) return e.a;
    }
    return expression('-', a, b);
}

int64_t DimTable::mul(int64_t a, int64_t b) {
    if (is_number(a) && is_number(b)) return as_dim(checked_mul(a, b));
    if (a == 0 || b == 0) return 0;
    if (a == 1) return b;
    if (b == 1) return a;
    if (is_number(a) || (!is_number(b) && a > b)) std::swap(a, b);
    if (is_symbol(a) && is_number(b)) {
        const Entry& e = entry(a);
        if (e.op == '*' && is_number(e.b)) return mul(e.a, checked_mul(e.b, b));
    }
    return expression('*', a, b);
}

int64_t DimTable::floor_div(int64_t a, int64_t b) {
    if (b == 0) return kUnknownDim;
    if (is_number(a) && is_number(b)) return floor_quotient(a, b);
    if (b == 1) return a;
    if (a == b && a != kUnknownDim) return 1;
    if (is_symbol(a)) {
        const Entry& e = entry(a);
        if (e.op == '*') {
            if (is_number(b) && is_number(e.b) && e.b % b == 0) return mul(e.a, e.b / b);
            if (e.b == b) return e.a;
            if (e.a == b) return e.b;
        }
    }
    return expression('/', a, b);
}

int64_t DimTable::ceil_div(int64_t a, int64_t b) {
    if (is_number(a) && is_number(b) && b != 0) return -floor_quotient(-a, b);
    return floor_div(add(a, sub(b, 1)), b);
}

int64_t DimTable::max(int64_t a, int64_t b) {
    if (is_number(a) && is_number(b)) return std::max(a, b);
    return a == b ? a : expression('>', std::min(a, b), std::max(a, b));
}

int64_t DimTable::min(int64_t a, int64_t b) {
    if (is_number(a) && is_number(b)) return std::min(a, b);
    return a == b ? a : expression('<', std::min(a, b), std::max(a, b));
}

int64_t DimTable::broadcast(int64_t a, int64_t b) {
    if (a == b || b == 1) return a;
    if (a == 1) return b;
    if (is_number(a) && is_number(b)) fail(ErrorKind::invalid_argument, "sizes ", a, " and ", b, " do not broadcast");
    // One is a symbol or unknown: a number other than 1 decides.
    if (is_number(a)) return a;
    if (is_number(b)) return b;
    // Where min(a, c) broadcasts with a at all, the result is a (a position table cut to the sequence's length).
    auto is_least_of = [this](int64_t least, int64_t dim) {
        if (!is_symbol(least)) return false;
        const Entry& e = entry(least);
        return e.op == '<' && (e.a == dim || e.b == dim);
    };
    if (is_symbol(a) && is_least_of(b, a)) return a;
    if (is_symbol(b) && is_least_of(a, b)) return b;
    return kUnknownDim;
}

// Expressions share their parts, so the text of n of them in a row may have 2^n: a deep part reads as "?".
std::string DimTable::text(int64_t dim, int depth) const {
    constexpr int kDeepest = 8;
    if (is_number(dim)) return std::to_string(dim);
    if (!is_symbol(dim) || depth > kDeepest) return "?";
    const Entry& e = entry(dim);
    if (!e.name.empty()) return e.name;
    const std::string a = text(e.a, depth + 1), b = text(e.b, depth + 1);
    if (e.op == '>') return "max(" + a + "," + b + ")";
    if (e.op == '<') return "min(" + a + "," + b + ")";
    if (e.op == '+') return is_number(e.b) && e.b < 0 ? a + b : a + e.op + b;
    auto factor = [this](int64_t d, const std::string& text) {
        return is_symbol(d) && entry(d).op ? "(" + text + ")" : text;
    };
    return factor(e.a, a) + e.op + factor(e.b, b);
}

std::string DimTable::text(const Shape& shape) const {
    std::string out = "[";
    for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + text(shape[i]);
    return out + "]";
}

}  // namespace linnet
