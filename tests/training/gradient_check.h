// Gradients against differences of losses.
#ifndef OUTRIGGER_TESTS_TRAINING_GRADIENT_CHECK_H_
#define OUTRIGGER_TESTS_TRAINING_GRADIENT_CHECK_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "tests/support/catch.h"

namespace outrigger::testing {

/// A step along the gradient and somewhat aside changes the loss by what the gradient says. `loss_at`: the loss a step further in a
/// direction. Losses are float32 sums: with a noise of some 1e-6 of them the quotient is good to 1e-3 at steps that change them by a
/// thousandth, and the third derivative, which a central difference leaves, is below that. So 1 %.
inline void check_gradient(std::span<const float> gradient, double loss,
                           const std::function<double(const std::vector<float>& direction, double step)>& loss_at) {
  double norm = 0;
  for (const float g : gradient) norm += static_cast<double>(g) * g;
  norm = std::sqrt(norm);
  REQUIRE(norm > 0);
  std::vector<float> direction(gradient.size());
  const float aside = 1 / std::sqrt(static_cast<float>(direction.size()));
  double expected = 0;
  for (size_t k = 0; k < direction.size(); ++k) {
    direction[k] = gradient[k] / static_cast<float>(norm) + (k % 3 == 0 ? 0.1f : -0.05f) * aside;
    expected += static_cast<double>(gradient[k]) * direction[k];
  }
  const double step = std::min(0.02, 1e-3 * loss / norm);
  const double measured = (loss_at(direction, step) - loss_at(direction, -step)) / (2 * step);
  CHECK(std::abs(measured / expected - 1) < 0.01);
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_TRAINING_GRADIENT_CHECK_H_
