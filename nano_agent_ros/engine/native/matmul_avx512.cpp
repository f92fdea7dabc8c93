// Matrix product of INT4 or INT8 weights and INT8 activations with AVX-512 VNNI: one vector holds the 16 rows of a panel.
//
// Nothing from the standard library here: a template instantiated with these compiler flags could be picked by the
// linker for the whole library, and then fail on a processor without AVX-512.
#if defined(__x86_64__)
#include "kernels.h"
#include "math_avx512.h"

namespace nano::avx512 {

namespace {

constexpr std::size_t kTile = 8;                // tokens that share one unpacking of a block
constexpr std::size_t kPrefetch = 2176;  // bytes ahead; 2 to 4 KB reaches the memory's bandwidth

struct Block {
    __m512i quads[16];  // four inputs of each row, as q + 8 or q + 128
    __m512 scales;
};

template <std::size_t Bits>
inline __attribute__((always_inline)) Block unpack(const std::uint8_t* block) {
    const __m512i mask = _mm512_set1_epi8(15);
    Block b;
    if constexpr (Bits == 8) {
#pragma GCC unroll 16
        for (std::size_t j = 0; j < 16; ++j) b.quads[j] = _mm512_loadu_si512(block + 64 * j);
        b.scales = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + 1024)));
        return b;
    }
#pragma GCC unroll 8
    for (std::size_t j = 0; j < 8; ++j) {
        const __m512i v = _mm512_loadu_si512(block + 64 * j);
        b.quads[2 * j] = _mm512_and_si512(v, mask);
        b.quads[2 * j + 1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), mask);
    }
    b.scales = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + 512)));
    return b;
}

inline __attribute__((always_inline)) __m512 accumulate(const Block& b, const std::int8_t* x, float scale,
                                                        std::int32_t offset, __m512 sum) {
    __m512i even = _mm512_set1_epi32(offset);
    __m512i odd = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (std::size_t j = 0; j < 8; ++j) {
        std::int32_t quad[2];
        __builtin_memcpy(quad, x + 8 * j, sizeof quad);
        even = _mm512_dpbusd_epi32(even, b.quads[2 * j], _mm512_set1_epi32(quad[0]));
        odd = _mm512_dpbusd_epi32(odd, b.quads[2 * j + 1], _mm512_set1_epi32(quad[1]));
    }
    const __m512 dots = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
    return _mm512_fmadd_ps(dots, _mm512_mul_ps(b.scales, _mm512_set1_ps(scale)), sum);
}

template <std::size_t Bits, std::size_t Tokens>
inline __attribute__((always_inline)) void panel_tile(const std::uint8_t* panel, const PanelMatrix& w,
                                                      const Int8Rows& x, std::size_t token, __m512 (&sums)[Tokens]) {
    const std::size_t groups = w.groups();
    for (std::size_t t = 0; t < Tokens; ++t) sums[t] = _mm512_setzero_ps();
    for (std::size_t g = 0; g < groups; ++g) {
        const std::uint8_t* block = panel + g * w.block_bytes();
#pragma GCC unroll 17
        for (std::size_t line = 0; line < (Bits == 8 ? 17 : 9); ++line) {
            _mm_prefetch(reinterpret_cast<const char*>(block) + kPrefetch + 64 * line, _MM_HINT_T0);
        }
        const Block b = unpack<Bits>(block);
#pragma GCC unroll 8
        for (std::size_t t = 0; t < Tokens; ++t) {
            const std::size_t at = (token + t) * groups + g;
            sums[t] = accumulate(b, x.values + (token + t) * w.cols + g * kGroup, x.scales[at],
                                 Bits == 8 ? 16 * x.offsets[at] : x.offsets[at], sums[t]);
        }
    }
}

}  // namespace

void quantize_row(const float* x, std::size_t cols, std::int8_t* values, float* scales, std::int32_t* offsets) {
    const __m512 limit = _mm512_set1_ps(127.0F);
    const __m512 low = _mm512_set1_ps(-127.0F);
    for (std::size_t g = 0; g < cols / kGroup; ++g) {
        const float* in = x + g * kGroup;
        __m512 v[4];
        __m512 peaks = _mm512_setzero_ps();
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) {
            v[i] = _mm512_loadu_ps(in + 16 * i);
            peaks = _mm512_max_ps(peaks, _mm512_abs_ps(v[i]));
        }
        const float peak = _mm512_reduce_max_ps(peaks);
        const __m512 inverse = _mm512_set1_ps(peak > 0.0F ? 127.0F / peak : 0.0F);
        __m512i total = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) {
            const __m512 bounded = _mm512_max_ps(_mm512_min_ps(_mm512_mul_ps(v[i], inverse), limit), low);
            const __m512i q = _mm512_cvtps_epi32(bounded);
            total = _mm512_add_epi32(total, q);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(values + g * kGroup + 16 * i), _mm512_cvtsepi32_epi8(q));
        }
        scales[g] = peak / 127.0F;
        offsets[g] = -8 * _mm512_reduce_add_epi32(total);
    }
}

template <std::size_t Bits>
static void matmul_bits(const PanelMatrix& w, std::size_t panel_begin, std::size_t panel_end, const Int8Rows& x,
            std::size_t tokens, float* y, std::size_t y_stride) {
    const std::size_t groups = w.groups();
    for (std::size_t p = panel_begin; p < panel_end; ++p) {
        const std::uint8_t* panel = w.panels + p * groups * w.block_bytes();
        const std::size_t first = p * kPanelRows;
        const std::size_t left = w.rows - first;
        const __mmask16 valid = left >= kPanelRows ? static_cast<__mmask16>(0xFFFF)
                                                   : static_cast<__mmask16>((1U << left) - 1U);
        const __m512 bias = w.bias != nullptr ? _mm512_maskz_loadu_ps(valid, w.bias + first) : _mm512_setzero_ps();
        std::size_t t = 0;
        for (; t + kTile <= tokens; t += kTile) {
            __m512 sums[kTile];
            panel_tile<Bits, kTile>(panel, w, x, t, sums);
            for (std::size_t i = 0; i < kTile; ++i) {
                _mm512_mask_storeu_ps(y + (t + i) * y_stride + first, valid, _mm512_add_ps(sums[i], bias));
            }
        }
        for (; t < tokens; ++t) {
            __m512 sums[1];
            panel_tile<Bits, 1>(panel, w, x, t, sums);
            _mm512_mask_storeu_ps(y + t * y_stride + first, valid, _mm512_add_ps(sums[0], bias));
        }
    }
}

void matmul(const PanelMatrix& w, std::size_t panel_begin, std::size_t panel_end, const Int8Rows& x,
            std::size_t tokens, float* y, std::size_t y_stride) {
    (w.bits == 8 ? matmul_bits<8> : matmul_bits<4>)(w, panel_begin, panel_end, x, tokens, y, y_stride);
}

}  // namespace nano::avx512
#endif
