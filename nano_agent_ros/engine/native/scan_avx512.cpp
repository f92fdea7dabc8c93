// The selective scan with the state in registers: rows of the state are loaded once, carried over all tokens and
// stored once. Nothing from the standard library; see matmul_avx512.cpp.
#if defined(__x86_64__)
#include "kernels.h"
#include "math_avx512.h"

namespace nano::avx512 {

namespace {

// Two rows of one head, each of Vectors x 16 state elements. With one row (Rows = 1) every row sees the same operations.
template <std::size_t Vectors, std::size_t Rows>
inline __attribute__((always_inline)) void scan_rows(const ScanArgs& a, std::size_t head, std::size_t row) {
    constexpr std::size_t width = Vectors * 16;
    const std::size_t d_inner = a.heads * a.head_dim;
    const std::size_t b_offset = d_inner + head / (a.heads / a.n_groups) * width;
    const std::size_t c_offset = b_offset + a.n_groups * width;
    __m512 s[Rows][Vectors];
    for (std::size_t r = 0; r < Rows; ++r) {
        for (std::size_t v = 0; v < Vectors; ++v) s[r][v] = _mm512_loadu_ps(a.state_in + (row + r) * width + 16 * v);
    }
    for (std::size_t t = 0; t < a.tokens; ++t) {
        const float* token = a.xbc + t * a.xbc_stride;
        const __m512 decay = _mm512_set1_ps(a.decay[t * a.heads + head]);
        const float dt = a.dt[t * a.heads + head];
        __m512 input[Rows];
        __m512 sum[Rows];
        for (std::size_t r = 0; r < Rows; ++r) {
            input[r] = _mm512_set1_ps(dt * token[row + r]);
            sum[r] = _mm512_setzero_ps();
        }
        for (std::size_t v = 0; v < Vectors; ++v) {
            const __m512 b = _mm512_loadu_ps(token + b_offset + 16 * v);
            const __m512 c = _mm512_loadu_ps(token + c_offset + 16 * v);
            for (std::size_t r = 0; r < Rows; ++r) {
                s[r][v] = _mm512_fmadd_ps(s[r][v], decay, _mm512_mul_ps(input[r], b));
                sum[r] = _mm512_fmadd_ps(s[r][v], c, sum[r]);
            }
        }
        if (a.y != nullptr) {
            for (std::size_t r = 0; r < Rows; ++r) {
                a.y[t * d_inner + row + r] = _mm512_reduce_add_ps(sum[r]) + a.skip[head] * token[row + r];
            }
        }
    }
    for (std::size_t r = 0; r < Rows; ++r) {
        for (std::size_t v = 0; v < Vectors; ++v) _mm512_storeu_ps(a.state_out + (row + r) * width + 16 * v, s[r][v]);
    }
}

template <std::size_t Vectors>
void scan_heads(const ScanArgs& a, std::size_t head_begin, std::size_t head_end) {
    for (std::size_t h = head_begin; h < head_end; ++h) {
        const std::size_t end = (h + 1) * a.head_dim;
        std::size_t row = h * a.head_dim;
        for (; row + 2 <= end; row += 2) scan_rows<Vectors, 2>(a, h, row);
        if (row < end) scan_rows<Vectors, 1>(a, h, row);
    }
}

}  // namespace

void scan(const ScanArgs& a, std::size_t head_begin, std::size_t head_end) {
    switch (a.state_size) {
        case 16: return scan_heads<1>(a, head_begin, head_end);
        case 32: return scan_heads<2>(a, head_begin, head_end);
        case 64: return scan_heads<4>(a, head_begin, head_end);
        case 128: return scan_heads<8>(a, head_begin, head_end);
        default: return portable::scan(a, head_begin, head_end);
    }
}

}  // namespace nano::avx512
#endif
