// Everything that one conversation changes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "aligned.h"
#include "buffer_pool.h"
#include "kv_cache.h"
#include "weights.h"

namespace nano {

constexpr std::size_t kMostPending = 128;  // tokens that are computed at once, and can be taken back by a short replay

// Identity of the model and its kernels, and size of the attention window; snapshots carry them.
struct StateLayout {
    Config config;
    std::uint8_t model_digest[32];
    const char* kernels;
    std::size_t window, sinks;

    std::size_t ssm_floats() const { return config.layers_of('M') * config.state_floats(); }
    std::size_t conv_floats() const { return (config.conv_kernel - 1) * config.conv_dim(); }  // of one layer
    KvShape kv_shape() const {
        return {config.layers_of('*'), config.kv_heads, config.head_dim, sinks, window};
    }
};

// Where the states of one engine take their memory from: it keeps that of two recurrent states and of one attention
// window when they are let go.
struct StateMemory {
    explicit StateMemory(const StateLayout& layout);
    BufferPool ssm;  // recurrent states of all Mamba layers: float32 [layers, heads, head_dim, state_size]
    BufferPool kv;   // blocks of a KvCache
};

struct MambaState {
    const float* ssm = nullptr;  // [heads, head_dim, state_size] after the settled tokens; other states may share it
    float* ssm_next = nullptr;   // the same after the pending ones as well; null if there can be none
    AlignedVector<float> conv;   // [kernel - 1 + pending, conv_dim]: inputs of the convolution, oldest first
    AlignedVector<float> dt;     // [pending, heads]: dt as projected
};

// `length` settled tokens and `pending` ones of the last chunk. While tokens are pending the state before them is
// still there; the pending ones keep what a replay of the recurrence needs, so no linear layer has to run again.
class State {
public:
    State(const StateLayout& layout, StateMemory& memory);

    std::uint64_t length = 0;
    std::size_t pending = 0;
    std::vector<MambaState> mamba;
    KvCache kv;

    // Of an extend by more tokens than a chunk: all its tokens, and the state before it.
    std::vector<std::int64_t> long_tokens;
    std::unique_ptr<State> before_long;

    // A state with all tokens of this one, none of them pending. It shares the large buffers until one of the two moves.
    State fork() const;
    // Make room for `count` pending tokens. Strong exception guarantee.
    void reserve(std::size_t count);
    // Keep all pending tokens.
    void settle();
    // A place to replay some of the pending tokens to, as `ssm_next` of each layer. Strong exception guarantee.
    void reserve_replay();
    // Keep the first n of the pending tokens; if there are any, ssm_next holds the recurrent state after them.
    void keep(std::size_t n);
    void forget_long();

    const StateLayout& layout() const { return *layout_; }
    // The recurrent states after the settled tokens, layout().ssm_floats() of them.
    const float* ssm() const { return reinterpret_cast<const float*>(ssm_.get()); }

private:
    friend class SnapshotReader;
    struct Unset {};
    State(const StateLayout& layout, StateMemory& memory, Unset);
    void point();

    const StateLayout* layout_;
    StateMemory* memory_;
    Buffer ssm_, next_;  // never written to: ssm_, and next_ while it is shared
};

}  // namespace nano
