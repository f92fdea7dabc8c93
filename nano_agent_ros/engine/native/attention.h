// The attention of a chunk of tokens, cut into pieces of work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "aligned.h"
#include "kernels.h"
#include "kv_cache.h"
#include "thread_pool.h"

namespace nano {

// Keys [begin, end) that lie one after another; those of the first tokens ("sinks") are seen for ever, the others while
// they are in the window. Where segments are cut depends on the positions alone, not on the chunk: a query's softmax
// takes the same segments in the same order, whatever else is computed with it.
struct Segment {
    std::uint64_t begin, end;
    bool sinks;
};

// Segments that any of the tokens [first, last] sees, oldest first.
std::vector<Segment> segments_seen(const KvShape& shape, std::uint64_t first, std::uint64_t last);

struct AttentionLayer {
    const KvCache& cache;
    std::size_t layer;          // of the cache
    std::size_t query_heads;    // a multiple of the cache's heads
    std::uint64_t position;     // of the first token of the chunk
    std::size_t count;          // tokens of the chunk, whose keys and values are in the cache already
    const float* query;         // [count, query_heads, head_dim]
    float* output;              // [count, query_heads, head_dim]
    const std::vector<Segment>& segments;  // segments_seen by the chunk
};

// Runs attention; keeps the memory that it needs.
class Attention {
public:
    Attention(const KernelSet& kernels, ThreadPool& pool) : kernels_(kernels), pool_(pool) {}

    void run(const AttentionLayer& layer);

private:
    struct Tile;

    void by_tiles(const AttentionLayer& a, std::size_t most_tokens);
    void by_segments(const AttentionLayer& a);
    void reserve(std::size_t rows, std::size_t head_dim);
    Tile tile(const AttentionLayer& a, std::size_t head, std::size_t first, std::size_t tokens, std::size_t thread);

    const KernelSet& kernels_;
    ThreadPool& pool_;
    std::size_t most_rows_ = 0;            // of a tile
    std::size_t stride_ = 0;               // of scratch_
    AlignedVector<float> scratch_;         // [threads, what one tile needs]
    AlignedVector<std::uint32_t> limits_;  // [threads, 2, rows of a tile]
    AlignedVector<float> partial_;         // sums of every segment
};

}  // namespace nano
