#include "nano_kernels.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "hashed_copy.h"
#include "kernels.h"
#include "thread_pool.h"

namespace {

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

template <typename Body>
int with_set(const char* set, const Body& body) {
    const nano::KernelSet* kernels = nano::find_kernels(set);
    if (kernels == nullptr) return -1;
    body(*kernels);
    return 0;
}

}  // namespace

int nano_kernel_linear(const char* set, const uint8_t* panels, int64_t bits, const float* bias, int64_t rows,
                       int64_t cols, const float* x, int64_t tokens, float* y) {
    return with_set(set, [&](const nano::KernelSet& k) {
        nano::PanelMatrix w;
        w.panels = panels;
        w.bits = size(bits);
        w.bias = bias;
        w.rows = size(rows);
        w.cols = size(cols);
        std::vector<std::int8_t> values(size(tokens * cols));
        std::vector<float> scales(size(tokens) * w.groups());
        std::vector<std::int32_t> offsets(scales.size());
        for (std::size_t t = 0; t < size(tokens); ++t) {
            k.quantize_row(x + t * w.cols, w.cols, values.data() + t * w.cols, scales.data() + t * w.groups(),
                           offsets.data() + t * w.groups());
        }
        k.matmul(w, 0, w.panel_count(), {values.data(), scales.data(), offsets.data(), x}, size(tokens), y, w.rows);
    });
}

int nano_kernel_time_linear(const char* set, int64_t bits, int64_t rows, int64_t cols, int64_t count, int64_t tokens,
                            int64_t threads, int64_t repeats, double* seconds) {
    const nano::KernelSet* k = nano::find_kernels(set);
    if (k == nullptr) return -1;
    nano::PanelMatrix w;
    w.bits = size(bits);
    w.rows = size(rows);
    w.cols = size(cols);
    const std::size_t layer_bytes = w.panel_count() * w.groups() * w.block_bytes();
    const std::size_t nbytes = layer_bytes * size(count);
    void* memory = ::mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return -1;
    ::madvise(memory, nbytes, MADV_HUGEPAGE);
    std::uint8_t* const panels = static_cast<std::uint8_t*>(memory);
    std::uint64_t random = 88172645463325252U;
    for (std::size_t block = 0; block < nbytes; block += w.block_bytes()) {
        for (std::size_t i = 0; i < w.weight_bytes(); i += sizeof random) {
            random ^= random << 13U;
            random ^= random >> 7U;
            random ^= random << 17U;
            // INT8 levels are 1 to 255
            const std::uint64_t levels = w.bits == 8 ? random | 0x0101010101010101U : random;
            std::memcpy(panels + block + i, &levels, sizeof levels);
        }
        for (std::size_t n = 0; n < nano::kPanelRows; ++n) {
            const std::uint16_t half = static_cast<std::uint16_t>(0x1400U + (random >> (n & 31U) & 0xFFU));
            std::memcpy(panels + block + w.weight_bytes() + 2 * n, &half, sizeof half);
        }
    }
    std::vector<float> x(size(tokens) * w.cols), y(size(tokens) * w.rows);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 2654435761U % 2001U) / 1000.0F - 1.0F;
    std::vector<std::int8_t> values(x.size());
    std::vector<float> scales(size(tokens) * w.groups());
    std::vector<std::int32_t> offsets(scales.size());
    for (std::size_t t = 0; t < size(tokens); ++t) {
        k->quantize_row(x.data() + t * w.cols, w.cols, values.data() + t * w.cols, scales.data() + t * w.groups(),
                        offsets.data() + t * w.groups());
    }
    const nano::Int8Rows in{values.data(), scales.data(), offsets.data(), x.data()};
    {
        nano::ThreadPool pool(size(threads), nano::core_processors());
        const nano::ThreadPool::Session session(pool, true);
        for (std::int64_t r = 0; r < repeats; ++r) {
            const auto begun = std::chrono::steady_clock::now();
            for (std::size_t layer = 0; layer < size(count); ++layer) {
                w.panels = panels + layer * layer_bytes;
                pool.parallel_for(w.panel_count(), 1, [&](std::size_t begin, std::size_t end) {
                    k->matmul(w, begin, end, in, size(tokens), y.data(), w.rows);
                });
            }
            seconds[r] = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
        }
    }
    ::munmap(memory, nbytes);
    return 0;
}

int nano_kernel_quantize(const char* set, const float* x, int64_t cols, int8_t* values, float* scales,
                         int32_t* offsets) {
    return with_set(set, [&](const nano::KernelSet& k) { k.quantize_row(x, size(cols), values, scales, offsets); });
}

