// What the vector versions of the product of float weights share: the order of row blocks, parts of k and token tiles.
#ifndef OUTRIGGER_SRC_KERNELS_MATMUL_DENSE_TILES_H_
#define OUTRIGGER_SRC_KERNELS_MATMUL_DENSE_TILES_H_

#include <algorithm>

#include "src/kernels/matmul_dense.h"
#include "src/kernels/matmul_tiles.h"

namespace outrigger {

// A step is what one broadcast of four bytes of activations is multiplied with: one k of float32, or a pair of k of bf16. Steps alternate
// between the two chains of sums.

/// One tile: one or two row blocks by some tokens, over a part of k.
struct DenseTile {
  const std::byte* weights;  ///< the first row block, at the part's first step
  size_t block_bytes;        ///< from one row block to the next
  const std::byte* src;      ///< the first token's activations at the part's first step
  size_t src_stride_bytes;
  size_t steps;
  float* carry;  ///< [tokens][blocks][chain][row]: sums so far, read unless is_first_part, written unless is_last_part
  bool is_first_part, is_last_part;
  float* dst;  ///< of the first token and row
  size_t dst_stride;
  size_t live_rows;  ///< of the row blocks together
  bool accumulate;
  const std::byte* ahead[2];  ///< what to prefetch while the weights pass by, as much of each as a row block's part is; or null
};

/// How a kernel takes a product.
struct DenseShape {
  size_t step_bytes;  ///< of weights, in one row block
  size_t steps;       ///< in the whole of k
  const std::byte* src;
  size_t src_stride_bytes;
  size_t most_tokens;  ///< in a tile
  size_t most_blocks;  ///< in a tile: 1 or 2
};

/// A part of k of a row block: two blocks' parts, the ones being prefetched and a tile's activations fit a second-level cache of 512 KB.
inline constexpr size_t kDensePartBytes = 64 << 10;
/// From this many tokens on tiles have two row blocks, so that an activation is loaded once for both. With fewer, memory is the bound, and
/// one stream is read faster than two: 1 to 3 tokens lose 5 to 30 %.
inline constexpr size_t kLeastPairTokens = 4;
/// One stream's distance of prefetching, in bytes. A single token does without: there it depends on the processor whether it gains or loses.
inline constexpr size_t kDensePrefetchBytes = 4608;

/// Calls run(tile, blocks, tokens) for every tile. A part of k of the row blocks stays in a cache for all of a chunk's tiles, whose first
/// two prefetch the next part or the next row blocks: the processor's own prefetching starts anew at each row block, and late.
template <typename Run>
void for_each_dense_tile(const MatmulArgs& args, const DenseShape& shape, size_t block_begin, size_t block_end, Run run) {
  const size_t block_bytes = packed_block_bytes(args.kind, args.columns);
  const size_t parts = std::max<size_t>(1, (shape.steps * shape.step_bytes + kDensePartBytes - 1) / kDensePartBytes);
  const size_t part_steps = ((shape.steps + parts - 1) / parts + kDenseChains - 1) / kDenseChains * kDenseChains;
  alignas(kPackAlignment) float carry[kTokenChunk * 2 * kDenseChains * kPackRows];  // 32 KB

  for (size_t chunk = 0; chunk < args.tokens; chunk += kTokenChunk) {
    const size_t tokens = std::min(kTokenChunk, args.tokens - chunk), tiles = (tokens + shape.most_tokens - 1) / shape.most_tokens;
    const size_t at_once = tokens < kLeastPairTokens ? 1 : shape.most_blocks;
    for (size_t b = block_begin; b < block_end; b += at_once) {
      const size_t blocks = std::min(at_once, block_end - b);
      for (size_t step = 0; step < shape.steps; step += part_steps) {
        DenseTile tile;
        tile.weights = args.weights + b * block_bytes + step * shape.step_bytes;
        tile.block_bytes = block_bytes;
        tile.src_stride_bytes = shape.src_stride_bytes;
        tile.steps = std::min(part_steps, shape.steps - step);
        tile.is_first_part = step == 0;
        tile.is_last_part = step + tile.steps == shape.steps;
        tile.dst_stride = args.dst_stride;
        tile.live_rows = std::min(blocks * kPackRows, args.rows - b * kPackRows);
        tile.accumulate = args.accumulate;
        const std::byte* next = nullptr;
        if (!tile.is_last_part) {
          next = tile.weights + tile.steps * shape.step_bytes;
        } else if (b + blocks < block_end) {
          next = args.weights + (b + blocks) * block_bytes;
        }
        for (size_t i = 0, first = 0; i < tiles; ++i) {
          const size_t some = tokens / tiles + (i < tokens % tiles ? 1 : 0);
          tile.src = shape.src + (chunk + first) * shape.src_stride_bytes + step * 4;
          tile.dst = args.dst + (chunk + first) * args.dst_stride + b * kPackRows;
          tile.carry = carry + first * blocks * kDenseChains * kPackRows;
          tile.ahead[0] = i == 0 ? next : nullptr;
          tile.ahead[1] = i == (tiles > 1 ? 1 : 0) && next != nullptr && blocks > 1 ? next + block_bytes : nullptr;
          if (tokens < kLeastPairTokens) tile.ahead[0] = tokens > 1 ? tile.weights + kDensePrefetchBytes : nullptr;
          run(tile, blocks, some);
          first += some;
        }
      }
    }
  }
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_MATMUL_DENSE_TILES_H_
