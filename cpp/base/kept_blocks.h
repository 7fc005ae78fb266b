// Memory of tensors that are gone, kept for the next ones.
#pragma once
#include <cstddef>
#include <mutex>

namespace linnet {

// Small tensors, for each thread: control flow makes some in every iteration, and malloc puts such aligned blocks
// together and takes them apart again each time.
//
// A block of exactly `bytes` (a multiple of 64) from posix_memalign that was kept; null if there is none.
void* take_kept_block(size_t bytes) noexcept;
// Keeps it, or frees it: it is too large, or the thread keeps enough, at most 0.5 MB.
void keep_block(void* block, size_t bytes) noexcept;

// Large tensors, for each session: the system takes such memory back at once, and finding its pages anew takes as long
// as many an operator that writes them. Thread-safe.
class LargeBlocks {
  public:
    // Keeps at most so many bytes; later ones replace earlier ones.
    explicit LargeBlocks(size_t most) noexcept : most_(most) {}
    ~LargeBlocks();
    LargeBlocks(const LargeBlocks&) = delete;
    LargeBlocks& operator=(const LargeBlocks&) = delete;
    // A block of at least `bytes` that was kept, and not much larger, with its size; null if there is none.
    void* take(size_t bytes, size_t& capacity) noexcept;
    // Keeps it, or frees it.
    void keep(void* block, size_t capacity) noexcept;

  private:
    struct Block {
        void* memory;
        size_t capacity;
    };
    static constexpr size_t kMost = 16;
    const size_t most_;
    std::mutex mutex_;     // guards what follows
    Block blocks_[kMost];  // the oldest first
    size_t count_ = 0;
    size_t held_ = 0;  // bytes of all
    Block remove(size_t index) noexcept;
};

}  // namespace linnet
