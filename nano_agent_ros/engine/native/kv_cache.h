// Keys and values of one attention layer: the first `sinks` tokens and a ring of the last `window` ones
// (StreamingLLM, Xiao et al. 2023), in float16. The network has no position encoding, so old entries fall out at no cost.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "aligned.h"
#include "kernels.h"

namespace nano {

struct KvShape {
    std::size_t heads, head_dim, sinks, window;
    std::size_t slack;  // tokens that can be taken back without losing the window before them

    std::size_t most_slots() const { return sinks + window + slack; }
};

class KvCache {
public:
    explicit KvCache(const KvShape& shape) : shape_(shape) {}

    // Make room for tokens up to position length - 1.
    void reserve(std::uint64_t length) {
        const std::size_t needed = static_cast<std::size_t>(std::min<std::uint64_t>(length, shape_.most_slots()));
        if (needed <= slots_) return;
        const std::size_t slots = std::min(shape_.most_slots(), std::max({needed, 2 * slots_, std::size_t{64}}));
        grow(keys_, slots);
        grow(values_, slots);
        slots_ = slots;
    }

    std::uint16_t* key(std::uint64_t position, std::size_t head) { return keys_.data() + at(position, head); }
    std::uint16_t* value(std::uint64_t position, std::size_t head) { return values_.data() + at(position, head); }
    const std::uint16_t* key(std::uint64_t position, std::size_t head) const { return keys_.data() + at(position, head); }
    const std::uint16_t* value(std::uint64_t position, std::size_t head) const { return values_.data() + at(position, head); }

    // What the token at `position` attends to, itself included, oldest first; returns the number of runs (at most 3).
    std::size_t runs(std::uint64_t position, std::size_t head, KvRun out[3]) const {
        std::size_t n = 0;
        const std::uint64_t end = position + 1;
        const std::uint64_t sink_end = std::min<std::uint64_t>(shape_.sinks, end);
        if (sink_end > 0) out[n++] = run(0, sink_end, head);
        const std::uint64_t begin = std::max(sink_end, end - std::min<std::uint64_t>(end, shape_.window));
        if (begin == end) return n;
        const std::uint64_t ring = shape_.most_slots() - shape_.sinks;
        const std::uint64_t wrap = shape_.sinks + (((end - 1 - shape_.sinks) / ring) * ring);  // position in the first slot
        if (begin < wrap) out[n++] = run(begin, wrap, head);
        const std::uint64_t rest = std::max(begin, wrap);
        if (rest < end) out[n++] = run(rest, end, head);
        return n;
    }

    // Tokens that a snapshot after `length` tokens holds.
    std::uint64_t kept(std::uint64_t length) const {
        const std::uint64_t sinks = std::min<std::uint64_t>(shape_.sinks, length);
        return sinks + std::min<std::uint64_t>(shape_.window, length - sinks);
    }

    const KvShape& shape() const { return shape_; }

private:
    std::size_t slot(std::uint64_t position) const {
        if (position < shape_.sinks) return static_cast<std::size_t>(position);
        const std::size_t ring = shape_.most_slots() - shape_.sinks;
        return shape_.sinks + static_cast<std::size_t>((position - shape_.sinks) % ring);
    }

    std::size_t at(std::uint64_t position, std::size_t head) const {
        return (head * slots_ + slot(position)) * shape_.head_dim;
    }

    KvRun run(std::uint64_t begin, std::uint64_t end, std::size_t head) const {
        const std::size_t offset = at(begin, head);
        return {keys_.data() + offset, values_.data() + offset, static_cast<std::size_t>(end - begin)};
    }

    void grow(AlignedVector<std::uint16_t>& data, std::size_t slots) const {
        AlignedVector<std::uint16_t> larger(shape_.heads * slots * shape_.head_dim);
        for (std::size_t h = 0; h < shape_.heads; ++h) {
            std::copy_n(data.data() + h * slots_ * shape_.head_dim, slots_ * shape_.head_dim,
                        larger.data() + h * slots * shape_.head_dim);
        }
        data.swap(larger);
    }

    KvShape shape_;
    std::size_t slots_ = 0;
    AlignedVector<std::uint16_t> keys_, values_;  // float16 [heads, slots, head_dim]
};

}  // namespace nano
