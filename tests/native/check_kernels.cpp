// Every kernel set that runs here against the portable one, over random shapes.
#include <cmath>
#include <cstring>
#include <string>

#include "check.h"
#include "half.h"
#include "kernels.h"

namespace check {

using nano::KernelSet;

namespace {

struct Pair {
    const KernelSet& plain;
    const KernelSet& fast;
};

void require_close(const Pair& pair, const char* what, const std::vector<float>& expected, const std::vector<float>& got,
                   float relative, float absolute) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
        REQUIRE(std::fabs(expected[i] - got[i]) <= relative * std::fabs(expected[i]) + absolute,
                "%s of set %s: [%zu] is %g, portable has %g", what, pair.fast.name, i, static_cast<double>(got[i]),
                static_cast<double>(expected[i]));
    }
}

struct Activations {
    std::vector<std::int8_t> values;
    std::vector<float> scales, source;
    std::vector<std::int32_t> offsets;

    Activations(const KernelSet& set, const std::vector<float>& x, std::size_t tokens, std::size_t cols)
        : values(x.size()), scales(tokens * (cols / 64)), source(x), offsets(scales.size()) {
        for (std::size_t t = 0; t < tokens; ++t) {
            set.quantize_row(x.data() + t * cols, cols, values.data() + t * cols, scales.data() + t * (cols / 64),
                             offsets.data() + t * (cols / 64));
        }
    }
    nano::Int8Rows rows() { return {values.data(), scales.data(), offsets.data(), source.data()}; }
};

void linear(const Pair& pair, Random& random) {
    const std::size_t rows = random.between(1, 100);
    const std::size_t groups = random.between(1, 20);
    const std::size_t cols = 64 * groups;
    const std::size_t tokens = random.coin() ? random.between(1, 14) : random.between(1, 150);
    nano::PanelMatrix w;
    w.rows = rows;
    w.cols = cols;
    w.bits = random.coin() ? 4 : 8;
    const std::vector<std::uint8_t> panels = random_panels(random, rows, cols, w.bits);
    const std::vector<float> bias = random.normals(rows);
    w.panels = panels.data();
    w.bias = random.coin() ? bias.data() : nullptr;
    const std::vector<float> x = random.normals(tokens * cols, random.coin() ? 1.0F : 100.0F);
    Activations plain(pair.plain, x, tokens, cols);
    Activations in(pair.fast, x, tokens, cols);
    REQUIRE(plain.values == in.values && plain.scales == in.scales && plain.offsets == in.offsets,
            "quantized activations of set %s", pair.fast.name);

    const std::size_t stride = rows + random.between(0, 3);
    std::vector<float> expected(tokens * stride, -1.0F), got = expected, split = expected;
    pair.plain.matmul(w, 0, w.panel_count(), plain.rows(), tokens, expected.data(), stride);
    pair.fast.matmul(w, 0, w.panel_count(), in.rows(), tokens, got.data(), stride);
    for (std::size_t i = 0; i < got.size(); ++i) {
        const float* token = x.data() + i / stride * cols;
        float size = 0.0F;
        for (std::size_t k = 0; k < cols; ++k) size += token[k] * token[k];
        // A weight is at most 128 scales of at most 0.02: the sum may cancel, its terms do not.
        const float length = std::sqrt(size) * std::sqrt(static_cast<float>(cols)) * (w.bits == 8 ? 2.0F : 0.15F);
        REQUIRE(std::fabs(expected[i] - got[i]) <= 1e-6F * (length + std::fabs(expected[i])),
                "matmul of set %s, %zu x %zu at %zu bits, %zu tokens: %g and %g", pair.fast.name, rows, cols, w.bits,
                tokens, static_cast<double>(got[i]), static_cast<double>(expected[i]));
    }
    // The same to the bit, however rows and tokens are cut.
    for (std::size_t p = 0; p < w.panel_count();) {
        const std::size_t end = random.between(p + 1, w.panel_count());
        for (std::size_t t = 0; t < tokens;) {
            const std::size_t n = random.between(1, tokens - t);
            const nano::Int8Rows part{in.values.data() + t * cols, in.scales.data() + t * groups,
                                      in.offsets.data() + t * groups, in.source.data() + t * cols};
            pair.fast.matmul(w, p, end, part, n, split.data() + t * stride, stride);
            t += n;
        }
        p = end;
    }
    REQUIRE(std::memcmp(split.data(), got.data(), got.size() * sizeof(float)) == 0,
            "matmul of set %s depends on how it is cut: %zu x %zu at %zu bits, %zu tokens", pair.fast.name, rows, cols,
            w.bits, tokens);
    // All fast sets round alike.
    for (const char* name : {"avx512", "avxvnni", "avx2", "neon"}) {
        const KernelSet* other = nano::find_kernels(name);
        if (other == nullptr) continue;
        other->matmul(w, 0, w.panel_count(), in.rows(), tokens, split.data(), stride);
        REQUIRE(std::memcmp(split.data(), got.data(), got.size() * sizeof(float)) == 0, "matmul of %s and %s differ",
                pair.fast.name, name);
    }
}

