// Tiles of the matrix product with 256-bit vectors: two vectors hold the 16 rows of a panel. Included by files that are
// compiled for AVX2 or AVX-VNNI, with that one's `Products`.
#pragma once

#include <immintrin.h>

#include "panel_tiles.h"

namespace nano {
namespace {

// `Products` has add_nibbles(sum, w, x) and add_bytes(sum, w, x): each of the 8 sums plus four products of w, q + 8 or
// q + 128 without a sign, and x; kSigned: add_bytes wants q instead.
template <class Products>
struct Tiles256 {
    static constexpr std::size_t kPanels = 1;
    static constexpr std::size_t kTokens = 3;  // 6 integer sums, 4 vectors of weights, a quad and what the product takes
    static constexpr bool kUnpacks = false;    // taking nibbles apart again costs less than storing and loading them
    static constexpr std::size_t kAhead = 2176;

    struct Rows {
        __m256i low, high;  // rows 0 to 7 and 8 to 15
    };

    static inline __attribute__((always_inline)) Rows load(const std::uint8_t* at) {
        return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)),
                _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 32))};
    }

    static inline __attribute__((always_inline)) __m256i quad(const std::int8_t* x) {
        std::int32_t value;
        __builtin_memcpy(&value, x, sizeof value);
        return _mm256_set1_epi32(value);
    }

    static inline __attribute__((always_inline)) __m256 scales_of(const std::uint8_t* at) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    }

    template <Source From, std::size_t Tokens>
    static __attribute__((noinline)) void tile(const TileArgs<kPanels>& a) {
        constexpr std::size_t kWeights = From == Source::kNibbles ? 512 : kByteBlock;
        const __m256i mask = _mm256_set1_epi8(15);
        const __m256i zero_point = _mm256_set1_epi8(-128);
        const std::uint8_t* block = a.blocks[0];
        for (std::size_t g = 0; g < a.groups; ++g, block += a.stride) {
            const std::int8_t* x = a.x + g * kGroup;
            if (a.left != 0) {
                for (std::size_t at = 0; at < a.stride; at += 64) __builtin_prefetch(block + kAhead + at, 0, 3);
            }
            Rows dots[Tokens];
#pragma GCC unroll 3
            for (std::size_t t = 0; t < Tokens; ++t) {
                const std::int32_t nibbles = a.offsets[t * a.row_groups + g];
                const __m256i offset = _mm256_set1_epi32(From == Source::kNibbles ? nibbles
                                                         : Products::kSigned      ? 0
                                                                                  : 16 * nibbles);
                dots[t] = {offset, offset};
            }
            for (std::size_t j = 0; j < kWeights / 64; ++j) {
                const Rows v = load(block + 64 * j);
                if constexpr (From == Source::kNibbles) {
                    const Rows even{_mm256_and_si256(v.low, mask), _mm256_and_si256(v.high, mask)};
                    const Rows odd{_mm256_and_si256(_mm256_srli_epi16(v.low, 4), mask),
                                   _mm256_and_si256(_mm256_srli_epi16(v.high, 4), mask)};
#pragma GCC unroll 3
                    for (std::size_t t = 0; t < Tokens; ++t) {
                        const __m256i x0 = quad(x + t * a.cols + 8 * j);
                        const __m256i x1 = quad(x + t * a.cols + 8 * j + 4);
                        dots[t].low = Products::add_nibbles(dots[t].low, even.low, x0);
                        dots[t].high = Products::add_nibbles(dots[t].high, even.high, x0);
                        dots[t].low = Products::add_nibbles(dots[t].low, odd.low, x1);
                        dots[t].high = Products::add_nibbles(dots[t].high, odd.high, x1);
                    }
                } else {
                    const Rows w = Products::kSigned ? Rows{_mm256_add_epi8(v.low, zero_point),
                                                            _mm256_add_epi8(v.high, zero_point)}
                                                     : v;
#pragma GCC unroll 3
                    for (std::size_t t = 0; t < Tokens; ++t) {
                        const __m256i in = quad(x + t * a.cols + 4 * j);
                        dots[t].low = Products::add_bytes(dots[t].low, w.low, in);
                        dots[t].high = Products::add_bytes(dots[t].high, w.high, in);
                    }
                }
            }
            const __m256 low = scales_of(block + kWeights);
            const __m256 high = scales_of(block + kWeights + 16);
#pragma GCC unroll 3
            for (std::size_t t = 0; t < Tokens; ++t) {
                const __m256 scale = _mm256_set1_ps(a.scales[t * a.row_groups + g]);
                float* sums = a.sums + t * kPanelRows;
                _mm256_store_ps(sums, _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t].low), _mm256_mul_ps(low, scale),
                                                      _mm256_load_ps(sums)));
                _mm256_store_ps(sums + 8, _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t].high), _mm256_mul_ps(high, scale),
                                                          _mm256_load_ps(sums + 8)));
            }
        }
    }
};

}  // namespace
}  // namespace nano
