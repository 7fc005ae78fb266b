// Looking at the switch and the clock.
#include "base/stop.h"

#include "base/error.h"

namespace linnet {

void StopSignal::check() const {
    if (terminate && terminate->load(std::memory_order_relaxed))
        fail(ErrorKind::cancelled, "the run was stopped by its caller");
    if (deadline != std::chrono::steady_clock::time_point::max() && std::chrono::steady_clock::now() > deadline)
        fail(ErrorKind::cancelled, "the run took longer than its time limit");
}

}  // namespace linnet
