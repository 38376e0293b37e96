// The shapes of the tile product: how many warps multiply and add, how far loads go ahead, and what one chunk leaves in shared memory.
#ifndef OUTRIGGER_CUDA_KERNELS_TILE_SHAPE_H_
#define OUTRIGGER_CUDA_KERNELS_TILE_SHAPE_H_

#include "cuda/kernels/group_product.h"

namespace outrigger::cuda {

/// Multiplying warps of a multiprocessor: in blocks of 8, so that one multiplies while the other waits; but where a matrix has no more
/// strips than there are multiprocessors, in one of 16, which is through in half as many chunks.
inline constexpr uint32_t kManyWarps = 8, kFewWarps = 16;
inline constexpr size_t kLeastSharedBytes = 64 << 10;  ///< of a block, on every card

/// A kernel's shape: for which weights, up to how many tokens, and by how many multiplying warps.
template <PackedKind kKindOf, uint32_t kTokensOf, uint32_t kMultipliersOf>
struct TileShape {
  static constexpr PackedKind kKind = kKindOf;
  static constexpr uint32_t kTokens = kTokensOf;
  static constexpr uint32_t kMultipliers = kMultipliersOf;
  static constexpr uint32_t kChunkGroups = kMultipliers * kRunGroups;
  /// Chunks on their way from memory, as many as registers allow: 16 KiB of loads in flight for 8 warps.
  static constexpr uint32_t kAhead = kTokens == 8 || run_words(group_layout(kKind)) > 12 ? 1 : 2;
  /// Tokens whose sums one thread makes: they share the reading of the weights' scales.
  static constexpr uint32_t kSumTokens = kTokens <= 2 ? 1 : 2;
  static constexpr uint32_t kAdders = kTokens / kSumTokens;  ///< warps
  static constexpr uint32_t kThreads = (kMultipliers + kAdders) * kWarp;
  static constexpr uint32_t kBlocks = kFewWarps / kMultipliers;  ///< of a multiprocessor at once, at least
  static_assert(kChunkGroups * kTokens <= kMultipliers * kWarp, "a multiplying thread brings one group's scale of one token");
};

/// A chunk's results in shared memory.
template <typename Shape>
struct ChunkResults {
  using Product = GroupProduct<Shape::kKind>;
  static constexpr uint32_t kGroups = Shape::kChunkGroups;
  static constexpr uint32_t kScaleGroups = Product::kSharesScales ? kRunGroups : 1;  ///< that have the same scales
  /// Tokens lie so far apart that the lanes of a warp, which store four rows each, meet no bank twice.
  static constexpr uint32_t kRowStride = kWarpRows + 4;
  alignas(16) float values[kGroups][Shape::kTokens][kRowStride];
  alignas(16) float scales[Product::kHasWeightFactor ? kGroups / kScaleGroups : 1][kWarpRows];
  alignas(16) float minima[Product::kAddsMinimum ? kGroups / kScaleGroups : 1][kWarpRows];
  alignas(16) float token_scales[kGroups][Shape::kTokens];
  alignas(16) float scaled_sums[kGroups][Shape::kTokens];
};

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_TILE_SHAPE_H_
