// Matrix product of INT4 or INT8 weights and INT8 activations with the dot products of Arm NEON (Armv8.2 and later): four
// vectors hold the 16 rows of a panel. Nothing from the standard library; see matmul_avx512.cpp.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "kernels.h"
#include "panel_tiles.h"

namespace nano::neon {

namespace {

struct Neon {
    static constexpr std::size_t kPanels = 1;
    static constexpr std::size_t kTokens = 4;  // 16 sums, 8 vectors of weights, 4 of activations
    static constexpr bool kUnpacks = false;    // taking nibbles apart again costs less than storing and loading them
    static constexpr std::size_t kAhead = 2176;

    // Adds to the sums of 16 rows four inputs each: quad Lane of x.
    template <int Lane>
    static inline __attribute__((always_inline)) void multiply(int32x4_t (&dots)[4], const int8x16_t (&w)[4], int8x16_t x) {
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) dots[i] = vdotq_laneq_s32(dots[i], w[i], x, Lane);
    }

    template <Source From, std::size_t Tokens>
    static __attribute__((noinline)) void tile(const TileArgs<kPanels>& a) {
        constexpr std::size_t kWeights = From == Source::kNibbles ? 512 : kByteBlock;
        const std::uint8_t* block = a.blocks[0];
        for (std::size_t g = 0; g < a.groups; ++g, block += a.stride) {
            if (a.left != 0) {
                for (std::size_t at = 0; at < a.stride; at += 64) __builtin_prefetch(block + kAhead + at, 0, 3);
            }
            int32x4_t dots[Tokens][4];
#pragma GCC unroll 4
            for (std::size_t t = 0; t < Tokens; ++t) {
                // Bytes are made signed on the way and need no offset.
                const int32x4_t offset = vdupq_n_s32(From == Source::kNibbles ? a.offsets[t * a.row_groups + g] : 0);
                dots[t][0] = dots[t][1] = dots[t][2] = dots[t][3] = offset;
            }
            // 16 inputs at a time: a vector of activations
            for (std::size_t i = 0; i < 4; ++i) {
                int8x16_t x[Tokens];
#pragma GCC unroll 4
                for (std::size_t t = 0; t < Tokens; ++t) x[t] = vld1q_s8(a.x + t * a.cols + g * kGroup + 16 * i);
                if constexpr (From == Source::kNibbles) {
                    nibbles<0>(dots, block + 128 * i, x);
                    nibbles<2>(dots, block + 128 * i + 64, x);
                } else {
                    bytes<0>(dots, block + 256 * i, x);
                    bytes<1>(dots, block + 256 * i + 64, x);
                    bytes<2>(dots, block + 256 * i + 128, x);
                    bytes<3>(dots, block + 256 * i + 192, x);
                }
            }
            float32x4_t scales[4];
#pragma GCC unroll 4
            for (std::size_t i = 0; i < 4; ++i) {
                float16x4_t half;
                __builtin_memcpy(&half, block + kWeights + 8 * i, sizeof half);
                scales[i] = vcvt_f32_f16(half);
            }
#pragma GCC unroll 4
            for (std::size_t t = 0; t < Tokens; ++t) {
                const float scale = a.scales[t * a.row_groups + g];
#pragma GCC unroll 4
                for (std::size_t i = 0; i < 4; ++i) {
                    float* sums = a.sums + t * kPanelRows + 4 * i;
                    vst1q_f32(sums, vfmaq_f32(vld1q_f32(sums), vcvtq_f32_s32(dots[t][i]), vmulq_n_f32(scales[i], scale)));
                }
            }
        }
    }

    template <int Lane, std::size_t Tokens>
    static inline __attribute__((always_inline)) void nibbles(int32x4_t (&dots)[Tokens][4], const std::uint8_t* at,
                                                              const int8x16_t (&x)[Tokens]) {
        int8x16_t even[4];
        int8x16_t odd[4];
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) {
            const uint8x16_t v = vld1q_u8(at + 16 * i);
            even[i] = vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15)));
            odd[i] = vreinterpretq_s8_u8(vshrq_n_u8(v, 4));
        }
#pragma GCC unroll 4
        for (std::size_t t = 0; t < Tokens; ++t) {
            multiply<Lane>(dots[t], even, x[t]);
            multiply<Lane + 1>(dots[t], odd, x[t]);
        }
    }

    template <int Lane, std::size_t Tokens>
    static inline __attribute__((always_inline)) void bytes(int32x4_t (&dots)[Tokens][4], const std::uint8_t* at,
                                                            const int8x16_t (&x)[Tokens]) {
        int8x16_t w[4];
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) {
            w[i] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(at + 16 * i), vdupq_n_u8(128)));  // q + 128 to q
        }
#pragma GCC unroll 4
        for (std::size_t t = 0; t < Tokens; ++t) multiply<Lane>(dots[t], w, x[t]);
    }
};

}  // namespace

void quantize_row(const float* x, std::size_t cols, std::int8_t* values, float* scales, std::int32_t* offsets) {
    for (std::size_t g = 0; g < cols / kGroup; ++g) {
        const float* in = x + g * kGroup;
        float32x4_t peaks = vdupq_n_f32(0.0F);
        for (std::size_t i = 0; i < kGroup; i += 4) {
            const float32x4_t v = vabsq_f32(vld1q_f32(in + i));
            peaks = vbslq_f32(vcgtq_f32(v, peaks), v, peaks);  // no number (NaN) is greater than any
        }
        const float peak = vmaxvq_f32(peaks);
        const float inverse = peak > 0.0F ? 127.0F / peak : 0.0F;
        int32x4_t total = vdupq_n_s32(0);
        for (std::size_t i = 0; i < kGroup; i += 8) {
            int32x4_t q[2];
            for (std::size_t k = 0; k < 2; ++k) {
                const float32x4_t scaled = vmulq_n_f32(vld1q_f32(in + i + 4 * k), inverse);
                const float32x4_t bounded = vminnmq_f32(vmaxnmq_f32(scaled, vdupq_n_f32(-127.0F)), vdupq_n_f32(127.0F));
                q[k] = vcvtnq_s32_f32(bounded);
                total = vaddq_s32(total, q[k]);
            }
            vst1_s8(values + g * kGroup + i, vmovn_s16(vcombine_s16(vmovn_s32(q[0]), vmovn_s32(q[1]))));
        }
        scales[g] = peak / 127.0F;
        offsets[g] = -8 * vaddvq_s32(total);
    }
}

void matmul(const PanelMatrix& w, std::size_t panel_begin, std::size_t panel_end, const Int8Rows& x,
            std::size_t tokens, float* y, std::size_t y_stride) {
    PanelProduct<Neon>(w, x, y, y_stride).run(panel_begin, panel_end, tokens);
}

}  // namespace nano::neon
#endif
