// The scan with 256-bit vectors.
#if defined(__x86_64__)
#include "scan_lanes.h"

namespace nano::avx2 {

void scan(const ScanArgs& args, std::size_t head_begin, std::size_t head_end) {
    typedef float Lanes __attribute__((vector_size(32)));
    scan_lanes<Lanes>(args, head_begin, head_end);
}

}  // namespace nano::avx2
#endif
