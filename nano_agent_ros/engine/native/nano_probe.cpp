#include "nano_probe.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "probe.h"

namespace nano {

namespace portable {
std::uint64_t probe_read(const std::uint8_t* data, std::size_t bytes, std::size_t ahead) {
    std::uint64_t sum[32] = {};
    const auto* words = reinterpret_cast<const std::uint64_t*>(data);
    for (std::size_t i = 0; i < bytes / 8; i += 32) {
        if (ahead != 0) {
            for (std::size_t j = 0; j < 4; ++j) __builtin_prefetch(data + 8 * i + 64 * j + ahead);
        }
        for (std::size_t j = 0; j < 32; ++j) sum[j] ^= words[i + j];
    }
    for (std::size_t j = 1; j < 32; ++j) sum[0] ^= sum[j];
    return sum[0];
}
}  // namespace portable

namespace {

using Clock = std::chrono::steady_clock;

ProbeLoops probe_loops() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni")) {
        return {avx512::probe_read, avx512::probe_dot, 64};
    }
    if (__builtin_cpu_supports("avx2")) return {avx2::probe_read, avx2::probe_dot, 32};
#endif
    return {portable::probe_read, nullptr, 0};
}

// Seconds from when all threads began work(thread) to when the last had done it.
template <typename Work>
double seconds_together(std::size_t threads, const Work& work) {
    std::atomic<std::size_t> ready{0};
    std::vector<Clock::time_point> begun(threads), done(threads);
    const auto run = [&](std::size_t id) {
        ready.fetch_add(1);
        while (ready.load() < threads) std::this_thread::yield();
        begun[id] = Clock::now();
        work(id);
        done[id] = Clock::now();
    };
    std::vector<std::thread> others;
    for (std::size_t id = 1; id < threads; ++id) others.emplace_back(run, id);
    run(0);
    for (std::thread& other : others) other.join();
    const auto first = *std::min_element(begun.begin(), begun.end());
    const auto last = *std::max_element(done.begin(), done.end());
    return std::chrono::duration<double>(last - first).count();
}

}  // namespace
}  // namespace nano

int nano_probe_read(int64_t threads, int64_t bytes, int64_t ahead, int64_t repeats, double* bytes_per_second) {
    if (threads < 1 || threads > 1024 || bytes < threads * 4096 || ahead < 0 || repeats < 1) return NANO_INVALID;
    const auto count = static_cast<std::size_t>(threads);
    const std::size_t part = static_cast<std::size_t>(bytes) / count / 4096 * 4096;
    const std::size_t all = part * count;
    void* memory = mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NANO_NO_MEMORY;
    madvise(memory, all, MADV_HUGEPAGE);
    auto* data = static_cast<std::uint8_t*>(memory);
    for (std::size_t i = 0; i < all; i += 8) *reinterpret_cast<std::uint64_t*>(data + i) = i;
    const nano::ProbeLoops loops = nano::probe_loops();
    constexpr std::size_t kLeast = std::size_t{1} << 28U;  // a run over less would be too short to time
    const std::size_t passes = std::max<std::size_t>(1, kLeast / all);
    std::atomic<std::uint64_t> sink{0};
    for (int64_t r = 0; r < repeats; ++r) {
        const double seconds = nano::seconds_together(count, [&](std::size_t id) {
            for (std::size_t pass = 0; pass < passes; ++pass) {
                sink += loops.read(data + id * part, part, static_cast<std::size_t>(ahead));
            }
        });
        bytes_per_second[r] = static_cast<double>(all * passes) / seconds;
    }
    munmap(memory, all);
    return NANO_OK;
}

int nano_probe_int8(int64_t threads, int64_t repeats, double* macs_per_second) {
    const nano::ProbeLoops loops = nano::probe_loops();
    if (threads < 1 || threads > 1024 || repeats < 1 || loops.dot == nullptr) return NANO_INVALID;
    constexpr std::size_t kRounds = 20'000'000;  // some tens of milliseconds
    std::atomic<std::uint64_t> sink{0};
    for (int64_t r = 0; r < repeats; ++r) {
        const double seconds =
            nano::seconds_together(static_cast<std::size_t>(threads), [&](std::size_t) { sink += loops.dot(kRounds); });
        const std::size_t macs = kRounds * nano::kProbeChains * loops.macs_per_instruction;
        macs_per_second[r] = static_cast<double>(macs) * static_cast<double>(threads) / seconds;
    }
    return NANO_OK;
}
