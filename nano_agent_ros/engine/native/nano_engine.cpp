// The C interface over Network and State: argument checks, locking, exceptions to codes.
#include "nano_engine.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "error.h"
#include "kernels.h"
#include "network.h"
#include "snapshot.h"

struct nano_engine {
    std::shared_ptr<nano::Network> network;
};

struct nano_state {
    std::shared_ptr<nano::Network> network;  // outlives the state, whose memory is the network's
    nano::State state;
};

namespace {

constexpr std::int64_t kMostThreads = 64;
constexpr std::int64_t kDefaultMostThreads = 8;
constexpr std::int64_t kMostWindow = std::int64_t{1} << 24;

thread_local std::string last_error;

void set_error(const char* message) noexcept {
    try {
        last_error = message;
    } catch (...) {
        last_error.clear();
    }
}

// Runs body and returns its result, or `failed(code)` after an exception.
template <typename Body, typename Failed>
auto guarded(const Body& body, const Failed& failed) noexcept -> decltype(body()) {
    try {
        return body();
    } catch (const nano::Error& e) {
        set_error(e.what());
        return failed(e.code());
    } catch (const std::bad_alloc&) {
        set_error("not enough memory");
        return failed(NANO_NO_MEMORY);
    } catch (const std::exception& e) {
        set_error(e.what());
        return failed(NANO_INTERNAL);
    }
}

int same_code(int code) { return code; }
std::int64_t wide_code(int code) { return code; }

void require(bool condition, const char* message) {
    if (!condition) throw nano::Error(NANO_INVALID, message);
}

nano::StateLayout layout_from(const nano_config& config, const nano_options& options, const nano::KernelSet& kernels) {
    require(options.window >= 1 && options.window <= kMostWindow, "window must be 1 to 16777216 tokens");
    require(options.sinks >= 0 && options.sinks <= kMostWindow, "sinks must be 0 to 16777216 tokens");
    nano::StateLayout layout{nano::Config(config), {}, kernels.name, static_cast<std::size_t>(options.window),
                             static_cast<std::size_t>(options.sinks)};
    std::memcpy(layout.model_digest, options.model_digest, sizeof layout.model_digest);
    return layout;
}

}  // namespace

int nano_abi_version(void) { return NANO_ABI_VERSION; }

const char* nano_last_error(void) { return last_error.c_str(); }

nano_engine* nano_engine_open(const char* weights_path, const nano_config* config, const nano_tensor* tensors,
                              size_t tensor_count, const nano_options* options) {
    return guarded(
        [&]() -> nano_engine* {
            require(weights_path != nullptr && config != nullptr && tensors != nullptr && options != nullptr,
                    "an argument is null");
            require(options->threads >= 0 && options->threads <= kMostThreads, "threads must be 0 to 64");
            require(options->huge_pages == 0 || options->huge_pages == 1, "huge_pages must be 0 or 1");
            const char* wished = options->kernels != nullptr ? options->kernels : "auto";
            const nano::KernelSet* kernels = nano::find_kernels(wished);
            if (kernels == nullptr) {
                throw nano::Error(NANO_INVALID, std::string("kernels '") + wished +
                                                    "' are unknown or not for this processor; use auto or portable");
            }
            const std::int64_t cores = static_cast<std::int64_t>(nano::core_processors().size());
            const std::int64_t threads = options->threads > 0 ? options->threads : std::min(cores, kDefaultMostThreads);
            const std::vector<int> processors = nano::parse_pin(options->pin != nullptr ? options->pin : "none");
            return new nano_engine{std::make_shared<nano::Network>(
                weights_path, layout_from(*config, *options, *kernels), tensors, tensor_count, *kernels,
                static_cast<std::size_t>(threads), processors, options->huge_pages != 0)};
        },
        [](int) -> nano_engine* { return nullptr; });
}

void nano_engine_close(nano_engine* engine) { delete engine; }

const char* nano_engine_kernels(const nano_engine* engine) {
    return engine != nullptr ? engine->network->kernels.name : "";
}

int64_t nano_engine_threads(const nano_engine* engine) {
    return engine != nullptr ? static_cast<int64_t>(engine->network->threads()) : 0;
}

