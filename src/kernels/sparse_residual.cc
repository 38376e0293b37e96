// Sparse residual: runs the versions for the level in use.
#include "src/kernels/sparse_residual.h"

#include "src/kernels/dispatch.h"

namespace outrigger {

size_t choose_columns(const float* x, const float* norms, size_t columns, float threshold, uint32_t* chosen) {
  return OTR_VERSION(choose_columns)(x, norms, columns, threshold, chosen);
}

void sparse_residual(const SparseResidualArgs& args, size_t row_begin, size_t row_end) {
  OTR_VERSION(sparse_residual)(args, row_begin, row_end);
}

}  // namespace outrigger
