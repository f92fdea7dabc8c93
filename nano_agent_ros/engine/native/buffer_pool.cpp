#include "buffer_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace nano {

namespace {

constexpr std::align_val_t kCacheLine{64};
constexpr std::size_t kHugePage = std::size_t{2} << 20U;

bool is_huge(std::size_t nbytes) { return nbytes >= kHugePage; }

std::size_t whole_pages(std::size_t nbytes) { return (nbytes + kHugePage - 1) / kHugePage * kHugePage; }

std::uint8_t* allocate(std::size_t nbytes) {
    if (!is_huge(nbytes)) return static_cast<std::uint8_t*>(::operator new(std::max<std::size_t>(1, nbytes), kCacheLine));
    const std::size_t size = whole_pages(nbytes);
    void* mapped = mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    // Cut the mapping down to the part that begins on a huge page.
    auto* begin = static_cast<std::uint8_t*>(mapped);
    const std::size_t skipped = (kHugePage - reinterpret_cast<std::uintptr_t>(begin) % kHugePage) % kHugePage;
    if (skipped > 0) munmap(begin, skipped);
    munmap(begin + skipped + size, kHugePage - skipped);
    madvise(begin + skipped, size, MADV_HUGEPAGE);  // refused where the system has none; small pages do as well
    return begin + skipped;
}

void deallocate(std::uint8_t* data, std::size_t nbytes) noexcept {
    if (is_huge(nbytes)) {
        munmap(data, whole_pages(nbytes));
    } else {
        ::operator delete(data, kCacheLine);
    }
}

}  // namespace

BufferPool::BufferPool(std::size_t nbytes, std::size_t most_free) : nbytes_(nbytes), most_free_(most_free) {
    free_.reserve(most_free);
}

BufferPool::~BufferPool() {
    for (std::uint8_t* data : free_) deallocate(data, nbytes_);
}

Buffer BufferPool::take() {
    std::uint8_t* data = nullptr;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!free_.empty()) {
            data = free_.back();
            free_.pop_back();
        }
    }
    if (data == nullptr) data = allocate(nbytes_);
    return Buffer(data, [this](std::uint8_t* p) { give_back(p); });  // gives back, too, if it throws
}

void BufferPool::give_back(std::uint8_t* data) noexcept {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (free_.size() < most_free_) {
            free_.push_back(data);
            return;
        }
    }
    deallocate(data, nbytes_);
}

}  // namespace nano
