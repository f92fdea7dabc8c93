#include "kv_cache.h"

#include <algorithm>
#include <cstring>

namespace nano {

namespace {

// Calls visit(KvSpan) for [begin, end), cut where blocks end.
template <typename Visit>
void for_spans(std::uint64_t begin, std::uint64_t end, const Visit& visit) {
    while (begin < end) {
        const std::uint64_t next = std::min(end, (begin / kKvBlock + 1) * kKvBlock);
        visit(KvSpan{begin, next});
        begin = next;
    }
}

// The same for the first `sinks` and the last `window` of `length` tokens.
template <typename Visit>
void for_view(const KvShape& shape, std::uint64_t length, const Visit& visit) {
    const std::uint64_t sinks = std::min<std::uint64_t>(shape.sinks, length);
    const std::uint64_t recent = length - std::min<std::uint64_t>(length, shape.window);
    if (recent <= sinks) {
        for_spans(0, length, visit);
    } else {
        for_spans(0, sinks, visit);
        for_spans(recent, length, visit);
    }
}

}  // namespace

void KvCache::reserve(std::uint64_t length, std::uint64_t end) {
    if (shape_.layers == 0) return;
    drop_unseen(length);
    for (std::uint64_t b = length / kKvBlock; b * kKvBlock < end; ++b) {
        if (b >= block_count()) {
            blocks_.push_back(pool_->take());
        } else if (blocks_[index(b)].use_count() > 1) {
            const std::uint64_t used = length - std::min(length, b * kKvBlock);
            blocks_[index(b)] = copy_of(blocks_[index(b)], static_cast<std::size_t>(used));
        }
    }
}

void KvCache::reserve_kept(std::uint64_t length) {
    if (shape_.layers == 0) return;
    const std::uint64_t recent = length - std::min<std::uint64_t>(length, shape_.window);
    dropped_ = std::max<std::uint64_t>(shape_.sink_blocks(), recent / kKvBlock) - shape_.sink_blocks();
    while (block_count() * kKvBlock < length) blocks_.push_back(pool_->take());
}

std::uint64_t KvCache::kept(std::uint64_t length) const {
    return std::min<std::uint64_t>(length, shape_.sinks + shape_.window);
}

std::vector<KvSpan> KvCache::kept_spans(std::uint64_t length) const {
    std::vector<KvSpan> spans;
    for_view(shape_, length, [&](KvSpan span) { spans.push_back(span); });
    return spans;
}

void KvCache::drop_unseen(std::uint64_t length) {
    const std::size_t sinks = shape_.sink_blocks();
    while (blocks_.size() > sinks && (sinks + dropped_ + 1) * kKvBlock + shape_.window <= length) {
        blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(sinks));
        ++dropped_;
    }
}

Buffer KvCache::copy_of(const Buffer& block, std::size_t tokens) const {
    Buffer copy = pool_->take();
    const std::size_t stride = shape_.head_values() * sizeof(std::uint16_t);
    const std::size_t used = tokens * shape_.head_dim * sizeof(std::uint16_t);
    for (std::size_t row = 0; row < shape_.layers * 2 * shape_.heads && used > 0; ++row) {
        std::memcpy(copy.get() + row * stride, block.get() + row * stride, used);
    }
    return copy;
}

}  // namespace nano
