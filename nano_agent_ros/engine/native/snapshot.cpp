#include "snapshot.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "error.h"

namespace nano {

namespace {

struct Header {
    char magic[8];
    std::uint8_t model_digest[32];
    char kernels[16];
    std::uint64_t length, window, sinks, nbytes;
    char reserved[40];
};
static_assert(sizeof(Header) == 128, "what follows the header is to lie on a cache line");

constexpr char kMagic[8] = {'N', 'A', 'N', 'O', 'S', 'T', '0', '3'};
constexpr std::uint64_t kMostTokens = std::uint64_t{1} << 48U;
constexpr std::size_t kPieceBytes = std::size_t{64} << 10U;
constexpr std::size_t kWorthThreads = std::size_t{4} << 20U;

Header header_of(const StateLayout& layout, std::uint64_t length, std::size_t nbytes) {
    Header header{};
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    std::memcpy(header.model_digest, layout.model_digest, sizeof header.model_digest);
    std::strncpy(header.kernels, layout.kernels, sizeof header.kernels - 1);
    header.length = length;
    header.window = layout.window;
    header.sinks = layout.sinks;
    header.nbytes = nbytes;
    return header;
}

std::size_t size_after(const StateLayout& layout, std::uint64_t length) {
    const Config& c = layout.config;
    const std::uint64_t kept = std::min<std::uint64_t>(length, layout.sinks + layout.window);
    const std::size_t floats = layout.ssm_floats() + c.layers_of('M') * layout.conv_floats();
    return sizeof(Header) + floats * sizeof(float) +
           c.layers_of('*') * static_cast<std::size_t>(kept) * 2 * c.kv_dim() * sizeof(std::uint16_t) +
           sizeof(std::uint64_t);
}

// What is copied at once: a part of the state, and where in the snapshot it lies.
template <typename Byte>
struct Piece {
    Byte* in_state;
    std::size_t offset, nbytes;
};

// The pieces of a state after `length` tokens, in the order of the snapshot. They depend on layout and length only.
template <typename Byte, typename AnyState, typename Floats>
std::vector<Piece<Byte>> pieces_of(AnyState& state, Floats* ssm) {
    const StateLayout& layout = state.layout();
    std::vector<Piece<Byte>> pieces;
    std::size_t offset = sizeof(Header);
    const auto add = [&](auto* data, std::size_t nbytes) {
        for (std::size_t done = 0; done < nbytes; done += kPieceBytes) {
            const std::size_t n = std::min(kPieceBytes, nbytes - done);
            pieces.push_back({reinterpret_cast<Byte*>(data) + done, offset, n});
            offset += n;
        }
    };
    add(ssm, layout.ssm_floats() * sizeof(float));
    for (auto& m : state.mamba) add(m.conv.data(), layout.conv_floats() * sizeof(float));
    const KvShape shape = layout.kv_shape();
    const std::vector<KvSpan> spans = state.kv.kept_spans(state.length);
    const std::size_t row = shape.head_dim * sizeof(std::uint16_t);
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
        for (std::size_t h = 0; h < shape.heads; ++h) {
            for (const KvSpan& span : spans) add(state.kv.key(layer, span.begin, h), span.count() * row);
        }
        for (std::size_t h = 0; h < shape.heads; ++h) {
            for (const KvSpan& span : spans) add(state.kv.value(layer, span.begin, h), span.count() * row);
        }
    }
    return pieces;
}

// Runs copy_piece(piece) -> hash for all pieces, on all threads; returns the hash of the header and theirs, in order.
template <typename Byte, typename CopyPiece>
std::uint64_t for_pieces(const std::vector<Piece<Byte>>& pieces, const Header& header, std::size_t nbytes,
                         ThreadPool& pool, const CopyPiece& copy_piece) {
    std::vector<std::uint64_t> hashes(pieces.size());
    {
        const ThreadPool::Session session(pool, nbytes >= kWorthThreads);
        pool.parallel_for(pieces.size(), 1, [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin; i < end; ++i) hashes[i] = copy_piece(pieces[i]);
        });
    }
    Header copied;
    std::uint64_t h = portable::hashed_copy(reinterpret_cast<std::uint8_t*>(&copied),
                                            reinterpret_cast<const std::uint8_t*>(&header), sizeof header);
    for (const std::uint64_t piece : hashes) h = hash_step(h, piece);
    return h;
}

