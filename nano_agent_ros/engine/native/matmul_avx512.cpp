// Matrix product of INT4 or INT8 weights and INT8 activations with AVX-512 VNNI: one vector holds the 16 rows of a panel.
//
// Nothing from the standard library here: a template instantiated with these compiler flags could be picked by the
// linker for the whole library, and then fail on a processor without AVX-512.
#if defined(__x86_64__)
#include "math_avx512.h"
#include "panel_tiles.h"

namespace nano::avx512 {

namespace {

struct Avx512 {
    // 12 integer sums, 12 float sums, two vectors of weights and a quad of activations fill the 32 registers. Two panels
    // use each broadcast twice, so that the loads (two a cycle at most) stay below the products. Larger tiles that keep
    // their float sums in memory are slower.
    static constexpr std::size_t kPanels = 2;
    static constexpr std::size_t kTokens = 6;
    static constexpr bool kUnpacks = true;
    static constexpr std::size_t kAhead = 2176;  // bytes; 2 to 4 KB ahead reach the memory's bandwidth

    static inline __attribute__((always_inline)) __m512i quad(const std::int8_t* x) {
        std::int32_t value;
        __builtin_memcpy(&value, x, sizeof value);
        return _mm512_set1_epi32(value);
    }

    static inline __attribute__((always_inline)) __m512 scales_of(const std::uint8_t* at) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
    }

    template <std::size_t Tokens>
    static inline __attribute__((always_inline)) void multiply(__m512i (&dots)[Tokens][kPanels], __m512i w0, __m512i w1,
                                                               const std::int8_t* x, std::size_t cols) {
#pragma GCC unroll 6
        for (std::size_t t = 0; t < Tokens; ++t) {
            const __m512i in = quad(x + t * cols);
            dots[t][0] = _mm512_dpbusd_epi32(dots[t][0], w0, in);
            dots[t][1] = _mm512_dpbusd_epi32(dots[t][1], w1, in);
        }
    }

    template <std::size_t Lines>
    static inline __attribute__((always_inline)) void fetch_next(const TileArgs<kPanels>& a, std::size_t g,
                                                                 const std::uint8_t* p0, const std::uint8_t* p1) {
        if (a.left == 0) return;
        // After this pair of panels comes the next pair, a panel further.
        const std::size_t ahead = kAhead + ((a.left - g) * a.stride <= kAhead ? a.panel_bytes : 0);
#pragma GCC unroll 17
        for (std::size_t line = 0; line < Lines; ++line) {
            __builtin_prefetch(p0 + ahead + 64 * line, 0, 3);
            __builtin_prefetch(p1 + ahead + 64 * line, 0, 3);
        }
    }

