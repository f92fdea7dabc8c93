// The inner loops of the network, as a table of functions with one entry per instruction set.
//
// Rounding contract: what a kernel writes for one token, row or head does not depend on how many others are
// computed in the same call, nor on how the work is split over threads. `commit` relies on it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nano {

constexpr std::size_t kGroup = 64;        // inputs that share one scale
constexpr std::size_t kPanelRows = 16;    // rows interleaved in one panel

// Quantized weights [rows, cols] in panels: ceil(rows / 16) x (cols / 64) blocks, each the weights of 16 rows x 64 inputs
// at 4 or 8 bits and then 16 float16 scales. docs/artifact.md has the order of the bytes.
struct PanelMatrix {
    const std::uint8_t* panels = nullptr;
    const float* bias = nullptr;  // [rows], or null
    std::size_t rows = 0;
    std::size_t cols = 0;
    std::size_t bits = 4;  // 4: q + 8 in a nibble; 8: q + 128 in a byte

    std::size_t groups() const { return cols / kGroup; }
    std::size_t weight_bytes() const { return kPanelRows * kGroup * bits / 8; }  // of a block, before its scales
    std::size_t block_bytes() const { return weight_bytes() + 2 * kPanelRows; }
    std::size_t panel_count() const { return (rows + kPanelRows - 1) / kPanelRows; }
};

// Activations of several tokens, as INT8 and as they were.
struct Int8Rows {
    std::int8_t* values = nullptr;    // [tokens, cols]
    float* scales = nullptr;          // [tokens, groups]
    std::int32_t* offsets = nullptr;  // [tokens, groups]: -8 x sum of the group's values, the zero point of INT4 weights
    const float* source = nullptr;    // [tokens, cols]
};

struct ConvArgs {
    const float* input = nullptr;   // [kernel - 1 + tokens, channels]; the first rows are the tokens before
    const float* weight = nullptr;  // [kernel, channels]
    const float* bias = nullptr;    // [channels], or null
    float* output = nullptr;        // [tokens, channels]
    std::size_t kernel = 0, channels = 0, tokens = 0;
};

struct ScanArgs {
    const float* xbc = nullptr;    // [tokens, xbc_stride]: x [heads, head_dim], B [n_groups, state_size], C alike
    const float* dt = nullptr;     // [tokens, heads], after softplus and clamp
    const float* decay = nullptr;  // [tokens, heads], exp(dt * A)
    const float* skip = nullptr;   // D [heads]
    const float* state_in = nullptr;  // [heads, head_dim, state_size]
    float* state_out = nullptr;       // may be state_in
    float* y = nullptr;               // [tokens, heads * head_dim], or null to move the state only
    std::size_t xbc_stride = 0, tokens = 0, heads = 0, head_dim = 0, state_size = 0, n_groups = 0;
    bool stream = false;  // write the state past the caches, where it is too large to be found there by the next step
};

constexpr std::size_t kSegment = 128;  // keys whose softmax is taken at once
constexpr float kNoPeak = -3.0e38F;    // highest score of no keys

// Softmax sums of some queries over the keys seen so far: for each query the highest score, the sum of the weights
// exp(score - highest) and the sum of the values by weight. No keys: kNoPeak, 0 and zeros.
struct AttendSums {
    float* sums = nullptr;    // [rows, head_dim]
    float* peaks = nullptr;   // [rows]
    float* totals = nullptr;  // [rows]
};

// Queries that share keys and values: those of the heads of a group, of one or several tokens.
struct AttendArgs {
    const float* query = nullptr;                               // [rows, head_dim]
    const std::uint16_t *keys = nullptr, *values = nullptr;     // float16 [kSegment, head_dim]
    const std::uint32_t *begins = nullptr, *ends = nullptr;     // [rows]: which keys of the segment a query sees
    std::size_t rows = 0, head_dim = 0;
    float scale = 1.0F;
    float* scratch = nullptr;  // attend_scratch(rows, head_dim) floats
    AttendSums into;
};

constexpr std::size_t attend_scratch(std::size_t rows, std::size_t head_dim) {
    return rows * kSegment + (2 * kSegment + 1) * head_dim;
}

struct KernelSet {
    const char* name;
    // Per group: scale = max|x| / 127, value = round to even(x * (127 / max|x|)).
    void (*quantize_row)(const float* x, std::size_t cols, std::int8_t* values, float* scales, std::int32_t* offsets);
    // y[t, row] = bias[row] + sum over groups, in order, of int dot product * (weight scale * activation scale).
    void (*matmul)(const PanelMatrix& w, std::size_t panel_begin, std::size_t panel_end, const Int8Rows& x,
                   std::size_t tokens, float* y, std::size_t y_stride);
    // y = x * weight / sqrt(mean(x^2) + eps)
    void (*rms_norm)(const float* x, const float* weight, std::size_t n, float eps, float* y);
    // h = y * silu(gate), then RMS norm of each run of group elements.
    void (*gated_norm)(const float* y, const float* gate, const float* weight, std::size_t n, std::size_t group,
                       float eps, float* out);
    void (*conv_silu)(const ConvArgs& args, std::size_t channel_begin, std::size_t channel_end);
    // S = S * decay + (dt * x) B;  y = S C + D x
    void (*scan)(const ScanArgs& args, std::size_t head_begin, std::size_t head_end);
    // Adds a segment to what the queries have seen. What keys outside of [begin, end) hold does not matter to a query.
    void (*attend)(const AttendArgs& args);
    // Adds other sums, of later keys; attend(segment) is attend(segment) into no keys and then this.
    void (*merge_attention)(const AttendSums& into, const AttendSums& from, std::size_t rows, std::size_t head_dim);
    // out = x as float16, rounded to even; what float16 cannot hold becomes +-65504, so that out is always finite.
    void (*to_half)(const float* x, std::size_t n, std::uint16_t* out);
    void (*relu_squared)(float* x, std::size_t n);
    void (*add)(float* x, const float* y, std::size_t n);  // x += y
};

