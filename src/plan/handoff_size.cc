// The memory through which host and device hand over.
#include "src/plan/handoff_size.h"

#include <algorithm>

#include "src/plan/memory_model.h"

namespace outrigger {

// A residual crosses either way; of a window that the host corrects the input comes and the results go. The widest window counts, corrected
// or not: how much of what corrects it is used, a plan may change.
HandoffSize handoff_size(const StepShape& shape) {
  const uint64_t residual = shape.residual_row_bytes / sizeof(float);
  HandoffSize size{residual, std::max(residual, shape.correction_row_bytes / sizeof(float))};
  if (shape.correction_row_bytes == 0) return size;
  for (const MatrixShape& matrix : shape.matrices) {
    const bool has_input = matrix.use == MatrixUse::kEveryToken && !matrix.adds_to_window;
    if (has_input) size.to_host = std::max(size.to_host, matrix.columns);
  }
  return size;
}

uint64_t handoff_bytes(const HandoffSize& size) {
  constexpr uint64_t kWordBytes = 8;
  const uint64_t words = multiply_bytes(add_bytes(size.to_host, size.to_device), kHandoffTokens);
  return whole_pages(add_bytes(kHandoffFlagBytes, multiply_bytes(words, kWordBytes)));
}

}  // namespace outrigger
