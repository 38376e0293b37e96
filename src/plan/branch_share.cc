// Branch share: branches are scaled as they are multiplied with, residuals by what is read of them.
#include "src/plan/branch_share.h"

#include <algorithm>
#include <cmath>

namespace outrigger {
namespace {

void leave_out(MatrixShape* matrix, StepShape* shape) {
  if (matrix->is_branch) matrix->used_share = 0;
  shape->residual_read_bytes_per_token -= std::min(shape->residual_read_bytes_per_token, matrix->residual_read_bytes);
  matrix->residual_read_bytes = 0;
}

}  // namespace

std::vector<LayerWindow> layer_windows(const StepShape& shape) {
  std::vector<LayerWindow> windows;
  windows.reserve(shape.matrices.size());
  const MatrixShape* before = nullptr;
  bool is_second = false;
  for (const MatrixShape& matrix : shape.matrices) {
    if (matrix.use != MatrixUse::kEveryToken || (matrix.part != MatrixPart::kAttention && matrix.part != MatrixPart::kFeedForward)) {
      windows.push_back(LayerWindow::kNone);
      before = nullptr;
      continue;
    }
    const bool is_same_part = before != nullptr && before->layer == matrix.layer && before->part == matrix.part;
    is_second = is_same_part && (is_second || (matrix.window != before->window && !matrix.adds_to_window));
    before = &matrix;
    const bool is_attention = matrix.part == MatrixPart::kAttention;
    windows.push_back(is_second ? (is_attention ? LayerWindow::kOutput : LayerWindow::kDown)
                                : (is_attention ? LayerWindow::kQkv : LayerWindow::kGateUp));
  }
  return windows;
}

StepShape with_branch_share(StepShape shape, double share) {
  const auto part = [share](uint64_t bytes) { return static_cast<uint64_t>(std::ceil(share * static_cast<double>(bytes))); };
  shape.residual_read_bytes_per_token = part(shape.residual_read_bytes_per_token);
  for (MatrixShape& matrix : shape.matrices) {
    if (matrix.is_branch) matrix.used_share = share;
    matrix.residual_read_bytes = part(matrix.residual_read_bytes);
  }
  return shape;
}

StepShape with_branch_share(StepShape shape, double share, const std::vector<bool>& is_corrected) {
  StepShape used = with_branch_share(std::move(shape), share);
  for (size_t i = 0; i < used.matrices.size(); ++i) {
    if (!is_corrected[i]) leave_out(&used.matrices[i], &used);
  }
  return used;
}

StepShape with_corrections_of(const Plan& plan, StepShape shape) {
  std::vector<bool> is_corrected;
  is_corrected.reserve(plan.tensors.size());
  for (const TensorPlacement& tensor : plan.tensors) is_corrected.push_back(tensor.is_corrected);
  return with_branch_share(std::move(shape), plan.branch_share, is_corrected);
}

}  // namespace outrigger
