// The selective scan of Mamba-2 as its plain recurrence (Dao and Gu 2024, equation 1), reference.
#include "kernels.h"

namespace nano::portable {

void scan(const ScanArgs& a, std::size_t head_begin, std::size_t head_end) {
    const std::size_t d_inner = a.heads * a.head_dim;
    for (std::size_t h = head_begin; h < head_end; ++h) {
        const std::size_t group = h / (a.heads / a.n_groups);
        for (std::size_t p = 0; p < a.head_dim; ++p) {
            const std::size_t row = h * a.head_dim + p;
            const float* before = a.state_in + row * a.state_size;
            float* s = a.state_out + row * a.state_size;
            for (std::size_t n = 0; n < a.state_size; ++n) s[n] = before[n];
            for (std::size_t t = 0; t < a.tokens; ++t) {
                const float* token = a.xbc + t * a.xbc_stride;
                const float* b = token + d_inner + group * a.state_size;
                const float* c = b + a.n_groups * a.state_size;
                const float x = token[row];
                const float input = a.dt[t * a.heads + h] * x;
                const float decay = a.decay[t * a.heads + h];
                float sum = 0.0F;
                for (std::size_t n = 0; n < a.state_size; ++n) {
                    s[n] = s[n] * decay + input * b[n];
                    sum += s[n] * c[n];
                }
                if (a.y != nullptr) a.y[t * d_inner + row] = sum + a.skip[h] * x;
            }
        }
    }
}

}  // namespace nano::portable
