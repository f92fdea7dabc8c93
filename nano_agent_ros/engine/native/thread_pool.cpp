#include "thread_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <set>
#include <system_error>

#include "error.h"
#include "nano_engine.h"

namespace nano {

namespace {

constexpr std::uint64_t kLow = 0xFFFFFFFFU;
// Pieces per thread: enough to even out what else the cores are doing, few enough that each is a long read.
constexpr std::size_t kPieces = 8;
// How long a thread watches for work before it sleeps: longer than what one thread does alone between two jobs.
constexpr int kSpins = 8000;
// Of those, how many before it lets others onto the core in between.
constexpr int kSpinsBeforeYield = 4000;

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Sleeps while the word has this value; may wake for no reason.
void sleep_on(const std::atomic<std::uint32_t>& word, std::uint32_t value) {
    syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void wake(const std::atomic<std::uint32_t>& word) {
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1 << 16, nullptr, nullptr, 0);
}

// Watches for `ready` for a while; true if it came.
template <typename Ready>
bool spin(const Ready& ready) {
    for (int i = 0; i < kSpins; ++i) {
        if (ready()) return true;
        pause();
        if (i >= kSpinsBeforeYield && i % 64 == 0) sched_yield();
    }
    return ready();
}

std::vector<int> allowed_processors() {
    cpu_set_t set;
    CPU_ZERO(&set);
    std::vector<int> found;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return found;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (CPU_ISSET(static_cast<std::size_t>(cpu), &set)) found.push_back(cpu);
    }
    return found;
}

void bind_thread(const std::vector<int>& processors) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const int cpu : processors) CPU_SET(static_cast<std::size_t>(cpu), &set);
    // A processor that has been taken from the process since is no reason to stop.
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

}  // namespace

std::vector<int> core_processors() {
    std::vector<int> first;
    std::set<std::string> cores;
    for (const int cpu : allowed_processors()) {
        std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
        std::string siblings;
        const bool known = std::getline(file, siblings) && !siblings.empty();
        if (!known || cores.insert(siblings).second) first.push_back(cpu);
    }
    return first.empty() ? std::vector<int>{0} : first;
}

std::vector<int> parse_pin(const std::string& pin) {
    if (pin.empty() || pin == "none") return {};
    if (pin == "auto") return core_processors();
    const std::vector<int> allowed = allowed_processors();
    std::vector<int> processors;
    for (std::size_t at = 0; at <= pin.size();) {
        const std::size_t comma = std::min(pin.find(',', at), pin.size());
        const std::string number = pin.substr(at, comma - at);
        if (number.empty() || number.size() > 6 || number.find_first_not_of("0123456789") != std::string::npos) {
            throw Error(NANO_INVALID, "pin '" + pin + "' is neither none, auto nor a list of processors like 0,2,4");
        }
        processors.push_back(std::atoi(number.c_str()));
        if (std::find(allowed.begin(), allowed.end(), processors.back()) == allowed.end()) {
            throw Error(NANO_INVALID, "pin '" + pin + "': this process may not run on processor " + number);
        }
        at = comma + 1;
    }
    return processors;
}

ThreadPool::ThreadPool(std::size_t threads, std::vector<int> processors) : processors_(std::move(processors)) {
    workers_.reserve(threads);
    shares_ = AlignedVector<Share>(threads);
    try {
        for (std::size_t i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
    } catch (const std::system_error&) {
        // Fewer threads than wished for still do all the work.
    }
}

ThreadPool::~ThreadPool() {
    stopping_.store(true);
    publish();
    for (std::thread& worker : workers_) worker.join();
}

ThreadPool::Session::Session(ThreadPool& pool, bool worthwhile)
    : pool_(pool), open_(worthwhile && !pool.workers_.empty()) {
    if (!open_) return;
    if (!pool_.processors_.empty()) {
        before_ = allowed_processors();
        bind_thread({pool_.processors_[0]});
    }
    pool_.watch_.store(true);
    pool_.open_ = true;
    pool_.publish();
}

ThreadPool::Session::~Session() {
    if (!open_) return;
    pool_.open_ = false;
    pool_.watch_.store(false);
    if (!before_.empty()) bind_thread(before_);
}

void ThreadPool::publish() {
    published_.fetch_add(1);
    if (sleepers_.load() != 0) wake(published_);
}

void ThreadPool::run(std::size_t n, std::size_t grain, Call call, const void* body) {
    const std::size_t wished = (n + threads() * kPieces - 1) / (threads() * kPieces);
    piece_ = (wished + grain - 1) / grain * grain;
    pieces_ = (n + piece_ - 1) / piece_;
    call_ = call;
    body_ = body;
    items_ = n;
    ++job_;
    done_.store(0, std::memory_order_relaxed);
    for (std::size_t i = 0; i < threads(); ++i) {
        const std::size_t count = share_end(i) - (i > 0 ? share_end(i - 1) : 0);
        shares_[i].ticket.store((job_ << 32U) | count, std::memory_order_release);
    }
    publish();
    while (help(0)) {
    }
    const auto finished = [&] { return done_.load(std::memory_order_acquire) == pieces_; };
    while (!spin(finished)) {
        awaited_.store(1);
        const std::uint32_t done = done_.load();
        if (done != pieces_) sleep_on(done_, done);
        awaited_.store(0);
    }
}

bool ThreadPool::take_piece(std::size_t share, std::size_t thread) {
    std::atomic<std::uint64_t>& ticket = shares_[share].ticket;
    std::uint64_t seen = ticket.load(std::memory_order_acquire);
    do {
        if ((seen & kLow) == 0) return false;
    } while (!ticket.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel, std::memory_order_acquire));
    const std::size_t begin = (share_end(share) - static_cast<std::size_t>(seen & kLow)) * piece_;
    call_(body_, begin, std::min(begin + piece_, items_), thread);
    done_.fetch_add(1);
    if (awaited_.load() != 0) wake(done_);
    return true;
}

// Takes a piece of the thread's own share, or of the next one that has any left.
bool ThreadPool::help(std::size_t thread) {
    for (std::size_t i = 0; i < threads(); ++i) {
        if (take_piece((thread + i) % threads(), thread)) return true;
    }
    return false;
}

void ThreadPool::work(std::size_t thread) {
    if (!processors_.empty()) bind_thread({processors_[thread % processors_.size()]});
    // The pool is complete when the first session opens.
    for (std::uint32_t seen = 0;;) {
        const auto published = [&] { return published_.load() != seen; };
        while (!published()) {
            if (watch_.load() && spin([&] { return published() || !watch_.load(); })) continue;
            sleepers_.fetch_add(1);
            sleep_on(published_, seen);
            sleepers_.fetch_sub(1);
        }
        seen = published_.load();
        if (stopping_.load()) return;
        while (help(thread)) {
        }
    }
}

}  // namespace nano