Header checked_header(const StateLayout& layout, const std::uint8_t* data, std::size_t nbytes) {
    Header header;
    if (nbytes < sizeof header + sizeof(std::uint64_t)) throw Error(NANO_DAMAGED, "the snapshot is too short");
    std::memcpy(&header, data, sizeof header);
    if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) {
        throw Error(NANO_DAMAGED, "this is no snapshot of the native engine, or one of another version");
    }
    if (std::memcmp(header.model_digest, layout.model_digest, sizeof header.model_digest) != 0) {
        throw Error(NANO_DAMAGED, "the snapshot belongs to another model");
    }
    if (header.window != layout.window || header.sinks != layout.sinks) {
        throw Error(NANO_DAMAGED, "the snapshot was taken with attention window " + std::to_string(header.window) +
                                      " and " + std::to_string(header.sinks) + " sinks, the engine has " +
                                      std::to_string(layout.window) + " and " + std::to_string(layout.sinks));
    }
    const Header expected = header_of(layout, header.length, nbytes);
    if (std::memcmp(header.kernels, expected.kernels, sizeof header.kernels) != 0) {
        throw Error(NANO_DAMAGED, "the snapshot was taken with other kernels, the engine has '" +
                                      std::string(layout.kernels) + "'");
    }
    if (header.length > kMostTokens || header.nbytes != nbytes || nbytes != size_after(layout, header.length)) {
        throw Error(NANO_DAMAGED, "the snapshot is damaged");
    }
    return header;
}

}  // namespace

// Fills a state that nobody else knows yet.
class SnapshotReader {
public:
    SnapshotReader(const StateLayout& layout, StateMemory& memory, std::uint64_t length)
        : state_(layout, memory, State::Unset{}) {
        state_.length = length;
        state_.ssm_ = memory.ssm.take();
        for (MambaState& m : state_.mamba) m.conv.resize(layout.conv_floats());
        state_.kv.reserve_kept(length);
        state_.point();
    }

    std::uint64_t read(const Header& header, HashedCopy copy, ThreadPool& pool, const std::uint8_t* data) {
        const auto pieces = pieces_of<std::uint8_t>(state_, reinterpret_cast<float*>(state_.ssm_.get()));
        return for_pieces(pieces, header, static_cast<std::size_t>(header.nbytes), pool,
                          [&](const Piece<std::uint8_t>& p) { return copy(p.in_state, data + p.offset, p.nbytes); });
    }

    State take() { return std::move(state_); }

private:
    State state_;
};

std::size_t snapshot_size(const State& state) { return size_after(state.layout(), state.length); }

void save_snapshot(const State& state, HashedCopy copy, ThreadPool& pool, std::uint8_t* out) {
    const std::size_t nbytes = snapshot_size(state);
    const Header header = header_of(state.layout(), state.length, nbytes);
    std::memcpy(out, &header, sizeof header);
    const auto pieces = pieces_of<const std::uint8_t>(state, state.ssm());
    const std::uint64_t hash =
        for_pieces(pieces, header, nbytes, pool,
                   [&](const Piece<const std::uint8_t>& p) { return copy(out + p.offset, p.in_state, p.nbytes); });
    std::memcpy(out + nbytes - sizeof hash, &hash, sizeof hash);
}

State load_snapshot(const StateLayout& layout, StateMemory& memory, HashedCopy copy, ThreadPool& pool,
                    const std::uint8_t* data, std::size_t nbytes) {
    const Header header = checked_header(layout, data, nbytes);
    SnapshotReader reader(layout, memory, header.length);
    std::uint64_t stored;
    std::memcpy(&stored, data + nbytes - sizeof stored, sizeof stored);
    if (reader.read(header, copy, pool, data) != stored) throw Error(NANO_DAMAGED, "the snapshot is damaged");
    return reader.take();
}

}  // namespace nano
