// What every vector version of the matrix product shares: the order of chunks, row blocks and token tiles.
#ifndef OUTRIGGER_SRC_KERNELS_MATMUL_TILES_H_
#define OUTRIGGER_SRC_KERNELS_MATMUL_TILES_H_

#include <algorithm>

#include "src/kernels/activations.h"
#include "src/kernels/matmul.h"

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

/// Calls run(tile, tokens) for every tile. Tokens are the inner loop: a row block stays in the first-level cache for all of a chunk's
/// tiles.
template <typename Run>
void for_each_tile(const MatmulArgs& args, size_t block_begin, size_t block_end, Run run) {
  const size_t block_bytes = packed_block_bytes(args.kind, args.columns);
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

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_MATMUL_TILES_H_
