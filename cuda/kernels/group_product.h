// The product of a group of 32 k: 32 rows of weights with a tile of up to 8 tokens, as a warp makes it.
#ifndef OUTRIGGER_CUDA_KERNELS_GROUP_PRODUCT_H_
#define OUTRIGGER_CUDA_KERNELS_GROUP_PRODUCT_H_

#include "cuda/kernels/packed_group.h"
#include "src/kernels/activations.h"

namespace outrigger::cuda {

inline constexpr uint32_t kLaneTokens = 2;  ///< lane l has the results of tokens 2t and 2t + 1, t = l % 4

/// One group of a panel's tile of `tokens` tokens; src/kernels/activations.h has the layout.
class TileGroup {
 public:
  OTR_DEVICE TileGroup(const std::byte* tile, uint32_t tokens, uint32_t group)
      : record_(tile + static_cast<size_t>(group) * tokens * kTokenGroupBytes), tokens_(tokens) {}

  /// The codes of token lane / 4 at quads t and t + 4; zeros where there is no such token.
  OTR_DEVICE void load_codes(uint32_t lane, uint32_t (&codes)[2]) const {
    codes[0] = codes[1] = 0;
    if (lane / 4 >= tokens_) return;
    const auto* const words = reinterpret_cast<const uint32_t*>(record_ + lane / 4 * kGroup);
    codes[0] = words[lane % 4], codes[1] = words[4 + lane % 4];
  }
  OTR_DEVICE float scale(uint32_t token) const { return as_float(word(0, token)); }
  OTR_DEVICE float scaled_sum(uint32_t token) const { return as_float(word(1, token)); }
  OTR_DEVICE int32_t negative_sum(uint32_t token) const { return static_cast<int32_t>(word(2, token)); }
  /// Of elements 16 half ..
  OTR_DEVICE int32_t negative_half(uint32_t token, uint32_t half) const { return static_cast<int16_t>(word(3, token) >> 16 * half); }
  OTR_DEVICE bool has(uint32_t token) const { return token < tokens_; }

 private:
  OTR_DEVICE uint32_t word(uint32_t index, uint32_t token) const {
    return reinterpret_cast<const uint32_t*>(record_ + tokens_ * (kGroup + index * 4))[token];
  }

  const std::byte* record_;
  uint32_t tokens_;
};

/// What a group's products with the weights come to: values[row][token], which the sum over groups takes as
///   sum = fma(value, weight_factor(scale) * token's scale, sum), and, where the kind has minima, sum = fma(minimum, scaled_sum, sum).
/// src/kernels/matmul.h has the formula of each kind; Q2_K's value holds its scale and minimum already.
template <PackedKind kKind>
class GroupProduct {
  static constexpr GroupLayout kLayout = group_layout(kKind);
  // 2^23 + 2^22: a whole number of less than 2^22 in magnitude, added to its bits, makes the bits of its sum with that number as a float. A
  // group's is at most 32 x 255 x 127 = 1.04 million.
  static constexpr int32_t kFloatBits = 0x4b400000;
  static constexpr float kFloatBase = 12582912.0f;

 public:
  static constexpr bool kHasWeightFactor = kKind != PackedKind::kQ2_K;
  static constexpr bool kAddsMinimum = kLayout.has_minimum() && kKind != PackedKind::kQ2_K;

  float values[kLaneRows][kLaneTokens];

  OTR_DEVICE void compute(const LaneCodes& codes, const LaneScales& scales, const uint32_t (&tokens)[2], const TileGroup& tile,
                          uint32_t quad) {
    if constexpr (kLayout.has_halves()) {
      multiply_halves(codes, scales, tokens, tile, quad);
    } else {
      multiply_whole(codes, tokens, tile, quad);
    }
  }

 private:
  OTR_DEVICE void multiply_whole(const LaneCodes& codes, const uint32_t (&tokens)[2], const TileGroup& tile, uint32_t quad) {
    int32_t begin[kLaneTokens];
    OTR_UNROLL
    for (uint32_t i = 0; i < kLaneTokens; ++i) {
      begin[i] = kFloatBits;
      if constexpr (kLayout.zero_point != 0) {
        if (tile.has(quad * 2 + i)) begin[i] += kLayout.zero_point * tile.negative_sum(quad * 2 + i);
      }
    }
    OTR_UNROLL
    for (uint32_t pair = 0; pair < 2; ++pair) {
      const uint32_t rows[4] = {codes.lower[2 * pair], codes.lower[2 * pair + 1], codes.upper[2 * pair], codes.upper[2 * pair + 1]};
      int32_t sums[4] = {begin[0], begin[1], begin[0], begin[1]};
      multiply_codes(sums, rows, tokens);
      OTR_UNROLL
      for (uint32_t i = 0; i < 4; ++i) values[2 * pair + i / 2][i % 2] = as_float(static_cast<uint32_t>(sums[i])) - kFloatBase;
    }
  }

  OTR_DEVICE void multiply_halves(const LaneCodes& codes, const LaneScales& scales, const uint32_t (&tokens)[2], const TileGroup& tile,
                                  uint32_t quad) {
    int32_t negative[kLaneTokens][2] = {};
    OTR_UNROLL
    for (uint32_t i = 0; i < kLaneTokens; ++i) {
      if (!tile.has(quad * 2 + i)) continue;
      negative[i][0] = tile.negative_half(quad * 2 + i, 0), negative[i][1] = tile.negative_half(quad * 2 + i, 1);
    }
    OTR_UNROLL
    for (uint32_t pair = 0; pair < 2; ++pair) {
      int32_t sums[2][4];
      OTR_UNROLL
      for (uint32_t half = 0; half < 2; ++half) {
        OTR_UNROLL
        for (uint32_t i = 0; i < 4; ++i) sums[half][i] = kLayout.zero_point * negative[i % 2][half];
        const auto& words = half == 0 ? codes.lower : codes.upper;
        const uint32_t rows[2] = {words[2 * pair], words[2 * pair + 1]};
        multiply_codes_of_half(sums[half], rows, tokens[half]);
      }
      OTR_UNROLL
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t row = 2 * pair + i / 2;
        const float dot = static_cast<float>(scales.sub_scale[row][0] * sums[0][i] + scales.sub_scale[row][1] * sums[1][i]);
        if constexpr (kLayout.has_minimum()) {
          const int32_t tokens_sum = -(scales.sub_minimum[row][0] * negative[i % 2][0] + scales.sub_minimum[row][1] * negative[i % 2][1]);
          values[row][i % 2] = fmaf(dot, scales.scale[row], scales.minimum[row] * static_cast<float>(tokens_sum));
        } else {
          values[row][i % 2] = dot;
        }
      }
    }
  }
};

/// The next step of a sum over groups.
template <PackedKind kKind>
OTR_DEVICE float add_group(float value, float weight_scale, float token_scale, float minimum, float scaled_sum, float sum) {
  sum = fmaf(value, GroupProduct<kKind>::kHasWeightFactor ? weight_scale * token_scale : token_scale, sum);
  return GroupProduct<kKind>::kAddsMinimum ? fmaf(minimum, scaled_sum, sum) : sum;
}

}  // namespace outrigger::cuda

#endif  // OUTRIGGER_CUDA_KERNELS_GROUP_PRODUCT_H_
