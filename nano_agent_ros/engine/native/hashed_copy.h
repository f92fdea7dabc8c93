// Copies that sum what they copy: the bytes of a snapshot pass through the processor once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace nano {

// Copy nbytes and return their hash. Stores go past the caches, since nobody reads a snapshot soon.
// The hash: 32 lanes of 64 bits, word i of the input (little endian, the last ones padded with zeros to 256 bytes) goes
// to lane i mod 32 by h = (h ^ word) * P, h ^= h >> 32 (FNV-1a with a better mixer); the lanes are folded alike.
// Every step is a bijection of what came before and of the word, so no single changed word goes unseen.
using HashedCopy = std::uint64_t (*)(std::uint8_t* out, const std::uint8_t* in, std::size_t nbytes);

// The copy of a kernel set; all sets give one hash.
HashedCopy hashed_copy(const KernelSet& kernels);

constexpr std::size_t kHashLanes = 32;
constexpr std::size_t kHashBlock = kHashLanes * sizeof(std::uint64_t);
constexpr std::uint64_t kHashPrime = 0x9E3779B185EBCA87U;

inline std::uint64_t hash_step(std::uint64_t h, std::uint64_t word) {
    h = (h ^ word) * kHashPrime;
    return h ^ (h >> 32U);
}

// Hash of fewer than kHashBlock last bytes (copied too), and of the lanes.
std::uint64_t finish_hashed_copy(std::uint64_t (&lanes)[kHashLanes], std::uint8_t* out, const std::uint8_t* in,
                                 std::size_t nbytes, std::size_t total);

namespace portable {
std::uint64_t hashed_copy(std::uint8_t* out, const std::uint8_t* in, std::size_t nbytes);
}
namespace avx512 {
std::uint64_t hashed_copy(std::uint8_t* out, const std::uint8_t* in, std::size_t nbytes);
}

}  // namespace nano
