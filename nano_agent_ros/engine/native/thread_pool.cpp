#include "thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <string>

namespace nano {

namespace {

constexpr std::uint64_t kLow = 0xFFFFFFFFU;
constexpr int kSpinsBeforeYield = 2000;

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

std::size_t physical_cores() {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
    std::set<std::string> cores;
    std::size_t unknown = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(static_cast<std::size_t>(cpu), &allowed)) continue;
        std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
        std::string siblings;
        if (std::getline(file, siblings) && !siblings.empty()) {
            cores.insert(siblings);
        } else {
            ++unknown;
        }
    }
    return std::max<std::size_t>(1, cores.size() + unknown);
}

ThreadPool::ThreadPool(std::size_t threads) {
    try {
        for (std::size_t i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
        // Fewer threads than wished for still do all the work.
    }
}

ThreadPool::~ThreadPool() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopping_ = true;
        watch_.store(false);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

ThreadPool::Session::Session(ThreadPool& pool, bool worthwhile)
    : pool_(pool), open_(worthwhile && !pool.workers_.empty()) {
    if (!open_) return;
    {
        const std::lock_guard<std::mutex> lock(pool_.mutex_);
        pool_.watch_.store(true);
    }
    pool_.wake_.notify_all();
    pool_.open_ = true;
}

ThreadPool::Session::~Session() {
    if (!open_) return;
    pool_.open_ = false;
    pool_.watch_.store(false);
}

void ThreadPool::run(std::size_t n, std::size_t grain, Call call, const void* body) {
    // Four chunks per thread even out what else the cores are doing.
    const std::size_t wished = (n + threads() * 4 - 1) / (threads() * 4);
    chunk_ = (wished + grain - 1) / grain * grain;
    chunks_ = (n + chunk_ - 1) / chunk_;
    call_ = call;
    body_ = body;
    items_ = n;
    done_.store(0, std::memory_order_relaxed);
    const std::uint64_t epoch = (ticket_.load(std::memory_order_relaxed) >> 32U) + 1;
    ticket_.store((epoch << 32U) | chunks_, std::memory_order_release);
    while (take_chunk()) {
    }
    int spins = 0;
    while (done_.load(std::memory_order_acquire) != chunks_) {
        pause();
        if (++spins > kSpinsBeforeYield) sched_yield();
    }
}

bool ThreadPool::take_chunk() {
    std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
    do {
        if ((ticket & kLow) == 0) return false;
    } while (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel, std::memory_order_acquire));
    const std::size_t index = chunks_ - static_cast<std::size_t>(ticket & kLow);
    const std::size_t begin = index * chunk_;
    call_(body_, begin, std::min(begin + chunk_, items_));
    done_.fetch_add(1, std::memory_order_release);
    return true;
}

void ThreadPool::work() {
    for (;;) {
        {
            std::unique_lock<std::mutex> lock(mutex_);
            wake_.wait(lock, [this] { return stopping_ || watch_.load(); });
            if (stopping_) return;
        }
        int spins = 0;
        while (watch_.load(std::memory_order_relaxed)) {
            if (take_chunk()) {
                spins = 0;
                continue;
            }
            pause();
            if (++spins > kSpinsBeforeYield) sched_yield();
        }
    }
}

}  // namespace nano
