// Quantiser: a matrix in two, three or four bits, so that what it makes of its inputs changes least.
#ifndef OUTRIGGER_SRC_COMPRESS_QUANTISER_H_
#define OUTRIGGER_SRC_COMPRESS_QUANTISER_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/compress/gram.h"
#include "src/memory/leased_vector.h"
#include "src/tensor/own_form.h"

namespace outrigger {

struct QuantiserOptions {
  int bits = 4;               ///< 2, 3 or 4
  bool searches_scales = true;  ///< else the smallest and the largest weight of a block are its ends
  OwnForm form = {};

  /// Errors: kInvalidArgument.
  Status validate() const;
};

/// What a window's inputs say about errors: how much each column weighs, and how its error is made up for by the columns behind it.
struct InputStatistics {
  std::span<const float> column_weights;  ///< [columns]: the Gram matrix's diagonal
  std::span<const float> feedback;        ///< feedback_factor(), by `groups`; empty: every weight is rounded by itself
  size_t group_columns = 0;               ///< of a group, whole blocks; 0: all in one
};

/// A matrix as the file has it: rows of blocks of own_type(bits, form).
struct LowBitMatrix {
  DType type = DType::kO4;
  uint64_t rows = 0, columns = 0;
  LeasedVector<std::byte> bytes{MemoryUse::kBackbone};
};

/// Quantises `weights` [rows, columns], row-major; `columns` is whole blocks. A block's scale and minimum are searched when its first
/// column's turn comes, with the errors of all columns before it already made up for. Bits do not depend on the number of threads.
/// Allocates the result and some 100 KB a thread for each 1,000 columns.
/// Errors: kInvalidArgument for weights that are not finite, or columns that are not whole blocks; kOutOfMemory.
/// @source GPTQ (arXiv 2210.17323), section 3; the search begins with clipped ranges and refines them by weighted least squares.
Result<LowBitMatrix> quantise_matrix(std::span<const float> weights, uint64_t rows, uint64_t columns, const InputStatistics& inputs,
                                     const QuantiserOptions& options, ThreadTeam& team);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_QUANTISER_H_
