#include "state.h"

#include <algorithm>
#include <cstring>

#include "error.h"

namespace nano {

namespace {

struct Header {
    char magic[8];
    std::uint8_t model_digest[32];
    std::uint64_t length, window, sinks, nbytes;
};

constexpr char kMagic[8] = {'N', 'A', 'N', 'O', 'S', 'T', '0', '2'};

// FNV-1a over 64-bit words: every step is a bijection, so no single changed word goes unseen.
std::uint64_t checksum(const std::uint8_t* data, std::size_t nbytes) {
    std::uint64_t h = 0xCBF29CE484222325U;
    for (std::size_t i = 0; i < nbytes; i += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, data + i, std::min<std::size_t>(8, nbytes - i));
        h = (h ^ word) * 0x100000001B3U;
        h ^= h >> 32U;
    }
    return h;
}

// Bytes between header and checksum.
std::size_t body_bytes(const StateLayout& layout, const std::vector<KvCache>& kv, std::uint64_t length) {
    const Config& c = layout.config;
    std::size_t n = c.layers_of('M') * (c.state_floats() + (c.conv_kernel - 1) * c.conv_dim()) * sizeof(float);
    for (const KvCache& cache : kv) n += static_cast<std::size_t>(cache.kept(length)) * c.kv_dim() * 2 * sizeof(std::uint16_t);
    return n;
}

// Calls visit(position) for every token whose keys and values a snapshot holds, oldest first.
template <typename Visit>
void for_kept(const KvShape& shape, std::uint64_t length, const Visit& visit) {
    const std::uint64_t sinks = std::min<std::uint64_t>(shape.sinks, length);
    for (std::uint64_t p = 0; p < sinks; ++p) visit(p);
    for (std::uint64_t p = std::max(sinks, length - std::min<std::uint64_t>(length, shape.window)); p < length; ++p) {
        visit(p);
    }
}

class Writer {
public:
    explicit Writer(std::uint8_t* out) : out_(out) {}
    void put(const void* data, std::size_t nbytes) {
        std::memcpy(out_, data, nbytes);
        out_ += nbytes;
    }

private:
    std::uint8_t* out_;
};

class Reader {
public:
    explicit Reader(const std::uint8_t* data) : data_(data) {}
    void get(void* out, std::size_t nbytes) {
        std::memcpy(out, data_, nbytes);
        data_ += nbytes;
    }

private:
    const std::uint8_t* data_;
};

}  // namespace

State::State(const StateLayout& layout) : layout_(layout) {
    const Config& c = layout.config;
    mamba.resize(c.layers_of('M'));
    for (MambaState& m : mamba) {
        m.ssm.assign(c.state_floats(), 0.0F);
        m.ssm_next.assign(c.state_floats(), 0.0F);
        m.conv.assign((c.conv_kernel - 1) * c.conv_dim(), 0.0F);
    }
    const KvShape shape{c.kv_heads, c.head_dim, layout.sinks, layout.window, kMostPending};
    kv.assign(c.layers_of('*'), KvCache(shape));
}

void State::reserve(std::size_t count) {
    const Config& c = layout_.config;
    for (MambaState& m : mamba) {
        const std::size_t rows = (c.conv_kernel - 1 + count) * c.conv_dim();
        if (m.conv.size() < rows) m.conv.resize(rows);
        if (m.dt.size() < count * c.mamba_heads) m.dt.resize(count * c.mamba_heads);
    }
    for (KvCache& cache : kv) cache.reserve(length + count);
}

void State::settle() {
    if (pending == 0) return;
    for (MambaState& m : mamba) m.ssm.swap(m.ssm_next);
    advance_conv(pending);
}

void State::advance_conv(std::size_t n) {
    const std::size_t channels = layout_.config.conv_dim();
    const std::size_t kept = (layout_.config.conv_kernel - 1) * channels;
    if (n > 0) {
        for (MambaState& m : mamba) std::memmove(m.conv.data(), m.conv.data() + n * channels, kept * sizeof(float));
    }
    length += n;
    pending = 0;
}

