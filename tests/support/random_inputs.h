// Random matrices, and inputs whose columns depend on each other as a model's do.
#ifndef OUTRIGGER_TESTS_SUPPORT_RANDOM_INPUTS_H_
#define OUTRIGGER_TESTS_SUPPORT_RANDOM_INPUTS_H_

#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

namespace outrigger {

inline std::vector<float> random_matrix(size_t rows, size_t columns, unsigned seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(rows * columns);
  for (float& value : values) value = normal(random);
  return values;
}

/// [tokens, width]: a few directions carry most of it, and columns differ a hundredfold in size.
inline std::vector<float> dependent_inputs(size_t tokens, size_t width, unsigned seed) {
  const size_t directions = std::max<size_t>(1, width / 8);
  const std::vector<float> mix = random_matrix(directions, width, seed), strength = random_matrix(tokens, directions, seed + 1);
  std::vector<float> x = random_matrix(tokens, width, seed + 2, 0.3f);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t d = 0; d < directions; ++d) {
      for (size_t i = 0; i < width; ++i) x[t * width + i] += strength[t * directions + d] * mix[d * width + i];
    }
    for (size_t i = 0; i < width; ++i) x[t * width + i] *= std::exp(-4.6f * static_cast<float>(i * 7 % width) / static_cast<float>(width));
  }
  return x;
}

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_RANDOM_INPUTS_H_
