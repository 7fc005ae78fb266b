// Memory of small tensors that are gone, kept for the thread's next ones. Control flow makes some in every iteration,
// and malloc puts such aligned blocks together and takes them apart again each time.
#pragma once
#include <cstddef>

namespace linnet {

// A block of exactly `bytes` (a multiple of 64) from posix_memalign that was kept; null if there is none.
void* take_kept_block(size_t bytes) noexcept;
// Keeps it, or frees it: it is too large, or the thread keeps enough, at most 0.5 MB.
void keep_block(void* block, size_t bytes) noexcept;

}  // namespace linnet
