// Attention of some queries to one segment of keys and values with AVX-512. Nothing from the standard library; see
// matmul_avx512.cpp.
//
// Every score is summed in the same order, whatever else is computed with it: 16 lanes over the dimensions, then
// add_across. Values are added key by key. So a query's result does not depend on its neighbours.
#if defined(__x86_64__)
#include "kernels.h"
#include "math_avx512.h"

namespace nano::avx512 {

namespace {

constexpr std::size_t kWorthConverting = 10;  // rows from which on keys and values are converted to float32 beforehand

inline __attribute__((always_inline)) __m512 load(const float* x) { return _mm512_loadu_ps(x); }

inline __attribute__((always_inline)) __m512 load(const std::uint16_t* x) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}

// Scores of Rows queries and Keys keys, 16 together, [Rows, Keys]; key i lies at keys[i].
template <std::size_t Vectors, std::size_t Rows, std::size_t Keys, typename T>
inline __attribute__((always_inline)) __m512 score_tile(const float* query, const T* const* keys) {
    static_assert(Rows * Keys == 16);
    __m512 sums[16];
    for (std::size_t i = 0; i < 16; ++i) sums[i] = _mm512_setzero_ps();
    for (std::size_t v = 0; v < Vectors; ++v) {
        __m512 q[Rows];
        for (std::size_t r = 0; r < Rows; ++r) q[r] = _mm512_loadu_ps(query + (r * Vectors + v) * 16);
#pragma GCC unroll 16
        for (std::size_t k = 0; k < Keys; ++k) {
            const __m512 key = load(keys[k] + 16 * v);
#pragma GCC unroll 4
            for (std::size_t r = 0; r < Rows; ++r) sums[r * Keys + k] = _mm512_fmadd_ps(q[r], key, sums[r * Keys + k]);
        }
    }
    return add_across(sums);
}

// Scores of all rows for keys [first, first + 16), of which those from `end` on are copies of the last one.
template <std::size_t Vectors, typename T>
void score_keys(const AttendArgs& a, const T* keys, std::size_t first, std::size_t end, float* scores) {
    constexpr std::size_t dim = 16 * Vectors;
    const __m512 scale = _mm512_set1_ps(a.scale);
    const T* at[16];
    for (std::size_t k = 0; k < 16; ++k) at[k] = keys + (first + k < end ? first + k : end - 1) * dim;
    std::size_t r = 0;
    for (; r + 4 <= a.rows; r += 4) {
        for (std::size_t k = 0; k < 16; k += 4) {
            const __m512 tile = _mm512_mul_ps(score_tile<Vectors, 4, 4>(a.query + r * dim, at + k), scale);
            float* out = scores + r * kSegment + first + k;
            _mm_storeu_ps(out, _mm512_castps512_ps128(tile));
            _mm_storeu_ps(out + kSegment, _mm512_extractf32x4_ps(tile, 1));
            _mm_storeu_ps(out + 2 * kSegment, _mm512_extractf32x4_ps(tile, 2));
            _mm_storeu_ps(out + 3 * kSegment, _mm512_extractf32x4_ps(tile, 3));
        }
    }
    for (; r < a.rows; ++r) {
        const __m512 tile = score_tile<Vectors, 1, 16>(a.query + r * dim, at);
        _mm512_storeu_ps(scores + r * kSegment + first, _mm512_mul_ps(tile, scale));
    }
}

inline __attribute__((always_inline)) __mmask16 seen(const AttendArgs& a, std::size_t row, std::size_t first) {
    const std::uint32_t end = a.ends[row], begin = a.begins[row];
    if (first >= end || first + 16 <= begin) return 0;
    const __mmask16 below = lanes(first, end);
    return begin <= first ? below : static_cast<__mmask16>(below & (0xFFFFU << (begin - first)));
}

// Scores [begin, end) to weights: exp(score - peak), 0 for keys that the row does not see.
inline __attribute__((always_inline)) void to_weights(const AttendArgs& a, std::size_t row, std::size_t begin,
                                                      std::size_t end, float* scores, float& peak, float& total) {
    __m512 peaks = _mm512_set1_ps(kNoPeak);
    for (std::size_t i = begin; i < end; i += 16) {
        peaks = _mm512_mask_max_ps(peaks, seen(a, row, i), peaks, _mm512_loadu_ps(scores + i));
    }
    peak = _mm512_reduce_max_ps(peaks);
    __m512 totals = _mm512_setzero_ps();
    for (std::size_t i = begin; i < end; i += 16) {
        const __m512 weights = _mm512_maskz_mov_ps(
            seen(a, row, i), exp_ps(_mm512_sub_ps(_mm512_loadu_ps(scores + i), _mm512_set1_ps(peak))));
        _mm512_storeu_ps(scores + i, weights);
        totals = _mm512_add_ps(totals, weights);
    }
    total = _mm512_reduce_add_ps(totals);
}

// How much of two softmax sums remains when they become one.
struct Shares {
    __m512 keep, take;
};

inline __attribute__((always_inline)) Shares merge_peaks(const AttendSums& into, std::size_t row, float peak,
                                                         float total) {
    const float before = into.peaks[row];
    const float higher = before > peak ? before : peak;
    const Shares s{exp_ps(_mm512_set1_ps(before - higher)), exp_ps(_mm512_set1_ps(peak - higher))};
    into.peaks[row] = higher;
    into.totals[row] =
        __builtin_fmaf(total, _mm512_cvtss_f32(s.take), into.totals[row] * _mm512_cvtss_f32(s.keep));
    return s;
}

inline __attribute__((always_inline)) void merge_vector(float* into, __m512 from, const Shares& s) {
    _mm512_storeu_ps(into, _mm512_fmadd_ps(from, s.take, _mm512_mul_ps(_mm512_loadu_ps(into), s.keep)));
}

// Adds weights x values of keys [begin, end) for Rows rows and Vectors vectors of them, merged into the rows' sums.
template <std::size_t Vectors, std::size_t Rows, typename T>
inline __attribute__((always_inline)) void add_values(const T* values, std::size_t dim, std::size_t begin,
                                                      std::size_t end, const float* weights, const Shares* shares,
                                                      float* into) {
    __m512 sums[Rows][Vectors];
    for (std::size_t r = 0; r < Rows; ++r) {
        for (std::size_t v = 0; v < Vectors; ++v) sums[r][v] = _mm512_setzero_ps();
    }
    for (std::size_t i = begin; i < end; ++i) {
        __m512 value[Vectors];
        for (std::size_t v = 0; v < Vectors; ++v) value[v] = load(values + i * dim + 16 * v);
#pragma GCC unroll 6
        for (std::size_t r = 0; r < Rows; ++r) {
            const __m512 weight = _mm512_set1_ps(weights[r * kSegment + i]);
            for (std::size_t v = 0; v < Vectors; ++v) sums[r][v] = _mm512_fmadd_ps(weight, value[v], sums[r][v]);
        }
    }
    for (std::size_t r = 0; r < Rows; ++r) {
        for (std::size_t v = 0; v < Vectors; ++v) merge_vector(into + r * dim + 16 * v, sums[r][v], shares[r]);
    }
}

template <std::size_t Vectors, std::size_t Rows, typename T>
void add_values_of_rows(const T* values, std::size_t dim, std::size_t begin, std::size_t end, const float* weights,
                        const Shares* shares, float* into) {
    std::size_t v = 0;
    for (; v + 4 <= Vectors; v += 4) {
        add_values<4, Rows>(values + 16 * v, dim, begin, end, weights, shares, into + 16 * v);
    }
    if constexpr (Vectors % 4 != 0) {
        add_values<Vectors % 4, Rows>(values + 16 * v, dim, begin, end, weights, shares, into + 16 * v);
    }
}

// Asks for `n` float16 values; those of a segment come from memory when one token is computed.
inline __attribute__((always_inline)) void prefetch(const std::uint16_t* x, std::size_t n) {
    for (std::size_t i = 0; i < n; i += 32) _mm_prefetch(reinterpret_cast<const char*>(x + i), _MM_HINT_T0);
}

inline __attribute__((always_inline)) void prefetch(const float*, std::size_t) {}

template <std::size_t Vectors, typename T>
void attend_to(const AttendArgs& a, const T* keys, const T* values, std::size_t begin, std::size_t end, float* scores) {
    constexpr std::size_t dim = 16 * Vectors;
    const std::size_t first = begin / 16 * 16;
    for (std::size_t i = first; i < end; i += 16) {
        // The next keys are asked for while these are scored, and the values, which come after all keys.
        if (i + 16 < end) prefetch(keys + (i + 16) * dim, 16 * dim);
        prefetch(values + i * dim, (end - i < 16 ? end - i : 16) * dim);
        score_keys<Vectors>(a, keys, i, end, scores);
    }
    for (std::size_t r = 0; r < a.rows;) {
        const std::size_t rows = a.rows - r < 6 ? a.rows - r : 6;
        Shares shares[6];
        for (std::size_t i = 0; i < rows; ++i) {
            float peak, total;
            to_weights(a, r + i, first, end, scores + (r + i) * kSegment, peak, total);
            shares[i] = merge_peaks(a.into, r + i, peak, total);
        }
        const float* weights = scores + r * kSegment;
        float* into = a.into.sums + r * dim;
        switch (rows) {
            case 1: add_values_of_rows<Vectors, 1>(values, dim, begin, end, weights, shares, into); break;
            case 2: add_values_of_rows<Vectors, 2>(values, dim, begin, end, weights, shares, into); break;
            case 3: add_values_of_rows<Vectors, 3>(values, dim, begin, end, weights, shares, into); break;
            case 4: add_values_of_rows<Vectors, 4>(values, dim, begin, end, weights, shares, into); break;
            case 5: add_values_of_rows<Vectors, 5>(values, dim, begin, end, weights, shares, into); break;
            default: add_values_of_rows<Vectors, 6>(values, dim, begin, end, weights, shares, into); break;
        }
        r += rows;
    }
}

void to_float(const std::uint16_t* x, std::size_t n, float* out) {
    for (std::size_t i = 0; i < n; i += 16) _mm512_storeu_ps(out + i, load(x + i));
}

template <std::size_t Vectors>
void attend_full(const AttendArgs& a) {
    constexpr std::size_t dim = 16 * Vectors;
    std::size_t begin = kSegment;
    std::size_t end = 0;
    for (std::size_t r = 0; r < a.rows; ++r) {
        begin = a.begins[r] < begin ? a.begins[r] : begin;
        end = a.ends[r] > end ? a.ends[r] : end;
    }
    if (begin >= end) return;
    float* scores = a.scratch;
    if (a.rows < kWorthConverting) return attend_to<Vectors>(a, a.keys, a.values, begin, end, scores);
    const std::size_t first = begin / 16 * 16;
    float* keys = scores + a.rows * kSegment;
    float* values = keys + kSegment * dim;
    to_float(a.keys + first * dim, (end - first) * dim, keys + first * dim);
    to_float(a.values + begin * dim, (end - begin) * dim, values + begin * dim);
    attend_to<Vectors>(a, keys, values, begin, end, scores);
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

void merge_attention(const AttendSums& into, const AttendSums& from, std::size_t rows, std::size_t head_dim) {
    if (head_dim % 16 != 0 || head_dim > 128 || head_dim == 112) {
        return portable::merge_attention(into, from, rows, head_dim);
    }
    for (std::size_t r = 0; r < rows; ++r) {
        const Shares shares = merge_peaks(into, r, from.peaks[r], from.totals[r]);
        for (std::size_t d = r * head_dim; d < (r + 1) * head_dim; d += 16) {
            merge_vector(into.sums + d, _mm512_loadu_ps(from.sums + d), shares);
        }
    }
}

}  // namespace nano::avx512
#endif
