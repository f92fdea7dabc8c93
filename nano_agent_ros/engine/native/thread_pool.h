// A fixed set of threads that sleep between steps of the engine.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "aligned.h"

namespace nano {

// Processors that this process may run on, one of each physical core; at least one.
std::vector<int> core_processors();

// Which processors threads are bound to, from "none" or "" (none: an empty list), "auto" (one of each physical core)
// or a list of processors like "0,2,4". Throws Error for anything else or a processor that is not to be had.
std::vector<int> parse_pin(const std::string& pin);

// Work of n items is cut into pieces; each thread has a share of adjacent ones, which it takes in order, so that it
// reads one stretch of memory. Who is done helps the others: a thread that the system has taken off its core costs no
// more than the piece that it is at. Threads watch for work only while a Session is open, and sleep even then when none
// comes.
class ThreadPool {
public:
    // `processors`: empty, or those that threads are bound to, in turn; the thread that opens a session among them,
    // for as long as that is open.
    ThreadPool(std::size_t threads, std::vector<int> processors);
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
        std::vector<int> before_;  // processors of the thread, if it was bound
    };

    // Calls body(begin, end) or body(begin, end, thread) over [0, n) in runs that are multiples of `grain` items (but
    // for the last one). body must not throw. What it wrote is seen by the caller.
    template <typename Body>
    void parallel_for(std::size_t n, std::size_t grain, const Body& body) {
        if (!open_ || n <= grain) {
            if (n > 0) invoke(body, 0, n, 0);
            return;
        }
        run(n, grain, [](const void* b, std::size_t begin, std::size_t end, std::size_t thread) {
            invoke(*static_cast<const Body*>(b), begin, end, thread);
        }, &body);
    }

private:
    using Call = void (*)(const void* body, std::size_t begin, std::size_t end, std::size_t thread);

    template <typename Body>
    static void invoke(const Body& body, std::size_t begin, std::size_t end, std::size_t thread) {
        if constexpr (std::is_invocable_v<const Body&, std::size_t, std::size_t, std::size_t>) {
            body(begin, end, thread);
        } else {
            body(begin, end);
        }
    }

    // Number of the job in the high half, pieces left in the low half: a late thread can neither take a piece of a
    // finished job nor see a job's fields before it owns one of its pieces.
    struct alignas(64) Share {
        std::atomic<std::uint64_t> ticket{0};
    };

    void run(std::size_t n, std::size_t grain, Call call, const void* body);
    bool take_piece(std::size_t share, std::size_t thread);
    bool help(std::size_t thread);
    void work(std::size_t thread);
    void publish();
    std::size_t share_end(std::size_t share) const { return pieces_ * (share + 1) / threads(); }

    std::vector<std::thread> workers_;
    std::vector<int> processors_;
    bool open_ = false;  // seen by the session's thread
    std::atomic<bool> stopping_{false};
    std::atomic<bool> watch_{false};
    alignas(64) std::atomic<std::uint32_t> published_{0};  // counts jobs; what sleeping threads wait on
    std::atomic<std::uint32_t> sleepers_{0};

    AlignedVector<Share> shares_;
    alignas(64) std::atomic<std::uint32_t> done_{0};
    std::atomic<std::uint32_t> awaited_{0};  // 1 while the session's thread sleeps until done_ changes
    Call call_ = nullptr;
    const void* body_ = nullptr;
    std::uint64_t job_ = 0;
    std::size_t items_ = 0;
    std::size_t piece_ = 0;
    std::size_t pieces_ = 0;
};

}  // namespace nano
