// How much memory training takes, added up before anything is taken.
#ifndef OUTRIGGER_SRC_COMPRESS_POLISH_MEMORY_H_
#define OUTRIGGER_SRC_COMPRESS_POLISH_MEMORY_H_

#include <outrigger/compress.h>

#include <cstdint>
#include <span>

#include "src/compress/matrix_plan.h"
#include "src/model/layout.h"

namespace outrigger {

/// What memory depends on beside the model.
struct PolishSizes {
  std::span<const MatrixPlan> plans;  ///< by matrix of the layout
  int factor_bits = 4;
  uint64_t pieces = 0, held_out = 0;  ///< of the text, held-out ones among them
  uint64_t piece_tokens = 0;
  uint64_t threads = 1;
  bool trains_backbone = false;
};

/// Bytes that training takes at most, with what was made of the model and stays in memory meanwhile: the factors' and residuals' codes, not
/// the backbone. Preconditions: the layout of a dense model.
uint64_t end_to_end_polish_bytes(const ModelLayout& layout, const PolishSizes& sizes);
uint64_t block_polish_bytes(const ModelLayout& layout, const PolishSizes& sizes);

/// How a model's branches are to be trained.
struct PolishPlan {
  PolishScope scope = PolishScope::kEndToEnd;  ///< never kAuto
  uint64_t bytes = 0;                          ///< that it takes at most
};

/// What fits `budget_bytes` (0: no limit): of kAuto end to end, or else blocks. Errors: kBudget, with the bytes that are needed.
Result<PolishPlan> choose_polish_scope(const ModelLayout& layout, const PolishSizes& sizes, PolishScope scope, uint64_t budget_bytes);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_POLISH_MEMORY_H_