    template <Source From, std::size_t Tokens>
    static __attribute__((noinline)) void tile(const TileArgs<kPanels>& a) {
        constexpr std::size_t kWeights = From == Source::kNibbles ? 512 : kByteBlock;
        const std::uint8_t* p0 = a.blocks[0];
        const std::uint8_t* p1 = a.blocks[1];
        const std::size_t cols = a.cols;
        __m512 sums[Tokens][kPanels];
#pragma GCC unroll 6
        for (std::size_t t = 0; t < Tokens; ++t) {
            sums[t][0] = _mm512_load_ps(a.sums + 32 * t);
            sums[t][1] = _mm512_load_ps(a.sums + 32 * t + 16);
        }
        for (std::size_t g = 0; g < a.groups; ++g, p0 += a.stride, p1 += a.stride) {
            const std::int8_t* x = a.x + g * kGroup;
            __m512i dots[Tokens][kPanels];
#pragma GCC unroll 6
            for (std::size_t t = 0; t < Tokens; ++t) {
                const __m512i offset = _mm512_set1_epi32(a.offsets[t * a.row_groups + g]);
                dots[t][0] = dots[t][1] = From == Source::kNibbles ? offset : _mm512_slli_epi32(offset, 4);
            }
            if constexpr (From == Source::kNibbles) {
                fetch_next<9>(a, g, p0, p1);
                const __m512i mask = _mm512_set1_epi8(15);
#pragma GCC unroll 8
                for (std::size_t j = 0; j < 8; ++j) {
                    const __m512i v0 = _mm512_loadu_si512(p0 + 64 * j);
                    const __m512i v1 = _mm512_loadu_si512(p1 + 64 * j);
                    multiply<Tokens>(dots, _mm512_and_si512(v0, mask), _mm512_and_si512(v1, mask), x + 8 * j, cols);
                    multiply<Tokens>(dots, _mm512_and_si512(_mm512_srli_epi16(v0, 4), mask),
                                     _mm512_and_si512(_mm512_srli_epi16(v1, 4), mask), x + 8 * j + 4, cols);
                }
            } else {
                fetch_next<17>(a, g, p0, p1);
                for (std::size_t line = 0; line < a.lines; ++line) {
                    __builtin_prefetch(a.ahead + 64 * (g * a.lines + line), 0, 2);
                }
#pragma GCC unroll 16
                for (std::size_t j = 0; j < 16; ++j) {
                    multiply<Tokens>(dots, _mm512_loadu_si512(p0 + 64 * j), _mm512_loadu_si512(p1 + 64 * j), x + 4 * j,
                                     cols);
                }
            }
            const __m512 s0 = scales_of(p0 + kWeights);
            const __m512 s1 = scales_of(p1 + kWeights);
#pragma GCC unroll 6
            for (std::size_t t = 0; t < Tokens; ++t) {
                const __m512 scale = _mm512_set1_ps(a.scales[t * a.row_groups + g]);
                sums[t][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[t][0]), _mm512_mul_ps(s0, scale), sums[t][0]);
                sums[t][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[t][1]), _mm512_mul_ps(s1, scale), sums[t][1]);
            }
        }
#pragma GCC unroll 6
        for (std::size_t t = 0; t < Tokens; ++t) {
            _mm512_store_ps(a.sums + 32 * t, sums[t][0]);
            _mm512_store_ps(a.sums + 32 * t + 16, sums[t][1]);
        }
    }

    static inline __attribute__((always_inline)) void unpack(const std::uint8_t* block, std::uint8_t* out) {
        const __m512i mask = _mm512_set1_epi8(15);
        const __m512i shift = _mm512_set1_epi8(120);  // q + 8 to q + 128
#pragma GCC unroll 8
        for (std::size_t j = 0; j < 8; ++j) {
            const __m512i v = _mm512_loadu_si512(block + 64 * j);
            _mm512_store_si512(out + 128 * j, _mm512_add_epi8(_mm512_and_si512(v, mask), shift));
            _mm512_store_si512(out + 128 * j + 64,
                               _mm512_add_epi8(_mm512_and_si512(_mm512_srli_epi16(v, 4), mask), shift));
        }
    }
};

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
            // max_ps gives its second operand where one is no number (NaN), which must not stay in the peak.
            peaks = _mm512_max_ps(_mm512_abs_ps(v[i]), peaks);
        }
        const float peak = _mm512_reduce_max_ps(peaks);
        const __m512 inverse = _mm512_set1_ps(peak > 0.0F ? 127.0F / peak : 0.0F);
        __m512i total = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) {
            const __m512 bounded = _mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(v[i], inverse), low), limit);
            const __m512i q = _mm512_cvtps_epi32(bounded);
            total = _mm512_add_epi32(total, q);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(values + g * kGroup + 16 * i), _mm512_cvtsepi32_epi8(q));
        }
        scales[g] = peak / 127.0F;
        offsets[g] = -8 * _mm512_reduce_add_epi32(total);
    }
}

void matmul(const PanelMatrix& w, std::size_t panel_begin, std::size_t panel_end, const Int8Rows& x,
            std::size_t tokens, float* y, std::size_t y_stride) {
    PanelProduct<Avx512>(w, x, y, y_stride).run(panel_begin, panel_end, tokens);
}

}  // namespace nano::avx512
#endif
