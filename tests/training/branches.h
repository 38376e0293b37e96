// Backbones and branches for tests of training.
#ifndef OUTRIGGER_TESTS_TRAINING_BRANCHES_H_
#define OUTRIGGER_TESTS_TRAINING_BRANCHES_H_

#include <cmath>
#include <vector>

#include "src/compress/matrix_plan.h"
#include "src/forward/float_matrix.h"
#include "src/training/branch_trainer.h"

namespace outrigger::testing {

/// A matrix of the model, its weights rounded to eighths.
inline Result<LeasedVector<float>> in_eighths(const Model::Impl& model, uint32_t matrix) {
  Result<LeasedVector<float>> values = read_matrix(model.file.source(), model.layout->weights[matrix]);
  if (!values.is_ok()) return values;
  for (float& value : values.value()) value = std::nearbyint(value * 8) / 8;
  return values;
}

/// The branch of the index-th matrix of all, in sixty-fourths: those of tests/golden/make_branch_gradients.py.
inline TrainedBranch regular_branch(const ModelLayout& layout, uint32_t matrix, uint32_t rank, size_t index) {
  const uint64_t rows = layout.weights[matrix].rows, columns = layout.weights[matrix].columns;
  TrainedBranch branch{matrix, rank, LeasedVector<float>(rank * columns), LeasedVector<float>(rows * rank)};
  for (size_t j = 0; j < rank; ++j) {
    for (size_t c = 0; c < columns; ++c)
      branch.a[j * columns + c] = static_cast<float>(static_cast<int>((j * 7 + c * 13 + index * 3) % 17) - 8) / 64;
    for (size_t r = 0; r < rows; ++r)
      branch.b[r * rank + j] = static_cast<float>(static_cast<int>((r * 5 + j * 11 + index * 3) % 19) - 9) / 64;
  }
  return branch;
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_TRAINING_BRANCHES_H_
