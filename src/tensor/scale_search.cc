// Scale search: from clipped ranges of several widths, each refined by the best line through the codes it gives.
#include "src/tensor/scale_search.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "src/tensor/half.h"

namespace outrigger {
namespace {

// Of the whole range: a few large weights should not coarsen all the others.
constexpr float kWidths[] = {1.0f, 0.92f, 0.84f, 0.76f, 0.68f, 0.6f, 0.5f};
constexpr int kRefinements = 3;
// The smallest normal float16: below it a scale would lose bits.
constexpr float kLeastScale = 0x1p-14f;

float as_half(float value) { return f16_to_float(float_to_f16(value)); }

class Search {
 public:
  Search(std::span<const float> weights, std::span<const float> column_weights, const OwnLevels& levels)
      : weights_(weights), column_weights_(column_weights), levels_(levels) {
    for (size_t lane = 0; lane < kScaleLanes; ++lane) least_error_[lane] = std::numeric_limits<float>::infinity();
    std::copy_n(weights.data(), kScaleLanes, low_);
    std::copy_n(weights.data(), kScaleLanes, high_);
    for (size_t i = 0; i < column_weights.size(); ++i) {
      for (size_t lane = 0; lane < kScaleLanes; ++lane) {
        low_[lane] = std::min(low_[lane], weights[i * kScaleLanes + lane]);
        high_[lane] = std::max(high_[lane], weights[i * kScaleLanes + lane]);
      }
    }
  }

  // `turned`: the first level is at the upper end.
  void begin(float width, bool turned) {
    turned_ = turned;
    for (size_t lane = 0; lane < kScaleLanes; ++lane) {
      const float middle = (low_[lane] + high_[lane]) / 2, half = (turned ? -1.0f : 1.0f) * (high_[lane] - low_[lane]) / 2;
      scale_[lane] = 2 * width * half / levels_.top();
      minimum_[lane] = middle - width * half;
    }
    round_scales();
  }

  // Keeps this line where it is the best so far, and goes on to the best one for its levels.
  void step() {
    float error[kScaleLanes] = {}, level_sum[kScaleLanes] = {}, weight_sum[kScaleLanes] = {}, square_sum[kScaleLanes] = {},
          product_sum[kScaleLanes] = {}, all = 0;
    for (size_t i = 0; i < column_weights_.size(); ++i) {
      const float importance = column_weights_[i];
      all += importance;
      const float* const row = &weights_[i * kScaleLanes];
      float steps[kScaleLanes], levels[kScaleLanes];
      for (size_t lane = 0; lane < kScaleLanes; ++lane) steps[lane] = (row[lane] - minimum_[lane]) / scale_[lane];
      levels_.round(steps, levels);
      for (size_t lane = 0; lane < kScaleLanes; ++lane) {
        const float level = levels[lane];
        const float product = scale_[lane] * level, left = product + minimum_[lane] - row[lane];
        error[lane] += importance * left * left;
        level_sum[lane] += importance * level;
        weight_sum[lane] += importance * row[lane];
        square_sum[lane] += importance * level * level;
        product_sum[lane] += importance * level * row[lane];
      }
    }
    for (size_t lane = 0; lane < kScaleLanes; ++lane) {
      if (error[lane] < least_error_[lane]) {
        least_error_[lane] = error[lane];
        best_.scale[lane] = scale_[lane];
        best_.minimum[lane] = minimum_[lane];
      }
      const float spread = all * square_sum[lane] - level_sum[lane] * level_sum[lane];
      const float slope = (all * product_sum[lane] - level_sum[lane] * weight_sum[lane]) / spread;
      // All levels are one, or nothing weighs anything: there is no line.
      if (!(spread > 0) || !std::isfinite(slope)) continue;
      scale_[lane] = slope;
      minimum_[lane] = (weight_sum[lane] - slope * level_sum[lane]) / all;
    }
    round_scales();
  }

  const BlockScales& best() const { return best_; }

 private:
  void round_scales() {
    for (size_t lane = 0; lane < kScaleLanes; ++lane) {
      scale_[lane] = as_half(turned_ ? std::min(scale_[lane], -kLeastScale) : std::max(scale_[lane], kLeastScale));
      minimum_[lane] = as_half(minimum_[lane]);
    }
  }

  const std::span<const float> weights_, column_weights_;
  const OwnLevels& levels_;
  bool turned_ = false;
  float low_[kScaleLanes], high_[kScaleLanes], scale_[kScaleLanes], minimum_[kScaleLanes], least_error_[kScaleLanes];
  BlockScales best_;
};

}  // namespace

BlockScales search_scales(std::span<const float> weights, std::span<const float> column_weights, const OwnLevels& levels, bool searches) {
  Search search(weights, column_weights, levels);
  for (const bool turned : {false, true}) {
    if (turned && !(searches && levels.may_turn())) break;
    for (const float width : kWidths) {
      search.begin(width, turned);
      for (int i = 0; i < (searches ? kRefinements : 1); ++i) search.step();
      if (!searches) break;
    }
  }
  return search.best();
}

}  // namespace outrigger
