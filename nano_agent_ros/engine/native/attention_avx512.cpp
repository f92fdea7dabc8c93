// Attention of one query head over its cached keys and values, in blocks with a running maximum and sum (Milakov and
// Gimelshein 2018). Nothing from the standard library; see matmul_avx512.cpp.
#if defined(__x86_64__)
#include "kernels.h"
#include "math_avx512.h"

namespace nano::avx512 {

namespace {

constexpr std::size_t kBlock = 64;

// Weighted sum of the values so far, and what softmax needs to go on.
template <std::size_t Vectors>
struct Running {
    __m512 sum[Vectors];
    float peak;
    float total;
};

inline __attribute__((always_inline)) __m512 load_half(const std::uint16_t* x) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}

// The sums of the elements of four vectors.
inline __attribute__((always_inline)) __m128 reduce_four(__m512 a, __m512 b, __m512 c, __m512 d) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512 low = _mm512_shuffle_ps(ab, cd, _MM_SHUFFLE(1, 0, 1, 0));
    const __m512 high = _mm512_shuffle_ps(ab, cd, _MM_SHUFFLE(3, 2, 3, 2));
    const __m512 lanes_of_four = _mm512_add_ps(low, high);
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(lanes_of_four), _mm512_extractf32x8_ps(lanes_of_four, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

template <std::size_t Vectors>
inline __attribute__((always_inline)) __m512 dot(const __m512 (&query)[Vectors], const std::uint16_t* key) {
    __m512 sum = _mm512_mul_ps(query[0], load_half(key));
    for (std::size_t v = 1; v < Vectors; ++v) sum = _mm512_fmadd_ps(query[v], load_half(key + 16 * v), sum);
    return sum;
}

template <std::size_t Vectors>
inline __attribute__((always_inline)) void score_block(const __m512 (&query)[Vectors], const std::uint16_t* keys,
                                                       std::size_t count, float scale, float (&scores)[kBlock]) {
    constexpr std::size_t dim = 16 * Vectors;
    const __m128 scales = _mm_set1_ps(scale);
    for (std::size_t i = 0; i < count; i += 4) {
        // Past the end the last key is scored again; its copies are not read.
        const std::size_t last = count - 1;
        const __m512 a = dot(query, keys + i * dim);
        const __m512 b = dot(query, keys + (i + 1 < count ? i + 1 : last) * dim);
        const __m512 c = dot(query, keys + (i + 2 < count ? i + 2 : last) * dim);
        const __m512 d = dot(query, keys + (i + 3 < count ? i + 3 : last) * dim);
        _mm_storeu_ps(scores + i, _mm_mul_ps(reduce_four(a, b, c, d), scales));
    }
}

template <std::size_t Vectors>
inline __attribute__((always_inline)) void attend_block(const __m512 (&query)[Vectors], const std::uint16_t* keys,
                                                        const std::uint16_t* values, std::size_t count, float scale,
                                                        Running<Vectors>& run) {
    constexpr std::size_t dim = 16 * Vectors;
    float scores[kBlock];
    score_block(query, keys, count, scale, scores);
    __m512 peaks = _mm512_set1_ps(run.peak);
    for (std::size_t i = 0; i < count; i += 16) {
        peaks = _mm512_mask_max_ps(peaks, lanes(i, count), peaks, _mm512_loadu_ps(scores + i));
    }
    const float peak = _mm512_reduce_max_ps(peaks);
    __m512 totals = _mm512_setzero_ps();
    for (std::size_t i = 0; i < count; i += 16) {
        const __m512 weights = _mm512_maskz_mov_ps(
            lanes(i, count), exp_ps(_mm512_sub_ps(_mm512_loadu_ps(scores + i), _mm512_set1_ps(peak))));
        _mm512_storeu_ps(scores + i, weights);
        totals = _mm512_add_ps(totals, weights);
    }
    const __m512 correction = exp_ps(_mm512_set1_ps(run.peak - peak));
    run.total = run.total * _mm512_cvtss_f32(correction) + _mm512_reduce_add_ps(totals);
    run.peak = peak;
    for (std::size_t v = 0; v < Vectors; ++v) run.sum[v] = _mm512_mul_ps(run.sum[v], correction);
    for (std::size_t i = 0; i < count; ++i) {
        const __m512 weight = _mm512_set1_ps(scores[i]);
        for (std::size_t v = 0; v < Vectors; ++v) {
            run.sum[v] = _mm512_fmadd_ps(weight, load_half(values + i * dim + 16 * v), run.sum[v]);
        }
    }
}

template <std::size_t Vectors>
void attend_full(const AttendArgs& a) {
    constexpr std::size_t dim = 16 * Vectors;
    __m512 query[Vectors];
    Running<Vectors> run;
    run.peak = -3.0e38F;
    run.total = 0.0F;
    for (std::size_t v = 0; v < Vectors; ++v) {
        query[v] = _mm512_loadu_ps(a.query + 16 * v);
        run.sum[v] = _mm512_setzero_ps();
    }
    for (std::size_t r = 0; r < a.run_count; ++r) {
        const KvRun& kv = a.runs[r];
        const std::uint16_t* keys = kv.keys + a.run_offset;
        const std::uint16_t* values = kv.values + a.run_offset;
        for (std::size_t i = 0; i < kv.count; i += kBlock) {
            const std::size_t count = kv.count - i < kBlock ? kv.count - i : kBlock;
            attend_block(query, keys + i * dim, values + i * dim, count, a.scale, run);
        }
    }
    const __m512 inverse = _mm512_set1_ps(1.0F / run.total);
    for (std::size_t v = 0; v < Vectors; ++v) {
        _mm512_storeu_ps(a.output + 16 * v, _mm512_mul_ps(run.sum[v], inverse));
    }
}

}  // namespace

void attend(const AttendArgs& a) {
    switch (a.head_dim) {
        case 16: return attend_full<1>(a);
        case 32: return attend_full<2>(a);
        case 48: return attend_full<3>(a);
        case 64: return attend_full<4>(a);
        case 80: return attend_full<5>(a);
        case 96: return attend_full<6>(a);
        case 128: return attend_full<8>(a);
        default: return portable::attend(a);
    }
}

}  // namespace nano::avx512
#endif
