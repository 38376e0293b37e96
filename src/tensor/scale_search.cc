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
  Search(std::span<const float> weights, std::span<const float> column_weights, int bits)
      : weights_(weights), column_weights_(column_weights), most_(static_cast<float>((1 << bits) - 1)) {
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

  void begin(float width) {
    for (size_t lane = 0; lane < kScaleLanes; ++lane) {
      const float middle = (low_[lane] + high_[lane]) / 2, half = (high_[lane] - low_[lane]) / 2;
      scale_[lane] = 2 * width * half / most_;
      minimum_[lane] = middle - width * half;
    }
    round_scales();
  }

  // Keeps this line where it is the best so far, and goes on to the best one for its codes.
  void step() {
    float error[kScaleLanes] = {}, code_sum[kScaleLanes] = {}, weight_sum[kScaleLanes] = {}, square_sum[kScaleLanes] = {}, product_sum[kScaleLanes] = {}, all = 0;
    for (size_t i = 0; i < column_weights_.size(); ++i) {
      const float importance = column_weights_[i];
      all += importance;
      const float* const row = &weights_[i * kScaleLanes];
      for (size_t lane = 0; lane < kScaleLanes; ++lane) {
        const float code = std::clamp(std::nearbyint((row[lane] - minimum_[lane]) / scale_[lane]), 0.0f, most_);
        const float product = scale_[lane] * code, left = product + minimum_[lane] - row[lane];
        error[lane] += importance * left * left;
        code_sum[lane] += importance * code;
        weight_sum[lane] += importance * row[lane];
        square_sum[lane] += importance * code * code;
        product_sum[lane] += importance * code * row[lane];
      }
    }
    for (size_t lane = 0; lane < kScaleLanes; ++lane) {
      if (error[lane] < least_error_[lane]) {
        least_error_[lane] = error[lane];
        best_.scale[lane] = scale_[lane];
        best_.minimum[lane] = minimum_[lane];
      }
      const float spread = all * square_sum[lane] - code_sum[lane] * code_sum[lane];
      const float slope = (all * product_sum[lane] - code_sum[lane] * weight_sum[lane]) / spread;
      // All codes are one, or nothing weighs anything: there is no line.
      if (!(spread > 0) || !std::isfinite(slope)) continue;
      scale_[lane] = slope;
      minimum_[lane] = (weight_sum[lane] - slope * code_sum[lane]) / all;
    }
    round_scales();
  }

  const BlockScales& best() const { return best_; }

 private:
  void round_scales() {
    for (size_t lane = 0; lane < kScaleLanes; ++lane) {
      scale_[lane] = as_half(std::max(scale_[lane], kLeastScale));
      minimum_[lane] = as_half(minimum_[lane]);
    }
  }

  const std::span<const float> weights_, column_weights_;
  const float most_;
  float low_[kScaleLanes], high_[kScaleLanes], scale_[kScaleLanes], minimum_[kScaleLanes], least_error_[kScaleLanes];
  BlockScales best_;
};

}  // namespace

BlockScales search_scales(std::span<const float> weights, std::span<const float> column_weights, int bits, bool searches) {
  Search search(weights, column_weights, bits);
  for (const float width : kWidths) {
    search.begin(width);
    for (int i = 0; i < (searches ? kRefinements : 1); ++i) search.step();
    if (!searches) break;
  }
  return search.best();
}

}  // namespace outrigger
