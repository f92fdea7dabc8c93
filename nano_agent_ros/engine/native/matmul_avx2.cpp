// Matrix product of INT4 or INT8 weights and INT8 activations with AVX2, and the quantization of activations.
// Nothing from the standard library; see matmul_avx512.cpp.
#if defined(__x86_64__)
#include "kernels.h"
#include "tiles_avx2.h"

namespace nano::avx2 {

namespace {

struct Avx2Products {
    static constexpr bool kSigned = true;

    // A nibble times an activation is at most 15 x 127, so two of them fit 16 bits.
    static inline __attribute__((always_inline)) __m256i add_nibbles(__m256i sum, __m256i w, __m256i x) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
    }

    // Two products of q and x are at most 2 x 127 x 127 < 2^15; two of q + 128 and x would saturate. So x takes q's sign.
    static inline __attribute__((always_inline)) __m256i add_bytes(__m256i sum, __m256i q, __m256i x) {
        return add_nibbles(sum, _mm256_abs_epi8(q), _mm256_sign_epi8(x, q));
    }
};

}  // namespace

void quantize_row(const float* x, std::size_t cols, std::int8_t* values, float* scales, std::int32_t* offsets) {
    const __m256 limit = _mm256_set1_ps(127.0F);
    const __m256 low = _mm256_set1_ps(-127.0F);
    const __m256 no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
    for (std::size_t g = 0; g < cols / kGroup; ++g) {
        const float* in = x + g * kGroup;
        __m256 peaks = _mm256_setzero_ps();
        for (std::size_t i = 0; i < kGroup; i += 8) {
            // max_ps gives its second operand where one is no number (NaN), which must not stay in the peak.
            peaks = _mm256_max_ps(_mm256_and_ps(_mm256_loadu_ps(in + i), no_sign), peaks);
        }
        __m128 four = _mm_max_ps(_mm256_castps256_ps128(peaks), _mm256_extractf128_ps(peaks, 1));
        four = _mm_max_ps(four, _mm_movehl_ps(four, four));
        const float peak = _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
        const __m256 inverse = _mm256_set1_ps(peak > 0.0F ? 127.0F / peak : 0.0F);
        __m256i total = _mm256_setzero_si256();
        for (std::size_t i = 0; i < kGroup; i += 8) {
            const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(in + i), inverse);
            const __m256i q = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(scaled, low), limit));
            total = _mm256_add_epi32(total, q);
            const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
            _mm_storel_epi64(reinterpret_cast<__m128i*>(values + g * kGroup + i), _mm_packs_epi16(words, words));
        }
        __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1));
        sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
        sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1));
        scales[g] = peak / 127.0F;
        offsets[g] = -8 * _mm_cvtsi128_si32(sum);
    }
}

void matmul(const PanelMatrix& w, std::size_t panel_begin, std::size_t panel_end, const Int8Rows& x,
            std::size_t tokens, float* y, std::size_t y_stride) {
    PanelProduct<Tiles256<Avx2Products>>(w, x, y, y_stride).run(panel_begin, panel_end, tokens);
}

}  // namespace nano::avx2
#endif
