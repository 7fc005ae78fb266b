// A few blocks of each size, for each thread.
#include "base/kept_blocks.h"

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

#endif

}  // namespace linnet
