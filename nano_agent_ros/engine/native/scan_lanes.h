// The selective scan with vectors of any width, in the notation that GCC and Clang share; see scan_portable.cpp for the plain
// form. Only for files that are compiled for one instruction set; all names stay inside the including file.
#pragma once

#include "kernels.h"

namespace nano {
namespace {

template <class Lanes>
inline __attribute__((always_inline)) Lanes load_lanes(const float* at) {
    Lanes v;
    __builtin_memcpy(&v, at, sizeof v);
    return v;
}

// Two sums, so that an addition need not wait for the one before; the rest of a row that fills no vector goes one by one.
template <class Lanes>
inline __attribute__((always_inline)) void scan_lanes(const ScanArgs& a, std::size_t head_begin, std::size_t head_end) {
    constexpr std::size_t kLanes = sizeof(Lanes) / sizeof(float);
    const std::size_t d_inner = a.heads * a.head_dim;
    const std::size_t whole = a.state_size / (2 * kLanes) * (2 * kLanes);
    for (std::size_t h = head_begin; h < head_end; ++h) {
        const std::size_t group = h / (a.heads / a.n_groups);
        for (std::size_t row = h * a.head_dim; row < (h + 1) * a.head_dim; ++row) {
            const float* s = a.state_in + row * a.state_size;
            float* out = a.state_out + row * a.state_size;
            for (std::size_t t = 0; t < a.tokens; ++t, s = out) {
                const float* token = a.xbc + t * a.xbc_stride;
                const float* b = token + d_inner + group * a.state_size;
                const float* c = b + a.n_groups * a.state_size;
                const float x = token[row];
                const float input = a.dt[t * a.heads + h] * x;
                const float decay = a.decay[t * a.heads + h];
                Lanes sums[2] = {};
                for (std::size_t n = 0; n < whole; n += 2 * kLanes) {
#pragma GCC unroll 2
                    for (std::size_t k = 0; k < 2; ++k) {
                        const std::size_t i = n + k * kLanes;
                        const Lanes v = load_lanes<Lanes>(s + i) * decay + load_lanes<Lanes>(b + i) * input;
                        __builtin_memcpy(out + i, &v, sizeof v);
                        sums[k] += v * load_lanes<Lanes>(c + i);
                    }
                }
                float sum = 0.0F;
                for (std::size_t n = whole; n < a.state_size; ++n) {
                    out[n] = s[n] * decay + b[n] * input;
                    sum += out[n] * c[n];
                }
                const Lanes both = sums[0] + sums[1];
                for (std::size_t k = 0; k < kLanes; ++k) sum += both[k];
                if (a.y != nullptr) a.y[t * d_inner + row] = sum + a.skip[h] * x;
            }
        }
    }
}

}  // namespace
}  // namespace nano
