// What the check programs share: random numbers that a seed repeats, and a word about what failed.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

namespace check {

class Random {
public:
    explicit Random(std::uint64_t seed) : engine_(seed) {}
    std::size_t between(std::size_t low, std::size_t high) { return low + engine_() % (high - low + 1); }
    bool coin() { return (engine_() & 1U) != 0; }
    std::uint64_t bits() { return engine_(); }
    float uniform(float low, float high) {
        return low + (high - low) * static_cast<float>(engine_() >> 40U) / static_cast<float>(1U << 24U);
    }
    // Roughly normal: the sum of four uniform numbers.
    float normal(float scale = 1.0F) {
        return scale * (uniform(-1, 1) + uniform(-1, 1) + uniform(-1, 1) + uniform(-1, 1));
    }
    std::vector<float> normals(std::size_t n, float scale = 1.0F) {
        std::vector<float> out(n);
        for (float& v : out) v = normal(scale);
        return out;
    }
    template <typename T>
    const T& one_of(const std::vector<T>& choices) {
        return choices[between(0, choices.size() - 1)];
    }

private:
    std::mt19937_64 engine_;
};

// Ends the program with the place and, through `say`, the shape that failed.
#define REQUIRE(condition, ...)                                                   \
    do {                                                                          \
        if (!(condition)) {                                                       \
            std::fprintf(stderr, "%s:%d: %s\n  ", __FILE__, __LINE__, #condition); \
            std::fprintf(stderr, __VA_ARGS__);                                    \
            std::fprintf(stderr, "\n");                                           \
            std::exit(1);                                                         \
        }                                                                         \
    } while (false)

void kernels(Random& random, std::size_t rounds);  // every set against the portable one
void threads(Random& random, std::size_t rounds);  // the thread pool
void engine(Random& random, std::size_t rounds);   // the C interface, also with damaged input and several callers

// Random panels as docs/artifact.md lays them out: any byte is a weight, scales are small positive float16 numbers.
std::vector<std::uint8_t> random_panels(Random& random, std::size_t rows, std::size_t cols, std::size_t bits);

}  // namespace check
