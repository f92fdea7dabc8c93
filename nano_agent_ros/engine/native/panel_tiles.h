// How a panel matrix is walked, for every instruction set: which panels, tokens and groups come together in one tile.
// Only for files that are compiled for one instruction set; all names stay inside the including file.
//
// Few tokens: tiles read the panels as they lie in the file, from memory once for all tokens, so a step costs what
// reading the weights costs. Many tokens: kChunk groups of a tile's panels are unpacked to a byte per weight, which stay in the
// first-level cache while all tokens pass.
//
// `Isa` has
//   kPanels, kTokens                     the largest tile
//   tile<Source, Tokens>(args)           adds the products of a run of groups to the sums of a tile
//   kUnpacks                             whether many tokens get unpacked panels, with
//   unpack(block, out)                   an INT4 block to the layout of an INT8 one
#pragma once

#include "kernels.h"

namespace nano {
namespace {

constexpr std::size_t kChunk = 8;         // groups unpacked at once
constexpr std::size_t kTokenBlock = 128;  // tokens whose sums are kept at once
constexpr std::size_t kByteBlock = 1024;  // bytes of an unpacked block, before its scales
constexpr std::size_t kStride = 1088;     // of unpacked blocks: whole cache lines

// How the weights of a tile are stored: an INT4 block, or a byte per weight.
enum class Source { kNibbles, kBytes };

template <std::size_t Panels>
struct TileArgs {
    const std::uint8_t* blocks[Panels];  // first block of each panel
    std::size_t stride;                  // bytes from one block of a panel to the next
    std::size_t groups;                  // to add up
    const std::int8_t* x;                // values of the first token's first group
    const float* scales;
    const std::int32_t* offsets;
    std::size_t cols, row_groups;  // from one token to the next, in values and in scales
    float* sums;                   // [tokens, Panels * 16]
    // What to fetch into the caches meanwhile. Panels that are read as they lie in memory: the same panels further on, of
    // which `left` groups are left (0: fetch nothing). Unpacked ones: per group `lines` cache lines from `ahead` on.
    std::size_t left, panel_bytes;
    const std::uint8_t* ahead;
    std::size_t lines;
};

template <class Isa, Source From, std::size_t Tokens>
inline __attribute__((always_inline)) void tile_of(std::size_t tokens, const TileArgs<Isa::kPanels>& args) {
    if (tokens == Tokens) {
        Isa::template tile<From, Tokens>(args);
    } else if constexpr (Tokens > 1) {
        tile_of<Isa, From, Tokens - 1>(tokens, args);
    }
}

template <class Isa>
class PanelProduct {
public:
    PanelProduct(const PanelMatrix& w, const Int8Rows& x, float* y, std::size_t y_stride)
        : w_(w), x_(x), y_(y), y_stride_(y_stride), panel_bytes_(w.groups() * w.block_bytes()) {}

    void run(std::size_t panel_begin, std::size_t panel_end, std::size_t tokens) {
        for (std::size_t p = panel_begin; p < panel_end; p += kPanels) {
            // An odd panel at the end is computed twice rather than by code of its own.
            for (std::size_t i = 0; i < kPanels; ++i) panels_[i] = p + i < panel_end ? p + i : p;
            const std::size_t used = panel_end - p < kPanels ? panel_end - p : kPanels;
            for (std::size_t t = 0; t < tokens; t += kTokenBlock) {
                const std::size_t n = tokens - t < kTokenBlock ? tokens - t : kTokenBlock;
                if constexpr (Isa::kUnpacks) {
                    n <= kFew ? direct(t, n) : unpacked(t, n);
                } else {
                    direct(t, n);
                }
                store(t, n, used);
            }
        }
    }

private:
    static constexpr std::size_t kPanels = Isa::kPanels;
    static constexpr std::size_t kWidth = kPanels * kPanelRows;
    static constexpr std::size_t kFew = 2 * Isa::kTokens;

    TileArgs<kPanels> args_at(std::size_t token, std::size_t group, std::size_t groups, float* sums) const {
        TileArgs<kPanels> a{};
        const std::size_t at = token * w_.groups() + group;
        a.x = x_.values + token * w_.cols + group * kGroup;
        a.scales = x_.scales + at;
        a.offsets = x_.offsets + at;
        a.cols = w_.cols;
        a.row_groups = w_.groups();
        a.groups = groups;
        a.sums = sums;
        return a;
    }

    void clear(std::size_t tokens) { __builtin_memset(sums_, 0, tokens * kWidth * sizeof(float)); }