void norms(const Pair& pair, Random& random) {
    const std::size_t group = random.between(1, 200);
    const std::size_t n = group * random.between(1, 4);
    const std::vector<float> x = random.normals(n, 5.0F), gate = random.normals(n, 4.0F), weight = random.normals(n);
    std::vector<float> expected(n), got(n);
    pair.plain.rms_norm(x.data(), weight.data(), n, 1e-5F, expected.data());
    pair.fast.rms_norm(x.data(), weight.data(), n, 1e-5F, got.data());
    require_close(pair, "rms_norm", expected, got, 1e-5F, 1e-6F);
    pair.plain.gated_norm(x.data(), gate.data(), weight.data(), n, group, 1e-5F, expected.data());
    pair.fast.gated_norm(x.data(), gate.data(), weight.data(), n, group, 1e-5F, got.data());
    require_close(pair, "gated_norm", expected, got, 3e-5F, 1e-5F);

    expected = got = x;
    pair.plain.relu_squared(expected.data(), n);
    pair.fast.relu_squared(got.data(), n);
    require_close(pair, "relu_squared", expected, got, 0.0F, 0.0F);
    pair.plain.add(expected.data(), gate.data(), n);
    pair.fast.add(got.data(), gate.data(), n);
    require_close(pair, "add", expected, got, 0.0F, 0.0F);

    std::vector<std::uint16_t> halves(n), expected_halves(n);
    std::vector<float> wide = random.normals(n, random.coin() ? 1e-5F : 1e5F);
    wide[random.between(0, n - 1)] = INFINITY;
    pair.plain.to_half(wide.data(), n, expected_halves.data());
    pair.fast.to_half(wide.data(), n, halves.data());
    REQUIRE(halves == expected_halves, "to_half of set %s", pair.fast.name);
}

void convolution(const Pair& pair, Random& random) {
    nano::ConvArgs a;
    a.kernel = random.between(2, 5);
    a.channels = random.between(1, 150);
    a.tokens = random.between(1, 12);
    const std::vector<float> input = random.normals((a.kernel - 1 + a.tokens) * a.channels);
    const std::vector<float> weight = random.normals(a.kernel * a.channels), bias = random.normals(a.channels);
    std::vector<float> expected(a.tokens * a.channels), got(expected.size());
    a.input = input.data();
    a.weight = weight.data();
    a.bias = random.coin() ? bias.data() : nullptr;
    a.output = expected.data();
    pair.plain.conv_silu(a, 0, a.channels);
    a.output = got.data();
    const std::size_t cut = random.between(0, a.channels);
    if (cut > 0) pair.fast.conv_silu(a, 0, cut);
    if (cut < a.channels) pair.fast.conv_silu(a, cut, a.channels);
    require_close(pair, "conv_silu", expected, got, 2e-5F, 5e-6F);
}

void scan(const Pair& pair, Random& random) {
    nano::ScanArgs a;
    a.n_groups = random.between(1, 3);
    a.heads = a.n_groups * random.between(1, 3);
    a.head_dim = random.between(1, 20);
    a.state_size = random.one_of<std::size_t>({1, 5, 16, 32, 48, 64, 100, 128});
    a.tokens = random.between(1, 12);
    a.xbc_stride = a.heads * a.head_dim + 2 * a.n_groups * a.state_size;
    const std::vector<float> xbc = random.normals(a.tokens * a.xbc_stride), skip = random.normals(a.heads);
    std::vector<float> dt(a.tokens * a.heads), decay(dt.size());
    for (float& v : dt) v = random.uniform(0, 1);
    for (float& v : decay) v = random.uniform(0, 1);
    const std::size_t rows = a.heads * a.head_dim;
    const std::vector<float> before = random.normals(rows * a.state_size);
    std::vector<float> expected_state = before, expected(a.tokens * rows), got(expected.size());
    // Streaming stores need aligned rows.
    std::vector<float> memory(before.size() + 16);
    float* state = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64 / sizeof(float);
    std::memcpy(state, before.data(), before.size() * sizeof(float));
    a.xbc = xbc.data();
    a.dt = dt.data();
    a.decay = decay.data();
    a.skip = skip.data();
    a.state_in = a.state_out = expected_state.data();
    a.y = expected.data();
    pair.plain.scan(a, 0, a.heads);
    a.state_in = a.state_out = state;
    a.y = got.data();
    a.stream = random.coin();
    const std::size_t cut = random.between(0, a.heads);
    if (cut > 0) pair.fast.scan(a, 0, cut);
    if (cut < a.heads) pair.fast.scan(a, cut, a.heads);
    require_close(pair, "scan", expected, got, 1e-4F, 3e-4F);
    require_close(pair, "state of the scan", expected_state, {state, state + before.size()}, 1e-5F, 1e-5F);
}

