#include "network.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace nano {

namespace {

// Below this many multiplications a step is over before another thread has woken up.
constexpr std::size_t kWorthThreads = std::size_t{16} << 20U;
// Least multiplications per piece of a shared matrix product.
constexpr std::size_t kLeastPiece = std::size_t{1} << 18U;

std::size_t grain_for(std::size_t cost_of_one) {
    return std::max<std::size_t>(1, kLeastPiece / std::max<std::size_t>(1, cost_of_one));
}

}  // namespace

void Workspace::reserve(const Config& c, std::size_t count) {
    if (count <= tokens) return;
    const std::size_t widest_input = std::max({c.hidden_size, c.d_inner(), c.q_dim(), c.intermediate_size});
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
    values.resize(count * widest_input);
    scales.resize(count * (widest_input / kGroup + 1));
    offsets.resize(count * (widest_input / kGroup + 1));
    tokens = count;
}

Network::Network(const std::string& path, const StateLayout& state_layout, const nano_tensor* tensors,
                 std::size_t count, const KernelSet& kernel_set, std::size_t threads)
    : layout(state_layout),
      kernels(kernel_set),
      memory(layout),
      weights_(path, layout.config, tensors, count),
      pool_(threads) {}

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
        state.reserve_replay();
        for (std::size_t i = 0, m = 0; kept > 0 && i < weights_.layers.size(); ++i) {
            if (weights_.layers[i].kind != 'M') continue;
            const MambaWeights& w = weights_.layers[i].mamba;
            MambaState& s = state.mamba[m++];
            convolve(w, s, kept);
            for (std::size_t t = 0; t < kept; ++t) {
                const std::size_t at = t * layout.config.mamba_heads;
                discretize(s.dt.data() + at, w.dt_bias, w.neg_a.data(), layout.config.mamba_heads, layout.config.dt_min,
                           layout.config.dt_max, space_.dt.data() + at, space_.decay.data() + at);
            }
            scan(w, s.ssm, s.ssm_next, nullptr, kept);
        }
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
    space_.reserve(c, count);
    state.reserve(count);
    find_runs(state, count);
    const ThreadPool::Session session(pool_, weights_.weight_count() * count >= kWorthThreads);
    for (std::size_t t = 0; t < count; ++t) {
        weights_.embed(static_cast<std::size_t>(tokens[t]), space_.hidden.data() + t * c.hidden_size);
    }
    std::size_t m = 0;
    std::size_t a = 0;
    for (const LayerWeights& layer : weights_.layers) {
        const Int8Rows x = norm_and_quantize(layer.norm, count);
        if (layer.kind == 'M') {
            mamba(layer.mamba, state.mamba[m++], x, count);
        } else if (layer.kind == '*') {
            attention(layer.attention, state.kv, a++, state.length, x, count);
        } else {
            mlp(layer.mlp, x, count);
        }
        add_update(count);
    }
    if (logits != nullptr) logits_of(every ? 0 : count - 1, every ? count : 1, logits);
    state.pending = count;
}

void Network::find_runs(const State& state, std::size_t count) {
    if (state.kv.shape().layers == 0) return;
    const std::size_t most = state.kv.shape().most_blocks();
    space_.runs.resize(std::max(space_.runs.size(), count * most));
    space_.run_counts.resize(std::max(space_.run_counts.size(), count));
    for (std::size_t t = 0; t < count; ++t) {
        space_.run_counts[t] = state.kv.runs(state.length + t, space_.runs.data() + t * most);
    }
}

Int8Rows Network::norm_and_quantize(const float* weight, std::size_t count) {
    const std::size_t n = layout.config.hidden_size;
    const Int8Rows out = space_.quantized(space_.normed.data());
    pool_.parallel_for(count, grain_for(8 * n), [&](std::size_t begin, std::size_t end) {
        for (std::size_t t = begin; t < end; ++t) {
            float* normed = space_.normed.data() + t * n;
            kernels.rms_norm(space_.hidden.data() + t * n, weight, n, layout.config.norm_eps, normed);
            kernels.quantize_row(normed, n, out.values + t * n, out.scales + t * (n / kGroup),
                                 out.offsets + t * (n / kGroup));
        }
    });
    return out;
}

Int8Rows Network::quantize(const float* x, std::size_t cols, std::size_t count) {
    const Int8Rows out = space_.quantized(x);
    const std::size_t groups = cols / kGroup;
    pool_.parallel_for(count, grain_for(4 * cols), [&](std::size_t begin, std::size_t end) {
        for (std::size_t t = begin; t < end; ++t) {
            kernels.quantize_row(x + t * cols, cols, out.values + t * cols, out.scales + t * groups,
                                 out.offsets + t * groups);
        }
    });
    return out;
}

void Network::linear(const PanelMatrix& w, const Int8Rows& x, std::size_t count, float* y) {
    pool_.parallel_for(w.panel_count(), grain_for(kPanelRows * w.cols * count), [&](std::size_t begin, std::size_t end) {
        kernels.matmul(w, begin, end, x, count, y, w.rows);
    });
}

void Network::add_update(std::size_t count) {
    kernels.add(space_.hidden.data(), space_.update.data(), count * layout.config.hidden_size);
}

