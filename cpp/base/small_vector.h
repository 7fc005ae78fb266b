// A vector that keeps its first N elements inside itself: shapes and operand lists rarely need the heap. What is long
// is not inlined: these are used everywhere, but in no loop over elements.
#pragma once
#include <algorithm>
#include <cassert>
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <type_traits>

namespace linnet {

template <class T, size_t N>
class SmallVector {
    static_assert(std::is_trivially_copyable_v<T>);

  public:
    using value_type = T;
    using iterator = T*;
    using const_iterator = const T*;

    SmallVector() noexcept {}
    SmallVector(std::initializer_list<T> items) { assign(items.begin(), items.end()); }
    explicit SmallVector(size_t count, T value = T{}) { resize(count, value); }
    template <class It, class = typename std::iterator_traits<It>::iterator_category>
    SmallVector(It first, It last) {
        assign(first, last);
    }
    [[gnu::noinline]] SmallVector(const SmallVector& other) { assign(other.begin(), other.end()); }
    SmallVector(SmallVector&& other) noexcept { steal(other); }
    SmallVector& operator=(const SmallVector& other) {
        if (this != &other) assign(other.begin(), other.end());
        return *this;
    }
    SmallVector& operator=(SmallVector&& other) noexcept {
        if (this != &other) {
            release();
            steal(other);
        }
        return *this;
    }
    ~SmallVector() { release(); }

    size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    T* data() noexcept { return data_; }
    const T* data() const noexcept { return data_; }
    T* begin() noexcept { return data_; }
    T* end() noexcept { return data_ + size_; }
    const T* begin() const noexcept { return data_; }
    const T* end() const noexcept { return data_ + size_; }
    T& operator[](size_t i) noexcept { return data_[checked(i)]; }
    const T& operator[](size_t i) const noexcept { return data_[checked(i)]; }
    T& back() noexcept { return data_[checked(size_ - 1)]; }
    const T& back() const noexcept { return data_[checked(size_ - 1)]; }
    T& front() noexcept { return data_[checked(0)]; }
    const T& front() const noexcept { return data_[checked(0)]; }

    void clear() noexcept { size_ = 0; }
    void reserve(size_t count) {
        if (count > capacity_) grow(count);
    }
    [[gnu::noinline]] void resize(size_t count, T value = T{}) {
        reserve(count);
        if (count > size_) std::fill(data_ + size_, data_ + count, value);
        size_ = count;
    }
    void push_back(T value) {
        reserve(size_ + 1);
        data_[size_++] = value;
    }
    void pop_back() noexcept { size_ = checked(size_ - 1); }
    template <class It>
    [[gnu::noinline]] void assign(It first, It last) {
        const size_t count = static_cast<size_t>(std::distance(first, last));
        reserve(count);
        std::copy(first, last, data_);
        size_ = count;
    }
    [[gnu::noinline]] T* insert(const T* position, T value) {
        const size_t index = static_cast<size_t>(position - data_);
        reserve(size_ + 1);
        std::copy_backward(data_ + index, data_ + size_, data_ + size_ + 1);
        data_[index] = value;
        ++size_;
        return data_ + index;
    }
    T* erase(const T* position) {
        T* hole = data_ + (position - data_);
        std::copy(hole + 1, end(), hole);
        --size_;
        return hole;
    }
    friend bool operator==(const SmallVector& a, const SmallVector& b) noexcept {
        return std::equal(a.begin(), a.end(), b.begin(), b.end());
    }

  private:
    // Builds with sanitizers assert: they do not see what stays within the object.
    size_t checked(size_t i) const noexcept {
        assert(i < size_);
        return i;
    }
    [[gnu::noinline]] void grow(size_t count) {
        const size_t grown = std::max(count, capacity_ * 2);
        T* fresh = new T[grown];
        std::copy(begin(), end(), fresh);
        release();
        data_ = fresh;
        capacity_ = grown;
    }
    void release() noexcept {
        if (data_ != inline_) delete[] data_;
        data_ = inline_;
        capacity_ = N;
    }
    [[gnu::noinline]] void steal(SmallVector& other) noexcept {
        size_ = other.size_;
        if (other.data_ == other.inline_) {
            std::copy(other.begin(), other.end(), inline_);
        } else {
            data_ = other.data_;
            capacity_ = other.capacity_;
            other.data_ = other.inline_;
            other.capacity_ = N;
        }
        other.size_ = 0;
    }

    T* data_ = inline_;
    size_t size_ = 0;
    size_t capacity_ = N;
    T inline_[N];
};

}  // namespace linnet
