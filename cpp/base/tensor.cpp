// Tensors: memory, copies, elements read as numbers.
#include "base/tensor.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/error.h"
#include "base/give_way.h"
#include "base/half.h"
#include "base/kept_blocks.h"
#include "base/limits.h"
#include "base/memory.h"

namespace linnet {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
// What a tensor takes beside its elements: it counts where there are a million small ones.
constexpr int64_t kBookkeeping = 192;

// Takes bytes from the thread's account, and gives them back when the tensor goes.
class Counted {
  public:
    explicit Counted(int64_t bytes) : bytes_(bytes) {
        MemoryAccount* account = MemoryAccount::current();
        if (!account) return;
        account->take(bytes);
        account_ = account->shared_from_this();
    }
    void give() const noexcept {
        if (account_) account_->give(bytes_);
    }
    void give_text(size_t bytes) const noexcept {
        if (account_ && bytes) account_->give_text(static_cast<int64_t>(bytes));
    }
    LargeBlocks* large() const noexcept { return account_ ? account_->large() : nullptr; }

  private:
    std::shared_ptr<MemoryAccount> account_;
    int64_t bytes_;
};

// Short strings have no memory of their own.
size_t heap_bytes(size_t text) { return text < sizeof(std::string) / 2 ? 0 : text; }

struct Strings {
    explicit Strings(int64_t count)
        : counted(checked_mul(count, static_cast<int64_t>(sizeof(std::string)))), items(static_cast<size_t>(count)) {}
    ~Strings() {
        counted.give();
        size_t text = 0;
        for (const std::string& item : items) text += heap_bytes(item.size());
        counted.give_text(text);
    }
    Counted counted;
    std::vector<std::string> items;
};

}  // namespace

Tensor::Tensor() = default;
Tensor::Tensor(const Tensor&) = default;
Tensor::Tensor(Tensor&&) noexcept = default;
Tensor& Tensor::operator=(const Tensor&) = default;
Tensor& Tensor::operator=(Tensor&&) noexcept = default;
Tensor::~Tensor() = default;

Value::Value() = default;
Value::Value(const Value&) = default;
Value::Value(Value&&) noexcept = default;
Value& Value::operator=(const Value&) = default;
Value& Value::operator=(Value&&) noexcept = default;
Value::~Value() = default;

Tensor Tensor::allocate(DType dtype, const Shape& shape) {
    Tensor t;
    t.dtype = dtype;
    t.shape = shape;
    if (static_cast<int64_t>(shape.size()) > kMostRank)
        fail(ErrorKind::invalid_argument, "a tensor of ", shape.size(), " dimensions: at most ", kMostRank,
             " are allowed");
    const int64_t count = element_count(shape);
    if (dtype == DType::string) {
        auto strings = std::make_shared<Strings>(count);
        t.data = strings->items.data();
        t.owner = std::move(strings);
        return t;
    }
    // Rounded up so that vector loads of a whole line stay inside.
    const int64_t bytes = checked_add(checked_mul(count, static_cast<int64_t>(dtype_size(dtype))), 127) & ~int64_t{63};
    const bool large = bytes >= kHugePage;
    const Counted counted(bytes + kBookkeeping);
    auto capacity = static_cast<size_t>(bytes);
    LargeBlocks* const blocks = large ? counted.large() : nullptr;
    void* memory = blocks ? blocks->take(capacity, capacity) : take_kept_block(capacity);
    const bool made = !memory;
    if (made && posix_memalign(&memory, large ? kHugePage : 64, capacity) != 0) {
        counted.give();
        fail(ErrorKind::invalid_argument, "no memory for a tensor of ", bytes, " bytes (", shape_text(shape), " ",
             dtype_name(dtype), ")");
    }
    // Whole huge pages only: what is left over would take another one.
    if (large && made) madvise(memory, static_cast<size_t>(bytes / kHugePage * kHugePage), MADV_HUGEPAGE);
    t.data = memory;
    t.owner = std::shared_ptr<const void>(memory, [counted, capacity](const void* p) {
        LargeBlocks* const blocks = capacity >= kHugePage ? counted.large() : nullptr;
        if (blocks) blocks->keep(const_cast<void*>(p), capacity);
        else keep_block(const_cast<void*>(p), capacity);
        counted.give();
        give_way();
    });
    return t;
}

void count_text(size_t bytes) {
    if (!heap_bytes(bytes)) return;
    if (MemoryAccount* account = MemoryAccount::current()) account->take_text(static_cast<int64_t>(bytes));
}

void copy_text(const std::string& from, std::string& to) {
    count_text(from.size());
    to = from;
}

void copy_elements(const Tensor& from, Tensor& to) {
    if (from.data == to.data) return;
    const auto count = static_cast<size_t>(from.count());
    if (from.dtype == DType::string)
        for (size_t i = 0; i < count; ++i) copy_text(from.as<std::string>()[i], to.as<std::string>()[i]);
    else if (count) std::memcpy(to.data, from.data, count * dtype_size(from.dtype));
}

Tensor Tensor::clone() const {
    Tensor t = allocate(dtype, shape);
    copy_elements(*this, t);
    return t;
}

