// Loops that a processor cannot run faster: reading memory, and INT8 dot products in registers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nano {

struct ProbeLoops {
    // Touches every byte of data [bytes, a multiple of 256, aligned to 64]; returns what keeps the loads alive.
    std::uint64_t (*read)(const std::uint8_t* data, std::size_t bytes, std::size_t ahead);
    // `rounds` times kProbeChains independent dot product instructions; null if there is no such instruction.
    std::uint64_t (*dot)(std::size_t rounds);
    std::size_t macs_per_instruction;
};

constexpr std::size_t kProbeChains = 12;  // enough to hide the latency of a dot product

namespace portable {
std::uint64_t probe_read(const std::uint8_t* data, std::size_t bytes, std::size_t ahead);
}
namespace avx2 {
std::uint64_t probe_read(const std::uint8_t* data, std::size_t bytes, std::size_t ahead);
std::uint64_t probe_dot(std::size_t rounds);
}
namespace avx512 {
std::uint64_t probe_read(const std::uint8_t* data, std::size_t bytes, std::size_t ahead);
std::uint64_t probe_dot(std::size_t rounds);
}

}  // namespace nano
