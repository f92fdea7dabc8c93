// The layers of the network. Each reads the normed and quantized hidden states and writes its update of them.
#include <algorithm>
#include <cmath>

#include "network.h"

namespace nano {

namespace {

// Least multiplications per piece of shared work.
constexpr std::size_t kLeastPiece = std::size_t{1} << 18U;

std::size_t grain_for(std::size_t cost_of_one) {
    return std::max<std::size_t>(1, kLeastPiece / std::max<std::size_t>(1, cost_of_one));
}

// Recurrent states of more bytes than this are not in a cache any more when the next token comes.
constexpr std::size_t kCached = std::size_t{16} << 20U;

constexpr std::size_t kChannels = 256;  // of the convolution, least that is worth sharing out

}  // namespace

Int8Rows Network::next_input(const float* weight, std::size_t first, std::size_t count, bool has_update) {
    const std::size_t n = layout.config.hidden_size;
    const Int8Rows out = space_.input.rows(space_.normed.data());
    pool_.parallel_for(count, grain_for(16 * n), [&](std::size_t begin, std::size_t end) {
        for (std::size_t t = begin; t < end; ++t) {
            float* hidden = space_.hidden.data() + (first + t) * n;
            float* normed = space_.normed.data() + t * n;
            if (has_update) kernels.add(hidden, space_.update.data() + (first + t) * n, n);
            kernels.rms_norm(hidden, weight, n, layout.config.norm_eps, normed);
            kernels.quantize_row(normed, n, out.values + t * n, out.scales + t * (n / kGroup),
                                 out.offsets + t * (n / kGroup));
        }
    });
    return out;
}

void Network::linear(std::initializer_list<Product> products, const Int8Rows& x, std::size_t count) {
    std::size_t panels = 0;
    for (const Product& p : products) panels += p.matrix.panel_count();
    const std::size_t cols = products.begin()->matrix.cols;
    pool_.parallel_for(panels, grain_for(kPanelRows * cols * count), [&](std::size_t begin, std::size_t end) {
        std::size_t first = 0;
        for (const Product& p : products) {
            const std::size_t next = first + p.matrix.panel_count();
            const std::size_t from = std::max(begin, first);
            const std::size_t to = std::min(end, next);
            if (from < to) kernels.matmul(p.matrix, from - first, to - first, x, count, p.y, p.matrix.rows);
            first = next;
        }
    });
}

Int8Rows Network::quantize(const float* x, std::size_t cols, std::size_t count) {
    const Int8Rows out = space_.inner.rows(x);
    const std::size_t groups = cols / kGroup;
    pool_.parallel_for(count, grain_for(16 * cols), [&](std::size_t begin, std::size_t end) {
        for (std::size_t t = begin; t < end; ++t) {
            kernels.quantize_row(x + t * cols, cols, out.values + t * cols, out.scales + t * groups,
                                 out.offsets + t * groups);
        }
    });
    return out;
}

void Network::mlp(const MlpWeights& w, const Int8Rows& x, std::size_t count) {
    constexpr std::size_t panels = kGroup / kPanelRows;  // that fill a group of the second product's inputs
    const std::size_t n = layout.config.intermediate_size;
    float* inner = space_.projected.data();
    const Int8Rows out = space_.inner.rows(inner);
    pool_.parallel_for(n / kGroup, grain_for(kGroup * w.up.cols * count), [&](std::size_t begin, std::size_t end) {
        kernels.matmul(w.up, begin * panels, end * panels, x, count, inner, n);
        const std::size_t cols = (end - begin) * kGroup;
        for (std::size_t t = 0; t < count; ++t) {
            const std::size_t at = t * n + begin * kGroup;
            kernels.relu_squared(inner + at, cols);
            kernels.quantize_row(inner + at, cols, out.values + at, out.scales + at / kGroup,
                                 out.offsets + at / kGroup);
        }
    });
    linear({{w.down, space_.update.data()}}, out, count);
}

void Network::attention(const AttentionWeights& w, State& state, std::size_t layer,
                        const std::vector<Segment>& segments, const Int8Rows& x, std::size_t count) {
    const Config& c = layout.config;
    linear({{w.q, space_.query.data()}, {w.k, space_.key.data()}, {w.v, space_.value.data()}}, x, count);
    pool_.parallel_for(count, grain_for(8 * c.kv_dim()), [&](std::size_t begin, std::size_t end) {
        for (std::size_t t = begin; t < end; ++t) {
            for (std::size_t h = 0; h < c.kv_heads; ++h) {
                const std::size_t at = t * c.kv_dim() + h * c.head_dim;
                kernels.to_half(space_.key.data() + at, c.head_dim, state.kv.key(layer, state.length + t, h));
                kernels.to_half(space_.value.data() + at, c.head_dim, state.kv.value(layer, state.length + t, h));
            }
        }
    });
    attention_.run({state.kv, layer, c.attention_heads, state.length, count, space_.query.data(), space_.mixed.data(),
                    segments});
    linear({{w.o, space_.update.data()}}, quantize(space_.mixed.data(), c.q_dim(), count), count);
}

void Network::mamba(const MambaWeights& w, MambaState& s, const Int8Rows& x, std::size_t count) {
    linear({{w.in_proj, space_.projected.data()}}, x, count);
    mix(w, s, count);
    linear({{w.out_proj, space_.update.data()}}, space_.inner.rows(space_.mixed.data()), count);
}

void Network::mix(const MambaWeights& w, MambaState& s, std::size_t count) {
    const Config& c = layout.config;
    const std::size_t channels = c.d_inner() / c.n_groups;
    const std::size_t heads = c.mamba_heads / c.n_groups;
    if (c.n_groups % pool_.threads() == 0 && channels % kGroup == 0) {
        // A group of heads needs nothing of the others: all that it goes through in one piece of work.
        const std::size_t grain = grain_for(4 * channels * c.state_size * count);
        pool_.parallel_for(c.n_groups, grain, [&](std::size_t g, std::size_t end) {
            for (; g < end; ++g) {
                const std::size_t b = c.d_inner() + g * c.state_size;
                for (const std::size_t first : {b, b + c.n_groups * c.state_size}) {
                    take_conv_input(s, first, first + c.state_size, count);
                    convolve(w, s, first, first + c.state_size, count);
                }
                take_conv_input(s, g * channels, (g + 1) * channels, count);
                convolve(w, s, g * channels, (g + 1) * channels, count);
                take_dt(s, g * heads, (g + 1) * heads, count);
                scan(w, s, g * heads, (g + 1) * heads, count, false);
                gate_and_quantize(w, g, g + 1, 0, count);
            }
        });
        return;
    }
    pool_.parallel_for(c.conv_dim(), std::max(kChannels, grain_for(32 * count) / kChannels * kChannels),
                       [&](std::size_t begin, std::size_t end) {
                           take_conv_input(s, begin, end, count);
                           convolve(w, s, begin, end, count);
                       });
    take_dt(s, 0, c.mamba_heads, count);
    pool_.parallel_for(c.mamba_heads, grain_for(4 * c.mamba_head_dim * c.state_size * count),
                       [&](std::size_t begin, std::size_t end) { scan(w, s, begin, end, count, false); });
    pool_.parallel_for(count, grain_for(16 * c.d_inner()), [&](std::size_t begin, std::size_t end) {
        gate_and_quantize(w, 0, c.n_groups, begin, end);
    });
}

// A projected row is gate, then the convolution's input, then dt; the state keeps the latter two.
void Network::take_conv_input(MambaState& s, std::size_t channel, std::size_t channel_end, std::size_t count) {
    const Config& c = layout.config;
    for (std::size_t t = 0; t < count; ++t) {
        const float* row = space_.projected.data() + t * c.in_proj_dim() + c.d_inner();
        std::copy(row + channel, row + channel_end, s.conv.data() + (c.conv_kernel - 1 + t) * c.conv_dim() + channel);
    }
}

void Network::take_dt(MambaState& s, std::size_t head, std::size_t head_end, std::size_t count) {
    const Config& c = layout.config;
    for (std::size_t t = 0; t < count; ++t) {
        const float* row = space_.projected.data() + t * c.in_proj_dim() + c.d_inner() + c.conv_dim();
        std::copy(row + head, row + head_end, s.dt.data() + t * c.mamba_heads + head);
    }
}

void Network::convolve(const MambaWeights& w, const MambaState& s, std::size_t channel, std::size_t channel_end,
                       std::size_t count) {
    ConvArgs args;
    args.input = s.conv.data();
    args.weight = w.conv.data();
    args.bias = w.conv_bias;
    args.output = space_.xbc.data();
    args.kernel = layout.config.conv_kernel;
    args.channels = layout.config.conv_dim();
    args.tokens = count;
    kernels.conv_silu(args, channel, channel_end);
}

void Network::scan(const MambaWeights& w, const MambaState& s, std::size_t head, std::size_t head_end,
                   std::size_t count, bool state_only) {
    const Config& c = layout.config;
    for (std::size_t t = 0; t < count; ++t) {
        const std::size_t at = t * c.mamba_heads + head;
        discretize(s.dt.data() + at, w.dt_bias + head, w.neg_a.data() + head, head_end - head, c.dt_min, c.dt_max,
                   space_.dt.data() + at, space_.decay.data() + at);
    }
    ScanArgs args;
    args.xbc = space_.xbc.data();
    args.xbc_stride = c.conv_dim();
    args.dt = space_.dt.data();
    args.decay = space_.decay.data();
    args.skip = w.skip;
    args.state_in = s.ssm;
    args.state_out = s.ssm_next;
    args.y = state_only ? nullptr : space_.mixed.data();
    args.tokens = count;
    args.heads = c.mamba_heads;
    args.head_dim = c.mamba_head_dim;
    args.state_size = c.state_size;
    args.n_groups = c.n_groups;
    args.stream = layout.ssm_floats() * sizeof(float) > kCached;
    kernels.scan(args, head, head_end);
}

void Network::gate_and_quantize(const MambaWeights& w, std::size_t group, std::size_t group_end, std::size_t token,
                                std::size_t token_end) {
    const Config& c = layout.config;
    const std::size_t channels = c.d_inner() / c.n_groups;
    const std::size_t first = group * channels;
    const std::size_t n = (group_end - group) * channels;
    const Int8Rows out = space_.inner.rows(space_.mixed.data());
    for (std::size_t t = token; t < token_end; ++t) {
        const std::size_t at = t * c.d_inner() + first;
        float* y = space_.mixed.data() + at;
        kernels.gated_norm(y, space_.projected.data() + t * c.in_proj_dim() + first, w.norm + first, n, channels,
                           c.norm_eps, y);
        kernels.quantize_row(y, n, out.values + at, out.scales + at / kGroup, out.offsets + at / kGroup);
    }
}

}  // namespace nano