void attention(const Pair& pair, Random& random) {
    nano::AttendArgs a;
    a.rows = random.between(1, 12);
    a.head_dim = random.coin() ? 16 * random.between(1, 8) : random.between(1, 140);
    const std::vector<float> query = random.normals(a.rows * a.head_dim);
    std::vector<std::uint16_t> keys(nano::kSegment * a.head_dim), values(keys.size());
    for (std::uint16_t& v : keys) v = nano::float_to_half(random.normal());
    for (std::uint16_t& v : values) v = nano::float_to_half(random.normal());
    std::vector<std::uint32_t> begins(a.rows), ends(a.rows);
    for (std::size_t r = 0; r < a.rows; ++r) {
        begins[r] = static_cast<std::uint32_t>(random.between(0, nano::kSegment - 1));
        ends[r] = static_cast<std::uint32_t>(random.between(begins[r] + 1, nano::kSegment));
    }
    std::vector<float> scratch(nano::attend_scratch(a.rows, a.head_dim) + 16);
    a.scratch = scratch.data() + (64 - reinterpret_cast<std::uintptr_t>(scratch.data()) % 64) % 64 / sizeof(float);
    a.query = query.data();
    a.keys = keys.data();
    a.values = values.data();
    a.begins = begins.data();
    a.ends = ends.data();
    a.scale = 1.0F / std::sqrt(static_cast<float>(a.head_dim));
    std::vector<float> results[2];
    for (const KernelSet* set : {&pair.plain, &pair.fast}) {
        std::vector<float> sums(a.rows * a.head_dim), peaks(a.rows, nano::kNoPeak), totals(a.rows);
        a.into = {sums.data(), peaks.data(), totals.data()};
        set->attend(a);
        for (std::size_t i = 0; i < sums.size(); ++i) sums[i] /= totals[i / a.head_dim];
        results[set == &pair.fast] = sums;
    }
    require_close(pair, "attention", results[0], results[1], 1e-3F, 1e-4F);
}

}  // namespace

std::vector<std::uint8_t> random_panels(Random& random, std::size_t rows, std::size_t cols, std::size_t bits) {
    nano::PanelMatrix w;
    w.rows = rows;
    w.cols = cols;
    w.bits = bits;
    std::vector<std::uint8_t> out(w.panel_count() * w.groups() * w.block_bytes());
    for (std::uint8_t& byte : out) byte = static_cast<std::uint8_t>(random.bits());
    for (std::size_t block = 0; block < out.size(); block += w.block_bytes()) {
        if (bits == 8) {
            for (std::size_t i = 0; i < w.weight_bytes(); ++i) {
                if (out[block + i] == 0) out[block + i] = 1;  // q is -127 at least
            }
        }
        for (std::size_t n = 0; n < nano::kPanelRows; ++n) {
            const std::uint16_t half = nano::float_to_half(random.uniform(0.0F, 0.02F));
            std::memcpy(out.data() + block + w.weight_bytes() + 2 * n, &half, sizeof half);
        }
    }
    return out;
}

void kernels(Random& random, std::size_t rounds) {
    for (const char* name : {"avx512", "avxvnni", "avx2", "neon"}) {
        const KernelSet* fast = nano::find_kernels(name);
        if (fast == nullptr) continue;
        const Pair pair{nano::portable_kernels(), *fast};
        for (std::size_t i = 0; i < rounds; ++i) {
            linear(pair, random);
            norms(pair, random);
            convolution(pair, random);
            scan(pair, random);
            attention(pair, random);
        }
        std::printf("kernels of set %s equal the portable ones\n", name);
    }
}

}  // namespace check
