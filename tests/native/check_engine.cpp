// The C interface over random models: however tokens are cut, taken back, forked and restored, the state is the same; and
// what is damaged or out of range is refused, not followed.
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "check.h"
#include "half.h"
#include "nano_engine.h"

namespace check {

namespace {

struct Model {
    nano_config config{};
    std::string pattern;
    std::vector<std::string> names;
    std::vector<nano_tensor> tensors;
    std::vector<std::uint8_t> file;
    std::string path;

    explicit Model(Random& random);
    ~Model() { std::remove(path.c_str()); }

    void write() const {
        std::FILE* out = std::fopen(path.c_str(), "wb");
        REQUIRE(out != nullptr && std::fwrite(file.data(), 1, file.size(), out) == file.size(), "cannot write %s",
                path.c_str());
        std::fclose(out);
    }

private:
    void put(const std::string& name, std::int64_t kind, std::size_t rows, std::size_t cols, const void* data,
             std::size_t nbytes) {
        file.resize((file.size() + 63) / 64 * 64);
        names.push_back(name);
        tensors.push_back({nullptr, kind, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(cols), file.size(),
                           nbytes});
        const std::uint8_t* bytes = static_cast<const std::uint8_t*>(data);
        file.insert(file.end(), bytes, bytes + nbytes);
    }
    void vector(const std::string& name, const std::vector<float>& v, std::size_t cols = 1) {
        put(name, NANO_FLOAT32, v.size() / cols, cols, v.data(), v.size() * sizeof(float));
    }
    void matrix(Random& random, const std::string& stem, std::int64_t rows, std::int64_t cols) {
        const std::size_t bits = random.coin() ? 4 : 8;
        const std::size_t n = static_cast<std::size_t>(rows);
        const auto panels = random_panels(random, n, static_cast<std::size_t>(cols), bits);
        put(stem + ".weight", bits == 8 ? NANO_INT8_PANELS : NANO_INT4_PANELS, n, static_cast<std::size_t>(cols),
            panels.data(), panels.size());
        if (random.coin()) vector(stem + ".bias", random.normals(n, 0.1F));
    }
};

Model::Model(Random& random) {
    const auto pick = [&](std::size_t low, std::size_t high) { return static_cast<std::int64_t>(random.between(low, high)); };
    nano_config& c = config;
    c.vocab_size = pick(2, 90);
    c.hidden_size = 64 * pick(1, 3);
    c.intermediate_size = 64 * pick(1, 4);
    c.n_groups = pick(1, 2);
    c.mamba_heads = 4 * c.n_groups;
    c.mamba_head_dim = 16 * pick(1, 2);
    c.state_size = random.one_of<std::int64_t>({8, 16, 20, 64, 128});
    c.conv_kernel = pick(2, 4);
    c.kv_heads = pick(1, 2);
    c.attention_heads = 4 * c.kv_heads;
    c.head_dim = 16 * pick(1, 2);
    c.norm_eps = 1e-5;
    c.dt_min = 0.0;
    c.dt_max = INFINITY;
    for (std::size_t i = random.between(1, 4); i > 0; --i) pattern += random.one_of<char>({'M', '*', '-'});
    const std::int64_t inner = c.mamba_heads * c.mamba_head_dim;
    const std::int64_t conv = inner + 2 * c.n_groups * c.state_size;
    const std::int64_t q = c.attention_heads * c.head_dim;
    const std::int64_t kv = c.kv_heads * c.head_dim;
    const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };

