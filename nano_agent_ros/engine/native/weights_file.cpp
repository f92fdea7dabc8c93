#include "weights_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "error.h"
#include "nano_engine.h"

namespace nano {

namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20U;
constexpr std::size_t kPage = std::size_t{64} << 10U;  // the largest page size of the systems that this runs on

}  // namespace

WeightsFile::WeightsFile(const std::string& path) : path_(path) {
    file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file_ < 0) throw Error(NANO_IO, "cannot open " + path + ": " + std::strerror(errno));
    struct stat info {};
    void* mapped = MAP_FAILED;
    if (::fstat(file_, &info) == 0 && info.st_size > 0) {
        size_ = static_cast<std::size_t>(info.st_size);
        modified_ = info.st_mtim;
        mapped = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file_, 0);
    }
    if (mapped == MAP_FAILED) {
        ::close(file_);
        throw Error(NANO_IO, "cannot map " + path + ": is it empty?");
    }
    mapped_ = static_cast<const std::uint8_t*>(mapped);
}

WeightsFile::~WeightsFile() {
    ::munmap(const_cast<std::uint8_t*>(mapped_), size_);
    if (copy_memory_ != nullptr) ::munmap(copy_memory_, copy_bytes_);
    ::close(file_);
}

void WeightsFile::must_be_unchanged() const {
    struct stat info {};
    if (::fstat(file_, &info) != 0) throw Error(NANO_IO, "cannot look at " + path_ + ": " + std::strerror(errno));
    const bool same_time = info.st_mtim.tv_sec == modified_.tv_sec && info.st_mtim.tv_nsec == modified_.tv_nsec;
    if (static_cast<std::size_t>(info.st_size) == size_ && same_time) return;
    throw Error(NANO_IO, path_ + " was changed while it is in use: it has " + std::to_string(info.st_size) + " bytes and had " +
                             std::to_string(size_) + "; start again, and put a new file in its place by renaming it");
}

void WeightsFile::load(std::size_t skip, std::size_t nbytes, bool huge_pages) {
    skip_begin_ = skip;
    skip_end_ = skip + nbytes;
    advise(skip_begin_, skip_end_, MADV_RANDOM);  // no more than the pages of the rows that are looked up
    if (!huge_pages) {
        advise(0, skip_begin_, MADV_WILLNEED);
        advise(skip_end_, size_, MADV_WILLNEED);
        return;
    }
    copy_bytes_ = size_ + kHugePage;
    void* memory = ::mmap(nullptr, copy_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw Error(NANO_NO_MEMORY, "no memory to copy " + path_ + " to; leave huge_pages out");
    copy_memory_ = memory;
    copy_ = static_cast<std::uint8_t*>(memory) + (kHugePage - reinterpret_cast<std::uintptr_t>(memory) % kHugePage) % kHugePage;
    ::madvise(memory, copy_bytes_, MADV_HUGEPAGE);  // small pages where the system has no huge ones
    read(0, skip_begin_);
    read(skip_end_, size_);
}

void WeightsFile::advise(std::size_t begin, std::size_t end, int advice) const {
    // Only whole pages of the range: what lies beside it has another use.
    begin = (begin + kPage - 1) / kPage * kPage;
    end = end == size_ ? end : end / kPage * kPage;
    if (begin < end) ::madvise(const_cast<std::uint8_t*>(mapped_) + begin, end - begin, advice);
}

void WeightsFile::read(std::size_t begin, std::size_t end) {
    while (begin < end) {
        const ssize_t got = ::pread(file_, copy_ + begin, end - begin, static_cast<off_t>(begin));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) throw Error(NANO_IO, "cannot read " + path_ + (got < 0 ? std::string(": ") + std::strerror(errno) : ""));
        begin += static_cast<std::size_t>(got);
    }
}

}  // namespace nano
