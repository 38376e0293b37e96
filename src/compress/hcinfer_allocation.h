// HCInfer's allocation of ranks, to compare ours with.
#ifndef OUTRIGGER_SRC_COMPRESS_HCINFER_ALLOCATION_H_
#define OUTRIGGER_SRC_COMPRESS_HCINFER_ALLOCATION_H_

#include <cstdint>
#include <span>
#include <vector>

#include "src/compress/allocation.h"
#include "src/compress/matrix_plan.h"
#include "src/model/layout.h"

namespace outrigger {

/// How much more a matrix' first components are worth than the others: the mean of those before the sharpest bend of the singular values'
/// curve over the mean of those behind it; 1 where nothing bends. `spectrum`: squares of singular values, falling.
double recoverability(std::span<const double> spectrum);

/// Ranks in proportion to recoverability * sensitivity, normalised in each window, times the layer's sensitivity, as large as the budget
/// allows. Sets the plans' ranks and what they restore.
/// @source HCInfer (arXiv 2605.05819), its offline score. Where we deviate: a matrix' sensitivity is what its being put right restores, not
/// what its being quantised alone costs; singular values are those of the branch for the inputs the matrix has; ranks are 0 or 32 times a
/// power of two, our factors' groups being 32, where its are 8 times one; of layers the most sensitive quarter counts as one, the number
/// not being stated.
void allocate_like_hcinfer(const ModelLayout& layout, std::span<const MatrixLoss> losses, std::span<const double> kl_by_layer,
                           uint64_t budget_bytes, int factor_bits, std::vector<MatrixPlan>* plans);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_HCINFER_ALLOCATION_H_
