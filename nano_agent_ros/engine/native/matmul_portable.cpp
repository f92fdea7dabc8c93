// Matrix product of INT4 or INT8 weights and INT8 activations, plain reference.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels.h"

namespace nano {

float half_to_float(std::uint16_t half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16U;
    const std::uint32_t exponent = (half >> 10U) & 0x1FU;
    const std::uint32_t fraction = half & 0x3FFU;
    if (exponent == 0) {
        const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
        return sign != 0 ? -magnitude : magnitude;
    }
    const std::uint32_t biased = exponent == 0x1FU ? 0xFFU : exponent + 112U;
    const std::uint32_t bits = sign | (biased << 23U) | (fraction << 13U);
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

namespace portable {

void quantize_row(const float* x, std::size_t cols, std::int8_t* values, float* scales, std::int32_t* offsets) {
    for (std::size_t g = 0; g < cols / kGroup; ++g) {
        const float* in = x + g * kGroup;
        float peak = 0.0F;
        for (std::size_t i = 0; i < kGroup; ++i) peak = std::max(peak, std::fabs(in[i]));
        const float inverse = peak > 0.0F ? 127.0F / peak : 0.0F;
        std::int32_t sum = 0;
        for (std::size_t i = 0; i < kGroup; ++i) {
            // Clamped, so that an infinity times zero or a subnormal peak cannot leave the int8 range.
            const float scaled = std::nearbyint(in[i] * inverse);
            const float bounded = scaled >= -127.0F ? std::min(scaled, 127.0F) : -127.0F;
            values[g * kGroup + i] = static_cast<std::int8_t>(bounded);
            sum += values[g * kGroup + i];
        }
        scales[g] = peak / 127.0F;
        offsets[g] = -8 * sum;
    }
}

// The weights of a panel block as q: levels[n][i] for row n, input i. An INT4 block holds 8 runs of 64 bytes; byte 4 n + k
// of run j has, for row n, input 8 j + k in its low nibble and input 8 j + 4 + k in its high one, each as q + 8. An INT8
// block holds 16 runs; byte 4 n + k of run j is input 4 j + k as q + 128.
static void unpack(const std::uint8_t* block, std::size_t bits, std::int16_t (&levels)[kPanelRows][kGroup]) {
    if (bits == 8) {
        for (std::size_t n = 0; n < kPanelRows; ++n) {
            for (std::size_t i = 0; i < kGroup; ++i) {
                levels[n][i] = static_cast<std::int16_t>(block[64 * (i / 4) + 4 * n + i % 4] - 128);
            }
        }
        return;
    }
    for (std::size_t n = 0; n < kPanelRows; ++n) {
        for (std::size_t j = 0; j < 8; ++j) {
            for (std::size_t k = 0; k < 4; ++k) {
                const int pair = block[64 * j + 4 * n + k];
                levels[n][8 * j + k] = static_cast<std::int16_t>((pair & 15) - 8);
                levels[n][8 * j + 4 + k] = static_cast<std::int16_t>((pair >> 4) - 8);
            }
        }
    }
}

void matmul(const PanelMatrix& w, std::size_t panel_begin, std::size_t panel_end, const Int8Rows& x,
            std::size_t tokens, float* y, std::size_t y_stride) {
    const std::size_t groups = w.groups();
    for (std::size_t p = panel_begin; p < panel_end; ++p) {
        const std::size_t first = p * kPanelRows;
        const std::size_t valid = std::min(kPanelRows, w.rows - first);
        for (std::size_t t = 0; t < tokens; ++t) std::fill_n(y + t * y_stride + first, valid, 0.0F);
        for (std::size_t g = 0; g < groups; ++g) {
            const std::uint8_t* block = w.panels + (p * groups + g) * w.block_bytes();
            std::int16_t levels[kPanelRows][kGroup];
            unpack(block, w.bits, levels);
            for (std::size_t t = 0; t < tokens; ++t) {
                // 16-bit copies, so that compilers see a product that every processor can do for several at once.
                std::int16_t in[kGroup];
                std::copy_n(x.values + t * w.cols + g * kGroup, kGroup, in);
                for (std::size_t n = 0; n < valid; ++n) {
                    std::int32_t dot = 0;
                    for (std::size_t i = 0; i < kGroup; ++i) dot += levels[n][i] * in[i];
                    std::uint16_t half;
                    std::memcpy(&half, block + w.weight_bytes() + 2 * n, sizeof half);
                    y[t * y_stride + first + n] +=
                        static_cast<float>(dot) * (half_to_float(half) * x.scales[t * groups + g]);
                }
            }
        }
        if (w.bias == nullptr) continue;
        for (std::size_t t = 0; t < tokens; ++t) {
            for (std::size_t n = 0; n < valid; ++n) y[t * y_stride + first + n] += w.bias[first + n];
        }
    }
}

}  // namespace portable
}  // namespace nano
