#include "attention.h"

#include <algorithm>
#include <cmath>

namespace nano {

namespace {

constexpr std::size_t kTileTokens = 16;  // most tokens of a tile, and
constexpr std::size_t kTileRows = 96;    // queries, unless one token has more: the tile's scores stay in the L2 cache
// Up to how many tokens the keys are shared out as well as the heads; more of them make work enough without.
constexpr std::size_t kFewTokens = 4;

void add_segments(std::uint64_t begin, std::uint64_t end, bool sinks, std::vector<Segment>& out) {
    while (begin < end) {
        const std::uint64_t next = std::min(end, (begin / kSegment + 1) * kSegment);
        out.push_back({begin, next, sinks});
        begin = next;
    }
}

// Which keys of the segment a token sees; kSegment and 0 if none.
void limits(const Segment& s, const KvShape& shape, std::uint64_t token, std::uint32_t& begin, std::uint32_t& end) {
    const std::uint64_t length = token + 1;
    const std::uint64_t recent = s.sinks ? 0 : length - std::min<std::uint64_t>(length, shape.window);
    const std::uint64_t from = std::max(s.begin, recent);
    const std::uint64_t to = std::min(s.end, length);
    begin = from < to ? static_cast<std::uint32_t>(from - s.begin) : kSegment;
    end = from < to ? static_cast<std::uint32_t>(to - s.begin) : 0;
}

std::size_t sums_floats(std::size_t rows, std::size_t head_dim) { return rows * (head_dim + 2); }

AttendSums sums_at(float* memory, std::size_t rows, std::size_t head_dim) {
    return {memory, memory + rows * head_dim, memory + rows * (head_dim + 1)};
}

void clear(const AttendSums& s, std::size_t rows, std::size_t head_dim) {
    std::fill_n(s.sums, rows * head_dim, 0.0F);
    std::fill_n(s.peaks, rows, kNoPeak);
    std::fill_n(s.totals, rows, 0.0F);
}

}  // namespace

std::vector<Segment> segments_seen(const KvShape& shape, std::uint64_t first, std::uint64_t last) {
    std::vector<Segment> out;
    const std::uint64_t length = last + 1;
    const std::uint64_t sinks = std::min<std::uint64_t>(shape.sinks, length);
    add_segments(0, sinks, true, out);
    const std::uint64_t recent = first + 1 - std::min<std::uint64_t>(first + 1, shape.window);
    // Cut at multiples of kSegment even where the window begins, so that later tokens of the chunk agree.
    add_segments(std::max(sinks, recent / kSegment * kSegment), length, false, out);
    return out;
}

void Attention::run(const AttentionLayer& a) {
    const KvShape& shape = a.cache.shape();
    const std::size_t threads = pool_.threads();
    if (a.count <= kFewTokens && a.segments.size() > 1 && threads > 1) return by_segments(a);
    const std::size_t per_kv = a.query_heads / shape.heads;
    const std::size_t balanced = a.count * shape.heads / (4 * threads);
    by_tiles(a, std::max<std::size_t>(1, std::min({kTileTokens, kTileRows / per_kv, balanced})));
}

// The queries of some tokens that share a head of keys and values, gathered for the kernels.
struct Attention::Tile {
    const AttentionLayer& layer;
    std::size_t head, per_kv;  // head of keys and values, query heads that share it
    std::size_t first, tokens;
    std::uint32_t *begins, *ends;
    AttendArgs args;  // all but keys, values and where the sums go

    // Adds the segment to the sums.
    void attend(const KernelSet& kernels, const Segment& s, const AttendSums& into) {
        const KvCache& cache = layer.cache;
        for (std::size_t r = 0; r < args.rows; ++r) {
            limits(s, cache.shape(), layer.position + first + r / per_kv, begins[r], ends[r]);
        }
        args.keys = cache.key(layer.layer, s.begin, head);
        args.values = cache.value(layer.layer, s.begin, head);
        args.into = into;
        kernels.attend(args);
    }

