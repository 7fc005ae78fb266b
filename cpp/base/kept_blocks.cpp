// A few blocks of each size.
#include "base/kept_blocks.h"

#include <algorithm>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LINNET_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LINNET_SANITIZED
#endif
#endif

namespace linnet {

#ifdef LINNET_SANITIZED  // which watch over blocks that are freed

void* take_kept_block(size_t) noexcept { return nullptr; }
void keep_block(void* block, size_t) noexcept { std::free(block); }

LargeBlocks::~LargeBlocks() = default;
void* LargeBlocks::take(size_t, size_t&) noexcept { return nullptr; }
void LargeBlocks::keep(void* block, size_t) noexcept { std::free(block); }

#else

namespace {

constexpr size_t kStep = 64, kSizes = 64, kMost = 4;

struct Blocks {
    size_t count;
    void* blocks[kMost];
};
// Without a destructor: tensors may go after everything else of a thread.
thread_local Blocks kept[kSizes];
thread_local bool closed = false;

struct Closing {
    bool needed = false;
    ~Closing() {
        closed = true;
        for (Blocks& of_size : kept)
            while (of_size.count > 0) std::free(of_size.blocks[--of_size.count]);
    }
};
thread_local Closing closing;

}  // namespace

void* take_kept_block(size_t bytes) noexcept {
    if (bytes / kStep >= kSizes) return nullptr;
    Blocks& of_size = kept[bytes / kStep];
    return of_size.count > 0 ? of_size.blocks[--of_size.count] : nullptr;
}

void keep_block(void* block, size_t bytes) noexcept {
    if (bytes / kStep < kSizes && !closed) {
        closing.needed = true;  // so that it is made, and the blocks are freed
        Blocks& of_size = kept[bytes / kStep];
        if (of_size.count < kMost) {
            of_size.blocks[of_size.count++] = block;
            return;
        }
    }
    std::free(block);
}

LargeBlocks::~LargeBlocks() {
    while (count_ > 0) std::free(blocks_[--count_].memory);
}

LargeBlocks::Block LargeBlocks::remove(size_t index) noexcept {
    const Block block = blocks_[index];
    std::copy(blocks_ + index + 1, blocks_ + count_, blocks_ + index);
    --count_;
    held_ -= block.capacity;
    return block;
}

void* LargeBlocks::take(size_t bytes, size_t& capacity) noexcept {
    const std::lock_guard lock(mutex_);
    size_t best = count_;
    for (size_t i = 0; i < count_; ++i) {
        const size_t size = blocks_[i].capacity;
        if (size >= bytes && size - bytes <= bytes / 4 && (best == count_ || size < blocks_[best].capacity)) best = i;
    }
    if (best == count_) return nullptr;
    const Block block = remove(best);
    capacity = block.capacity;
    return block.memory;
}

void LargeBlocks::keep(void* block, size_t capacity) noexcept {
    void* old[kMost + 1];  // they are freed when others may go on
    size_t olds = 0;
    if (capacity > most_) {
        old[olds++] = block;
    } else {
        const std::lock_guard lock(mutex_);
        while (held_ + capacity > most_ || count_ == kMost) old[olds++] = remove(0).memory;
        blocks_[count_++] = {block, capacity};
        held_ += capacity;
    }
    while (olds > 0) std::free(old[--olds]);
}

#endif

}  // namespace linnet
