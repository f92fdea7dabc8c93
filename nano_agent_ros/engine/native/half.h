// IEEE float16, as weights' scales and the attention cache hold it.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace nano {

// value as float16, rounded to even; what float16 cannot hold becomes +-65504, so that the result is always finite.
inline std::uint16_t float_to_half(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const std::uint32_t sign = (bits >> 16U) & 0x8000U;
    const float magnitude = std::fabs(value);
    if (!(magnitude < 65504.0F)) return static_cast<std::uint16_t>(sign | 0x7BFFU);
    if (magnitude < 0x1p-14F) {  // subnormal: whole multiples of 2^-24; 1024 of them are the least normal number
        return static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(std::nearbyint(magnitude * 0x1p24F)));
    }
    bits &= 0x7FFFFFFFU;
    const std::uint32_t even = (bits >> 13U) & 1U;
    const std::uint32_t rounded = ((bits + 0xFFFU + even) >> 13U) - (112U << 10U);
    return static_cast<std::uint16_t>(sign | rounded);
}

// out[i] = x[i], finite float16 values, in a form that compilers do for several at once.
inline void halves_to_floats(const std::uint16_t* x, std::size_t n, float* out) {
#if defined(__aarch64__)
    for (std::size_t i = 0; i < n; ++i) {
        __fp16 half;
        std::memcpy(&half, x + i, sizeof half);
        out[i] = static_cast<float>(half);
    }
#else
    for (std::size_t i = 0; i < n; ++i) {
        // The exponent is too small by 112 when its bits move to a float's place; 2^112 makes good for it, exactly and
        // for subnormal numbers as well.
        const std::uint32_t bits = (static_cast<std::uint32_t>(x[i] & 0x8000U) << 16U) |
                                   (static_cast<std::uint32_t>(x[i] & 0x7FFFU) << 13U);
        float value;
        std::memcpy(&value, &bits, sizeof value);
        out[i] = value * 0x1p112F;
    }
#endif
}

}  // namespace nano
