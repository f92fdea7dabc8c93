// check_native [seed [rounds]]: without a seed, one of its own, which is printed.
#include <chrono>

#include "check.h"

int main(int count, char** arguments) {
    const std::uint64_t seed = count > 1 ? std::strtoull(arguments[1], nullptr, 0)
                                         : static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
    const std::size_t rounds = count > 2 ? std::strtoull(arguments[2], nullptr, 0) : 20;
    std::printf("seed %llu, %zu rounds\n", static_cast<unsigned long long>(seed), rounds);
    std::fflush(stdout);
    check::Random random(seed);
    check::threads(random, rounds);
    check::kernels(random, rounds);
    check::engine(random, rounds / 2 + 1);
}
