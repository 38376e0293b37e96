// The product for many tokens, bound by the arithmetic: a warp has 32 rows and 32 tokens, goes through K alone and keeps its sums in
// registers.
#ifndef OUTRIGGER_CUDA_KERNELS_MATMUL_WIDE_H_
#define OUTRIGGER_CUDA_KERNELS_MATMUL_WIDE_H_

#include "cuda/kernels/group_product.h"
#include "cuda/kernels/matmul_call.h"

namespace outrigger::cuda {

inline constexpr uint32_t kWideTiles = 4;  ///< of 8 tokens: decoding a group of weights is then a sixth of the work
inline constexpr uint32_t kWideWarps = 8;  ///< which share the tokens' codes
inline constexpr uint32_t kWideTokens = kWideTiles * static_cast<uint32_t>(kTokenTile);
inline constexpr uint32_t kWideRows = kWideWarps * kWarpRows;
inline constexpr uint32_t kWideThreads = kWideWarps * kWarp;
inline constexpr uint32_t kStageGroups = 8;  ///< whose tokens' codes and scales are in shared memory, and as many on their way: 24 KiB
inline constexpr uint32_t kStageTileVectors = kStageGroups * kTokenTile * kTokenGroupBytes / sizeof(U4);
inline constexpr uint32_t kStageVectors = kWideTiles * kStageTileVectors;
static_assert(kStageVectors % kWideThreads == 0 && kTokenGroupBytes % sizeof(U4) == 0);

/// The block's stretch of the panel, stage by stage. `kIsFull`: all its tiles have 8 tokens, which makes most places constants.
/// Precondition: the panel is 16-byte aligned.
template <bool kIsFull>
class TokenStages {
 public:
  OTR_DEVICE TokenStages(const MatmulCall& call, uint32_t first_token, U4 (*stages)[kStageVectors])
      : call_(call), first_token_(first_token), groups_(call.columns / kGroup), stages_(stages) {}

  OTR_DEVICE uint32_t tile_tokens(uint32_t tile) const {
    if constexpr (kIsFull) return kTokenTile;
    const uint32_t first = first_token_ + tile * kTokenTile;
    return first >= call_.tokens ? 0 : call_.tokens - first < kTokenTile ? call_.tokens - first : static_cast<uint32_t>(kTokenTile);
  }
  /// Loads this thread's part of the groups from `first` on; keep() puts it where group() finds it.
  OTR_DEVICE void load(uint32_t first) {
    OTR_UNROLL
    for (uint32_t i = 0; i < kLoads; ++i) {
      const uint32_t at = i * kWideThreads + thread_index(), tile = at / kStageTileVectors, vector = at % kStageTileVectors;
      const uint32_t record_vectors = tile_tokens(tile) * kRecordVectors,
                     groups = groups_ - first < kStageGroups ? groups_ - first : kStageGroups;
      if (first >= groups_ || vector >= groups * record_vectors) continue;
      const std::byte* const begin = call_.panel + static_cast<size_t>(first_token_ + tile * kTokenTile) * groups_ * kTokenGroupBytes;
      loaded_[i] = reinterpret_cast<const U4*>(begin)[static_cast<size_t>(first) * record_vectors + vector];
    }
  }
  OTR_DEVICE void keep(uint32_t stage) {
    OTR_UNROLL
    for (uint32_t i = 0; i < kLoads; ++i) stages_[stage % 2][i * kWideThreads + thread_index()] = loaded_[i];
  }
  OTR_DEVICE TileGroup group(uint32_t stage, uint32_t tile, uint32_t group) const {
    return {reinterpret_cast<const std::byte*>(stages_[stage % 2] + tile * kStageTileVectors), tile_tokens(tile), group};
  }

 private:
  static constexpr uint32_t kLoads = kStageVectors / kWideThreads, kRecordVectors = kTokenGroupBytes / sizeof(U4);

  const MatmulCall& call_;
  const uint32_t first_token_, groups_;
  U4 (*const stages_)[kStageVectors];
  U4 loaded_[kLoads] = {};
};

template <PackedKind kKind, bool kIsFull>
class WideProduct {
 public:
  OTR_DEVICE WideProduct(const MatmulCall& call, uint32_t first_strip, U4 (*stages)[kStageVectors])
      : call_(call),
        lane_(thread_index() % kWarp),
        place_(lane_),
        strip_((block_y() - first_strip) * kWideWarps + thread_index() / kWarp),
        first_token_(block_x() * kWideTokens),
        groups_(call.columns / kGroup),
        stages_(call, first_token_, stages) {}

