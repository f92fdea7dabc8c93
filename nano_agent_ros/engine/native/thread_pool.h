// A fixed set of threads that sleep between steps of the engine.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace nano {

// Cores that this process may run on, hardware threads of one core counted once; at least 1.
std::size_t physical_cores();

// Work is split into chunks that whoever is free takes, the caller included: the caller never waits for a thread
// that has not started on a chunk, so a slow wake-up or a busy core costs speed only. Workers watch for work (and
// yield the core if there is none) only while a Session is open; otherwise they sleep.
class ThreadPool {
public:
    explicit ThreadPool(std::size_t threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    std::size_t threads() const { return workers_.size() + 1; }

    // Wakes the workers if `worthwhile`; one session at a time, parallel_for only from its thread.
    class Session {
    public:
        Session(ThreadPool& pool, bool worthwhile);
        ~Session();
        Session(const Session&) = delete;
        Session& operator=(const Session&) = delete;

    private:
        ThreadPool& pool_;
        bool open_;
    };

    // Calls body(begin, end) over [0, n) in runs that are multiples of `grain` items (but for the last one).
    // body must not throw.
    template <typename Body>
    void parallel_for(std::size_t n, std::size_t grain, const Body& body) {
        if (!open_ || n <= grain) {
            if (n > 0) body(std::size_t{0}, n);
            return;
        }
        run(n, grain, [](const void* b, std::size_t begin, std::size_t end) {
            (*static_cast<const Body*>(b))(begin, end);
        }, &body);
    }

private:
    using Call = void (*)(const void* body, std::size_t begin, std::size_t end);

    void run(std::size_t n, std::size_t grain, Call call, const void* body);
    bool take_chunk();
    void work();

    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    bool stopping_ = false;
    bool open_ = false;  // seen by the session's thread
    std::atomic<bool> watch_{false};

    // Epoch in the high half, chunks left in the low half: a late worker can neither take a chunk of a finished job
    // nor see a job's fields before it owns one of its chunks.
    alignas(64) std::atomic<std::uint64_t> ticket_{0};
    alignas(64) std::atomic<std::size_t> done_{0};
    Call call_ = nullptr;
    const void* body_ = nullptr;
    std::size_t items_ = 0;
    std::size_t chunk_ = 0;
    std::size_t chunks_ = 0;
};

}  // namespace nano
