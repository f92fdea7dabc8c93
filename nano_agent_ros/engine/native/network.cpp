#include "network.h"

#include <algorithm>
#include <utility>

namespace nano {

namespace {

// Below this many multiplications a step is over before another thread has woken up.
constexpr std::size_t kWorthThreads = std::size_t{16} << 20U;

}  // namespace

void Int8Space::reserve(std::size_t tokens, std::size_t cols) {
    values.resize(tokens * cols);
    scales.resize(tokens * (cols / kGroup));
    offsets.resize(tokens * (cols / kGroup));
}

void Workspace::reserve(const Config& c, std::size_t count) {
    if (count <= tokens) return;
    hidden.resize(count * c.hidden_size);
    normed.resize(count * c.hidden_size);
    update.resize(count * c.hidden_size);
    projected.resize(count * std::max(c.in_proj_dim(), c.intermediate_size));
    xbc.resize(count * c.conv_dim());
    dt.resize(count * c.mamba_heads);
    decay.resize(count * c.mamba_heads);
    mixed.resize(count * std::max(c.d_inner(), c.q_dim()));
    query.resize(count * c.q_dim());
    key.resize(count * c.kv_dim());
    value.resize(count * c.kv_dim());
    input.reserve(count, c.hidden_size);
    inner.reserve(count, std::max({c.d_inner(), c.q_dim(), c.intermediate_size}));
    tokens = count;
}

Network::Network(const std::string& path, const StateLayout& state_layout, const nano_tensor* tensors,
                 std::size_t count, const KernelSet& kernel_set, std::size_t threads,
                 const std::vector<int>& processors, bool huge_pages)
    : layout(state_layout),
      kernels(kernel_set),
      memory(layout),
      weights_(path, layout.config, tensors, count, huge_pages),
      pool_(threads, processors),
      attention_(kernels, pool_) {}

void Network::extend(State& state, const std::int64_t* tokens, std::size_t count, float* logits, bool every) {
    state.settle();
    state.forget_long();
    const bool is_long = count > kMostPending;
    if (is_long) {
        auto before = std::make_unique<State>(state.fork());
        state.long_tokens.assign(tokens, tokens + count);
        state.before_long = std::move(before);
    }
    try {
        for (std::size_t done = 0; done < count; done += state.pending) {
            state.settle();
            const std::size_t n = std::min(kMostPending, count - done);
            const bool wanted = logits != nullptr && (every || done + n == count);
            float* out = wanted ? logits + (every ? done * layout.config.vocab_size : 0) : nullptr;
            run_chunk(state, tokens + done, n, out, every);
        }
    } catch (...) {
        if (is_long) state = State(std::move(*state.before_long));
        throw;
    }
}

void Network::commit(State& state, std::size_t n) {
    const std::size_t total = state.before_long ? state.long_tokens.size() : state.pending;
    const std::size_t settled = total - state.pending;
    if (n == total) {
        state.settle();
    } else if (n >= settled) {
        const std::size_t kept = n - settled;
        if (kept > 0) replay(state, kept);
        state.keep(kept);
    } else {
        // The tail reaches back over chunks that are settled: start from the fork and run the kept tokens again.
        const std::vector<std::int64_t> tokens(state.long_tokens.begin(),
                                               state.long_tokens.begin() + static_cast<std::ptrdiff_t>(n));
        state = State(std::move(*state.before_long));
        for (std::size_t done = 0; done < n; done += state.pending) {
            state.settle();
            run_chunk(state, tokens.data() + done, std::min(kMostPending, n - done), nullptr, false);
        }
        state.settle();
    }
    state.forget_long();
}

void Network::run_chunk(State& state, const std::int64_t* tokens, std::size_t count, float* logits, bool every) {
    const Config& c = layout.config;
    weights_.must_be_unchanged();
    space_.reserve(c, count);
    state.reserve(count);
    const std::vector<Segment> segments = segments_seen(layout.kv_shape(), state.length, state.length + count - 1);
    const ThreadPool::Session session(pool_, weights_.weight_count() * count >= kWorthThreads);
    pool_.parallel_for(count, 16, [&](std::size_t begin, std::size_t end) {
        for (std::size_t t = begin; t < end; ++t) {
            weights_.embed(static_cast<std::size_t>(tokens[t]), space_.hidden.data() + t * c.hidden_size);
        }
    });
    std::size_t m = 0;
    std::size_t a = 0;
    for (const LayerWeights& layer : weights_.layers) {
        const Int8Rows x = next_input(layer.norm, 0, count, &layer != &weights_.layers.front());
        if (layer.kind == 'M') {
            mamba(layer.mamba, state.mamba[m++], x, count);
        } else if (layer.kind == '*') {
            attention(layer.attention, state, a++, segments, x, count);
        } else {
            mlp(layer.mlp, x, count);
        }
    }
    if (logits != nullptr) logits_of(every ? 0 : count - 1, every ? count : 1, logits);
    state.pending = count;
}

void Network::replay(State& state, std::size_t count) {
    const Config& c = layout.config;
    state.reserve_replay();
    const ThreadPool::Session session(pool_, layout.ssm_floats() * count >= kWorthThreads);
    std::size_t m = 0;
    for (const LayerWeights& layer : weights_.layers) {
        if (layer.kind != 'M') continue;
        const MambaWeights& w = layer.mamba;
        MambaState& s = state.mamba[m++];
        pool_.parallel_for(c.conv_dim(), 256, [&](std::size_t begin, std::size_t end) {
            convolve(w, s, begin, end, count);
        });
        pool_.parallel_for(c.mamba_heads, 1, [&](std::size_t begin, std::size_t end) {
            scan(w, s, begin, end, count, true);
        });
    }
}

void Network::logits_of(std::size_t first, std::size_t count, float* logits) {
    const Int8Rows x = next_input(weights_.final_norm, first, count, true);
    linear({{weights_.lm_head, logits}}, x, count);
}

}  // namespace nano
