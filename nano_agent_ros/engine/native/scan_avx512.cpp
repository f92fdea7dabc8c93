// The selective scan with the state in registers: rows of the state are loaded once, carried over all tokens and
// stored once. Nothing from the standard library; see matmul_avx512.cpp.
#if defined(__x86_64__)
#include "kernels.h"
#include "math_avx512.h"

namespace nano::avx512 {

namespace {

// Tokens and rows of a block. What of it is read again and again lies together in the L1 cache: in the activations,
// the rows of tokens lie so far apart that they would push each other out.
constexpr std::size_t kTokens = 16, kRows = 128;

template <std::size_t Vectors>
struct Block {
    std::size_t first, count;  // tokens
    std::size_t row, rows;
    __m512 b[kTokens][Vectors], c[kTokens][Vectors];
    alignas(64) float input[kTokens][kRows];  // dt * x
    alignas(64) float y[kTokens][kRows];
};

// What the rows of one head share.
template <std::size_t Vectors>
struct Head {
    static constexpr std::size_t kWidth = Vectors * 16;

    const ScanArgs& a;
    std::size_t head;
    std::size_t d_inner = a.heads * a.head_dim;

    const float* token(std::size_t t) const { return a.xbc + t * a.xbc_stride; }
    const float* b(std::size_t t) const { return token(t) + d_inner + head / (a.heads / a.n_groups) * kWidth; }
    const float* c(std::size_t t) const { return b(t) + a.n_groups * kWidth; }