// dt = clamp(softplus(raw + bias)), decay = exp(-exp(a_log) dt), in float32, for all kernel sets.
void discretize(const float* raw, const float* bias, const float* neg_a, std::size_t heads, float dt_min, float dt_max,
                float* dt, float* decay);

float half_to_float(std::uint16_t half);

const KernelSet& portable_kernels();
// Null where the processor lacks what the set needs.
const KernelSet* avx512_kernels();   // AVX-512 F, BW, VL, DQ and VNNI
const KernelSet* avx2_kernels();     // AVX2, FMA, F16C
const KernelSet* avxvnni_kernels();  // the same and AVX-VNNI
const KernelSet* neon_kernels();     // Arm NEON with dot products

// The portable set without quantization of activations: slow, to tell its error from others.
const KernelSet& float_kernels();

// The fastest set here for "auto", or that of a name; null if there is no such set here.
const KernelSet* find_kernels(const char* name);

namespace portable {
void quantize_row(const float* x, std::size_t cols, std::int8_t* values, float* scales, std::int32_t* offsets);
void matmul(const PanelMatrix& w, std::size_t panel_begin, std::size_t panel_end, const Int8Rows& x,
            std::size_t tokens, float* y, std::size_t y_stride);
void rms_norm(const float* x, const float* weight, std::size_t n, float eps, float* y);
void gated_norm(const float* y, const float* gate, const float* weight, std::size_t n, std::size_t group, float eps,
                float* out);
void conv_silu(const ConvArgs& args, std::size_t channel_begin, std::size_t channel_end);
void scan(const ScanArgs& args, std::size_t head_begin, std::size_t head_end);
void attend(const AttendArgs& args);
void merge_attention(const AttendSums& into, const AttendSums& from, std::size_t rows, std::size_t head_dim);
void to_half(const float* x, std::size_t n, std::uint16_t* out);
void relu_squared(float* x, std::size_t n);
void add(float* x, const float* y, std::size_t n);
}  // namespace portable

namespace avx2 {
void quantize_row(const float* x, std::size_t cols, std::int8_t* values, float* scales, std::int32_t* offsets);
void matmul(const PanelMatrix& w, std::size_t panel_begin, std::size_t panel_end, const Int8Rows& x,
            std::size_t tokens, float* y, std::size_t y_stride);
void scan(const ScanArgs& args, std::size_t head_begin, std::size_t head_end);
}  // namespace avx2

namespace avxvnni {
void matmul(const PanelMatrix& w, std::size_t panel_begin, std::size_t panel_end, const Int8Rows& x,
            std::size_t tokens, float* y, std::size_t y_stride);
}  // namespace avxvnni

namespace neon {
void quantize_row(const float* x, std::size_t cols, std::int8_t* values, float* scales, std::int32_t* offsets);
void matmul(const PanelMatrix& w, std::size_t panel_begin, std::size_t panel_end, const Int8Rows& x,
            std::size_t tokens, float* y, std::size_t y_stride);
void scan(const ScanArgs& args, std::size_t head_begin, std::size_t head_end);
}  // namespace neon

namespace avx512 {
void quantize_row(const float* x, std::size_t cols, std::int8_t* values, float* scales, std::int32_t* offsets);
void matmul(const PanelMatrix& w, std::size_t panel_begin, std::size_t panel_end, const Int8Rows& x,
            std::size_t tokens, float* y, std::size_t y_stride);
void rms_norm(const float* x, const float* weight, std::size_t n, float eps, float* y);
void gated_norm(const float* y, const float* gate, const float* weight, std::size_t n, std::size_t group, float eps,
                float* out);
void conv_silu(const ConvArgs& args, std::size_t channel_begin, std::size_t channel_end);
void scan(const ScanArgs& args, std::size_t head_begin, std::size_t head_end);
void attend(const AttendArgs& args);
void merge_attention(const AttendSums& into, const AttendSums& from, std::size_t rows, std::size_t head_dim);
void to_half(const float* x, std::size_t n, std::uint16_t* out);
void relu_squared(float* x, std::size_t n);
void add(float* x, const float* y, std::size_t n);
}  // namespace avx512

}  // namespace nano
