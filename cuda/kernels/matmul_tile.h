// The product for few tokens, bound by the reading of the weights: K is shared among a block's warps, and yet the sum over groups is made
// in order.
//
// A block has 32 rows and one tile of tokens, and goes through K in chunks. Most warps multiply, two groups of the chunk each, on the
// tensor cores, and leave the results, which are exact, in shared memory; other warps, a thread for each row and one or two tokens, add
// them in order of k while the next chunk is multiplied. So the bits are those of one thread that does everything, and do not depend on how
// K is shared.
#ifndef OUTRIGGER_CUDA_KERNELS_MATMUL_TILE_H_
#define OUTRIGGER_CUDA_KERNELS_MATMUL_TILE_H_

#include "cuda/kernels/group_product.h"
#include "cuda/kernels/matmul_call.h"
#include "cuda/kernels/tile_shape.h"

namespace outrigger::cuda {

/// What the block works on.
struct TileWork {
  const MatmulCall call;
  uint32_t strip, first_token, tokens, groups;
  const std::byte* tile;

  OTR_DEVICE TileWork(const MatmulCall& of, uint32_t first_strip)
      : call(of),
        strip(block_y() - first_strip),
        first_token(block_x() * kTokenTile),
        tokens(of.tokens - first_token < kTokenTile ? of.tokens - first_token : static_cast<uint32_t>(kTokenTile)),
        groups(of.columns / kGroup),
        tile(of.panel + static_cast<size_t>(first_token) * groups * kTokenGroupBytes) {}
};

/// A warp that multiplies: its runs of groups are a chunk apart. Where K ends within a chunk it multiplies what was loaded last; nobody
/// adds that.
template <typename Shape>
class TileMultiplier {
  static constexpr PackedKind kKind = Shape::kKind;
  static constexpr uint32_t kTokens = Shape::kTokens;
  using Product = GroupProduct<kKind>;
  using Results = ChunkResults<Shape>;
  static_assert(2 * sizeof(Results) <= kLeastSharedBytes);

 public:
  OTR_DEVICE explicit TileMultiplier(const TileWork& work)
      : lane_(thread_index() % kWarp),
        warp_(thread_index() / kWarp),
        place_(lane_),
        groups_(work.groups),
        record_bytes_(work.tokens * kTokenGroupBytes),
        next_group_(first_group(work.groups)),
        weights_at_(work.call.block(work.strip * 2 + place_.block), next_group_ / kRunGroups, place_),
        tokens_at_(work.tile + next_group_ * record_bytes_, work.tokens, lane_),
        scale_group_(thread_index() / kTokens),
        scale_token_(thread_index() % kTokens),
        has_scale_(scale_group_ < Shape::kChunkGroups && scale_token_ < work.tokens),
        next_scale_group_(scale_group_),
        scale_at_(work.tile + scale_group_ * record_bytes_ + work.tokens * kGroup + scale_token_ * 4),
        sums_offset_(work.tokens * 4) {
    OTR_UNROLL
    for (uint32_t i = 0; i < Shape::kAhead; ++i) load(loads_[i]);
    load_token_scale();
  }
  /// The next chunk; its loads are in place `slot`, which is loaded anew with what comes kAhead chunks later.
  OTR_DEVICE void multiply(uint32_t slot, Results& results) {
    const Loads now = loads_[slot];
    load(loads_[slot]);
    OTR_UNROLL
    for (uint32_t i = 0; i < kRunGroups; ++i) {
      const LaneScales scales = now.weights.scales(i);
      Product product;
      product.compute(now.weights.codes(i, place_), scales, now.tokens[i]);
      keep_values(product, results.values[warp_ * kRunGroups + i]);
      if (i % Results::kScaleGroups == 0) keep_scales(scales, (warp_ * kRunGroups + i) / Results::kScaleGroups, results);
    }
    if (has_scale_)
      results.token_scales[scale_group_][scale_token_] = token_scale_, results.scaled_sums[scale_group_][scale_token_] = scaled_sum_;
    load_token_scale();
  }

 private:
  struct Loads {
    LaneRun<kKind> weights;
    LaneTokens<kKind> tokens[kRunGroups];
  };

  // This warp's first run, or the last that there is.
  OTR_DEVICE uint32_t first_group(uint32_t groups) const {
    const uint32_t last = (groups - 1) / kRunGroups * kRunGroups;
    return warp_ * kRunGroups < last ? warp_ * kRunGroups : last;
  }

  OTR_DEVICE void load(Loads& loads) {
    const bool has_second = next_group_ + 1 < groups_;
    loads.weights.load(weights_at_, has_second, place_);
    loads.tokens[0].load(tokens_at_);
    loads.tokens[1].load(tokens_at_, has_second ? record_bytes_ : 0);
    if (next_group_ + Shape::kChunkGroups >= groups_) return;
    weights_at_.template advance<Shape::kChunkGroups>();
    tokens_at_.advance(Shape::kChunkGroups * record_bytes_);
    next_group_ += Shape::kChunkGroups;
  }

  OTR_DEVICE void load_token_scale() {
    if (has_scale_ && next_scale_group_ < groups_) {
      token_scale_ = *reinterpret_cast<const float*>(scale_at_);
      if constexpr (Product::kAddsMinimum) scaled_sum_ = *reinterpret_cast<const float*>(scale_at_ + sums_offset_);
    }
    scale_at_ += Shape::kChunkGroups * record_bytes_;
    next_scale_group_ += Shape::kChunkGroups;
  }

