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

  OTR_DEVICE const std::byte* record() const { return record_; }
  OTR_DEVICE uint32_t tokens() const { return tokens_; }
  OTR_DEVICE float scale(uint32_t token) const { return word(0, token); }
  OTR_DEVICE float scaled_sum(uint32_t token) const { return word(1, token); }
  OTR_DEVICE bool has(uint32_t token) const { return token < tokens_; }

 private:
  OTR_DEVICE float word(uint32_t index, uint32_t token) const {
    return reinterpret_cast<const float*>(record_ + tokens_ * (kGroup + index * 4))[token];
  }

  const std::byte* record_;
  uint32_t tokens_;
};

/// What a lane needs of a tile's group for the integer part of a product: its operand, and what takes the zero point off its results.
/// Beyond the last token it is the last one's: nobody uses what comes of it.
template <PackedKind kKind>
struct LaneTokens {
  static constexpr GroupLayout kLayout = group_layout(kKind);
  static constexpr bool kTakesSums = kLayout.has_halves() || kLayout.zero_point != 0;

  uint32_t codes[2];                    ///< of token lane / 4 at quads t and t + 4
  uint32_t negative_sums[kLaneTokens];  ///< of tokens 2t and 2t + 1, in the form that the kind uses, if it uses any

  /// Where a lane's part of a group lies.
  struct Cursor {
    const std::byte *codes, *sums;
    uint32_t second_bytes;  ///< from one token's sum to the other's

    /// `tokens` is at least 1.
    OTR_DEVICE Cursor(const std::byte* record, uint32_t tokens, uint32_t lane) {
      const uint32_t last = tokens - 1, column = lane / 4, first = lane % 4 * kLaneTokens;
      codes = record + (column < last ? column : last) * kGroup + lane % 4 * 4;
      sums = record + tokens * (kGroup + (kLayout.has_halves() ? 3 : 2) * 4) + (first < last ? first : last) * 4;
      second_bytes = first < last ? 4 : 0;
    }
    OTR_DEVICE void advance(uint32_t bytes) { codes += bytes, sums += bytes; }
  };

  /// The group `bytes` bytes behind the one that the cursor is at.
  OTR_DEVICE void load(const Cursor& at, uint32_t bytes = 0) {
    const auto* const words = reinterpret_cast<const uint32_t*>(at.codes + bytes);
    codes[0] = words[0], codes[1] = words[4];
    if constexpr (kTakesSums) {
      negative_sums[0] = *reinterpret_cast<const uint32_t*>(at.sums + bytes);
      negative_sums[1] = *reinterpret_cast<const uint32_t*>(at.sums + bytes + at.second_bytes);
    }
  }
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
  /// Whether both groups of a run have the same scales and minima.
  static constexpr bool kSharesScales = kLayout.scale_form == ScaleForm::kOfUnit;
  static constexpr bool kHasWeightFactor = kKind != PackedKind::kQ2_K;
  static constexpr bool kAddsMinimum = kLayout.has_minimum() && kKind != PackedKind::kQ2_K;

  float values[kLaneRows][kLaneTokens];

  OTR_DEVICE void compute(const LaneCodes& codes, const LaneScales& scales, const LaneTokens<kKind>& tokens) {
    if constexpr (kLayout.has_halves()) {
      multiply_halves(codes, scales, tokens);
    } else {
      multiply_whole(codes, tokens);
    }
  }

 private:
  OTR_DEVICE void multiply_whole(const LaneCodes& codes, const LaneTokens<kKind>& tokens) {
    int32_t begin[kLaneTokens] = {kFloatBits, kFloatBits};
    if constexpr (kLayout.zero_point != 0) {
      OTR_UNROLL
      for (uint32_t i = 0; i < kLaneTokens; ++i) begin[i] += kLayout.zero_point * static_cast<int32_t>(tokens.negative_sums[i]);
    }
    OTR_UNROLL
    for (uint32_t pair = 0; pair < 2; ++pair) {
      const uint32_t rows[4] = {codes.lower[2 * pair], codes.lower[2 * pair + 1], codes.upper[2 * pair], codes.upper[2 * pair + 1]};
      const int32_t from[4] = {begin[0], begin[1], begin[0], begin[1]};
      int32_t sums[4];
      multiply_codes(sums, rows, tokens.codes, from);
      OTR_UNROLL
      for (uint32_t i = 0; i < 4; ++i) values[2 * pair + i / 2][i % 2] = as_float(static_cast<uint32_t>(sums[i])) - kFloatBase;
    }
  }

  OTR_DEVICE void multiply_halves(const LaneCodes& codes, const LaneScales& scales, const LaneTokens<kKind>& tokens) {
    int32_t negative[kLaneTokens][2];
    OTR_UNROLL
    for (uint32_t i = 0; i < kLaneTokens; ++i) {
      negative[i][0] = static_cast<int16_t>(tokens.negative_sums[i]), negative[i][1] = static_cast<int16_t>(tokens.negative_sums[i] >> 16);
    }
    OTR_UNROLL
    for (uint32_t pair = 0; pair < 2; ++pair) {
      int32_t sums[2][4];
      OTR_UNROLL
      for (uint32_t half = 0; half < 2; ++half) {
        const int32_t begin[kLaneTokens] = {kLayout.zero_point * negative[0][half], kLayout.zero_point * negative[1][half]};
        const int32_t from[4] = {begin[0], begin[1], begin[0], begin[1]};
        const auto& words = half == 0 ? codes.lower : codes.upper;
        const uint32_t rows[2] = {words[2 * pair], words[2 * pair + 1]};
        multiply_codes_of_half(sums[half], rows, tokens.codes[half], from);
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
