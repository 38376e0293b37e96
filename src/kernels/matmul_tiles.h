// What every vector version of the matrix product shares: the order of chunks, row blocks and token tiles.
#ifndef OUTRIGGER_SRC_KERNELS_MATMUL_TILES_H_
#define OUTRIGGER_SRC_KERNELS_MATMUL_TILES_H_

#include <algorithm>
#include <utility>

#include "src/kernels/activations.h"
#include "src/kernels/matmul.h"
#include "src/tensor/packed_layout.h"

namespace outrigger {

/// Tokens whose activations stay in the second-level cache (250 KB at 1536 columns) while all of a thread's weights pass by.
inline constexpr size_t kTokenChunk = 128;

/// One tile of the product: what a row block and up to kTokenTile tokens give.
struct MatmulTile {
  const std::byte* block;  ///< the row block
  const std::byte* panel;  ///< the tile of int8 activations, or null
  const float* src;        ///< the first token's float32 activations
  float* dst;              ///< of the first token and the block's first row
  size_t live_rows;        ///< 1 .. 16
  bool is_first;           ///< the first tile to read this row block in this chunk: it should prefetch
};

// Internal linkage for the reason given in avx512.h; a template with an argument of internal linkage does not have it by itself with
// gcc 12.
namespace {

/// Calls run(tile, tokens) for every tile. Tokens are the inner loop: a row block stays in the first-level cache for all of a chunk's
/// tiles.
template <typename Run>
void for_each_tile(const MatmulArgs& args, size_t block_begin, size_t block_end, Run run) {
  const size_t block_bytes = args.block_bytes();
  for (size_t chunk = 0; chunk < args.tokens; chunk += kTokenChunk) {
    const size_t chunk_end = std::min(args.tokens, chunk + kTokenChunk);
    for (size_t b = block_begin; b < block_end; ++b) {
      for (size_t t = chunk; t < chunk_end; t += kTokenTile) {
        const MatmulTile tile = {
            .block = args.weights + b * block_bytes,
            .panel = args.panel ? args.panel + activation_tile_offset(t, args.columns) : nullptr,
            .src = args.panel ? nullptr : args.src + t * args.src_stride,
            .dst = args.dst + t * args.dst_stride + b * kPackRows,
            .live_rows = std::min(kPackRows, args.rows - b * kPackRows),
            .is_first = t == chunk,
        };
        run(tile, std::min(kTokenTile, chunk_end - t));
      }
    }
  }
}

// How far ahead of the stream of weights to prefetch, in bytes; 0: not at all. The first tile of a row block is bound by computing as well
// as by memory, so the processor's own prefetching, which waits for misses, comes late: 4 tokens read cold weights of 4 bits at 75 % of the
// stream rate with 4.6 KB, at 88 % with 9 KB. One token is bound by memory alone and best left to the processor, but for units of 256 and
// for codes in two planes: between their parts it loses the track (Q5_K 36 % of the stream, Q5_0 with AVX2 too; 88 % and more with this).
consteval size_t prefetch_bytes(PackedKind kind, int tokens) {
  if (tokens > 1) return 9216;
  return group_layout(kind).has_unit_scale() || group_layout(kind).high_bits != 0 ? 6144 : 0;
}

// Asks for one group's share of the unit that lies so far ahead of this one.
template <PackedKind kKind, int kTokens>
inline void prefetch_group(const std::byte* unit, size_t group) {
  constexpr GroupLayout kLayout = group_layout(kKind);
  constexpr size_t kLines = (kLayout.unit_bytes() / kLayout.unit_groups + 63) / 64;
  constexpr int kSecondLevelCache = 2;
  for (size_t line = group * kLines; line < (group + 1) * kLines; ++line) {
    __builtin_prefetch(unit + prefetch_bytes(kKind, kTokens) + line * 64, 0, kSecondLevelCache);
  }
}

/// Runs every tile of quantised weights of kind kKind: Tile<kKind, n>::run(tile, args, first, tile_tokens) for n <= kLoopTokens tokens of
/// it at once, from its token `first` on. One function per n: its sums are registers.
template <template <PackedKind, int> typename Tile, int kLoopTokens, PackedKind kKind>
void run_kind(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  using Run = void (*)(const MatmulTile&, const MatmulArgs&, size_t, size_t);
  [&]<int... kIndices>(std::integer_sequence<int, kIndices...>) {
    static constexpr Run kRuns[kLoopTokens] = {Tile<kKind, kIndices + 1>::run...};
    for_each_tile(args, block_begin, block_end, [&](const MatmulTile& tile, size_t tokens) {
      for (size_t first = 0; first < tokens; first += kLoopTokens) {
        const size_t left = tokens - first;
        kRuns[(left < kLoopTokens ? left : kLoopTokens) - 1](tile, args, first, tokens);
      }
    });
  }
  (std::make_integer_sequence<int, kLoopTokens>());
}

/// The kind among kKinds that args asks for; false if it is none of them.
template <template <PackedKind, int> typename Tile, int kLoopTokens, PackedKind... kKinds>
bool run_kinds(const MatmulArgs& args, size_t block_begin, size_t block_end) {
  return ((args.kind == kKinds && (run_kind<Tile, kLoopTokens, kKinds>(args, block_begin, block_end), true)) || ...);
}

}  // namespace
}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_MATMUL_TILES_H_
