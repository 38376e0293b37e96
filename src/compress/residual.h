// Sparse residuals: what a matrix lost, column by column, and how much a column must matter to be read.
#ifndef OUTRIGGER_SRC_COMPRESS_RESIDUAL_H_
#define OUTRIGGER_SRC_COMPRESS_RESIDUAL_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/kernels/threshold_table.h"
#include "src/memory/leased_vector.h"
#include "src/tensor/dtype.h"

namespace outrigger {

/// As sparse_residual() reads it.
struct SparseResidual {
  DType type = DType::kQ4_0;
  uint64_t rows = 0, columns = 0;   ///< of the matrix
  LeasedVector<std::byte> bytes{MemoryUse::kBranches};  ///< [columns, rows], transposed, as a file has rows of the type
  LeasedVector<float> norms;         ///< [columns]: the Euclidean norm of each column as it is decoded, which is what reading it restores
  LeasedVector<float> bias;          ///< [rows]: what the inputs' means make of the residual before it is encoded; empty without means
};

/// The mean of a window's inputs, column by column. A quantiser that feeds errors back makes them up for each other, for the mean above
/// all: a few columns of the residual, read for the whole of x, upset that balance and may do harm. So the mean's part is added as a bias,
/// and columns are chosen by and multiplied with x less its mean: dst += bias + sum of residual[r][i] * (x[i] - means[i]). Of two-bit
/// matrices a tenth of the columns then restores 25 to 70 % of the squared error, against 7 to 59 % (SmolLM2-135M, by the kind of matrix,
/// on held-out text).
/// Threads: one call at a time.
class InputMeans {
 public:
  /// Throws std::bad_alloc.
  explicit InputMeans(size_t columns) : sums_(columns) {}

  /// Adds `x` [tokens, columns], any number of tokens. The means do not depend on how inputs are cut.
  /// Errors: kInvalidArgument, and nothing is added, for a size that is not whole tokens, or values that are not finite.
  Status add(std::span<const float> x);

  /// [columns]; zeros when nothing was added.
  LeasedVector<float> means() const;

 private:
  std::vector<double> sums_;
  uint64_t tokens_ = 0;
};

/// `residual` [rows, columns], row-major, in 4 bits: a scale for 32 rows of a column, the one that leaves least squared error among
/// several. `means` [columns]: those of the inputs, or empty. Bits depend on nothing but the arguments. Cost: some 80 ns a weight, on the
/// calling thread; allocates the result and 4 bytes a weight.
/// Errors: kInvalidArgument for rows that are not whole blocks of 32, a size that is not rows * columns, means of another number or not
/// finite, or values that are not finite or too large for float16 scales; kOutOfMemory.
Result<SparseResidual> encode_residual(std::span<const float> residual, uint64_t rows, uint64_t columns, std::span<const float> means = {});

/// Counts what a matrix' columns are worth to calibration inputs, and finds the thresholds that divide them.
/// A fixed number of counters, so memory does not grow with the inputs, and the table does not depend on how they were cut.
/// Threads: one call at a time.
class ThresholdCounter {
 public:
  /// `norms` [columns], finite: those that choose_columns() will be given. Allocates 256 KiB and a copy. Throws std::bad_alloc.
  explicit ThresholdCounter(std::span<const float> norms);

  /// Counts |x_i| * norm_i of `x` [tokens, columns], less the means where they are used; any number of tokens. Cost: about 2 ns a value.
  /// Errors: kInvalidArgument, and nothing is counted, for a size that is not whole tokens, or worths that are not finite.
  Status add(std::span<const float> x);

  /// The table for all that was counted. The share above at[k] is k / kSteps, within what one counter holds: worths less than 0.8 % apart.
  /// Worths that are equal cannot be divided. More may be added afterwards. Errors: kInvalidArgument when nothing was counted.
  Result<ThresholdTable> finish() const;

 private:
  LeasedVector<float> norms_;
  std::vector<uint64_t> counts_;
  uint64_t total_ = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_RESIDUAL_H_
