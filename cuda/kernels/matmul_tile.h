// The product for few tokens, bound by the reading of the weights: K is shared among a block's warps, and yet the sum over groups is made
// in order.
//
// A block has 32 rows and one tile of tokens, and goes through K in chunks. Each warp multiplies its groups of the chunk on the tensor
// cores and leaves the results, which are exact, in shared memory; then one thread for each row and token adds them in order of k, while
// the loads of the next chunk are under way. So the bits are those of one thread that does everything, and do not depend on how K is
// shared.
#ifndef OUTRIGGER_CUDA_KERNELS_MATMUL_TILE_H_
#define OUTRIGGER_CUDA_KERNELS_MATMUL_TILE_H_

#include "cuda/kernels/group_product.h"
#include "cuda/kernels/matmul_call.h"

namespace outrigger::cuda {

/// How many groups a chunk has: as many loads in flight as fit with two chunks' results in the 48 KiB of shared memory that every block may
/// have.
template <uint32_t kTokens>
struct TileShape {
  static constexpr uint32_t kWarps = kTokens >= 4 ? 8 : 16;
  static constexpr uint32_t kWarpGroups = kTokens == 8 ? 2 : 4;
  static constexpr uint32_t kChunkGroups = kWarps * kWarpGroups;
  static constexpr uint32_t kThreads = kWarps * kWarp;
  static_assert(kChunkGroups * kTokens <= kThreads, "a thread brings one group's scale of one token");
};

/// A chunk's results in shared memory.
template <PackedKind kKind, uint32_t kTokens>
struct ChunkResults {
  static constexpr uint32_t kGroups = TileShape<kTokens>::kChunkGroups;
  float values[kGroups][kTokens][kWarpRows];
  float scales[GroupProduct<kKind>::kHasWeightFactor ? kGroups : 1][kWarpRows];
  float minima[GroupProduct<kKind>::kAddsMinimum ? kGroups : 1][kWarpRows];
  float token_scales[kGroups][kTokens];
  float scaled_sums[kGroups][kTokens];
};

template <PackedKind kKind, uint32_t kTokens>
class TileProduct {
  using Shape = TileShape<kTokens>;
  using Product = GroupProduct<kKind>;
  using Results = ChunkResults<kKind, kTokens>;

 public:
  OTR_DEVICE explicit TileProduct(const MatmulCall& call)
      : call_(call),
        lane_(thread_index() % kWarp),
        warp_(thread_index() / kWarp),
        place_(lane_),
        strip_(block_y()),
        first_token_(block_x() * kTokenTile),
        tokens_(call.tokens - first_token_ < kTokenTile ? call.tokens - first_token_ : static_cast<uint32_t>(kTokenTile)),
        groups_(call.columns / kGroup),
        block_(call.block(strip_ * 2 + place_.block)),
        tile_(call.panel + activation_tile(first_token_)) {}

  OTR_DEVICE void run() {
    auto* const results = reinterpret_cast<Results*>(dynamic_shared());
    const uint32_t row = thread_index() % kWarpRows, token = thread_index() / kWarpRows;
    const bool has_sum = token < tokens_ && token < kTokens;
    float sum = 0;
    load(0);
    for (uint32_t first = 0, turn = 0; first < groups_; first += Shape::kChunkGroups, turn ^= 1) {
      multiply(first, results[turn]);
      load(first + Shape::kChunkGroups);
      // Once for a chunk: who writes a buffer again has passed the barrier that its last readers reached after reading it.
      sync_block();
      if (has_sum) sum = add(first, results[turn], row, token, sum);
    }
    if (has_sum && strip_ * kWarpRows + row < call_.rows) call_.store(strip_ * kWarpRows + row, first_token_ + token, sum);
  }

 private:
  OTR_DEVICE size_t activation_tile(uint32_t token) const {
    return static_cast<size_t>(token) * (call_.columns / kGroup) * kTokenGroupBytes;
  }
  OTR_DEVICE uint32_t group_of(uint32_t first, uint32_t i) const { return first + warp_ * Shape::kWarpGroups + i; }

  OTR_DEVICE void load(uint32_t first) {
    OTR_UNROLL
    for (uint32_t i = 0; i < Shape::kWarpGroups; ++i) {
      if (group_of(first, i) < groups_) loaded_[i].load(block_, group_of(first, i), place_);
    }
    const uint32_t group = thread_index() / kTokens, token = thread_index() % kTokens;
    if (group < Shape::kChunkGroups && first + group < groups_ && token < tokens_) {
      const TileGroup record(tile_, tokens_, first + group);
      token_scale_ = record.scale(token), scaled_sum_ = record.scaled_sum(token);
    }
  }

