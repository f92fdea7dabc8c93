// The selective scan with the state in registers: rows of the state are loaded once, carried over all tokens and
// stored once. Nothing from the standard library; see matmul_avx512.cpp.
#if defined(__x86_64__)
#include "kernels.h"
#include "math_avx512.h"

namespace nano::avx512 {

namespace {

// What one head's rows share: where B and C lie in a token, and how the results are written.
template <std::size_t Vectors>
struct Head {
    static constexpr std::size_t kWidth = Vectors * 16;

    const ScanArgs& a;
    std::size_t head;
    std::size_t d_inner = a.heads * a.head_dim;
    std::size_t b_offset = d_inner + head / (a.heads / a.n_groups) * kWidth;
    std::size_t c_offset = b_offset + a.n_groups * kWidth;

    const float* token(std::size_t t) const { return a.xbc + t * a.xbc_stride; }

    void write(std::size_t t, std::size_t row, float sum) const {
        a.y[t * d_inner + row] = __builtin_fmaf(a.skip[head], token(t)[row], sum);
    }

    void store(std::size_t row, std::size_t v, __m512 s) const {
        float* out = a.state_out + row * kWidth + 16 * v;
        if (a.stream) {
            _mm512_stream_ps(out, s);
        } else {
            _mm512_storeu_ps(out, s);
        }
    }
};

// One token for up to 16 rows, one after another: bound by reading and writing the state.
template <std::size_t Vectors>
inline __attribute__((always_inline)) void step_rows(const Head<Vectors>& h, std::size_t row, std::size_t rows) {
    constexpr std::size_t width = Vectors * 16;
    constexpr std::size_t ahead = 1024;  // elements; as far as the matrix products prefetch
    const float* token = h.token(0);
    const __m512 decay = _mm512_set1_ps(h.a.decay[h.head]);
    const float dt = h.a.dt[h.head];
    __m512 sums[16];
    for (std::size_t r = 0; r < rows; ++r) {
        const float* state = h.a.state_in + (row + r) * width;
        const __m512 input = _mm512_set1_ps(dt * token[row + r]);
        __m512 sum = _mm512_setzero_ps();
        for (std::size_t v = 0; v < Vectors; ++v) {
            _mm_prefetch(reinterpret_cast<const char*>(state + ahead + 16 * v), _MM_HINT_T0);
            const __m512 in = _mm512_mul_ps(input, _mm512_loadu_ps(token + h.b_offset + 16 * v));
            const __m512 s = _mm512_fmadd_ps(_mm512_loadu_ps(state + 16 * v), decay, in);
            sum = _mm512_fmadd_ps(s, _mm512_loadu_ps(token + h.c_offset + 16 * v), sum);
            h.store(row + r, v, s);
        }
        sums[r] = sum;
    }
    if (h.a.y == nullptr) return;
    for (std::size_t r = rows; r < 16; ++r) sums[r] = _mm512_setzero_ps();
    float out[16];
    _mm512_storeu_ps(out, add_across(sums));
    for (std::size_t r = 0; r < rows; ++r) h.write(0, row + r, out[r]);
}

// All tokens for Rows rows, 16 / Rows tokens between two reductions.
template <std::size_t Vectors, std::size_t Rows>
inline __attribute__((always_inline)) void scan_rows(const Head<Vectors>& h, std::size_t row) {
    constexpr std::size_t width = Vectors * 16;
    constexpr std::size_t block = 16 / Rows;
    __m512 s[Rows][Vectors];
    for (std::size_t r = 0; r < Rows; ++r) {
        for (std::size_t v = 0; v < Vectors; ++v) s[r][v] = _mm512_loadu_ps(h.a.state_in + (row + r) * width + 16 * v);
    }
    for (std::size_t first = 0; first < h.a.tokens; first += block) {
        const std::size_t count = h.a.tokens - first < block ? h.a.tokens - first : block;
        __m512 sums[16];
        for (std::size_t i = 0; i < count; ++i) {
            const float* token = h.token(first + i);
            const std::size_t at = (first + i) * h.a.heads + h.head;
            const __m512 decay = _mm512_set1_ps(h.a.decay[at]);
            __m512 input[Rows], sum[Rows];
            for (std::size_t r = 0; r < Rows; ++r) {
                input[r] = _mm512_set1_ps(h.a.dt[at] * token[row + r]);
                sum[r] = _mm512_setzero_ps();
            }
            for (std::size_t v = 0; v < Vectors; ++v) {
                const __m512 b = _mm512_loadu_ps(token + h.b_offset + 16 * v);
                const __m512 c = _mm512_loadu_ps(token + h.c_offset + 16 * v);
                for (std::size_t r = 0; r < Rows; ++r) {
                    s[r][v] = _mm512_fmadd_ps(s[r][v], decay, _mm512_mul_ps(input[r], b));
                    sum[r] = _mm512_fmadd_ps(s[r][v], c, sum[r]);
                }
            }
            for (std::size_t r = 0; r < Rows; ++r) sums[i * Rows + r] = sum[r];
        }
        if (h.a.y == nullptr) continue;
        for (std::size_t i = count * Rows; i < 16; ++i) sums[i] = _mm512_setzero_ps();
        float out[16];
        _mm512_storeu_ps(out, add_across(sums));
        for (std::size_t i = 0; i < count; ++i) {
            for (std::size_t r = 0; r < Rows; ++r) h.write(first + i, row + r, out[i * Rows + r]);
        }
    }
    for (std::size_t r = 0; r < Rows; ++r) {
        for (std::size_t v = 0; v < Vectors; ++v) h.store(row + r, v, s[r][v]);
    }
}

template <std::size_t Vectors>
void scan_heads(const ScanArgs& a, std::size_t head_begin, std::size_t head_end) {
    for (std::size_t i = head_begin; i < head_end; ++i) {
        const Head<Vectors> h{a, i};
        const std::size_t end = (i + 1) * a.head_dim;
        std::size_t row = i * a.head_dim;
        if (a.tokens == 1) {
            for (; row < end; row += 16) step_rows(h, row, end - row < 16 ? end - row : 16);
            continue;
        }
        for (; row + 2 <= end; row += 2) scan_rows<Vectors, 2>(h, row);
        if (row < end) scan_rows<Vectors, 1>(h, row);
    }
    if (a.stream) _mm_sfence();
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