    std::vector<std::uint16_t> embedding(size(c.vocab_size * c.hidden_size));
    for (std::uint16_t& v : embedding) v = nano::float_to_half(random.normal());
    put("backbone.embeddings.weight", NANO_FLOAT16, size(c.vocab_size), size(c.hidden_size), embedding.data(),
        embedding.size() * 2);
    vector("backbone.norm_f.weight", std::vector<float>(size(c.hidden_size), 1.0F));
    matrix(random, "lm_head", c.vocab_size, c.hidden_size);
    for (std::size_t i = 0; i < pattern.size(); ++i) {
        const std::string layer = "backbone.layers." + std::to_string(i) + ".";
        const std::string mixer = layer + "mixer.";
        vector(layer + "norm.weight", std::vector<float>(size(c.hidden_size), 1.0F));
        if (pattern[i] == 'M') {
            matrix(random, mixer + "in_proj", inner + conv + c.mamba_heads, c.hidden_size);
            matrix(random, mixer + "out_proj", c.hidden_size, inner);
            vector(mixer + "conv1d.weight", random.normals(size(conv * c.conv_kernel), 0.3F), size(c.conv_kernel));
            if (random.coin()) vector(mixer + "conv1d.bias", random.normals(size(conv), 0.1F));
            vector(mixer + "dt_bias", random.normals(size(c.mamba_heads)));
            vector(mixer + "A_log", random.normals(size(c.mamba_heads), 0.5F));
            vector(mixer + "D", random.normals(size(c.mamba_heads)));
            vector(mixer + "norm.weight", std::vector<float>(size(inner), 1.0F));
        } else if (pattern[i] == '*') {
            matrix(random, mixer + "q_proj", q, c.hidden_size);
            matrix(random, mixer + "k_proj", kv, c.hidden_size);
            matrix(random, mixer + "v_proj", kv, c.hidden_size);
            matrix(random, mixer + "o_proj", c.hidden_size, q);
        } else {
            matrix(random, mixer + "up_proj", c.intermediate_size, c.hidden_size);
            matrix(random, mixer + "down_proj", c.hidden_size, c.intermediate_size);
        }
    }
    file.resize((file.size() + 63) / 64 * 64);
    for (std::size_t i = 0; i < names.size(); ++i) tensors[i].name = names[i].c_str();
    config.pattern = pattern.c_str();
    const char* folder = std::getenv("TMPDIR");
    path = std::string(folder != nullptr ? folder : "/tmp") + "/nano_check_" + std::to_string(random.bits());
    write();
}

using Engine = std::unique_ptr<nano_engine, decltype(&nano_engine_close)>;
using State = std::unique_ptr<nano_state, decltype(&nano_state_free)>;

State own(nano_state* state) {
    REQUIRE(state != nullptr, "%s", nano_last_error());
    return {state, nano_state_free};
}

nano_options options_of(Random& random) {
    nano_options o{};
    o.threads = static_cast<std::int64_t>(random.between(1, 3));
    o.window = static_cast<std::int64_t>(random.between(1, 300));
    o.sinks = static_cast<std::int64_t>(random.between(0, 4));
    o.kernels = random.coin() ? "auto" : "portable";
    o.pin = "none";
    o.huge_pages = random.coin() ? 1 : 0;
    return o;
}

void extend(nano_state* state, const std::int64_t* tokens, std::size_t count, float* logits) {
    REQUIRE(nano_state_extend(state, tokens, static_cast<std::int64_t>(count), logits, 0) == NANO_OK, "%s",
            nano_last_error());
}

std::vector<std::uint8_t> snapshot(nano_state* state) {
    std::vector<std::uint8_t> data(static_cast<std::size_t>(nano_state_snapshot_size(state)));
    REQUIRE(nano_state_snapshot(state, data.data(), static_cast<std::int64_t>(data.size())) == NANO_OK, "%s",
            nano_last_error());
    return data;
}

// The tokens in random pieces; before some of them others are added and taken back, and some go on from a fork or a copy.
State wander(Random& random, nano_engine* engine, const std::vector<std::int64_t>& tokens, float* logits) {
    State state = own(nano_state_new(engine));
    for (std::size_t done = 0; done < tokens.size();) {
        const std::size_t n = random.between(1, random.coin() ? 5 : tokens.size() - done);
        const std::size_t piece = n < tokens.size() - done ? n : tokens.size() - done;
        if (random.coin()) {
            std::vector<std::int64_t> more(tokens.begin() + static_cast<std::ptrdiff_t>(done),
                                           tokens.begin() + static_cast<std::ptrdiff_t>(done + piece));
            for (std::size_t i = random.between(1, 200); i > 0; --i) more.push_back(tokens[0]);
            extend(state.get(), more.data(), more.size(), nullptr);
            const std::size_t kept = piece - 1;
            REQUIRE(nano_state_commit(state.get(), static_cast<std::int64_t>(kept)) == NANO_OK, "%s", nano_last_error());
            extend(state.get(), tokens.data() + done + kept, 1, logits);
        } else {
            extend(state.get(), tokens.data() + done, piece, logits);
        }
        done += piece;
        if (random.between(0, 3) == 0) state = own(nano_state_fork(state.get()));
        if (random.between(0, 3) == 0) {
            const std::vector<std::uint8_t> data = snapshot(state.get());
            state = own(nano_state_restore(engine, data.data(), static_cast<std::int64_t>(data.size())));
        }
    }
    return state;
}

// Two threads on one engine, each with states of its own: neither notices the other.
void callers(Random& random, nano_engine* engine, const std::vector<std::int64_t>& tokens, const std::vector<float>& logits,
             const std::vector<std::uint8_t>& expected) {
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&, own_random = Random(random.bits())]() mutable {
            std::vector<float> got(logits.size());
            const State state = wander(own_random, engine, tokens, got.data());
            REQUIRE(std::memcmp(got.data(), logits.data(), got.size() * sizeof(float)) == 0, "callers disturb each other's logits");
            REQUIRE(snapshot(state.get()) == expected, "callers disturb each other's states");
        });
    }
    for (std::thread& thread : threads) thread.join();
}

