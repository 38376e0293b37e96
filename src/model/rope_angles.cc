// RopeAngles: frequencies once, angles position by position.
#include "src/model/rope_angles.h"

#include <cmath>

namespace outrigger {

RopeAngles::RopeAngles(const ModelLayout& layout, const float* fixed) : magnitude_(layout.config.rope_scaling.magnitude) {
  const ModelConfig& config = layout.config;
  const std::vector<double> divisors = rope_divisors(config.rope_scaling, config.rope_base, config.rope_dim);
  for (uint32_t i = 0; i < config.rope_dim / 2; ++i) {
    double frequency = std::pow(config.rope_base, -2.0 * i / config.rope_dim) / divisors[i];
    if (layout.rope_factors != kNoTensor) frequency /= static_cast<double>(fixed[layout.rope_factors + i]);
    frequencies_.push_back(frequency);
  }
}

// In double: at position 8000 a float angle is off by 5e-4 radians.
void RopeAngles::fill(size_t position, float* dst) const {
  const auto at = static_cast<double>(position);
  for (size_t i = 0; i < frequencies_.size(); ++i) {
    dst[2 * i] = static_cast<float>(std::cos(at * frequencies_[i]) * magnitude_);
    dst[2 * i + 1] = static_cast<float>(std::sin(at * frequencies_[i]) * magnitude_);
  }
}

}  // namespace outrigger
