// SelectiveResidual: what a matrix lost, with all that a step needs to read a part of it.
#ifndef OUTRIGGER_SRC_COMPRESS_SELECTIVE_RESIDUAL_H_
#define OUTRIGGER_SRC_COMPRESS_SELECTIVE_RESIDUAL_H_

#include <outrigger/status.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/compress/residual.h"
#include "src/memory/leased_vector.h"

namespace outrigger {

/// What is known of a window's inputs besides their Gram matrix: the mean, and some of them. Threads: one call at a time.
class InputSample {
 public:
  /// With room for so many rows that are kept; more make it grow. Throws std::bad_alloc.
  explicit InputSample(size_t width, size_t rows = 0);
  /// That are kept of `tokens` tokens which are added up to `piece` at a time.
  static size_t kept_rows(size_t tokens, size_t piece);

  /// `x` [tokens, width], of which every eighth row is kept. Errors: kInvalidArgument for values that are no numbers.
  Status add(std::span<const float> x);
  LeasedVector<float> means() const { return means_.means(); }
  /// [rows, width]: at most so many of the rows that were kept, spread evenly.
  LeasedVector<float> rows(size_t most) const;
  /// [rows, width]: the rows that were kept, less the means.
  LeasedVector<float> centred_rows() const;

 private:
  size_t width_;
  InputMeans means_;
  LeasedVector<float> rows_;
};

struct SelectiveResidual {
  SparseResidual columns;
  LeasedVector<float> means;   ///< [columns]
  ThresholdTable thresholds;  ///< of shares of the planned one: at 1 that is what is read
  double share = 0;           ///< 0: there is none

  /// dst [tokens, rows], rows dst_stride floats apart, += what the residual adds for `src` [tokens, columns], as a step does it. Throws std::bad_alloc.
  void add_to(std::span<const float> src, size_t tokens, float* dst, size_t dst_stride, ThreadTeam& team) const;
};

/// What shares of its columns restore of the mean square of what a matrix lost, read by each token as it chooses: at [k] a share of k / kSteps.
struct ShareCurve {
  static constexpr size_t kSteps = 64;
  std::array<double, kSteps + 1> restored{};
};

/// By the columns' norms and some of the inputs, as if columns did not depend on each other. Throws std::bad_alloc.
ShareCurve share_curve(std::span<const float> residual, uint64_t rows, uint64_t columns, const InputSample& inputs);

/// Of `residual` [rows, columns], a share of whose columns each token reads. Errors: kInvalidArgument (rows of no multiple of 32, values that are no numbers), kOutOfMemory.
Result<SelectiveResidual> selective_residual(std::span<const float> residual, uint64_t rows, uint64_t columns, const InputSample& inputs, double share);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_SELECTIVE_RESIDUAL_H_
