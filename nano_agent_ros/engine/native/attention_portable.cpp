// Attention of some queries to one segment of keys and values, plain reference.
//
// A segment's softmax is taken by itself and then merged into that of the segments before it (Milakov and Gimelshein
// 2018). Sums over dimensions and keys run in 16 lanes, so that compilers see what every processor can do at once.
#include <algorithm>
#include <cmath>

#include "half.h"
#include "kernels.h"

namespace nano::portable {

namespace {

constexpr std::size_t kLanes = 16;

float dot(const float* x, const float* y, std::size_t n) {
    float lanes[kLanes] = {};
    std::size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        for (std::size_t l = 0; l < kLanes; ++l) lanes[l] += x[i + l] * y[i + l];
    }
    for (std::size_t l = 0; i + l < n; ++l) lanes[l] += x[i + l] * y[i + l];
    float sum = 0.0F;
    for (const float lane : lanes) sum += lane;
    return sum;
}

}  // namespace

void merge_attention(const AttendSums& into, const AttendSums& from, std::size_t rows, std::size_t head_dim) {
    for (std::size_t r = 0; r < rows; ++r) {
        const float peak = std::max(into.peaks[r], from.peaks[r]);
        const float keep = std::exp(into.peaks[r] - peak);
        const float take = std::exp(from.peaks[r] - peak);
        into.peaks[r] = peak;
        into.totals[r] = into.totals[r] * keep + from.totals[r] * take;
        float* sums = into.sums + r * head_dim;
        for (std::size_t d = 0; d < head_dim; ++d) sums[d] = sums[d] * keep + from.sums[r * head_dim + d] * take;
    }
}

void attend(const AttendArgs& a) {
    const std::size_t dim = a.head_dim;
    const std::size_t begin = *std::min_element(a.begins, a.begins + a.rows);
    const std::size_t end = *std::max_element(a.ends, a.ends + a.rows);
    if (begin >= end) return;
    float* keys = a.scratch;
    float* values = keys + kSegment * dim;
    float* sums = values + kSegment * dim;
    halves_to_floats(a.keys + begin * dim, (end - begin) * dim, keys);
    halves_to_floats(a.values + begin * dim, (end - begin) * dim, values);
    for (std::size_t r = 0; r < a.rows; ++r) {
        float scores[kSegment];
        float peak = kNoPeak;
        for (std::size_t i = a.begins[r]; i < a.ends[r]; ++i) {
            scores[i] = dot(a.query + r * dim, keys + (i - begin) * dim, dim) * a.scale;
            peak = std::max(peak, scores[i]);
        }
        float total = 0.0F;
        std::fill_n(sums, dim, 0.0F);
        for (std::size_t i = a.begins[r]; i < a.ends[r]; ++i) {
            const float weight = std::exp(scores[i] - peak);
            const float* value = values + (i - begin) * dim;
            total += weight;
            for (std::size_t d = 0; d < dim; ++d) sums[d] += weight * value[d];
        }
        const AttendSums into{a.into.sums + r * dim, a.into.peaks + r, a.into.totals + r};
        merge_attention(into, {sums, &peak, &total}, 1, dim);
    }
}

}  // namespace nano::portable
