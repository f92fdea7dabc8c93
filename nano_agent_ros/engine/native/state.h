// Everything that one conversation changes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "aligned.h"
#include "kv_cache.h"
#include "weights.h"

namespace nano {

constexpr std::size_t kMostPending = 128;  // tokens that are computed at once, and can be taken back by a short replay

// Identity of the model and size of the attention window; snapshots carry both.
struct StateLayout {
    Config config;
    std::uint8_t model_digest[32];
    std::size_t window, sinks;
};

struct MambaState {
    AlignedVector<float> ssm;       // [heads, head_dim, state_size] after the settled tokens
    AlignedVector<float> ssm_next;  // the same after the pending ones as well
    AlignedVector<float> conv;      // [kernel - 1 + pending, conv_dim]: inputs of the convolution, oldest first
    AlignedVector<float> dt;        // [pending, heads]: dt as projected
};

// `length` settled tokens and `pending` ones of the last chunk. While tokens are pending the state before them is
// still there; the pending ones keep what a replay of the recurrence needs, so no linear layer has to run again.
class State {
public:
    explicit State(const StateLayout& layout);

    std::uint64_t length = 0;
    std::size_t pending = 0;
    std::vector<MambaState> mamba;
    std::vector<KvCache> kv;

    // Of an extend by more tokens than a chunk: all its tokens, and the state before it.
    std::vector<std::int64_t> long_tokens;
    std::unique_ptr<std::vector<std::uint8_t>> before_long;

    // Make room for `count` pending tokens. Strong exception guarantee.
    void reserve(std::size_t count);
    // Keep all pending tokens.
    void settle();
    // Move the convolution's inputs over n pending tokens and drop the rest of them.
    void advance_conv(std::size_t n);
    void forget_long();

    std::size_t snapshot_size() const;
    void save(std::uint8_t* out) const;
    // Throws Error unless data is a whole snapshot of this layout; the state is unchanged then.
    void load(const std::uint8_t* data, std::size_t nbytes);

private:
    const StateLayout& layout_;
};

}  // namespace nano
