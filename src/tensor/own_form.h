// Our own formats: what they are made of, and the levels that their codes stand for.
#ifndef OUTRIGGER_SRC_TENSOR_OWN_FORM_H_
#define OUTRIGGER_SRC_TENSOR_OWN_FORM_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "src/tensor/dtype.h"

namespace outrigger {

/// What a format of our own is beside its bits.
struct OwnForm {
  bool has_codebook = false;  ///< levels from a table (codebooks.h) instead of equal steps
  uint32_t block = 64;        ///< weights that share a scale and a minimum: 64 or 128

  /// Of the scale and the minimum, for each weight.
  double scale_bits() const { return 32.0 / block; }
  bool operator==(const OwnForm&) const = default;
};

/// The most of them.
inline constexpr size_t kMostOwnBlock = 128;

/// The type of these codes, or nothing: 2, 3 and 4 bits have one of each form.
std::optional<DType> own_type(int bits, const OwnForm& form = {});

/// Bits of a code, and 0 for a type that is not ours.
int own_bits(DType type);
/// Precondition: the type is ours.
OwnForm own_form(DType type);
inline bool is_own_type(DType type) { return own_bits(type) != 0; }

/// What codes stand for, in steps of their scale: small whole numbers from 0 on, rising.
class OwnLevels {
 public:
  OwnLevels(int bits, bool has_codebook);

  float top() const { return top_; }
  /// Whether a block may also have a scale below zero, which turns the levels round.
  bool may_turn() const { return has_codebook_; }
  uint8_t code_of(float level) const { return codes_[static_cast<size_t>(level)]; }

  /// levels[i] = the level nearest to steps[i], of kCount. Of NaN with equal steps NaN.
  template <size_t kCount>
  void round(const float (&steps)[kCount], float (&levels)[kCount]) const {
    if (!has_codebook_) {
      for (size_t i = 0; i < kCount; ++i) levels[i] = std::clamp(std::nearbyint(steps[i]), 0.0f, top_);
      return;
    }
    for (float& level : levels) level = 0;
    for (int k = 1; k < count_; ++k) {
      const float threshold = thresholds_[k], rise = rises_[k];
      for (size_t i = 0; i < kCount; ++i) levels[i] += steps[i] > threshold ? rise : 0.0f;
    }
  }

 private:
  static constexpr size_t kMostLevel = 61;

  bool has_codebook_;
  int count_;
  float top_;
  float thresholds_[16] = {}, rises_[16] = {};  // between level k - 1 and k
  uint8_t codes_[kMostLevel + 1] = {};          // by level
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_OWN_FORM_H_