void Network::mamba(const MambaWeights& w, MambaState& s, const Int8Rows& x, std::size_t count) {
    const Config& c = layout.config;
    linear(w.in_proj, x, count, space_.projected.data());
    // A projected row is gate, then the convolution's input, then dt; the state keeps the latter two.
    pool_.parallel_for(count, grain_for(4 * c.in_proj_dim()), [&](std::size_t begin, std::size_t end) {
        for (std::size_t t = begin; t < end; ++t) {
            const float* row = space_.projected.data() + t * c.in_proj_dim();
            std::copy_n(row + c.d_inner(), c.conv_dim(), s.conv.data() + (c.conv_kernel - 1 + t) * c.conv_dim());
            const std::size_t at = t * c.mamba_heads;
            std::copy_n(row + c.d_inner() + c.conv_dim(), c.mamba_heads, s.dt.data() + at);
            discretize(s.dt.data() + at, w.dt_bias, w.neg_a.data(), c.mamba_heads, c.dt_min, c.dt_max,
                       space_.dt.data() + at, space_.decay.data() + at);
        }
    });
    convolve(w, s, count);
    scan(w, s.ssm, s.ssm_next, space_.mixed.data(), count);
    pool_.parallel_for(count, grain_for(16 * c.d_inner()), [&](std::size_t begin, std::size_t end) {
        for (std::size_t t = begin; t < end; ++t) {
            float* y = space_.mixed.data() + t * c.d_inner();
            kernels.gated_norm(y, space_.projected.data() + t * c.in_proj_dim(), w.norm, c.d_inner(),
                               c.d_inner() / c.n_groups, c.norm_eps, y);
        }
    });
    linear(w.out_proj, quantize(space_.mixed.data(), c.d_inner(), count), count, space_.update.data());
}

void Network::convolve(const MambaWeights& w, const MambaState& s, std::size_t count) {
    const Config& c = layout.config;
    ConvArgs args;
    args.input = s.conv.data();
    args.weight = w.conv.data();
    args.bias = w.conv_bias;
    args.output = space_.xbc.data();
    args.kernel = c.conv_kernel;
    args.channels = c.conv_dim();
    args.tokens = count;
    pool_.parallel_for(c.conv_dim(), std::max<std::size_t>(64, grain_for(32 * count) / 64 * 64),
                       [&](std::size_t begin, std::size_t end) { kernels.conv_silu(args, begin, end); });
}

void Network::scan(const MambaWeights& w, const float* state_in, float* state_out, float* y, std::size_t count) {
    const Config& c = layout.config;
    ScanArgs args;
    args.xbc = space_.xbc.data();
    args.xbc_stride = c.conv_dim();
    args.dt = space_.dt.data();
    args.decay = space_.decay.data();
    args.skip = w.skip;
    args.state_in = state_in;
    args.state_out = state_out;
    args.y = y;
    args.tokens = count;
    args.heads = c.mamba_heads;
    args.head_dim = c.mamba_head_dim;
    args.state_size = c.state_size;
    args.n_groups = c.n_groups;
    pool_.parallel_for(c.mamba_heads, grain_for(4 * c.mamba_head_dim * c.state_size * count),
                       [&](std::size_t begin, std::size_t end) { kernels.scan(args, begin, end); });
}

void Network::attention(const AttentionWeights& w, KvCache& cache, std::size_t layer, std::uint64_t position,
                        const Int8Rows& x, std::size_t count) {
    const Config& c = layout.config;
    linear(w.q, x, count, space_.query.data());
    linear(w.k, x, count, space_.key.data());
    linear(w.v, x, count, space_.value.data());
    for (std::size_t t = 0; t < count; ++t) {
        for (std::size_t h = 0; h < c.kv_heads; ++h) {
            const std::size_t at = t * c.kv_dim() + h * c.head_dim;
            kernels.to_half(space_.key.data() + at, c.head_dim, cache.key(layer, position + t, h));
            kernels.to_half(space_.value.data() + at, c.head_dim, cache.value(layer, position + t, h));
        }
    }
    const std::size_t seen = static_cast<std::size_t>(cache.kept(position + count));
    const std::size_t per_kv = c.attention_heads / c.kv_heads;
    pool_.parallel_for(count * c.attention_heads, grain_for(4 * seen * c.head_dim), [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t t = i / c.attention_heads;
            const std::size_t head = i % c.attention_heads;
            AttendArgs args;
            args.query = space_.query.data() + i * c.head_dim;
            args.runs = space_.runs.data() + t * cache.shape().most_blocks();
            args.run_count = space_.run_counts[t];
            args.run_offset = cache.run_offset(layer, head / per_kv);
            args.head_dim = c.head_dim;
            args.scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim));
            args.output = space_.mixed.data() + i * c.head_dim;
            kernels.attend(args);
        }
    });
    linear(w.o, quantize(space_.mixed.data(), c.q_dim(), count), count, space_.update.data());
}

void Network::mlp(const MlpWeights& w, const Int8Rows& x, std::size_t count) {
    const std::size_t n = layout.config.intermediate_size;
    linear(w.up, x, count, space_.projected.data());
    pool_.parallel_for(count, grain_for(4 * n), [&](std::size_t begin, std::size_t end) {
        kernels.relu_squared(space_.projected.data() + begin * n, (end - begin) * n);
    });
    linear(w.down, quantize(space_.projected.data(), n, count), count, space_.update.data());
}

void Network::logits_of(std::size_t first, std::size_t count, float* logits) {
    const std::size_t n = layout.config.hidden_size;
    for (std::size_t t = 0; t < count; ++t) {
        kernels.rms_norm(space_.hidden.data() + (first + t) * n, weights_.final_norm, n, layout.config.norm_eps,
                         space_.normed.data() + t * n);
    }
    linear(weights_.lm_head, quantize(space_.normed.data(), n, count), count, logits);
}

}  // namespace nano
