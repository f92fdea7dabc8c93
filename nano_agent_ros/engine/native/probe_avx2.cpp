#include <immintrin.h>

#include "probe.h"

namespace nano::avx2 {

std::uint64_t probe_read(const std::uint8_t* data, std::size_t bytes, std::size_t ahead) {
    __m256i sum[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
    for (std::size_t i = 0; i < bytes; i += 128) {
        if (ahead != 0) {
            _mm_prefetch(reinterpret_cast<const char*>(data + i + ahead), _MM_HINT_T0);
            _mm_prefetch(reinterpret_cast<const char*>(data + i + ahead + 64), _MM_HINT_T0);
        }
        for (std::size_t j = 0; j < 4; ++j) {
            const auto* at = reinterpret_cast<const __m256i*>(data + i + 32 * j);
            sum[j] = _mm256_xor_si256(sum[j], _mm256_load_si256(at));
        }
    }
    const __m256i all = _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3]));
    return static_cast<std::uint64_t>(_mm256_extract_epi64(all, 0) ^ _mm256_extract_epi64(all, 3));
}

// Without VNNI a dot product of bytes is three instructions: pairs to 16 bits, pairs to 32 bits, the sum.
std::uint64_t probe_dot(std::size_t rounds) {
    __m256i sum[kProbeChains];
    for (__m256i& s : sum) s = _mm256_setzero_si256();
    const __m256i words = _mm256_set1_epi16(1);
    __m256i bytes = _mm256_set1_epi8(1);
    for (std::size_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
        for (std::size_t c = 0; c < kProbeChains; ++c) {
            asm volatile("" : "+x"(bytes));  // or the compiler would compute the product, ever the same, once
            sum[c] = _mm256_add_epi32(sum[c], _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, bytes), words));
        }
    }
    for (const __m256i& s : sum) sum[0] = _mm256_xor_si256(sum[0], s);
    return static_cast<std::uint64_t>(_mm256_extract_epi64(sum[0], 0));
}

}  // namespace nano::avx2
