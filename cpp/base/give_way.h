// Threads whose work is beside that of others (a model is loaded while others are served) hand their CPU over between
// two pieces of it.
//
// Linux leaves a thread that only computes on its CPU until the next tick, 4 ms at 250 Hz, for one in a hundred of the
// threads that are woken there, whatever its priority (measured with a loop of idle priority beside a server: 0.5 to
// 1.7 % of its calls waited for 2 to 5 ms, 0.1 % when the loop yielded each 0.1 or 0.5 ms, as many as without it).
#pragma once

namespace linnet {

// Whether the calling thread gives way, from now on.
void set_gives_way(bool gives_way) noexcept;

// Called between pieces of work: yields, at most each 0.1 ms, if the calling thread gives way.
void give_way() noexcept;

}  // namespace linnet