nano_state* nano_state_new(nano_engine* engine) {
    return guarded(
        [&]() -> nano_state* {
            require(engine != nullptr, "the engine is null");
            nano::Network& network = *engine->network;
            const std::lock_guard<std::mutex> lock(network.mutex);
            return new nano_state{engine->network, nano::State(network.layout, network.memory)};
        },
        [](int) -> nano_state* { return nullptr; });
}

void nano_state_free(nano_state* state) { delete state; }

int nano_state_extend(nano_state* state, const int64_t* tokens, int64_t count, float* logits, int every) {
    return guarded(
        [&] {
            require(state != nullptr && tokens != nullptr, "the state or the tokens are null");
            require(count >= 1, "extend needs at least one token");
            nano::Network& network = *state->network;
            const auto vocabulary = static_cast<std::int64_t>(network.layout.config.vocab_size);
            for (int64_t i = 0; i < count; ++i) {
                if (tokens[i] < 0 || tokens[i] >= vocabulary) {
                    throw nano::Error(NANO_INVALID, "token id " + std::to_string(tokens[i]) +
                                                        " is outside the vocabulary of " + std::to_string(vocabulary));
                }
            }
            const std::lock_guard<std::mutex> lock(network.mutex);
            network.extend(state->state, tokens, static_cast<std::size_t>(count), logits, every != 0);
            return static_cast<int>(NANO_OK);
        },
        same_code);
}

int nano_state_commit(nano_state* state, int64_t count) {
    return guarded(
        [&] {
            require(state != nullptr, "the state is null");
            nano::Network& network = *state->network;
            const std::lock_guard<std::mutex> lock(network.mutex);
            const nano::State& s = state->state;
            const std::size_t total = s.before_long ? s.long_tokens.size() : s.pending;
            if (count < 0 || static_cast<std::uint64_t>(count) > total) {
                throw nano::Error(NANO_INVALID, "cannot keep " + std::to_string(count) + " of the " +
                                                    std::to_string(total) + " tokens last extended by");
            }
            network.commit(state->state, static_cast<std::size_t>(count));
            return static_cast<int>(NANO_OK);
        },
        same_code);
}

int64_t nano_state_length(nano_state* state) {
    return guarded(
        [&]() -> std::int64_t {
            require(state != nullptr, "the state is null");
            const std::lock_guard<std::mutex> lock(state->network->mutex);
            return static_cast<std::int64_t>(state->state.length + state->state.pending);
        },
        wide_code);
}

nano_state* nano_state_fork(nano_state* state) {
    return guarded(
        [&]() -> nano_state* {
            require(state != nullptr, "the state is null");
            const std::lock_guard<std::mutex> lock(state->network->mutex);
            return new nano_state{state->network, state->state.fork()};
        },
        [](int) -> nano_state* { return nullptr; });
}

int64_t nano_state_snapshot_size(nano_state* state) {
    return guarded(
        [&]() -> std::int64_t {
            require(state != nullptr, "the state is null");
            const std::lock_guard<std::mutex> lock(state->network->mutex);
            state->state.settle();
            state->state.forget_long();
            return static_cast<std::int64_t>(nano::snapshot_size(state->state));
        },
        wide_code);
}

int nano_state_snapshot(nano_state* state, uint8_t* data, int64_t nbytes) {
    return guarded(
        [&] {
            require(state != nullptr && data != nullptr, "the state or the buffer is null");
            nano::Network& network = *state->network;
            const std::lock_guard<std::mutex> lock(network.mutex);
            state->state.settle();
            state->state.forget_long();
            require(nbytes >= 0 && static_cast<std::uint64_t>(nbytes) == nano::snapshot_size(state->state),
                    "the buffer does not have the snapshot's size");
            nano::save_snapshot(state->state, nano::hashed_copy(network.kernels), network.pool(), data);
            return static_cast<int>(NANO_OK);
        },
        same_code);
}

nano_state* nano_state_restore(nano_engine* engine, const uint8_t* data, int64_t nbytes) {
    return guarded(
        [&]() -> nano_state* {
            require(engine != nullptr && data != nullptr && nbytes >= 0, "the engine or the snapshot is null");
            nano::Network& network = *engine->network;
            const std::lock_guard<std::mutex> lock(network.mutex);
            return new nano_state{engine->network, nano::load_snapshot(network.layout, network.memory,
                                                               nano::hashed_copy(network.kernels), network.pool(), data,
                                                               static_cast<std::size_t>(nbytes))};
        },
        [](int) -> nano_state* { return nullptr; });
}
