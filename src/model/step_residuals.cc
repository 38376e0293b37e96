// StepRunner's residuals: which columns each token reads, and what they add.
#include <algorithm>

#include "src/kernels/sparse_residual.h"
#include "src/kernels/threshold_table.h"
#include "src/model/step_runner.h"

namespace outrigger {

StepRunner::ResidualOperand StepRunner::residual_operand(uint32_t matrix, uint32_t expert) const {
  const ResidualLayout& residual = layout_.residuals[matrix];
  const uint64_t rows = layout_.weights[matrix].rows, columns = layout_.weights[matrix].columns;
  ThresholdTable table;
  std::copy_n(fixed_ + residual.thresholds + expert * table.at.size(), table.at.size(), table.at.begin());
  return {residual.type,
          residuals_ + residual.offset + residual.file_bytes / residual.experts * expert,
          fixed_ + residual.norms + expert * columns,
          fixed_ + residual.means + expert * columns,
          fixed_ + residual.bias + expert * rows,
          table.threshold(input_.branch_share)};
}

// Each member its rows, for all tokens: which columns they read it finds out for itself, which is less than a fence would cost.
void StepRunner::add_residuals(const BranchWindow& window, const TeamMember& member) const {
  for (const uint32_t matrix : window_matrices(layout_, window)) {
    if (matrix == kNoMatrix || !adds_residual(matrix)) continue;
    const MatmulArgs product =
        args_.window_product(window.op, window.layer, {matrix, 0, static_cast<uint32_t>(layout_.weights[matrix].blocks())});
    const Share groups = share_of(member, product.rows / kResidualGroup);
    if (groups.begin == groups.end) continue;
    const ResidualOperand residual = residual_operand(matrix, 0);
    add_residual(residual, product, {groups.begin * kResidualGroup, groups.end * kResidualGroup}, member,
                 [&](size_t) { return residual.threshold; });
  }
}

// What a column restores goes on with the weight that the token gives the expert.
void StepRunner::add_expert_residual(const ExpertUse& use, uint32_t matrix, const MatmulArgs& product, const Share& rows,
                                     const TeamMember& member) const {
  const ResidualOperand residual = residual_operand(matrix, use.expert);
  add_residual(residual, product, rows, member,
               [&](size_t row) { return gated_threshold(residual.threshold, expert_weight(use.first_row + row, use.expert)); });
}

template <typename ThresholdOf>
void StepRunner::add_residual(const ResidualOperand& residual, const MatmulArgs& product, const Share& rows, const TeamMember& member,
                              const ThresholdOf& threshold_of) const {
  const size_t columns = product.columns;
  auto* const centred =
      reinterpret_cast<float*>(buffers_.residual_scratch + member.index() * StepBuffers::residual_scratch_bytes(layout_.panels));
  auto* const chosen = reinterpret_cast<uint32_t*>(centred + kResidualTokens * columns);
  for (size_t first = 0; first < product.tokens; first += kResidualTokens) {
    const size_t some = std::min(kResidualTokens, product.tokens - first);
    size_t counts[kResidualTokens];
    for (size_t t = 0; t < some; ++t) {
      const float* const src = product.src + (first + t) * product.src_stride;
      for (size_t k = 0; k < columns; ++k) centred[t * columns + k] = src[k] - residual.means[k];
      counts[t] = choose_columns(centred + t * columns, residual.norms, columns, threshold_of(first + t), chosen + t * columns);
    }
    float* const dst = product.dst + first * product.dst_stride;
    sparse_residual({residual.type, residual.columns, product.rows, centred, columns, chosen, columns, counts, dst, product.dst_stride,
                     some, residual.bias},
                    rows.begin, rows.end);
  }
}

}  // namespace outrigger
