// Choice of the kernel set at run time.
#include "kernels.h"

#include <cstring>

namespace nano {

const KernelSet& portable_kernels() {
    static const KernelSet set{"portable",          portable::quantize_row, portable::matmul,
                               portable::rms_norm,  portable::gated_norm,   portable::conv_silu,
                               portable::scan,      portable::attend,       portable::merge_attention, portable::to_half,
                               portable::relu_squared, portable::add};
    return set;
}

#if defined(__x86_64__)
const KernelSet* avx512_kernels() {
    static const KernelSet set{"avx512",         avx512::quantize_row, avx512::matmul, avx512::rms_norm,
                               avx512::gated_norm, avx512::conv_silu,  avx512::scan,   avx512::attend, avx512::merge_attention,
                               avx512::to_half, avx512::relu_squared, avx512::add};
    __builtin_cpu_init();
    const bool usable = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vnni");
    return usable ? &set : nullptr;
}
#else
const KernelSet* avx512_kernels() { return nullptr; }
#endif

const KernelSet* find_kernels(const char* name) {
    if (std::strcmp(name, "float") == 0) return &float_kernels();
    if (std::strcmp(name, "portable") == 0) return &portable_kernels();
    const KernelSet* fast = avx512_kernels();
    if (std::strcmp(name, "avx512") == 0) return fast;
    if (std::strcmp(name, "auto") == 0) return fast != nullptr ? fast : &portable_kernels();
    return nullptr;
}

}  // namespace nano