  OTR_DEVICE void multiply(uint32_t first, Results& results) {
    uint32_t codes[Shape::kWarpGroups][2];
    OTR_UNROLL
    for (uint32_t i = 0; i < Shape::kWarpGroups; ++i) {
      if (group_of(first, i) < groups_) TileGroup(tile_, tokens_, group_of(first, i)).load_codes(lane_, codes[i]);
    }
    OTR_UNROLL
    for (uint32_t i = 0; i < Shape::kWarpGroups; ++i) {
      if (group_of(first, i) >= groups_) continue;
      const LaneScales scales = loaded_[i].scales();
      Product product;
      product.compute(loaded_[i].codes(place_), scales, codes[i], TileGroup(tile_, tokens_, group_of(first, i)), place_.quad);
      keep(product, scales, warp_ * Shape::kWarpGroups + i, results);
    }
    const uint32_t group = thread_index() / kTokens, token = thread_index() % kTokens;
    if (group < Shape::kChunkGroups) results.token_scales[group][token] = token_scale_, results.scaled_sums[group][token] = scaled_sum_;
  }

  OTR_DEVICE void keep(const Product& product, const LaneScales& scales, uint32_t group, Results& results) {
    const uint32_t row = place_.block * kPackRows + place_.rows;
    OTR_UNROLL
    for (uint32_t i = 0; i < kLaneTokens; ++i) {
      const uint32_t token = place_.quad * kLaneTokens + i;
      if (token < kTokens) {
        store_rows(&results.values[group][token][row], product.values[0][i], product.values[1][i], product.values[2][i],
                   product.values[3][i]);
      }
    }
    if (place_.quad != 0) return;  // its rows' scales are the same in four lanes
    if constexpr (Product::kHasWeightFactor)
      store_rows(&results.scales[group][row], scales.scale[0], scales.scale[1], scales.scale[2], scales.scale[3]);
    if constexpr (Product::kAddsMinimum) {
      store_rows(&results.minima[group][row], scales.minimum[0], scales.minimum[1], scales.minimum[2], scales.minimum[3]);
    }
  }
  OTR_DEVICE static void store_rows(float* dst, float a, float b, float c, float d) {
    *reinterpret_cast<U4*>(dst) = {as_bits(a), as_bits(b), as_bits(c), as_bits(d)};
  }

  OTR_DEVICE float add(uint32_t first, const Results& results, uint32_t row, uint32_t token, float sum) const {
    const uint32_t count = groups_ - first < Shape::kChunkGroups ? groups_ - first : Shape::kChunkGroups;
    const auto add_one = [&](uint32_t group, float so_far) {
      const float scale = Product::kHasWeightFactor ? results.scales[group][row] : 0.0f;
      const float minimum = Product::kAddsMinimum ? results.minima[group][row] : 0.0f;
      return add_group<kKind>(results.values[group][token][row], scale, results.token_scales[group][token], minimum,
                              results.scaled_sums[group][token], so_far);
    };
    if (count == Shape::kChunkGroups) {
#if defined(__CUDACC__)
#pragma unroll 16
#endif
      for (uint32_t group = 0; group < Shape::kChunkGroups; ++group) sum = add_one(group, sum);
    } else {
      for (uint32_t group = 0; group < count; ++group) sum = add_one(group, sum);
    }
    return sum;
  }

  const MatmulCall& call_;
  const uint32_t lane_, warp_;
  const LanePlace place_;
  const uint32_t strip_, first_token_, tokens_, groups_;
  const std::byte* const block_;
  const std::byte* const tile_;
  LaneGroup<kKind> loaded_[Shape::kWarpGroups];
  float token_scale_ = 0, scaled_sum_ = 0;
};

/// Grid: tiles of tokens, strips of 32 rows; neighbouring blocks read the same weights.
template <PackedKind kKind, uint32_t kTokens>
OTR_KERNEL_OF(TileShape<kTokens>::kThreads)
void matmul_tile_kernel(MatmulCall call) {
  TileProduct<kKind, kTokens>(call).run();
}

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_MATMUL_TILE_H_