void conversations(Random& random, const Model& model) {
    const nano_options options = options_of(random);
    const Engine engine(nano_engine_open(model.path.c_str(), &model.config, model.tensors.data(), model.tensors.size(),
                                         &options), nano_engine_close);
    REQUIRE(engine != nullptr, "%s", nano_last_error());
    std::vector<std::int64_t> tokens(random.between(1, 300));
    for (std::int64_t& t : tokens) t = static_cast<std::int64_t>(random.bits() % static_cast<std::uint64_t>(model.config.vocab_size));
    std::vector<float> once(static_cast<std::size_t>(model.config.vocab_size)), pieces = once;
    const State whole = own(nano_state_new(engine.get()));
    extend(whole.get(), tokens.data(), tokens.size(), once.data());
    const State parts = wander(random, engine.get(), tokens, pieces.data());
    for (const float v : once) REQUIRE(std::isfinite(v), "a logit of pattern %s is no number", model.pattern.c_str());
    REQUIRE(std::memcmp(once.data(), pieces.data(), once.size() * sizeof(float)) == 0,
            "logits depend on how %zu tokens are cut, pattern %s", tokens.size(), model.pattern.c_str());
    std::vector<std::uint8_t> good = snapshot(parts.get());
    REQUIRE(good == snapshot(whole.get()), "states differ by how %zu tokens are cut, pattern %s", tokens.size(),
            model.pattern.c_str());

    callers(random, engine.get(), tokens, once, good);

    for (int i = 0; i < 20; ++i) {
        std::vector<std::uint8_t> bad = good;
        if (random.coin()) {
            bad.resize(random.between(0, bad.size() - 1));
        } else {
            bad[random.between(0, bad.size() - 1)] ^= static_cast<std::uint8_t>(1U << random.between(0, 7));
        }
        nano_state* state = nano_state_restore(engine.get(), bad.data(), static_cast<std::int64_t>(bad.size()));
        REQUIRE(state == nullptr, "a damaged snapshot was taken, pattern %s", model.pattern.c_str());
    }
    const std::int64_t outside[] = {-1, model.config.vocab_size};
    for (const std::int64_t token : outside) {
        REQUIRE(nano_state_extend(parts.get(), &token, 1, nullptr, 0) == NANO_INVALID, "token outside the vocabulary");
    }
    REQUIRE(nano_state_extend(parts.get(), tokens.data(), -1, nullptr, 0) == NANO_INVALID, "negative count");
    REQUIRE(nano_state_commit(parts.get(), -1) == NANO_INVALID && nano_state_commit(parts.get(), 1) == NANO_INVALID,
            "commit of tokens that are not open");
}

// Whatever stands in the table, opening fails or what was opened computes inside of the file.
void damaged_table(Random& random, const Model& model) {
    for (int i = 0; i < 10; ++i) {
        std::vector<nano_tensor> tensors = model.tensors;
        nano_tensor& t = random.one_of(std::vector<nano_tensor*>{&tensors.front(), &tensors.back(),
                                                                &tensors[random.between(0, tensors.size() - 1)]})[0];
        switch (random.between(0, 4)) {
            case 0: t.offset = random.coin() ? ~std::uint64_t{63} : t.offset + 64 * random.between(1, 1000); break;
            case 1: t.nbytes += random.bits(); break;
            case 2: t.rows = random.coin() ? -1 : t.rows + 1; break;
            case 3: t.kind = static_cast<std::int64_t>(random.between(0, 5)); break;
            default: tensors.erase(tensors.begin() + (&t - tensors.data()));
        }
        const nano_options options = options_of(random);
        const Engine engine(nano_engine_open(model.path.c_str(), &model.config, tensors.data(), tensors.size(), &options),
                            nano_engine_close);
        if (engine == nullptr) continue;
        const State state = own(nano_state_new(engine.get()));
        const std::int64_t token = 1;
        nano_state_extend(state.get(), &token, 1, nullptr, 0);
    }
}

}  // namespace

void engine(Random& random, std::size_t rounds) {
    for (std::size_t i = 0; i < rounds; ++i) {
        const Model model(random);
        conversations(random, model);
        damaged_table(random, model);
    }
    std::printf("%zu engines: pieces, copies and forks agree to the bit, damage is refused\n", rounds);
}

}  // namespace check
