// Branch share: branches are scaled as they are multiplied with, residuals by what is read of them.
#include "src/plan/branch_share.h"

#include <cmath>

namespace outrigger {

StepShape with_branch_share(StepShape shape, double share) {
  const auto part = [share](uint64_t bytes) { return static_cast<uint64_t>(std::ceil(share * static_cast<double>(bytes))); };
  shape.residual_read_bytes_per_token = part(shape.residual_read_bytes_per_token);
  for (MatrixShape& matrix : shape.matrices) {
    if (matrix.is_branch) matrix.used_share = share;
    matrix.residual_read_bytes = part(matrix.residual_read_bytes);
  }
  return shape;
}

}  // namespace outrigger
