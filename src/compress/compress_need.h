// CompressNeed: what compressing will hold in memory, found by going through it without doing it.
#ifndef OUTRIGGER_SRC_COMPRESS_COMPRESS_NEED_H_
#define OUTRIGGER_SRC_COMPRESS_COMPRESS_NEED_H_

#include <outrigger/compress.h>

#include <array>
#include <cstdint>
#include <span>

#include "src/base/thread_team.h"
#include "src/compress/matrix_plan.h"
#include "src/memory/ledger.h"
#include "src/model/layout.h"

namespace outrigger {

/// The most bytes at any time, and how many of them each purpose has then.
struct CompressNeed {
  uint64_t bytes = 0;
  std::array<uint64_t, kMemoryUses> of_use{};

  /// The larger of both.
  static CompressNeed larger(const CompressNeed& a, const CompressNeed& b) { return a.bytes >= b.bytes ? a : b; }
};

/// What is known of a run before a part of it begins.
struct CompressScale {
  const ModelLayout& layout;
  const CompressOptions& options;
  uint64_t tokens = 0;  ///< of the calibration that are used: whole chunks
  size_t threads = 0;
};

inline size_t compressing_threads(const CompressOptions& options) { return options.threads > 0 ? options.threads : usable_cores(); }

/// A pass that makes every matrix as `plans`, by matrix of the layout, say. Of a dense model in few bits without branches, residuals and a
/// journal it is exactly what the ledger counts; otherwise an upper bound.
CompressNeed need_of_pass(const CompressScale& scale, std::span<const MatrixPlan> plans);

/// The pass of the survey, which looks at `most_rank` components, and at columns if asked to; and its measurements. An upper bound.
CompressNeed need_of_survey(const CompressScale& scale, std::span<const MatrixPlan> plans, uint32_t most_rank, bool columns);

/// Errors: kBudget with the bytes needed and given, saying what the most is for and what to do.
Status check_need(const CompressNeed& need, const CompressOptions& options);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_COMPRESS_NEED_H_
