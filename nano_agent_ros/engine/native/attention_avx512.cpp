// Attention of one query head over its cached keys and values, in blocks with a running maximum and sum (Milakov and
// Gimelshein 2018). Nothing from the standard library; see matmul_avx512.cpp.
#if defined(__x86_64__)
#include "kernels.h"
#include "math_avx512.h"

namespace nano::avx512 {

namespace {

constexpr std::size_t kMostVectors = 16;
constexpr std::size_t kBlock = 64;

// Query, weighted sum of values so far, and what softmax needs to go on.
struct Running {
    __m512 query[kMostVectors];
    __m512 sum[kMostVectors];
    float peak;
    float total;
};

void attend_block(const AttendArgs& a, const float* keys, const float* values, std::size_t count, std::size_t vectors,
                  Running& run) {
    float scores[kBlock];
    float peak = run.peak;
    for (std::size_t i = 0; i < count; ++i) {
        const float* key = keys + i * a.head_dim;
        __m512 dot = _mm512_setzero_ps();
        for (std::size_t v = 0; v < vectors; ++v) {
            const __mmask16 m = lanes(16 * v, a.head_dim);
            dot = _mm512_fmadd_ps(run.query[v], _mm512_maskz_loadu_ps(m, key + 16 * v), dot);
        }
        scores[i] = _mm512_reduce_add_ps(dot) * a.scale;
        peak = scores[i] > peak ? scores[i] : peak;
    }
    const __m512 correction = exp_ps(_mm512_set1_ps(run.peak - peak));
    __m512 totals = _mm512_setzero_ps();
    for (std::size_t i = 0; i < count; i += 16) {
        const __mmask16 m = lanes(i, count);
        const __m512 s = _mm512_sub_ps(_mm512_maskz_loadu_ps(m, scores + i), _mm512_set1_ps(peak));
        const __m512 weights = _mm512_maskz_mov_ps(m, exp_ps(s));
        _mm512_mask_storeu_ps(scores + i, m, weights);
        totals = _mm512_add_ps(totals, weights);
    }
    run.total = run.total * _mm512_cvtss_f32(correction) + _mm512_reduce_add_ps(totals);
    run.peak = peak;
    for (std::size_t v = 0; v < vectors; ++v) {
        const __mmask16 m = lanes(16 * v, a.head_dim);
        __m512 sum = _mm512_mul_ps(run.sum[v], correction);
        for (std::size_t i = 0; i < count; ++i) {
            const __m512 value = _mm512_maskz_loadu_ps(m, values + i * a.head_dim + 16 * v);
            sum = _mm512_fmadd_ps(_mm512_set1_ps(scores[i]), value, sum);
        }
        run.sum[v] = sum;
    }
}

}  // namespace

void attend(const AttendArgs& a) {
    if (a.head_dim > 16 * kMostVectors) return portable::attend(a);
    const std::size_t vectors = (a.head_dim + 15) / 16;
    Running run;
    run.peak = -3.0e38F;
    run.total = 0.0F;
    for (std::size_t v = 0; v < vectors; ++v) {
        run.query[v] = _mm512_maskz_loadu_ps(lanes(16 * v, a.head_dim), a.query + 16 * v);
        run.sum[v] = _mm512_setzero_ps();
    }
    for (std::size_t r = 0; r < a.run_count; ++r) {
        for (std::size_t i = 0; i < a.runs[r].count; i += kBlock) {
            const std::size_t count = a.runs[r].count - i < kBlock ? a.runs[r].count - i : kBlock;
            attend_block(a, a.runs[r].keys + i * a.head_dim, a.runs[r].values + i * a.head_dim, count, vectors, run);
        }
    }
    const __m512 inverse = _mm512_set1_ps(1.0F / run.total);
    for (std::size_t v = 0; v < vectors; ++v) {
        _mm512_mask_storeu_ps(a.output + 16 * v, lanes(16 * v, a.head_dim), _mm512_mul_ps(run.sum[v], inverse));
    }
}

}  // namespace nano::avx512
#endif
