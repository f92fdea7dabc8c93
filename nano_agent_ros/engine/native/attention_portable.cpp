// Attention of one query head over its cached keys and values, plain reference: the scores are computed twice, so
// that no memory for them is needed.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels.h"

namespace nano::portable {

static float score(const AttendArgs& a, const std::uint16_t* key) {
    float dot = 0.0F;
    for (std::size_t d = 0; d < a.head_dim; ++d) dot += a.query[d] * half_to_float(key[d]);
    return dot * a.scale;
}

void attend(const AttendArgs& a) {
    float peak = -std::numeric_limits<float>::infinity();
    for (std::size_t r = 0; r < a.run_count; ++r) {
        for (std::size_t i = 0; i < a.runs[r].count; ++i) {
            peak = std::max(peak, score(a, a.runs[r].keys + a.run_offset + i * a.head_dim));
        }
    }
    std::fill_n(a.output, a.head_dim, 0.0F);
    float total = 0.0F;
    for (std::size_t r = 0; r < a.run_count; ++r) {
        for (std::size_t i = 0; i < a.runs[r].count; ++i) {
            const float weight = std::exp(score(a, a.runs[r].keys + a.run_offset + i * a.head_dim) - peak);
            const std::uint16_t* value = a.runs[r].values + a.run_offset + i * a.head_dim;
            total += weight;
            for (std::size_t d = 0; d < a.head_dim; ++d) a.output[d] += weight * half_to_float(value[d]);
        }
    }
    for (std::size_t d = 0; d < a.head_dim; ++d) a.output[d] /= total;
}

}  // namespace nano::portable
