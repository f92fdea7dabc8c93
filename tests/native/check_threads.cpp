// The thread pool by itself: every item of every job is done once, by whichever thread, and what was written is seen. Plain
// memory holds the counts, so that the thread sanitizer sees a hand-over that is not one.
#include <thread>

#include "check.h"
#include "thread_pool.h"

namespace check {

namespace {

struct Work {
    std::size_t items, grain;
};

// Jobs of one session, right after each other: threads that are late for one meet the next.
void session(Random& random, nano::ThreadPool& pool) {
    std::vector<Work> jobs(random.between(1, 30));
    for (Work& job : jobs) job = {random.between(0, random.coin() ? 40 : 3000), random.between(1, 32)};
    const nano::ThreadPool::Session open(pool, random.between(0, 4) != 0);
    std::vector<std::uint64_t> sums(pool.threads());
    std::uint64_t expected = 0, got = 0;
    for (const Work& job : jobs) {
        std::vector<std::uint32_t> times(job.items);
        pool.parallel_for(job.items, job.grain, [&](std::size_t begin, std::size_t end, std::size_t thread) {
            for (std::size_t i = begin; i < end; ++i) {
                ++times[i];
                sums[thread] += i;
            }
        });
        for (std::size_t i = 0; i < job.items; ++i) {
            REQUIRE(times[i] == 1, "item %zu of %zu was done %u times by %zu threads", i, job.items, times[i], pool.threads());
            expected += i;
        }
    }
    for (const std::uint64_t sum : sums) got += sum;
    REQUIRE(got == expected, "what %zu threads wrote is not what was seen", pool.threads());
}

}  // namespace

void threads(Random& random, std::size_t rounds) {
    std::size_t sessions = 0;
    for (std::size_t i = 0; i < rounds; ++i) {
        nano::ThreadPool pool(random.between(1, 5), random.coin() ? nano::parse_pin("auto") : std::vector<int>{});
        for (std::size_t left = random.between(0, 20); left > 0; --left, ++sessions) {
            session(random, pool);
            if (random.between(0, 3) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // they fall asleep
        }
    }
    std::printf("%zu sessions of %zu thread pools: every item was done once\n", sessions, rounds);
}

}  // namespace check
