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
  size_t pair_tokens;     ///< from this many tokens on tiles have two row blocks
  size_t most_tokens[2];  ///< in a tile of one row block, of two
};

/// A part of k of a row block: two blocks' parts and a tile's activations stay in the first-level cache for the next tile. Carrying sums
/// from part to part costs 2 % at 32 tokens, parts of 64 KB cost bf16 20 % at 8.
inline constexpr size_t kDensePartBytes = 8 << 10;
/// How far ahead of a single stream to prefetch, in bytes. One token does without: it depends on the processor whether it gains or loses.
inline constexpr size_t kDensePrefetchBytes = 4608;

/// Runs the token tiles that pass over one part, which `tile` describes; its src, dst and carry are those of the chunk's first token.
template <typename Run>
void run_token_tiles(DenseTile tile, size_t blocks, size_t tokens, size_t tiles, const std::byte* next, Run run) {
  const std::byte* const src = tile.src;
  float* const dst = tile.dst;
  float* const carry = tile.carry;
  for (size_t i = 0, first = 0; i < tiles; ++i) {
    const size_t some = tokens / tiles + (i < tokens % tiles ? 1 : 0);
    tile.src = src + first * tile.src_stride_bytes;
    tile.dst = dst + first * tile.dst_stride;
    tile.carry = carry + first * blocks * kDenseChains * kPackRows;
    tile.ahead[0] = i == 0 ? next : nullptr;
    tile.ahead[1] = i == (tiles > 1 ? 1 : 0) && next != nullptr ? next + tile.block_bytes : nullptr;
    run(tile, blocks, some);
    first += some;
  }
}

/// Calls run(tile, blocks, tokens) for every tile. While a chunk's tiles pass over a part of two row blocks, the first two of them prefetch
/// the next part, or the next two row blocks': the processor's own prefetching starts anew at each row block, and late.
template <typename Run>
void for_each_dense_tile(const MatmulArgs& args, const DenseShape& shape, size_t block_begin, size_t block_end, Run run) {
  const size_t block_bytes = args.block_bytes();
  alignas(kPackAlignment) float carry[kTokenChunk * 2 * kDenseChains * kPackRows];  // 32 KB

  for (size_t chunk = 0; chunk < args.tokens; chunk += kTokenChunk) {
    const size_t tokens = std::min(kTokenChunk, args.tokens - chunk), at_once = tokens < shape.pair_tokens ? 1 : 2;
    for (size_t b = block_begin; b < block_end; b += at_once) {
      const size_t blocks = std::min(at_once, block_end - b), most = shape.most_tokens[blocks - 1], tiles = (tokens + most - 1) / most;
      const size_t parts = tiles == 1 ? 1 : std::max<size_t>(1, shape.steps * shape.step_bytes / kDensePartBytes);
      const size_t part_steps = ((shape.steps + parts - 1) / parts + kDenseChains - 1) / kDenseChains * kDenseChains;
      for (size_t step = 0; step < shape.steps; step += part_steps) {
        DenseTile tile{};
        tile.weights = args.weights + b * block_bytes + step * shape.step_bytes;
        tile.block_bytes = block_bytes;
        tile.src = shape.src + chunk * shape.src_stride_bytes + step * 4;
        tile.src_stride_bytes = shape.src_stride_bytes;
        tile.steps = std::min(part_steps, shape.steps - step);
        tile.carry = carry;
        tile.is_first_part = step == 0;
        tile.is_last_part = step + tile.steps == shape.steps;
        tile.dst = args.dst + chunk * args.dst_stride + b * kPackRows;
        tile.dst_stride = args.dst_stride;
        tile.live_rows = std::min(blocks * kPackRows, args.rows - b * kPackRows);
        tile.accumulate = args.accumulate;

        const std::byte* next = nullptr;
        if (at_once == 1) {
          next = tokens > 1 ? tile.weights + kDensePrefetchBytes : nullptr;
        } else if (!tile.is_last_part) {
          next = tile.weights + tile.steps * shape.step_bytes;
        } else if (b + blocks < block_end) {
          next = args.weights + (b + blocks) * block_bytes;
        }
        run_token_tiles(tile, blocks, tokens, tiles, next, run);
      }
    }
  }
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_KERNELS_MATMUL_DENSE_TILES_H_
