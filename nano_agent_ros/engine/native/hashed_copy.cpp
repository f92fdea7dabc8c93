#include "hashed_copy.h"

#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace nano {

namespace {

// Past the caches where the target is aligned for it, as buffers are but for a snapshot's odd pieces.
void copy_block(std::uint8_t* out, const std::uint8_t* in, bool aligned) {
#if defined(__SSE2__)
    if (aligned) {
        for (std::size_t i = 0; i < kHashBlock; i += sizeof(__m128i)) {
            _mm_stream_si128(reinterpret_cast<__m128i*>(out + i), _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i)));
        }
        return;
    }
#else
    (void)aligned;
#endif
    std::memcpy(out, in, kHashBlock);
}

}  // namespace

HashedCopy hashed_copy(const KernelSet& kernels) {
#if defined(__x86_64__)
    if (avx512_kernels() == &kernels) return avx512::hashed_copy;
#else
    (void)kernels;
#endif
    return portable::hashed_copy;
}

std::uint64_t finish_hashed_copy(std::uint64_t (&lanes)[kHashLanes], std::uint8_t* out, const std::uint8_t* in,
                                 std::size_t nbytes, std::size_t total) {
    std::uint64_t words[kHashLanes] = {};
    if (nbytes > 0) {
        std::memcpy(words, in, nbytes);
        std::memcpy(out, in, nbytes);
        for (std::size_t k = 0; k < kHashLanes; ++k) lanes[k] = hash_step(lanes[k], words[k]);
    }
    std::uint64_t h = total;
    for (const std::uint64_t lane : lanes) h = hash_step(h, lane);
    return h;
}

std::uint64_t portable::hashed_copy(std::uint8_t* out, const std::uint8_t* in, std::size_t nbytes) {
    std::uint64_t lanes[kHashLanes];
    for (std::size_t k = 0; k < kHashLanes; ++k) lanes[k] = k;
    const bool aligned = reinterpret_cast<std::uintptr_t>(out) % 16 == 0;
    const std::size_t whole = nbytes / kHashBlock * kHashBlock;
    for (std::size_t i = 0; i < whole; i += kHashBlock) {
        std::uint64_t words[kHashLanes];
        std::memcpy(words, in + i, kHashBlock);
        for (std::size_t k = 0; k < kHashLanes; ++k) lanes[k] = hash_step(lanes[k], words[k]);
        copy_block(out + i, in + i, aligned);
    }
#if defined(__SSE2__)
    _mm_sfence();
#endif
    return finish_hashed_copy(lanes, out + whole, in + whole, nbytes - whole, nbytes);
}

}  // namespace nano
