// The product for many tokens, bound by the arithmetic: a warp has 32 rows and 32 tokens, goes through K alone and keeps its sums in
// registers.
#ifndef OUTRIGGER_CUDA_KERNELS_MATMUL_WIDE_H_
#define OUTRIGGER_CUDA_KERNELS_MATMUL_WIDE_H_

#include "cuda/kernels/group_product.h"
#include "cuda/kernels/matmul_call.h"

namespace outrigger::cuda {

inline constexpr uint32_t kWideTiles = 4;  ///< of 8 tokens: decoding a group of weights is then a sixth of the work
inline constexpr uint32_t kWideWarps = 8;  ///< which share the tokens' codes in the first-level cache
inline constexpr uint32_t kWideTokens = kWideTiles * static_cast<uint32_t>(kTokenTile);

template <PackedKind kKind>
class WideProduct {
 public:
  OTR_DEVICE WideProduct(const MatmulCall& call, uint32_t strip)
      : call_(call),
        lane_(thread_index() % kWarp),
        place_(lane_),
        strip_(strip),
        first_token_(block_x() * kWideTokens),
        groups_(call.columns / kGroup) {}

  OTR_DEVICE void run() {
    float sums[kWideTiles][kLaneRows][kLaneTokens] = {};
    const std::byte* const block = call_.block(strip_ * 2 + place_.block);
    LaneGroup<kKind> loaded;
    loaded.load(block, 0, place_);
    for (uint32_t group = 0; group < groups_; ++group) {
      const LaneCodes codes = loaded.codes(place_);
      const LaneScales scales = loaded.scales();
      if (group + 1 < groups_) loaded.load(block, group + 1, place_);
      OTR_UNROLL
      for (uint32_t tile = 0; tile < kWideTiles; ++tile) {
        if (tile_tokens(tile) > 0) add_tile(codes, scales, TileGroup(tile_at(tile), tile_tokens(tile), group), sums[tile]);
      }
    }
    OTR_UNROLL
    for (uint32_t tile = 0; tile < kWideTiles; ++tile) store(tile, sums[tile]);
  }

 private:
  OTR_DEVICE uint32_t tile_tokens(uint32_t tile) const {
    const uint32_t first = first_token_ + tile * kTokenTile;
    return first >= call_.tokens ? 0 : call_.tokens - first < kTokenTile ? call_.tokens - first : static_cast<uint32_t>(kTokenTile);
  }
  OTR_DEVICE const std::byte* tile_at(uint32_t tile) const {
    return call_.panel + static_cast<size_t>(first_token_ + tile * kTokenTile) * groups_ * kTokenGroupBytes;
  }

  OTR_DEVICE void add_tile(const LaneCodes& codes, const LaneScales& scales, const TileGroup& tile,
                           float (&sums)[kLaneRows][kLaneTokens]) const {
    uint32_t tokens[2];
    tile.load_codes(lane_, tokens);
    float token_scale[kLaneTokens] = {}, scaled_sum[kLaneTokens] = {};
    OTR_UNROLL
    for (uint32_t i = 0; i < kLaneTokens; ++i) {
      const uint32_t token = place_.quad * kLaneTokens + i;
      if (!tile.has(token)) continue;
      token_scale[i] = tile.scale(token);
      if constexpr (GroupProduct<kKind>::kAddsMinimum) scaled_sum[i] = tile.scaled_sum(token);
    }
    GroupProduct<kKind> product;
    product.compute(codes, scales, tokens, tile, place_.quad);
    OTR_UNROLL
    for (uint32_t row = 0; row < kLaneRows; ++row) {
      const float minimum = GroupProduct<kKind>::kAddsMinimum ? scales.minimum[row] : 0.0f;
      OTR_UNROLL
      for (uint32_t i = 0; i < kLaneTokens; ++i) {
        sums[row][i] = add_group<kKind>(product.values[row][i], scales.scale[row], token_scale[i], minimum, scaled_sum[i], sums[row][i]);
      }
    }
  }

  OTR_DEVICE void store(uint32_t tile, const float (&sums)[kLaneRows][kLaneTokens]) const {
    OTR_UNROLL
    for (uint32_t i = 0; i < kLaneTokens; ++i) {
      const uint32_t token = place_.quad * kLaneTokens + i;
      if (token >= tile_tokens(tile)) continue;
      OTR_UNROLL
      for (uint32_t r = 0; r < kLaneRows; ++r) {
        const uint32_t row = strip_ * kWarpRows + place_.block * kPackRows + place_.rows + r;
        if (row < call_.rows) call_.store(row, first_token_ + tile * kTokenTile + token, sums[r][i]);
      }
    }
  }

  const MatmulCall& call_;
  const uint32_t lane_;
  const LanePlace place_;
  const uint32_t strip_, first_token_, groups_;
};

/// Grid: runs of 32 tokens, runs of 256 rows.
template <PackedKind kKind>
OTR_KERNEL_OF(kWideWarps* kWarp)
void matmul_wide_kernel(MatmulCall call) {
  const uint32_t strip = block_y() * kWideWarps + thread_index() / kWarp;
  if (strip * kWarpRows < call.rows) WideProduct<kKind>(call, strip).run();
}

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_MATMUL_WIDE_H_
