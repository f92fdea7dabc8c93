// Norms, convolution and activations with AVX-512. Nothing from the standard library; see matmul_avx512.cpp.
#if defined(__x86_64__)
#include "kernels.h"
#include "math_avx512.h"

namespace nano::avx512 {

namespace {

void scale_by_norm(const float* x, const float* weight, std::size_t n, float eps, __m512 squares, float* y) {
    const float mean = _mm512_reduce_add_ps(squares) / static_cast<float>(n);
    const __m512 scale = _mm512_set1_ps(1.0F / __builtin_sqrtf(mean + eps));
    for (std::size_t i = 0; i < n; i += 16) {
        const __mmask16 m = lanes(i, n);
        const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), scale);
        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, weight + i)));
    }
}

}  // namespace

void rms_norm(const float* x, const float* weight, std::size_t n, float eps, float* y) {
    __m512 squares = _mm512_setzero_ps();
    for (std::size_t i = 0; i < n; i += 16) {
        const __m512 v = _mm512_maskz_loadu_ps(lanes(i, n), x + i);
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    scale_by_norm(x, weight, n, eps, squares, y);
}

void gated_norm(const float* y, const float* gate, const float* weight, std::size_t n, std::size_t group, float eps,
                float* out) {
    for (std::size_t g = 0; g < n; g += group) {
        __m512 squares = _mm512_setzero_ps();
        for (std::size_t i = 0; i < group; i += 16) {
            const __mmask16 m = lanes(i, group);
            const __m512 gates = silu_ps(_mm512_maskz_loadu_ps(m, gate + g + i));
            const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, y + g + i), gates);
            squares = _mm512_fmadd_ps(v, v, squares);
            _mm512_mask_storeu_ps(out + g + i, m, v);
        }
        scale_by_norm(out + g, weight + g, group, eps, squares, out + g);
    }
}

void conv_silu(const ConvArgs& a, std::size_t channel_begin, std::size_t channel_end) {
    for (std::size_t t = 0; t < a.tokens; ++t) {
        const float* in = a.input + t * a.channels;
        float* out = a.output + t * a.channels;
        for (std::size_t c = channel_begin; c < channel_end; c += 16) {
            const __mmask16 m = lanes(c, channel_end);
            __m512 sum = a.bias != nullptr ? _mm512_maskz_loadu_ps(m, a.bias + c) : _mm512_setzero_ps();
            for (std::size_t k = 0; k < a.kernel; ++k) {
                sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, a.weight + k * a.channels + c),
                                      _mm512_maskz_loadu_ps(m, in + k * a.channels + c), sum);
            }
            _mm512_mask_storeu_ps(out + c, m, silu_ps(sum));
        }
    }
}

void to_half(const float* x, std::size_t n, std::uint16_t* out) {
    const __m512 most = _mm512_set1_ps(65504.0F);
    const __m512i sign = _mm512_set1_epi32(static_cast<int>(0x80000000U));
    for (std::size_t i = 0; i < n; i += 16) {
        const __mmask16 m = lanes(i, n);
        const __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        // min takes its second operand where the first is no number.
        const __m512 bounded = _mm512_min_ps(_mm512_abs_ps(v), most);
        const __m512 whole = _mm512_or_ps(bounded, _mm512_and_ps(v, _mm512_castsi512_ps(sign)));
        _mm256_mask_storeu_epi16(out + i, m, _mm512_cvtps_ph(whole, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
}

void relu_squared(float* x, std::size_t n) {
    for (std::size_t i = 0; i < n; i += 16) {
        const __mmask16 m = lanes(i, n);
        const __m512 v = _mm512_max_ps(_mm512_maskz_loadu_ps(m, x + i), _mm512_setzero_ps());
        _mm512_mask_storeu_ps(x + i, m, _mm512_mul_ps(v, v));
    }
}

void add(float* x, const float* y, std::size_t n) {
    for (std::size_t i = 0; i < n; i += 16) {
        const __mmask16 m = lanes(i, n);
        _mm512_mask_storeu_ps(x + i, m, _mm512_add_ps(_mm512_maskz_loadu_ps(m, x + i), _mm512_maskz_loadu_ps(m, y + i)));
    }
}

}  // namespace nano::avx512
#endif
