// Norms, convolution and activations, plain reference.
#include <algorithm>
#include <cmath>

#include "half.h"
#include "kernels.h"

namespace nano {

void discretize(const float* raw, const float* bias, const float* neg_a, std::size_t heads, float dt_min, float dt_max,
                float* dt, float* decay) {
    for (std::size_t h = 0; h < heads; ++h) {
        const float v = raw[h] + bias[h];
        // Above 20, log1p(exp(v)) is v to float32 precision, and exp would overflow further up.
        const float soft = v > 20.0F ? v : std::log1p(std::exp(v));
        dt[h] = std::min(std::max(soft, dt_min), dt_max);
        decay[h] = std::exp(dt[h] * neg_a[h]);
    }
}

namespace portable {

static float silu(float v) { return v / (1.0F + std::exp(-v)); }

void rms_norm(const float* x, const float* weight, std::size_t n, float eps, float* y) {
    float sum = 0.0F;
    for (std::size_t i = 0; i < n; ++i) sum += x[i] * x[i];
    const float scale = 1.0F / std::sqrt(sum / static_cast<float>(n) + eps);
    for (std::size_t i = 0; i < n; ++i) y[i] = x[i] * scale * weight[i];
}

void gated_norm(const float* y, const float* gate, const float* weight, std::size_t n, std::size_t group, float eps,
                float* out) {
    for (std::size_t i = 0; i < n; ++i) out[i] = y[i] * silu(gate[i]);
    for (std::size_t g = 0; g < n; g += group) rms_norm(out + g, weight + g, group, eps, out + g);
}

void conv_silu(const ConvArgs& a, std::size_t channel_begin, std::size_t channel_end) {
    for (std::size_t t = 0; t < a.tokens; ++t) {
        for (std::size_t c = channel_begin; c < channel_end; ++c) {
            float sum = a.bias != nullptr ? a.bias[c] : 0.0F;
            for (std::size_t k = 0; k < a.kernel; ++k) {
                sum += a.weight[k * a.channels + c] * a.input[(t + k) * a.channels + c];
            }
            a.output[t * a.channels + c] = silu(sum);
        }
    }
}

void to_half(const float* x, std::size_t n, std::uint16_t* out) {
    for (std::size_t i = 0; i < n; ++i) out[i] = float_to_half(x[i]);
}

void relu_squared(float* x, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
        const float v = std::max(x[i], 0.0F);
        x[i] = v * v;
    }
}

void add(float* x, const float* y, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) x[i] += y[i];
}

}  // namespace portable
}  // namespace nano
