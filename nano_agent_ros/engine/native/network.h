// The forward pass: a state advanced by tokens, in one call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "aligned.h"
#include "kernels.h"
#include "state.h"
#include "thread_pool.h"
#include "weights.h"

namespace nano {

// Activations of up to `tokens` tokens; grown when a larger chunk comes.
struct Workspace {
    std::size_t tokens = 0;
    AlignedVector<float> hidden, normed, projected, xbc, dt, decay, mixed, query, key, value, update;
    AlignedVector<std::int8_t> values;
    AlignedVector<float> scales;
    AlignedVector<std::int32_t> offsets;
    std::vector<KvRun> runs;  // what each token attends to
    std::vector<std::size_t> run_counts;

    void reserve(const Config& config, std::size_t count);
    Int8Rows quantized(const float* x) { return {values.data(), scales.data(), offsets.data(), x}; }
};

class Network {
public:
    Network(const std::string& path, const StateLayout& layout, const nano_tensor* tensors, std::size_t count,
            const KernelSet& kernels, std::size_t threads);

    const StateLayout layout;
    const KernelSet& kernels;
    StateMemory memory;
    std::mutex mutex;  // held by every call on the network or one of its states

    std::size_t threads() const { return pool_.threads(); }
    ThreadPool& pool() { return pool_; }

    // Advance by count tokens that are inside the vocabulary. All but the last chunk are settled on return.
    void extend(State& state, const std::int64_t* tokens, std::size_t count, float* logits, bool every);
    // Keep the first n of the tokens last extended by; bit for bit the state that extending by n gives.
    void commit(State& state, std::size_t n);

private:
    void run_chunk(State& state, const std::int64_t* tokens, std::size_t count, float* logits, bool every);
    void find_runs(const State& state, std::size_t count);
    Int8Rows norm_and_quantize(const float* weight, std::size_t count);
    Int8Rows quantize(const float* x, std::size_t cols, std::size_t count);
    void linear(const PanelMatrix& w, const Int8Rows& x, std::size_t count, float* y);
    void add_update(std::size_t count);
    void mamba(const MambaWeights& w, MambaState& s, const Int8Rows& x, std::size_t count);
    void convolve(const MambaWeights& w, const MambaState& s, std::size_t count);
    void scan(const MambaWeights& w, const float* state_in, float* state_out, float* y, std::size_t count);
    void attention(const AttentionWeights& w, KvCache& cache, std::size_t layer, std::uint64_t position,
                   const Int8Rows& x, std::size_t count);
    void mlp(const MlpWeights& w, const Int8Rows& x, std::size_t count);
    void logits_of(std::size_t first, std::size_t count, float* logits);

    Weights weights_;
    ThreadPool pool_;
    Workspace space_;
};

}  // namespace nano
