// Adam: one pass over four arrays.
#include "src/training/adam.h"

#include <cmath>

namespace outrigger {
namespace {

constexpr double kMeanDecay = 0.9, kSquareDecay = 0.999;
constexpr float kEpsilon = 1e-8f;

}  // namespace

void Adam::step(std::span<float> values, std::span<const float> gradient, float rate, ThreadTeam& team) {
  ++steps_;
  // The means begin at zero; this is what they lack.
  const auto mean_scale = static_cast<float>(1 / (1 - std::pow(kMeanDecay, steps_))),
             square_scale = static_cast<float>(1 / (1 - std::pow(kSquareDecay, steps_)));
  constexpr auto kMean = static_cast<float>(kMeanDecay), kSquare = static_cast<float>(kSquareDecay);
  team.run([&](const TeamMember& member) {
    size_t begin, end;
    member.share(values.size(), 16, &begin, &end);
    for (size_t i = begin; i < end; ++i) {
      const float g = gradient[i];
      mean_[i] = kMean * mean_[i] + (1 - kMean) * g;
      square_[i] = kSquare * square_[i] + (1 - kSquare) * g * g;
      values[i] -= rate * (mean_[i] * mean_scale) / (std::sqrt(square_[i] * square_scale) + kEpsilon);
    }
  });
}

}  // namespace outrigger