    void write(const AttendSums& sums) const {
        const std::size_t dim = args.head_dim;
        for (std::size_t r = 0; r < args.rows; ++r) {
            const std::size_t query = (first + r / per_kv) * layer.query_heads + head * per_kv + r % per_kv;
            float* out = layer.output + query * dim;
            for (std::size_t d = 0; d < dim; ++d) out[d] = sums.sums[r * dim + d] / sums.totals[r];
        }
    }
};

void Attention::reserve(std::size_t rows, std::size_t head_dim) {
    const std::size_t need = rows * head_dim + sums_floats(rows, head_dim) + attend_scratch(rows, head_dim);
    most_rows_ = rows;
    stride_ = (need + 15) / 16 * 16;
    if (scratch_.size() < stride_ * pool_.threads()) scratch_.resize(stride_ * pool_.threads());
    if (limits_.size() < 2 * rows * pool_.threads()) limits_.resize(2 * rows * pool_.threads());
}

Attention::Tile Attention::tile(const AttentionLayer& a, std::size_t head, std::size_t first, std::size_t tokens,
                                std::size_t thread) {
    const std::size_t dim = a.cache.shape().head_dim;
    const std::size_t per_kv = a.query_heads / a.cache.shape().heads;
    float* query = scratch_.data() + thread * stride_;
    for (std::size_t t = 0; t < tokens; ++t) {
        const float* from = a.query + ((first + t) * a.query_heads + head * per_kv) * dim;
        std::copy_n(from, per_kv * dim, query + t * per_kv * dim);
    }
    std::uint32_t* begins = limits_.data() + 2 * most_rows_ * thread;
    Tile tile{a, head, per_kv, first, tokens, begins, begins + most_rows_, {}};
    tile.args.query = query;
    tile.args.begins = tile.begins;
    tile.args.ends = tile.ends;
    tile.args.rows = tokens * per_kv;
    tile.args.head_dim = dim;
    tile.args.scale = 1.0F / std::sqrt(static_cast<float>(dim));
    tile.args.scratch = query + most_rows_ * dim + sums_floats(most_rows_, dim);
    return tile;
}

void Attention::by_tiles(const AttentionLayer& a, std::size_t most_tokens) {
    const KvShape& shape = a.cache.shape();
    reserve(most_tokens * (a.query_heads / shape.heads), shape.head_dim);
    const std::size_t tiles = (a.count + most_tokens - 1) / most_tokens;
    pool_.parallel_for(shape.heads * tiles, 1, [&](std::size_t begin, std::size_t end, std::size_t thread) {
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t first = i / shape.heads * most_tokens;
            Tile t = tile(a, i % shape.heads, first, std::min(most_tokens, a.count - first), thread);
            float* memory = scratch_.data() + thread * stride_ + most_rows_ * shape.head_dim;
            const AttendSums sums = sums_at(memory, t.args.rows, shape.head_dim);
            clear(sums, t.args.rows, shape.head_dim);
            for (const Segment& s : a.segments) t.attend(kernels_, s, sums);
            t.write(sums);
        }
    });
}

void Attention::by_segments(const AttentionLayer& a) {
    const KvShape& shape = a.cache.shape();
    const std::size_t dim = shape.head_dim;
    const std::size_t rows = a.count * (a.query_heads / shape.heads);
    const std::size_t parts = a.segments.size();
    const std::size_t part = sums_floats(rows, dim);
    reserve(rows, dim);
    if (partial_.size() < shape.heads * parts * part) partial_.resize(shape.heads * parts * part);
    const auto sums_of = [&](std::size_t i) { return sums_at(partial_.data() + i * part, rows, dim); };
    pool_.parallel_for(shape.heads * parts, 1, [&](std::size_t begin, std::size_t end, std::size_t thread) {
        for (std::size_t i = begin; i < end; ++i) {
            clear(sums_of(i), rows, dim);
            tile(a, i / parts, 0, a.count, thread).attend(kernels_, a.segments[i % parts], sums_of(i));
        }
    });
    pool_.parallel_for(shape.heads, 1, [&](std::size_t begin, std::size_t end, std::size_t thread) {
        for (std::size_t head = begin; head < end; ++head) {
            const AttendSums sums = sums_of(head * parts);
            for (std::size_t i = 1; i < parts; ++i) {
                kernels_.merge_attention(sums, sums_of(head * parts + i), rows, dim);
            }
            tile(a, head, 0, a.count, thread).write(sums);
        }
    });
}

}  // namespace nano