namespace {

// Whether all bytes consist of bits of `allowed`: many at a time, since nearly always they do.
bool only_bits(const uint8_t* bytes, int64_t count, uint8_t allowed) {
    typedef uint64_t Words __attribute__((vector_size(16)));
    const auto load = [&](int64_t at) {
        Words words;
        std::memcpy(&words, bytes + at, sizeof words);
        return words;
    };
    Words words = {};
    int64_t i = 0;
    for (; i + 64 <= count; i += 64) words |= (load(i) | load(i + 16)) | (load(i + 32) | load(i + 48));
    uint64_t seen = words[0] | words[1];
    for (; i < count; ++i) seen |= bytes[i];
    return (seen & ~(allowed * uint64_t{0x0101010101010101})) == 0;
}

// The canonical byte for each byte. `allowed`: bits that alone are canonical in any combination.
template <class Fn>
Tensor mapped_bytes(const Tensor& tensor, uint8_t allowed, const Fn& fn) {
    const auto* from = tensor.as<uint8_t>();
    const int64_t count = tensor.count();
    if (only_bits(from, count, allowed)) return tensor;
    int64_t i = 0;
    while (i < count && from[i] == fn(from[i])) ++i;
    if (i == count) return tensor;
    Tensor copy = tensor.clone();
    for (; i < count; ++i) copy.as<uint8_t>()[i] = fn(from[i]);
    return copy;
}

}  // namespace

Tensor canonical(const Tensor& tensor) {
    switch (tensor.dtype) {
        case DType::boolean: return mapped_bytes(tensor, 1, [](uint8_t b) { return static_cast<uint8_t>(b != 0); });
        case DType::u2: return mapped_bytes(tensor, 3, [](uint8_t b) { return static_cast<uint8_t>(b & 3); });
        case DType::u4:
        case DType::f4e2m1: return mapped_bytes(tensor, 15, [](uint8_t b) { return static_cast<uint8_t>(b & 15); });
        case DType::i2:
            return mapped_bytes(tensor, 1, [](uint8_t b) { return static_cast<uint8_t>(((b & 3) ^ 2) - 2); });
        case DType::i4:
            return mapped_bytes(tensor, 7, [](uint8_t b) { return static_cast<uint8_t>(((b & 15) ^ 8) - 8); });
        default: return tensor;
    }
}

namespace {

// As C++ converts, but for what it leaves undefined: NaN is 0, and what is beyond all whole numbers the last of them.
template <class R, class T>
R number_of(T value) {
    if constexpr (std::is_integral_v<R> && std::is_floating_point_v<T>) {
        constexpr T kEnd = T(9223372036854775808.0);  // 2^63
        if (!(value >= -kEnd)) return value != value ? 0 : std::numeric_limits<R>::min();
        if (value >= kEnd) return std::numeric_limits<R>::max();
    }
    return static_cast<R>(value);
}

template <class R>
R number_at(const Tensor& t, int64_t i) {
    switch (t.dtype) {
        case DType::f32: return number_of<R>(t.as<float>()[i]);
        case DType::f64: return number_of<R>(t.as<double>()[i]);
        case DType::f16: return number_of<R>(to_float(t.as<Half>()[i]));
        case DType::bf16: return number_of<R>(to_float(t.as<BFloat16>()[i]));
        case DType::boolean:
        case DType::u8: return static_cast<R>(t.as<uint8_t>()[i]);
        // Narrow integers: only the low bits count (numpy leaves the others clear).
        case DType::u2: return static_cast<R>(t.as<uint8_t>()[i] & 0x3);
        case DType::u4: return static_cast<R>(t.as<uint8_t>()[i] & 0xf);
        case DType::i2: return static_cast<R>(static_cast<int8_t>(t.as<uint8_t>()[i] << 6) >> 6);
        case DType::i4: return static_cast<R>(static_cast<int8_t>(t.as<uint8_t>()[i] << 4) >> 4);
        case DType::i8: return static_cast<R>(t.as<int8_t>()[i]);
        case DType::u16: return static_cast<R>(t.as<uint16_t>()[i]);
        case DType::i16: return static_cast<R>(t.as<int16_t>()[i]);
        case DType::u32: return static_cast<R>(t.as<uint32_t>()[i]);
        case DType::i32: return static_cast<R>(t.as<int32_t>()[i]);
        case DType::u64: return static_cast<R>(t.as<uint64_t>()[i]);
        case DType::i64: return static_cast<R>(t.as<int64_t>()[i]);
        default: fail(ErrorKind::not_implemented, "a ", dtype_name(t.dtype), " tensor where a number is needed");
    }
}

}  // namespace

int64_t int_at(const Tensor& tensor, int64_t index) { return number_at<int64_t>(tensor, index); }
double double_at(const Tensor& tensor, int64_t index) { return number_at<double>(tensor, index); }

Shape ints_of(const Tensor& tensor) {
    Shape values(static_cast<size_t>(tensor.count()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = int_at(tensor, static_cast<int64_t>(i));
    return values;
}

}  // namespace linnet
