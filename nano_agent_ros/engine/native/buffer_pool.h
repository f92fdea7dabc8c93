// Memory of one size that is used again: pages that the system has just handed out cost more to touch than to copy to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace nano {

// Owners share a buffer by copying the handle; whoever is the only one (use_count() == 1) may write to it. What sharing
// means is up to the owners: all of them change a buffer under one lock, while a handle may be let go on any thread.
using Buffer = std::shared_ptr<std::uint8_t>;

// Hands out buffers of `nbytes` bytes, aligned to a cache line; those of 2 MB and more lie on huge pages where the
// system has them. Of the buffers let go the last `most_free` are kept. A pool must outlive its buffers.
class BufferPool {
public:
    BufferPool(std::size_t nbytes, std::size_t most_free);
    ~BufferPool();
    BufferPool(const BufferPool&) = delete;
    BufferPool& operator=(const BufferPool&) = delete;

    // What is in it is whatever its last owner left. Throws std::bad_alloc.
    Buffer take();
    std::size_t nbytes() const { return nbytes_; }

private:
    void give_back(std::uint8_t* data) noexcept;

    const std::size_t nbytes_, most_free_;
    std::mutex mutex_;
    std::vector<std::uint8_t*> free_;
};

}  // namespace nano
