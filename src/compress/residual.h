// Sparse residuals: what a matrix lost, column by column, and how much a column must matter to be read.
#ifndef OUTRIGGER_SRC_COMPRESS_RESIDUAL_H_
#define OUTRIGGER_SRC_COMPRESS_RESIDUAL_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/kernels/threshold_table.h"
#include "src/tensor/dtype.h"

namespace outrigger {

/// As sparse_residual() reads it.
struct SparseResidual {
  DType type = DType::kQ4_0;
  uint64_t rows = 0, columns = 0;   ///< of the matrix
  std::vector<std::byte> bytes;     ///< [columns, rows], transposed, as a file has rows of the type
  std::vector<float> norms;         ///< [columns]: the Euclidean norm of each column as it is decoded, which is what reading it restores
};

/// `residual` [rows, columns], row-major, in 4 bits: a scale for 32 rows of a column, the one that leaves least squared error among several.
/// Bits depend on nothing but the arguments. Cost: about 10 ns a weight, on the calling thread; allocates the result and 4 bytes a weight.
/// Errors: kInvalidArgument for rows that are not whole blocks of 32, a size that is not rows * columns, or values that are not finite or too large
/// for float16 scales; kOutOfMemory.
Result<SparseResidual> encode_residual(std::span<const float> residual, uint64_t rows, uint64_t columns);

/// Counts what a matrix' columns are worth to calibration inputs, and finds the thresholds that divide them.
/// A fixed number of counters, so memory does not grow with the inputs, and the table does not depend on how they were cut.
/// Threads: one call at a time.
class ThresholdCounter {
 public:
  /// `norms` [columns], finite: those that choose_columns() will be given. Allocates 256 KiB and a copy. Throws std::bad_alloc.
  explicit ThresholdCounter(std::span<const float> norms);

  /// Counts |x_i| * norm_i of `x` [tokens, columns], any number of tokens. Cost: about 1 ns a value.
  /// Errors: kInvalidArgument, and nothing is counted, for a size that is not whole tokens, or worths that are not finite.
  Status add(std::span<const float> x);

  /// The table for all that was counted. The share above at[k] is k / kSteps, within what one counter holds: worths less than 0.8 % apart. Worths
  /// that are equal cannot be divided. More may be added afterwards. Errors: kInvalidArgument when nothing was counted.
  Result<ThresholdTable> finish() const;

 private:
  std::vector<float> norms_;
  std::vector<uint64_t> counts_;
  uint64_t total_ = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_RESIDUAL_H_