    void direct(std::size_t token, std::size_t tokens) {
        clear(tokens);
        const std::size_t tiles = (tokens + Isa::kTokens - 1) / Isa::kTokens;
        const std::size_t chunk = tiles == 1 ? w_.groups() : kChunk;
        for (std::size_t g = 0; g < w_.groups(); g += chunk) {
            const std::size_t groups = w_.groups() - g < chunk ? w_.groups() - g : chunk;
            for (std::size_t i = 0, t = 0; i < tiles; ++i) {
                const std::size_t end = (i + 1) * tokens / tiles;
                TileArgs<kPanels> a = args_at(token + t, g, groups, sums_ + t * kWidth);
                for (std::size_t p = 0; p < kPanels; ++p) {
                    a.blocks[p] = w_.panels + panels_[p] * panel_bytes_ + g * w_.block_bytes();
                }
                a.stride = w_.block_bytes();
                a.left = i == 0 ? w_.groups() - g : 0;
                a.panel_bytes = panel_bytes_;
                if (w_.bits == 4) {
                    tile_of<Isa, Source::kNibbles, Isa::kTokens>(end - t, a);
                } else {
                    tile_of<Isa, Source::kBytes, Isa::kTokens>(end - t, a);
                }
                t = end;
            }
        }
    }

    void unpacked(std::size_t token, std::size_t tokens) {
        clear(tokens);
        const std::size_t tiles = (tokens + Isa::kTokens - 1) / Isa::kTokens;
        for (std::size_t g = 0; g < w_.groups(); g += kChunk) {
            const std::size_t groups = w_.groups() - g < kChunk ? w_.groups() - g : kChunk;
            unpack(g, groups);
            const std::size_t next_lines = groups * w_.block_bytes() / 64 + 1;
            const std::size_t half = (tiles + 1) / 2;
            const std::size_t lines = (next_lines + (tiles / 2) * groups - 1) / ((tiles / 2) * groups);
            // Tiles of nearly equal size: a last one of a token or two would leave most of the machine idle.
            for (std::size_t i = 0, t = 0; i < tiles; ++i) {
                const std::size_t end = (i + 1) * tokens / tiles;
                TileArgs<kPanels> a = args_at(token + t, g, groups, sums_ + t * kWidth);
                for (std::size_t p = 0; p < kPanels; ++p) a.blocks[p] = unpacked_ + p * kChunk * kStride;
                a.stride = kStride;
                const std::size_t panel = i < half ? 0 : 1;
                a.ahead = w_.panels + panels_[panel] * panel_bytes_ + (g + kChunk) * w_.block_bytes() +
                          (g + kChunk >= w_.groups() ? panel_bytes_ : 0) + (i - panel * half) * lines * groups * 64;
                a.lines = lines;
                tile_of<Isa, Source::kBytes, Isa::kTokens>(end - t, a);
                t = end;
            }
        }
    }

    void unpack(std::size_t group, std::size_t groups) {
        for (std::size_t i = 0; i < kPanels; ++i) {
            for (std::size_t g = 0; g < groups; ++g) {
                const std::uint8_t* block = w_.panels + panels_[i] * panel_bytes_ + (group + g) * w_.block_bytes();
                std::uint8_t* out = unpacked_ + (i * kChunk + g) * kStride;
                if (w_.bits == 4) {
                    Isa::unpack(block, out);
                } else {
                    __builtin_memcpy(out, block, kByteBlock);
                }
                __builtin_memcpy(out + kByteBlock, block + w_.weight_bytes(), 2 * kPanelRows);
            }
        }
    }

    void store(std::size_t token, std::size_t tokens, std::size_t used) {
        for (std::size_t i = 0; i < used; ++i) {
            const std::size_t first = panels_[i] * kPanelRows;
            const std::size_t valid = w_.rows - first < kPanelRows ? w_.rows - first : kPanelRows;
            for (std::size_t t = 0; t < tokens; ++t) {
                const float* sums = sums_ + t * kWidth + i * kPanelRows;
                float* y = y_ + (token + t) * y_stride_ + first;
                for (std::size_t n = 0; n < valid; ++n) y[n] = w_.bias != nullptr ? sums[n] + w_.bias[first + n] : sums[n];
            }
        }
    }

    const PanelMatrix& w_;
    const Int8Rows& x_;
    float* y_;
    std::size_t y_stride_, panel_bytes_;
    std::size_t panels_[kPanels];
    alignas(64) std::uint8_t unpacked_[Isa::kUnpacks ? kPanels * kChunk * kStride : 1];
    alignas(64) float sums_[kTokenBlock * kWidth];
};

}  // namespace
}  // namespace nano
