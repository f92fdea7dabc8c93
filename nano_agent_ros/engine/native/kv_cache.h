// Keys and values of a state's attention layers in float16: of the first `sinks` tokens and of the last `window` ones
// (StreamingLLM, Xiao et al. 2023). The network has no position encoding, so old entries fall out at no cost.
//
// They lie in blocks of kKvBlock tokens: block b holds tokens b * kKvBlock and on, of every layer. Copies of a cache
// share blocks; a block that is shared is copied before it is written to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "buffer_pool.h"
#include "kernels.h"

namespace nano {

constexpr std::size_t kKvBlock = kSegment;  // so that a segment of attention lies in one block

struct KvShape {
    std::size_t layers, heads, head_dim, sinks, window;

    std::size_t head_values() const { return kKvBlock * head_dim; }  // from one head to the next, in one block
    std::size_t block_bytes() const { return layers * 2 * heads * head_values() * sizeof(std::uint16_t); }
    std::size_t sink_blocks() const { return (sinks + kKvBlock - 1) / kKvBlock; }
    // Blocks that a state holds at most, and runs that a token's view of them makes.
    std::size_t most_blocks() const { return sink_blocks() + window / kKvBlock + 3; }
};

// Tokens [begin, end) that lie in one block.
struct KvSpan {
    std::uint64_t begin, end;
    std::size_t count() const { return static_cast<std::size_t>(end - begin); }
};

class KvCache {
public:
    // The pool's buffers have shape.block_bytes() bytes.
    KvCache(const KvShape& shape, BufferPool& pool) : shape_(shape), pool_(&pool) {}

    // Make room to write tokens [length, end), and let go of those that none from `length` on sees. What the cache holds
    // of the tokens before stays. Throws std::bad_alloc; that changes nothing that can be seen.
    void reserve(std::uint64_t length, std::uint64_t end);
    // Make room for what a snapshot after `length` tokens holds, in a cache that is empty.
    void reserve_kept(std::uint64_t length);

    // [head_dim]; to write, the token must have been made room for since the cache was last copied.
    std::uint16_t* key(std::size_t layer, std::uint64_t token, std::size_t head) { return at(layer, 0, token, head); }
    std::uint16_t* value(std::size_t layer, std::uint64_t token, std::size_t head) { return at(layer, 1, token, head); }
    const std::uint16_t* key(std::size_t layer, std::uint64_t token, std::size_t head) const {
        return at(layer, 0, token, head);
    }
    const std::uint16_t* value(std::size_t layer, std::uint64_t token, std::size_t head) const {
        return at(layer, 1, token, head);
    }

    std::size_t run_offset(std::size_t layer, std::size_t head) const {
        return (layer * 2 * shape_.heads + head) * shape_.head_values();
    }

    // Tokens that a snapshot after `length` tokens holds, and where they lie, oldest first.
    std::uint64_t kept(std::uint64_t length) const;
    std::vector<KvSpan> kept_spans(std::uint64_t length) const;

    const KvShape& shape() const { return shape_; }

private:
    std::size_t index(std::uint64_t block) const {
        return static_cast<std::size_t>(block < shape_.sink_blocks() ? block : block - dropped_);
    }
    std::uint64_t block_count() const { return blocks_.size() + dropped_; }  // those dropped included
    std::uint16_t* at(std::size_t layer, std::size_t which, std::uint64_t token, std::size_t head) const {
        auto* block = reinterpret_cast<std::uint16_t*>(blocks_[index(token / kKvBlock)].get());
        return block + run_offset(layer, head) + which * shape_.heads * shape_.head_values() +
               static_cast<std::size_t>(token % kKvBlock) * shape_.head_dim;
    }
    void drop_unseen(std::uint64_t length);
    Buffer copy_of(const Buffer& block, std::size_t tokens) const;

    KvShape shape_;
    BufferPool* pool_;
    std::vector<Buffer> blocks_;  // the sinks' ones, then the others but for the first `dropped_` of those
    std::uint64_t dropped_ = 0;
};

}  // namespace nano
