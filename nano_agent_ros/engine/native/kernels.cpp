// Choice of the kernel set at run time.
#include "kernels.h"

#include <cstring>
#include <initializer_list>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

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

const KernelSet* avx2_kernels() {
    static const KernelSet set = [] {
        KernelSet s = portable_kernels();
        s.name = "avx2";
        s.quantize_row = avx2::quantize_row;
        s.matmul = avx2::matmul;
        s.scan = avx2::scan;
        return s;
    }();
    __builtin_cpu_init();
    const bool usable =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    return usable ? &set : nullptr;
}

const KernelSet* avxvnni_kernels() {
    if (avx2_kernels() == nullptr) return nullptr;
    static const KernelSet set = [] {
        KernelSet s = *avx2_kernels();
        s.name = "avxvnni";
        s.matmul = avxvnni::matmul;
        return s;
    }();
    // Compilers name this feature too lately: leaf 7, second part, bit 4 of EAX.
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    const bool usable = __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 4U & 1U) != 0;
    return usable ? &set : nullptr;
}

const KernelSet* neon_kernels() { return nullptr; }

#else

const KernelSet* avx512_kernels() { return nullptr; }
const KernelSet* avx2_kernels() { return nullptr; }
const KernelSet* avxvnni_kernels() { return nullptr; }

#if defined(__aarch64__)
const KernelSet* neon_kernels() {
    static const KernelSet set = [] {
        KernelSet s = portable_kernels();  // which is NEON already, by the compiler, but for the dot products
        s.name = "neon";
        s.quantize_row = neon::quantize_row;
        s.matmul = neon::matmul;
        s.scan = neon::scan;
        return s;
    }();
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0 ? &set : nullptr;
}
#else
const KernelSet* neon_kernels() { return nullptr; }
#endif

#endif

const KernelSet* find_kernels(const char* name) {
    const bool any = std::strcmp(name, "auto") == 0;
    for (const KernelSet* set : {avx512_kernels(), avxvnni_kernels(), avx2_kernels(), neon_kernels(), &portable_kernels(),
                                 &float_kernels()}) {
        if (set != nullptr && (any || std::strcmp(name, set->name) == 0)) return set;
    }
    return nullptr;
}

}  // namespace nano
