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

// Memory for the rows of one tile, laid out one after another.
struct Sums {
    static std::size_t floats(std::size_t rows, std::size_t head_dim) { return rows * (head_dim + 2); }

    static AttendSums at(float* memory, std::size_t rows, std::size_t head_dim) {
        return {memory, memory + rows * head_dim, memory + rows * (head_dim + 1)};
    }

    static void clear(const AttendSums& s, std::size_t rows, std::size_t head_dim) {
        std::fill_n(s.sums, rows * head_dim, 0.0F);
        std::fill_n(s.peaks, rows, kNoPeak);
        std::fill_n(s.totals, rows, 0.0F);
    }
};

void divide(const AttendSums& s, std::size_t row, std::size_t head_dim, float* out) {
    for (std::size_t d = 0; d < head_dim; ++d) out[d] = s.sums[row * head_dim + d] / s.totals[row];
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

void Attention::by_tiles(const AttentionLayer& a, std::size_t tile) {
    const KvShape& shape = a.cache.shape();
    const std::size_t dim = shape.head_dim;
    const std::size_t per_kv = a.query_heads / shape.heads;
    const std::size_t most_rows = tile * per_kv;
    const std::size_t need = most_rows * dim + Sums::floats(most_rows, dim) + attend_scratch(most_rows, dim);
    const std::size_t stride = (need + 15) / 16 * 16;
    if (scratch_.size() < stride * pool_.threads()) scratch_.resize(stride * pool_.threads());
    if (limits_.size() < 2 * most_rows * pool_.threads()) limits_.resize(2 * most_rows * pool_.threads());
    const std::size_t tiles = (a.count + tile - 1) / tile;
    pool_.parallel_for(shape.heads * tiles, 1, [&](std::size_t begin, std::size_t end, std::size_t thread) {
        float* query = scratch_.data() + thread * stride;
        std::uint32_t* begins = limits_.data() + 2 * most_rows * thread;
        std::uint32_t* ends = begins + most_rows;
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t head = i % shape.heads;
            const std::size_t first = i / shape.heads * tile;
            const std::size_t tokens = std::min(tile, a.count - first);
            AttendArgs args;
            args.query = query;
            args.begins = begins;
            args.ends = ends;
            args.rows = tokens * per_kv;
            args.head_dim = dim;
            args.scale = 1.0F / std::sqrt(static_cast<float>(dim));
            args.into = Sums::at(query + most_rows * dim, args.rows, dim);
            args.scratch = query + most_rows * dim + Sums::floats(most_rows, dim);
            Sums::clear(args.into, args.rows, dim);
            for (std::size_t t = 0; t < tokens; ++t) {
                std::copy_n(a.query + ((first + t) * a.query_heads + head * per_kv) * dim, per_kv * dim,
                            query + t * per_kv * dim);
            }
            for (const Segment& s : a.segments) {
                for (std::size_t r = 0; r < args.rows; ++r) {
                    limits(s, shape, a.position + first + r / per_kv, begins[r], ends[r]);
                }
                args.keys = a.cache.key(a.layer, s.begin, head);
                args.values = a.cache.value(a.layer, s.begin, head);
                kernels_.attend(args);
            }
            for (std::size_t r = 0; r < args.rows; ++r) {
                divide(args.into, r, dim, a.output + ((first + r / per_kv) * a.query_heads + head * per_kv + r % per_kv) * dim);
            }
        }
    });
}

void Attention::by_segments(const AttentionLayer& a) {
    const KvShape& shape = a.cache.shape();
    const std::size_t dim = shape.head_dim;
    const std::size_t per_kv = a.query_heads / shape.heads;
    const std::size_t rows = a.count * per_kv;
    const std::size_t parts = a.segments.size();
    const std::size_t part = Sums::floats(rows, dim);
    const std::size_t need = rows * dim + attend_scratch(rows, dim);
    const std::size_t stride = (need + 15) / 16 * 16;
    if (scratch_.size() < stride * pool_.threads()) scratch_.resize(stride * pool_.threads());
    if (limits_.size() < 2 * rows * pool_.threads()) limits_.resize(2 * rows * pool_.threads());
    if (partial_.size() < shape.heads * parts * part) partial_.resize(shape.heads * parts * part);
    pool_.parallel_for(shape.heads * parts, 1, [&](std::size_t begin, std::size_t end, std::size_t thread) {
        float* query = scratch_.data() + thread * stride;
        std::uint32_t* begins = limits_.data() + 2 * rows * thread;
        std::uint32_t* ends = begins + rows;
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t head = i / parts;
            const Segment& s = a.segments[i % parts];
            for (std::size_t t = 0; t < a.count; ++t) {
                std::copy_n(a.query + (t * a.query_heads + head * per_kv) * dim, per_kv * dim, query + t * per_kv * dim);
            }
            for (std::size_t r = 0; r < rows; ++r) limits(s, shape, a.position + r / per_kv, begins[r], ends[r]);
            AttendArgs args;
            args.query = query;
            args.keys = a.cache.key(a.layer, s.begin, head);
            args.values = a.cache.value(a.layer, s.begin, head);
            args.begins = begins;
            args.ends = ends;
            args.rows = rows;
            args.head_dim = dim;
            args.scale = 1.0F / std::sqrt(static_cast<float>(dim));
            args.scratch = query + rows * dim;
            args.into = Sums::at(partial_.data() + i * part, rows, dim);
            Sums::clear(args.into, rows, dim);
            kernels_.attend(args);
        }
    });
    // Cheap beside the above: one segment's sums were 128 times this.
    pool_.parallel_for(shape.heads, 1, [&](std::size_t begin, std::size_t end) {
        for (std::size_t head = begin; head < end; ++head) {
            const AttendSums into = Sums::at(partial_.data() + head * parts * part, rows, dim);
            for (std::size_t i = 1; i < parts; ++i) {
                kernels_.merge_attention(into, Sums::at(partial_.data() + (head * parts + i) * part, rows, dim), rows, dim);
            }
            for (std::size_t r = 0; r < rows; ++r) {
                divide(into, r, dim, a.output + ((r / per_kv) * a.query_heads + head * per_kv + r % per_kv) * dim);
            }
        }
    });
}

}  // namespace nano