void State::forget_long() {
    before_long.reset();
    long_tokens.clear();
}

std::size_t State::snapshot_size() const {
    return sizeof(Header) + body_bytes(layout_, kv, length) + sizeof(std::uint64_t);
}

void State::save(std::uint8_t* out) const {
    const Config& c = layout_.config;
    const std::size_t nbytes = snapshot_size();
    Header header{};
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    std::memcpy(header.model_digest, layout_.model_digest, sizeof header.model_digest);
    header.length = length;
    header.window = layout_.window;
    header.sinks = layout_.sinks;
    header.nbytes = nbytes;
    Writer writer(out);
    writer.put(&header, sizeof header);
    for (const MambaState& m : mamba) {
        writer.put(m.ssm.data(), c.state_floats() * sizeof(float));
        writer.put(m.conv.data(), (c.conv_kernel - 1) * c.conv_dim() * sizeof(float));
    }
    const std::size_t row = c.head_dim * sizeof(std::uint16_t);
    for (const KvCache& cache : kv) {
        for_kept(cache.shape(), length, [&](std::uint64_t p) {
            for (std::size_t h = 0; h < c.kv_heads; ++h) writer.put(cache.key(p, h), row);
            for (std::size_t h = 0; h < c.kv_heads; ++h) writer.put(cache.value(p, h), row);
        });
    }
    const std::uint64_t sum = checksum(out, nbytes - sizeof sum);
    writer.put(&sum, sizeof sum);
}

void State::load(const std::uint8_t* data, std::size_t nbytes) {
    const Config& c = layout_.config;
    Header header;
    if (nbytes < sizeof header + sizeof(std::uint64_t)) throw Error(NANO_DAMAGED, "the snapshot is too short");
    Reader reader(data);
    reader.get(&header, sizeof header);
    if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) {
        throw Error(NANO_DAMAGED, "this is no snapshot of the native engine, or one of another version");
    }
    if (std::memcmp(header.model_digest, layout_.model_digest, sizeof header.model_digest) != 0) {
        throw Error(NANO_DAMAGED, "the snapshot belongs to another model");
    }
    if (header.window != layout_.window || header.sinks != layout_.sinks) {
        throw Error(NANO_DAMAGED, "the snapshot was taken with attention window " + std::to_string(header.window) +
                                      " and " + std::to_string(header.sinks) + " sinks, the engine has " +
                                      std::to_string(layout_.window) + " and " + std::to_string(layout_.sinks));
    }
    std::uint64_t stored;
    std::memcpy(&stored, data + nbytes - sizeof stored, sizeof stored);
    constexpr std::uint64_t kMostTokens = std::uint64_t{1} << 48U;
    if (header.length > kMostTokens || header.nbytes != nbytes || checksum(data, nbytes - sizeof stored) != stored ||
        nbytes != sizeof header + body_bytes(layout_, kv, header.length) + sizeof stored) {
        throw Error(NANO_DAMAGED, "the snapshot is damaged");
    }
    for (KvCache& cache : kv) cache.reserve(header.length);
    length = header.length;
    pending = 0;
    for (MambaState& m : mamba) {
        reader.get(m.ssm.data(), c.state_floats() * sizeof(float));
        reader.get(m.conv.data(), (c.conv_kernel - 1) * c.conv_dim() * sizeof(float));
    }
    const std::size_t row = c.head_dim * sizeof(std::uint16_t);
    for (KvCache& cache : kv) {
        for_kept(cache.shape(), length, [&](std::uint64_t p) {
            for (std::size_t h = 0; h < c.kv_heads; ++h) reader.get(cache.key(p, h), row);
            for (std::size_t h = 0; h < c.kv_heads; ++h) reader.get(cache.value(p, h), row);
        });
    }
}

}  // namespace nano
