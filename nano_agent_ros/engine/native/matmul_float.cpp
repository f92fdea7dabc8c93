// The matrix product on activations as they are: what quantizing them to INT8 costs shows against this.
#include <algorithm>
#include <cstring>

#include "kernels.h"

namespace nano {

namespace {

void keep_source(const float*, std::size_t, std::int8_t*, float*, std::int32_t*) {}

// Weight of row n of a panel block, in units of its scale, for input i of the group.
float level(const std::uint8_t* block, std::size_t bits, std::size_t n, std::size_t i) {
    if (bits == 8) return static_cast<float>(block[64 * (i / 4) + 4 * n + i % 4] - 128);
    const std::uint8_t pair = block[64 * (i / 8) + 4 * n + i % 4];
    return static_cast<float>((i % 8 < 4 ? pair & 15 : pair >> 4) - 8);
}

void matmul(const PanelMatrix& w, std::size_t panel_begin, std::size_t panel_end, const Int8Rows& x,
            std::size_t tokens, float* y, std::size_t y_stride) {
    for (std::size_t row = panel_begin * kPanelRows; row < std::min(panel_end * kPanelRows, w.rows); ++row) {
        const std::size_t n = row % kPanelRows;
        for (std::size_t t = 0; t < tokens; ++t) {
            float sum = w.bias != nullptr ? w.bias[row] : 0.0F;
            for (std::size_t g = 0; g < w.groups(); ++g) {
                const std::uint8_t* block = w.panels + (row / kPanelRows * w.groups() + g) * w.block_bytes();
                const float* in = x.source + t * w.cols + g * kGroup;
                float dot = 0.0F;
                for (std::size_t i = 0; i < kGroup; ++i) dot += level(block, w.bits, n, i) * in[i];
                std::uint16_t half;
                std::memcpy(&half, block + w.weight_bytes() + 2 * n, sizeof half);
                sum += dot * half_to_float(half);
            }
            y[t * y_stride + row] = sum;
        }
    }
}

}  // namespace

const KernelSet& float_kernels() {
    static const KernelSet set = [] {
        KernelSet s = portable_kernels();
        s.name = "float";
        s.quantize_row = keep_source;
        s.matmul = matmul;
        return s;
    }();
    return set;
}

}  // namespace nano
