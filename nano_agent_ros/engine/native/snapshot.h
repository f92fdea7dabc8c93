// A state as bytes, to leave the process or to come back later.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hashed_copy.h"
#include "state.h"
#include "thread_pool.h"

namespace nano {

// Bytes, in this order: a header (version, model, kernels, window, length), the recurrent states, the convolutions'
// inputs, per attention layer keys and values [heads, kept, head_dim] each, and a hash of all that. Numbers have the
// processor's byte order.
std::size_t snapshot_size(const State& state);

// Write a settled state to `out`, which has snapshot_size(state) bytes.
void save_snapshot(const State& state, HashedCopy copy, ThreadPool& pool, std::uint8_t* out);

// Returns the state of a snapshot. Throws Error unless data is a whole snapshot of this layout.
State load_snapshot(const StateLayout& layout, StateMemory& memory, HashedCopy copy, ThreadPool& pool,
                    const std::uint8_t* data, std::size_t nbytes);

}  // namespace nano
