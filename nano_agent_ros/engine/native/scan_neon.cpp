// The scan with 128-bit vectors of Arm NEON.
#if defined(__aarch64__)
#include "scan_lanes.h"

namespace nano::neon {

void scan(const ScanArgs& args, std::size_t head_begin, std::size_t head_end) {
    typedef float Lanes __attribute__((vector_size(16)));
    scan_lanes<Lanes>(args, head_begin, head_end);
}

}  // namespace nano::neon
#endif
