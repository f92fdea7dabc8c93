#include "math_avx512.h"
#include "probe.h"

namespace nano::avx512 {

std::uint64_t probe_read(const std::uint8_t* data, std::size_t bytes, std::size_t ahead) {
    __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (std::size_t i = 0; i < bytes; i += 256) {
        for (std::size_t j = 0; j < 4; ++j) {
            if (ahead != 0) _mm_prefetch(reinterpret_cast<const char*>(data + i + 64 * j + ahead), _MM_HINT_T0);
            sum[j] = _mm512_xor_si512(sum[j], _mm512_load_si512(data + i + 64 * j));
        }
    }
    const __m512i all = _mm512_xor_si512(_mm512_xor_si512(sum[0], sum[1]), _mm512_xor_si512(sum[2], sum[3]));
    return static_cast<std::uint64_t>(_mm512_reduce_add_epi64(all));
}

std::uint64_t probe_dot(std::size_t rounds) {
    const __m512i ones = _mm512_set1_epi8(1);
    const __m512i zero = _mm512_setzero_si512();
    __m512i a = zero, b = zero, c = zero, d = zero, e = zero, f = zero, g = zero, h = zero, i = zero, j = zero,
            k = zero, l = zero;
    for (std::size_t r = 0; r < rounds; ++r) {
        // As assembly, because compilers move the twelve sums about between intrinsics.
        asm volatile(
            "vpdpbusd %12, %12, %0\n\tvpdpbusd %12, %12, %1\n\tvpdpbusd %12, %12, %2\n\t"
            "vpdpbusd %12, %12, %3\n\tvpdpbusd %12, %12, %4\n\tvpdpbusd %12, %12, %5\n\t"
            "vpdpbusd %12, %12, %6\n\tvpdpbusd %12, %12, %7\n\tvpdpbusd %12, %12, %8\n\t"
            "vpdpbusd %12, %12, %9\n\tvpdpbusd %12, %12, %10\n\tvpdpbusd %12, %12, %11"
            : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f), "+v"(g), "+v"(h), "+v"(i), "+v"(j), "+v"(k), "+v"(l)
            : "v"(ones));
    }
    return static_cast<std::uint64_t>(_mm512_reduce_add_epi32(a));
}

}  // namespace nano::avx512