int nano_kernel_rms_norm(const char* set, const float* x, const float* weight, int64_t n, float eps, float* y) {
    return with_set(set, [&](const nano::KernelSet& k) { k.rms_norm(x, weight, size(n), eps, y); });
}

int nano_kernel_gated_norm(const char* set, const float* y, const float* gate, const float* weight, int64_t n,
                           int64_t group, float eps, float* out) {
    return with_set(set,
                    [&](const nano::KernelSet& k) { k.gated_norm(y, gate, weight, size(n), size(group), eps, out); });
}

int nano_kernel_conv_silu(const char* set, const float* input, const float* weight, const float* bias, int64_t kernel,
                          int64_t channels, int64_t tokens, float* output) {
    return with_set(set, [&](const nano::KernelSet& k) {
        nano::ConvArgs args;
        args.input = input;
        args.weight = weight;
        args.bias = bias;
        args.output = output;
        args.kernel = size(kernel);
        args.channels = size(channels);
        args.tokens = size(tokens);
        k.conv_silu(args, 0, args.channels);
    });
}

int nano_kernel_scan(const char* set, const float* xbc, const float* dt, const float* decay, const float* skip,
                     int64_t tokens, int64_t heads, int64_t head_dim, int64_t state_size, int64_t n_groups,
                     float* state, float* y) {
    return with_set(set, [&](const nano::KernelSet& k) {
        nano::ScanArgs args;
        args.xbc = xbc;
        args.xbc_stride = size(heads * head_dim + 2 * n_groups * state_size);
        args.dt = dt;
        args.decay = decay;
        args.skip = skip;
        args.state_in = state;
        args.state_out = state;
        args.y = y;
        args.tokens = size(tokens);
        args.heads = size(heads);
        args.head_dim = size(head_dim);
        args.state_size = size(state_size);
        args.n_groups = size(n_groups);
        k.scan(args, 0, args.heads);
    });
}

int nano_kernel_attend(const char* set, const float* query, const int64_t* begins, const int64_t* ends, int64_t rows,
                       const uint16_t* keys, const uint16_t* values, int64_t count, int64_t head_dim, float scale,
                       int64_t apart, float* output) {
    return with_set(set, [&](const nano::KernelSet& k) {
        const std::size_t n = size(rows);
        std::vector<float> peaks(2 * n, nano::kNoPeak), totals(2 * n), other(n * size(head_dim));
        std::vector<float> scratch(nano::attend_scratch(n, size(head_dim)));
        std::vector<std::uint32_t> from(n), to(n);
        std::fill_n(output, rows * head_dim, 0.0F);
        const nano::AttendSums sums{output, peaks.data(), totals.data()};
        const nano::AttendSums part{other.data(), peaks.data() + n, totals.data() + n};
        constexpr auto segment = static_cast<std::int64_t>(nano::kSegment);
        for (std::int64_t first = 0; first < count; first += segment) {
            const std::int64_t end = std::min(first + segment, count);
            for (std::size_t r = 0; r < n; ++r) {
                const std::int64_t low = std::max(begins[r], first), high = std::min(ends[r], end);
                from[r] = static_cast<std::uint32_t>(low < high ? low - first : segment);
                to[r] = static_cast<std::uint32_t>(low < high ? high - first : 0);
            }
            std::fill(other.begin(), other.end(), 0.0F);
            std::fill_n(part.peaks, n, nano::kNoPeak);
            std::fill_n(part.totals, n, 0.0F);
            nano::AttendArgs args;
            args.query = query;
            args.keys = keys + first * head_dim;
            args.values = values + first * head_dim;
            args.begins = from.data();
            args.ends = to.data();
            args.rows = n;
            args.head_dim = size(head_dim);
            args.scale = scale;
            args.scratch = scratch.data();
            args.into = apart != 0 ? part : sums;
            k.attend(args);
            if (apart != 0) k.merge_attention(sums, part, n, size(head_dim));
        }
        for (std::size_t r = 0; r < n; ++r) {
            for (std::size_t d = 0; d < size(head_dim); ++d) output[r * size(head_dim) + d] /= totals[r];
        }
    });
}

int nano_kernel_to_half(const char* set, const float* x, int64_t n, uint16_t* out) {
    return with_set(set, [&](const nano::KernelSet& k) { k.to_half(x, size(n), out); });
}

int nano_kernel_hashed_copy(const char* set, const uint8_t* in, int64_t nbytes, uint8_t* out, uint64_t* hash) {
    return with_set(set, [&](const nano::KernelSet& k) { *hash = nano::hashed_copy(k)(out, in, size(nbytes)); });
}

int nano_kernel_relu_squared(const char* set, float* x, int64_t n) {
    return with_set(set, [&](const nano::KernelSet& k) { k.relu_squared(x, size(n)); });
}
