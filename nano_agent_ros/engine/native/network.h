// The forward pass: a state advanced by tokens, in one call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <mutex>
#include <string>
#include <vector>

#include "aligned.h"
#include "attention.h"
#include "kernels.h"
#include "state.h"
#include "thread_pool.h"
#include "weights.h"

namespace nano {

// Activations quantized for a matrix product.
struct Int8Space {
    AlignedVector<std::int8_t> values;
    AlignedVector<float> scales;
    AlignedVector<std::int32_t> offsets;

    void reserve(std::size_t tokens, std::size_t cols);
    Int8Rows rows(const float* source) { return {values.data(), scales.data(), offsets.data(), source}; }
};

// Activations of up to `tokens` tokens; grown when a larger chunk comes.
struct Workspace {
    std::size_t tokens = 0;
    AlignedVector<float> hidden, normed, projected, xbc, dt, decay, mixed, query, key, value, update;
    Int8Space input, inner;  // of a layer, and of its second matrix product

    void reserve(const Config& config, std::size_t count);
};

// y = matrix x input
struct Product {
    const PanelMatrix& matrix;
    float* y;
};

class Network {
public:
    Network(const std::string& path, const StateLayout& layout, const nano_tensor* tensors, std::size_t count,
            const KernelSet& kernels, std::size_t threads, const std::vector<int>& processors, bool huge_pages);

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
    void replay(State& state, std::size_t count);
    void logits_of(std::size_t first, std::size_t count, float* logits);

    // hidden += update of the layer before, if any; norm; INT8.
    Int8Rows next_input(const float* weight, std::size_t first, std::size_t count, bool has_update);
    void linear(std::initializer_list<Product> products, const Int8Rows& x, std::size_t count);
    Int8Rows quantize(const float* x, std::size_t cols, std::size_t count);

    // Each writes the layer's update.
    void mamba(const MambaWeights& w, MambaState& s, const Int8Rows& x, std::size_t count);
    void attention(const AttentionWeights& w, State& state, std::size_t layer, const std::vector<Segment>& segments,
                   const Int8Rows& x, std::size_t count);
    void mlp(const MlpWeights& w, const Int8Rows& x, std::size_t count);

    // What lies between the two matrix products of a Mamba layer, from parts that can be computed one by one.
    void mix(const MambaWeights& w, MambaState& s, std::size_t count);
    void take_conv_input(MambaState& s, std::size_t channel, std::size_t channel_end, std::size_t count);
    void take_dt(MambaState& s, std::size_t head, std::size_t head_end, std::size_t count);
    void convolve(const MambaWeights& w, const MambaState& s, std::size_t channel, std::size_t channel_end,
                  std::size_t count);
    void scan(const MambaWeights& w, const MambaState& s, std::size_t head, std::size_t head_end, std::size_t count,
              bool state_only);
    void gate_and_quantize(const MambaWeights& w, std::size_t group, std::size_t group_end, std::size_t token,
                           std::size_t token_end);

    Weights weights_;
    ThreadPool pool_;
    Workspace space_;
    Attention attention_;
};

}  // namespace nano
