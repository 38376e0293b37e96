// Adam: against the paper's algorithm.
#include "src/training/adam.h"

#include <cmath>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/random_inputs.h"

namespace outrigger {
namespace {

TEST_CASE("Adam: steps are those of the paper's algorithm in float64") {
  const auto team = std::move(ThreadTeam::create(2)).value();
  constexpr size_t kCount = 37;
  std::vector<float> values = random_matrix(1, kCount, 5);
  std::vector<double> expected(values.begin(), values.end()), mean(kCount), square(kCount);
  Adam adam(kCount);
  for (int step = 1; step <= 6; ++step) {
    std::vector<float> gradient = random_matrix(1, kCount, 100 + static_cast<unsigned>(step), 1e-3f);
    gradient[3] = 0;
    for (size_t i = 0; i < kCount; ++i) {
      mean[i] = 0.9 * mean[i] + 0.1 * gradient[i];
      square[i] = 0.999 * square[i] + 0.001 * gradient[i] * gradient[i];
      expected[i] -= 0.01 * (mean[i] / (1 - std::pow(0.9, step))) / (std::sqrt(square[i] / (1 - std::pow(0.999, step))) + 1e-8);
    }
    adam.step(values, gradient, 0.01f, *team);
    // Six roundings of numbers around 1, and 1e-4 of a step: 0.001 as a float is that far from what 0.999 leaves of 1.
    for (size_t i = 0; i < kCount; ++i) CHECK(std::abs(values[i] - expected[i]) < 2e-6);
  }
}

}  // namespace
}  // namespace outrigger
