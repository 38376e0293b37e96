// Branch choice: which matrices get a low-rank branch, which a residual, and how much of it.
#ifndef OUTRIGGER_SRC_COMPRESS_BRANCH_CHOICE_H_
#define OUTRIGGER_SRC_COMPRESS_BRANCH_CHOICE_H_

#include <outrigger/compress.h>

#include <limits>
#include <span>
#include <vector>

#include "src/compress/allocation.h"
#include "src/compress/matrix_plan.h"
#include "src/model/layout.h"

namespace outrigger {

/// What all branches and residuals together may take.
struct BranchLimits {
  static constexpr double kNone = std::numeric_limits<double>::infinity();
  double stored_bytes = kNone;
  double read_bytes = kNone;  ///< by a token, on average
  double scattered_cost = 1;  ///< what a byte of a residual counts as when it is read, against one of a low-rank branch
};

struct BranchForms {
  bool low_rank = true, residual = true;
};

/// Sets the plans' ranks and shares, a matrix having one of them or neither, a stack of experts no rank, and what they restore: those that
/// restore most KL within the limits. What a matrix' components or columns restore of its kl is their part of the mean square that it lost.
/// A low-rank branch is read whole; a residual is stored whole, and read by the share, of a stack that of the experts that a token takes.
/// Gives what a share of the limits, up to four times as much, would bring: bytes are those read where reading is limited, else those
/// stored. Prices for the two kinds of bytes are searched for at which the best choices of all matrices just fit; then what is left is
/// spent step by step. Cost: some 50 ms for 200 matrices, and as much for each of the curve's points.
std::vector<CompressSurvey::Point> choose_branches(const ModelLayout& layout, std::span<const MatrixLoss> losses, const BranchForms& forms,
                                                   const BranchLimits& limits, int factor_bits, std::vector<MatrixPlan>* plans);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_BRANCH_CHOICE_H_
