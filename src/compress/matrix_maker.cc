// MatrixMaker: codes, then what they lost; with a branch, round by round.
#include "src/compress/matrix_maker.h"

#include <algorithm>
#include <utility>

#include "src/base/macros.h"
#include "src/tensor/dequantize.h"

namespace outrigger {

Result<CompressedMatrix> MatrixMaker::make(const MatrixPlan& plan, const WindowInputs& inputs, uint64_t rows, uint64_t columns,
                                           LeasedVector<float>* values) const {
  return plan.rank == 0 ? make_plain(plan, inputs, rows, columns, values) : make_branched(plan, inputs, rows, columns, values);
}

Result<CompressedMatrix> MatrixMaker::make_plain(const MatrixPlan& plan, const WindowInputs& inputs, uint64_t rows, uint64_t columns,
                                                 LeasedVector<float>* values) const {
  CompressedMatrix made;
  OTR_ASSIGN(made.backbone, quantise_matrix(*values, rows, columns, inputs.statistics, {plan.bits, true, plan.form}, team_));
  const bool asks_for_residual = wishes_.components > 0 || plan.share > 0 || wishes_.columns;
  LeasedVector<float> residual;
  if (asks_for_residual) residual = *values;
  OTR_TRY(dequantize(made.backbone.type, made.backbone.bytes.data(), values->data(), values->size()));
  if (!asks_for_residual) return made;
  for (size_t i = 0; i < residual.size(); ++i) residual[i] -= (*values)[i];
  if (plan.share > 0) {
    OTR_ASSIGN(made.residual, selective_residual(residual, rows, columns, inputs.sample, plan.share));
  }
  if (wishes_.columns) made.curve = share_curve(residual, rows, columns, inputs.sample);
  if (wishes_.components == 0) return made;
  const auto rank = static_cast<uint32_t>(std::min<uint64_t>(wishes_.components, std::min(rows, columns) / 32 * 32));
  OTR_ASSIGN(made.lost, loss_spectrum(residual, rows, columns, *inputs.root, rank, team_));
  return made;
}

// The first round is the matrix as it is; each further one what the branch so far leaves for the backbone to say.
Result<CompressedMatrix> MatrixMaker::make_branched(const MatrixPlan& plan, const WindowInputs& inputs, uint64_t rows, uint64_t columns,
                                                    LeasedVector<float>* values) const {
  CompressedMatrix best;
  LeasedVector<float> wanted = *values, residual(values->size()), kept;
  const bool weighs = options_.method == BranchMethod::kWeighed;
  for (uint32_t round = 0; round <= (weighs ? options_.rounds : 0); ++round) {
    OTR_ASSIGN(LowBitMatrix backbone, quantise_matrix(wanted, rows, columns, inputs.statistics, {plan.bits, true, plan.form}, team_));
    LeasedVector<float> coded(values->size());
    OTR_TRY(dequantize(backbone.type, backbone.bytes.data(), coded.data(), coded.size()));
    for (size_t i = 0; i < coded.size(); ++i) residual[i] = (*values)[i] - coded[i];
    OTR_ASSIGN(LowRankBranch branch,
               low_rank_branch(residual, rows, columns, *inputs.root, {plan.rank, options_.factor_bits, weighs}, team_));
    const LeasedVector<float> restored = branch_values(branch, team_);
    const bool is_better = round == 0 || branch.remaining_loss < best.branch.remaining_loss;
    for (size_t i = 0; i < coded.size(); ++i) wanted[i] = (*values)[i] - restored[i], coded[i] += restored[i];
    if (!is_better) break;
    best = {std::move(backbone), std::move(branch)};
    kept = std::move(coded);
  }
  *values = std::move(kept);
  return best;
}

}  // namespace outrigger
