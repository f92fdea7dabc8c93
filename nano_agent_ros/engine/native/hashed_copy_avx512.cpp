// The copy of a snapshot with 512-bit vectors. Nothing from the standard library; see matmul_avx512.cpp.
#if defined(__x86_64__)
#include <immintrin.h>

#include "hashed_copy.h"

namespace nano::avx512 {

std::uint64_t hashed_copy(std::uint8_t* out, const std::uint8_t* in, std::size_t nbytes) {
    constexpr std::size_t kAhead = 2048;  // the hardware's prefetcher stops at each page of 4 KB
    const __m512i prime = _mm512_set1_epi64(static_cast<long long>(kHashPrime));
    const bool aligned = reinterpret_cast<std::uintptr_t>(out) % 64 == 0;
    const std::size_t whole = nbytes / kHashBlock * kHashBlock;
    __m512i h[4];
    for (int k = 0; k < 4; ++k) {
        h[k] = _mm512_add_epi64(_mm512_set1_epi64(8 * k), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
    }
    for (std::size_t i = 0; i < whole; i += kHashBlock) {
        for (std::size_t k = 0; k < 4; ++k) {
            const std::uint8_t* from = in + i + 64 * k;
            _mm_prefetch(reinterpret_cast<const char*>(from + kAhead), _MM_HINT_NTA);
            const __m512i words = _mm512_loadu_si512(from);
            if (aligned) {
                _mm512_stream_si512(reinterpret_cast<__m512i*>(out + i + 64 * k), words);
            } else {
                _mm512_storeu_si512(out + i + 64 * k, words);
            }
            h[k] = _mm512_mullo_epi64(_mm512_xor_si512(h[k], words), prime);
            h[k] = _mm512_xor_si512(h[k], _mm512_maskz_srli_epi64(0xFF, h[k], 32));
        }
    }
    _mm_sfence();
    std::uint64_t lanes[kHashLanes];
    for (std::size_t k = 0; k < 4; ++k) _mm512_storeu_si512(lanes + 8 * k, h[k]);
    return finish_hashed_copy(lanes, out + whole, in + whole, nbytes - whole, nbytes);
}

}  // namespace nano::avx512
#endif
