// Matrix product with the 256-bit dot products of AVX-VNNI (processors that have no AVX-512 but these).
// Nothing from the standard library; see matmul_avx512.cpp.
#if defined(__x86_64__)
#include "kernels.h"
#include "tiles_avx2.h"

namespace nano::avxvnni {

namespace {

struct VnniProducts {
    static constexpr bool kSigned = false;

    static inline __attribute__((always_inline)) __m256i add_nibbles(__m256i sum, __m256i w, __m256i x) {
        return _mm256_dpbusd_avx_epi32(sum, w, x);
    }
    static inline __attribute__((always_inline)) __m256i add_bytes(__m256i sum, __m256i w, __m256i x) {
        return _mm256_dpbusd_avx_epi32(sum, w, x);
    }
};

}  // namespace

void matmul(const PanelMatrix& w, std::size_t panel_begin, std::size_t panel_end, const Int8Rows& x,
            std::size_t tokens, float* y, std::size_t y_stride) {
    PanelProduct<Tiles256<VnniProducts>>(w, x, y, y_stride).run(panel_begin, panel_end, tokens);
}

}  // namespace nano::avxvnni
#endif
