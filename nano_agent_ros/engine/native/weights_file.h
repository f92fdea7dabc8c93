// The weights file in memory: mapped, or copied into huge pages.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace nano {

// Every byte of the file can be read through `at` once `load` is done. A file that is cut short while it is mapped ends
// the process (SIGBUS) when the missing part is read; artifacts are replaced as a whole and never written into, and
// `must_be_unchanged` notices a file that was.
class WeightsFile {
public:
    explicit WeightsFile(const std::string& path);
    ~WeightsFile();
    WeightsFile(const WeightsFile&) = delete;
    WeightsFile& operator=(const WeightsFile&) = delete;

    std::size_t size() const { return size_; }

    // Has the system read the file ahead but for [skip, skip + nbytes), of which only some rows will be wanted, or, with
    // huge pages, copies that much into memory of the process's own. Throws Error.
    void load(std::size_t skip, std::size_t nbytes, bool huge_pages);

    // Throws Error if the file was written to or cut short since it was opened: not again to be read, then.
    void must_be_unchanged() const;

    const std::uint8_t* at(std::size_t offset) const {
        const bool copied = copy_ != nullptr && !(offset >= skip_begin_ && offset < skip_end_);
        return (copied ? copy_ : mapped_) + offset;
    }

private:
    void advise(std::size_t begin, std::size_t end, int advice) const;
    void read(std::size_t begin, std::size_t end);

    std::string path_;
    int file_ = -1;
    const std::uint8_t* mapped_ = nullptr;
    std::size_t size_ = 0;
    struct timespec modified_ {};
    std::uint8_t* copy_ = nullptr;  // place of the file's first byte; what is skipped is never touched
    void* copy_memory_ = nullptr;
    std::size_t copy_bytes_ = 0;
    std::size_t skip_begin_ = 0, skip_end_ = 0;
};

}  // namespace nano