    void write(std::size_t t, std::size_t row, float sum) const {
        a.y[t * d_inner + row] = __builtin_fmaf(a.skip[head], token(t)[row], sum);
    }
};

inline __attribute__((always_inline)) void store(float* out, __m512 s, bool stream) {
    if (stream) {
        _mm512_stream_ps(out, s);
    } else {
        _mm512_storeu_ps(out, s);
    }
}

// One token for up to 16 rows, one after another: bound by reading and writing the state.
template <std::size_t Vectors>
inline __attribute__((always_inline)) void step_rows(const Head<Vectors>& h, std::size_t row, std::size_t rows) {
    constexpr std::size_t width = Vectors * 16;
    constexpr std::size_t ahead = 1024;  // elements; as far as the matrix products prefetch
    const float* x = h.token(0) + row;
    const __m512 decay = _mm512_set1_ps(h.a.decay[h.head]);
    const float dt = h.a.dt[h.head];
    __m512 sums[16];
    for (std::size_t r = 0; r < rows; ++r) {
        const float* state = h.a.state_in + (row + r) * width;
        float* out = h.a.state_out + (row + r) * width;
        const __m512 input = _mm512_set1_ps(dt * x[r]);
        __m512 sum = _mm512_setzero_ps();
        for (std::size_t v = 0; v < Vectors; ++v) {
            _mm_prefetch(reinterpret_cast<const char*>(state + ahead + 16 * v), _MM_HINT_T0);
            const __m512 in = _mm512_mul_ps(input, _mm512_loadu_ps(h.b(0) + 16 * v));
            const __m512 s = _mm512_fmadd_ps(_mm512_loadu_ps(state + 16 * v), decay, in);
            sum = _mm512_fmadd_ps(s, _mm512_loadu_ps(h.c(0) + 16 * v), sum);
            store(out + 16 * v, s, h.a.stream);
        }
        sums[r] = sum;
    }
    if (h.a.y == nullptr) return;
    for (std::size_t r = rows; r < 16; ++r) sums[r] = _mm512_setzero_ps();
    float out[16];
    _mm512_storeu_ps(out, add_across(sums));
    for (std::size_t r = 0; r < rows; ++r) h.write(0, row + r, out[r]);
}

template <std::size_t Vectors>
inline __attribute__((always_inline)) void gather(const Head<Vectors>& h, Block<Vectors>& block) {
    for (std::size_t t = 0; t < block.count; ++t) {
        const float* x = h.token(block.first + t) + block.row;
        const __m512 dt = _mm512_set1_ps(h.a.dt[(block.first + t) * h.a.heads + h.head]);
        for (std::size_t i = 0; i < block.rows; i += 16) {
            _mm512_store_ps(block.input[t] + i, _mm512_mul_ps(dt, _mm512_maskz_loadu_ps(lanes(i, block.rows), x + i)));
        }
        for (std::size_t v = 0; v < Vectors; ++v) {
            block.b[t][v] = _mm512_loadu_ps(h.b(block.first + t) + 16 * v);
            block.c[t][v] = _mm512_loadu_ps(h.c(block.first + t) + 16 * v);
        }
    }
}

template <std::size_t Vectors>
inline __attribute__((always_inline)) void scatter(const Head<Vectors>& h, const Block<Vectors>& block) {
    const __m512 skip = _mm512_set1_ps(h.a.skip[h.head]);
    for (std::size_t t = 0; t < block.count; ++t) {
        const float* x = h.token(block.first + t) + block.row;
        float* y = h.a.y + (block.first + t) * h.d_inner + block.row;
        for (std::size_t i = 0; i < block.rows; i += 16) {
            const __mmask16 m = lanes(i, block.rows);
            const __m512 sum = _mm512_load_ps(block.y[t] + i);
            _mm512_mask_storeu_ps(y + i, m, _mm512_fmadd_ps(skip, _mm512_maskz_loadu_ps(m, x + i), sum));
        }
    }
}

// The block's tokens for Rows of its rows, `row` and on. Two rows make 16 sums of 8 tokens.
template <std::size_t Vectors, std::size_t Rows>
inline __attribute__((always_inline)) void scan_rows(const Head<Vectors>& h, Block<Vectors>& block, std::size_t row,
                                                     bool stream) {
    constexpr std::size_t width = Vectors * 16;
    constexpr std::size_t batch = 16 / Rows;
    const float* in = (block.first == 0 ? h.a.state_in : h.a.state_out) + (block.row + row) * width;
    __m512 s[Rows][Vectors];
    for (std::size_t r = 0; r < Rows; ++r) {
        for (std::size_t v = 0; v < Vectors; ++v) s[r][v] = _mm512_loadu_ps(in + r * width + 16 * v);
    }
    for (std::size_t begin = 0; begin < block.count; begin += batch) {
        const std::size_t end = begin + batch < block.count ? begin + batch : block.count;
        __m512 sums[16];
        for (std::size_t t = begin; t < end; ++t) {
            const __m512 decay = _mm512_set1_ps(h.a.decay[(block.first + t) * h.a.heads + h.head]);
            __m512 input[Rows], sum[Rows];
            for (std::size_t r = 0; r < Rows; ++r) {
                input[r] = _mm512_set1_ps(block.input[t][row + r]);
                sum[r] = _mm512_setzero_ps();
            }
            for (std::size_t v = 0; v < Vectors; ++v) {
                for (std::size_t r = 0; r < Rows; ++r) {
                    s[r][v] = _mm512_fmadd_ps(s[r][v], decay, _mm512_mul_ps(input[r], block.b[t][v]));
                    sum[r] = _mm512_fmadd_ps(s[r][v], block.c[t][v], sum[r]);
                }
            }
            for (std::size_t r = 0; r < Rows; ++r) sums[(t - begin) * Rows + r] = sum[r];
        }
        if (h.a.y == nullptr) continue;
        for (std::size_t i = (end - begin) * Rows; i < 16; ++i) sums[i] = _mm512_setzero_ps();
        float out[16];
        _mm512_storeu_ps(out, add_across(sums));
        for (std::size_t t = begin; t < end; ++t) {
            for (std::size_t r = 0; r < Rows; ++r) block.y[t][row + r] = out[(t - begin) * Rows + r];
        }
    }
    float* out = h.a.state_out + (block.row + row) * width;
    for (std::size_t r = 0; r < Rows; ++r) {
        for (std::size_t v = 0; v < Vectors; ++v) store(out + r * width + 16 * v, s[r][v], stream);
    }
}

template <std::size_t Vectors>
void scan_heads(const ScanArgs& a, std::size_t head_begin, std::size_t head_end) {
    for (std::size_t i = head_begin; i < head_end; ++i) {
        const Head<Vectors> h{a, i};
        const std::size_t begin = i * a.head_dim;
        const std::size_t end = begin + a.head_dim;
        if (a.tokens == 1) {
            for (std::size_t row = begin; row < end; row += 16) step_rows(h, row, end - row < 16 ? end - row : 16);
            continue;
        }
        Block<Vectors> block;
        for (block.first = 0; block.first < a.tokens; block.first += kTokens) {
            const bool last = block.first + kTokens >= a.tokens;
            block.count = last ? a.tokens - block.first : kTokens;
            for (block.row = begin; block.row < end; block.row += kRows) {
                block.rows = end - block.row < kRows ? end - block.row : kRows;
                gather(h, block);
                std::size_t row = 0;
                for (; row + 2 <= block.rows; row += 2) scan_rows<Vectors, 2>(h, block, row, last && a.stream);
                if (row < block.rows) scan_rows<Vectors, 1>(h, block, row, last && a.stream);
                if (a.y != nullptr) scatter(h, block);
            }
        }
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