  OTR_DEVICE void keep_values(const Product& product, float (&values)[kTokens][Results::kRowStride]) const {
    OTR_UNROLL
    for (uint32_t i = 0; i < (kTokens == 1 ? 1 : kLaneTokens); ++i) {
      const uint32_t token = place_.quad * kLaneTokens + i;
      if (token < kTokens)
        store_rows(&values[token][row()], product.values[0][i], product.values[1][i], product.values[2][i], product.values[3][i]);
    }
  }
  OTR_DEVICE void keep_scales(const LaneScales& scales, uint32_t group, Results& results) const {
    if (place_.quad != 0) return;  // its rows' scales are the same in four lanes
    if constexpr (Product::kHasWeightFactor)
      store_rows(&results.scales[group][row()], scales.scale[0], scales.scale[1], scales.scale[2], scales.scale[3]);
    if constexpr (Product::kAddsMinimum) {
      store_rows(&results.minima[group][row()], scales.minimum[0], scales.minimum[1], scales.minimum[2], scales.minimum[3]);
    }
  }
  OTR_DEVICE uint32_t row() const { return place_.block * kPackRows + place_.rows; }
  OTR_DEVICE static void store_rows(float* dst, float a, float b, float c, float d) {
    *reinterpret_cast<U4*>(dst) = {as_bits(a), as_bits(b), as_bits(c), as_bits(d)};
  }

  const uint32_t lane_, warp_;
  const LanePlace place_;
  const uint32_t groups_, record_bytes_;
  // What is loaded next.
  uint32_t next_group_;
  typename LaneRun<kKind>::Cursor weights_at_;
  typename LaneTokens<kKind>::Cursor tokens_at_;
  // The one token's scale and sum of a chunk that this thread brings.
  const uint32_t scale_group_, scale_token_;
  const bool has_scale_;
  uint32_t next_scale_group_;
  const std::byte* scale_at_;
  const uint32_t sums_offset_;
  float token_scale_ = 0, scaled_sum_ = 0;
  Loads loads_[Shape::kAhead];
};

/// A thread that adds: one row's sums of one or two tokens.
template <typename Shape>
class TileAdder {
  static constexpr PackedKind kKind = Shape::kKind;
  using Product = GroupProduct<kKind>;
  using Results = ChunkResults<Shape>;

 public:
  OTR_DEVICE TileAdder() : row_(thread_index() % kWarpRows), token_((thread_index() / kWarp - Shape::kMultipliers) * Shape::kSumTokens) {}

  OTR_DEVICE void add(uint32_t count, const Results& results) {
    if (count >= Shape::kChunkGroups) {
      OTR_UNROLL
      for (uint32_t group = 0; group < Shape::kChunkGroups; ++group) add_group_of(results, group);
    } else {
      for (uint32_t group = 0; group < count; ++group) add_group_of(results, group);
    }
  }

  OTR_DEVICE void store(const TileWork& work) const {
    const uint32_t row = work.strip * kWarpRows + row_;
    OTR_UNROLL
    for (uint32_t i = 0; i < Shape::kSumTokens; ++i) {
      if (row < work.call.rows && token_ + i < work.tokens) work.call.store(row, work.first_token + token_ + i, sums_[i]);
    }
  }

 private:
  OTR_DEVICE void add_group_of(const Results& results, uint32_t group) {
    const float scale = Product::kHasWeightFactor ? results.scales[group / Results::kScaleGroups][row_] : 0.0f;
    const float minimum = Product::kAddsMinimum ? results.minima[group / Results::kScaleGroups][row_] : 0.0f;
    OTR_UNROLL
    for (uint32_t i = 0; i < Shape::kSumTokens; ++i) {
      sums_[i] = add_group<kKind>(results.values[group][token_ + i][row_], scale, results.token_scales[group][token_ + i], minimum,
                                  results.scaled_sums[group][token_ + i], sums_[i]);
    }
  }

  const uint32_t row_, token_;
  float sums_[Shape::kSumTokens] = {};
};

/// Grid: tiles of tokens, strips of 32 rows of all products; neighbouring blocks read the same weights. Results are in two buffers by
/// turns: who multiplies waits for a buffer to be emptied, who adds for it to be filled, and nobody for anything else.
template <typename Shape>
OTR_KERNEL_OF(Shape::kThreads, Shape::kBlocks)
void matmul_tile_kernel(MatmulGroup group) {
  constexpr uint32_t kFilled = 1, kEmptied = 3;  // gates, and those after them: one for each buffer
  auto* const results = reinterpret_cast<ChunkResults<Shape>*>(dynamic_shared());
  const uint32_t index = group.call_of(block_y());
  const TileWork work(group.calls[index], group.first_strips[index]);
  if (thread_index() < Shape::kMultipliers * kWarp) {
    TileMultiplier<Shape> multiplier(work);
    for (uint32_t first = 0; first < work.groups;) {
      OTR_UNROLL
      for (uint32_t turn = 0; turn < 2; ++turn, first += Shape::kChunkGroups) {
        if (first >= work.groups) break;
        if (first >= 2 * Shape::kChunkGroups) pass_gate(kEmptied + turn, Shape::kThreads);
        multiplier.multiply(turn % Shape::kAhead, results[turn]);
        open_gate(kFilled + turn, Shape::kThreads);
      }
    }
  } else {
    TileAdder<Shape> adder;
    for (uint32_t first = 0; first < work.groups;) {
      OTR_UNROLL
      for (uint32_t turn = 0; turn < 2; ++turn, first += Shape::kChunkGroups) {
        if (first >= work.groups) break;
        pass_gate(kFilled + turn, Shape::kThreads);
        adder.add(work.groups - first, results[turn]);
        if (first + 2 * Shape::kChunkGroups < work.groups) open_gate(kEmptied + turn, Shape::kThreads);
      }
    }
    adder.store(work);
  }
}

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_MATMUL_TILE_H_