  OTR_DEVICE void run() {
    const std::byte* const block = call_.block(strip_ * 2 + place_.block);
    LaneRun<kKind> loaded;
    loaded.load(block, 0, groups_, place_);
    stages_.load(0);
    stages_.keep(0);
    sync_block();
    for (uint32_t first = 0, stage = 0; first < groups_; first += kStageGroups, ++stage) {
      stages_.load(first + kStageGroups);
      const uint32_t count = groups_ - first < kStageGroups ? groups_ - first : kStageGroups;
      for (uint32_t run = 0; run < count; run += kRunGroups) {
        const LaneRun<kKind> now = loaded;
        if (first + run + kRunGroups < groups_) loaded.load(block, (first + run) / kRunGroups + 1, groups_, place_);
        OTR_UNROLL
        for (uint32_t i = 0; i < kRunGroups; ++i) {
          if (run + i >= count) continue;
          const LaneCodes codes = now.codes(i, place_);
          const LaneScales scales = now.scales(i);
          OTR_UNROLL
          for (uint32_t tile = 0; tile < kWideTiles; ++tile)
            if (stages_.tile_tokens(tile) > 0) add_tile(codes, scales, stages_.group(stage, tile, run + i), sums_[tile]);
        }
      }
      stages_.keep(stage + 1);
      sync_block();
    }
    OTR_UNROLL
    for (uint32_t tile = 0; tile < kWideTiles; ++tile) store(tile);
  }

 private:
  OTR_DEVICE void add_tile(const LaneCodes& codes, const LaneScales& scales, const TileGroup& tile,
                           float (&sums)[kLaneRows][kLaneTokens]) const {
    LaneTokens<kKind> tokens;
    tokens.load({tile.record(), tile.tokens(), lane_});
    float token_scale[kLaneTokens] = {}, scaled_sum[kLaneTokens] = {};
    OTR_UNROLL
    for (uint32_t i = 0; i < kLaneTokens; ++i) {
      const uint32_t token = place_.quad * kLaneTokens + i;
      if (!tile.has(token)) continue;
      token_scale[i] = tile.scale(token);
      if constexpr (GroupProduct<kKind>::kAddsMinimum) scaled_sum[i] = tile.scaled_sum(token);
    }
    GroupProduct<kKind> product;
    product.compute(codes, scales, tokens);
    OTR_UNROLL
    for (uint32_t row = 0; row < kLaneRows; ++row) {
      const float minimum = GroupProduct<kKind>::kAddsMinimum ? scales.minimum[row] : 0.0f;
      OTR_UNROLL
      for (uint32_t i = 0; i < kLaneTokens; ++i) {
        sums[row][i] = add_group<kKind>(product.values[row][i], scales.scale[row], token_scale[i], minimum, scaled_sum[i], sums[row][i]);
      }
    }
  }

  OTR_DEVICE void store(uint32_t tile) const {
    OTR_UNROLL
    for (uint32_t i = 0; i < kLaneTokens; ++i) {
      const uint32_t token = place_.quad * kLaneTokens + i;
      if (token >= stages_.tile_tokens(tile)) continue;
      OTR_UNROLL
      for (uint32_t r = 0; r < kLaneRows; ++r) {
        const uint32_t row = strip_ * kWarpRows + place_.block * kPackRows + place_.rows + r;
        if (row < call_.rows) call_.store(row, first_token_ + tile * kTokenTile + token, sums_[tile][r][i]);
      }
    }
  }

  const MatmulCall& call_;
  const uint32_t lane_;
  const LanePlace place_;
  const uint32_t strip_, first_token_, groups_;
  TokenStages<kIsFull> stages_;
  float sums_[kWideTiles][kLaneRows][kLaneTokens] = {};
};

/// Grid: runs of 32 tokens, runs of 256 rows of all products. Warps beyond the last row help to bring the tokens.
template <PackedKind kKind>
OTR_KERNEL_OF(kWideThreads, 2)
void matmul_wide_kernel(MatmulGroup group) {
  OTR_SHARED U4 stages[2][kStageVectors];
  const uint32_t index = group.call_of(block_y());
  const MatmulCall& call = group.calls[index];
  if ((block_x() + 1) * kWideTokens <= call.tokens) {
    WideProduct<kKind, true>(call, group.first_strips[index], stages).run();
  } else {
    WideProduct<kKind, false>(call, group.first_strips[index], stages).run();
  }
}

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_MATMUL_WIDE_H_
