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
  /// One row of so many is kept: of 16,000 tokens 2,000 are left, and thresholds of a tenth of the columns are then sure to a percent.
  static constexpr size_t kKeptOf = 8;

  /// With room for so many rows that are kept, one of `kept_of`; more make it grow. Throws std::bad_alloc.
  explicit InputSample(size_t width, size_t rows = 0, size_t kept_of = kKeptOf);
  /// That are kept of `tokens` tokens which are added up to `piece` at a time.
  static size_t kept_rows(size_t tokens, size_t piece, size_t kept_of = kKeptOf);

  /// `x` [tokens, width]. `weights` [tokens]: what becomes of a row's product is multiplied with it, in an expert; empty, in all calls:
  /// with nothing. Errors: kInvalidArgument for values that are no numbers.
  Status add(std::span<const float> x, std::span<const float> weights = {});
  LeasedVector<float> means() const { return means_.means(); }
  /// [rows, width]: at most so many of the rows that were kept, spread evenly.
  LeasedVector<float> rows(size_t most) const;
  /// [rows]: their weights; empty where there are none.
  LeasedVector<float> weights(size_t most) const;
  /// [rows, width]: the rows that were kept, less the means, times their weights.
  LeasedVector<float> weighed_rows() const;

 private:
  size_t there() const { return rows_.size() / width_; }

  size_t width_, kept_of_;
  InputMeans means_;
  LeasedVector<float> rows_, weights_;
};

/// Of a stack, the residuals of all experts: each member has one expert's values after the other's, but `rows` and `columns` are those of
/// one.
struct SelectiveResidual {
  SparseResidual columns;
  LeasedVector<float> means;               ///< [columns]
  std::vector<ThresholdTable> thresholds;  ///< one, of shares of the planned one: at 1 that is what is read; empty: there is none
  double share = 0;                        ///< 0: there is none

  /// dst [tokens, rows], rows dst_stride floats apart, += what the residual adds for `src` [tokens, columns], as a step does it. `weights`
  /// [tokens]: what each token takes of an expert's result; empty: all. Precondition: not a stack's. Throws std::bad_alloc.
  void add_to(std::span<const float> src, size_t tokens, float* dst, size_t dst_stride, ThreadTeam& team,
              std::span<const float> weights = {}) const;
};

/// What shares of its columns restore of the mean square of what a matrix lost, read by each token as it chooses: at [k] a share of k /
/// kSteps.
struct ShareCurve {
  static constexpr size_t kSteps = 64;
  std::array<double, kSteps + 1> restored{};
};

/// By the columns' norms and some of the inputs, as if columns did not depend on each other; of an expert, of the mean square of what it
/// does to its tokens, weights and all. Throws std::bad_alloc.
ShareCurve share_curve(std::span<const float> residual, uint64_t rows, uint64_t columns, const InputSample& inputs);

/// Of `residual` [rows, columns], a share of whose columns each token reads. Errors: kInvalidArgument (rows of no multiple of 32, values
/// that are no numbers), kOutOfMemory.
Result<SelectiveResidual> selective_residual(std::span<const float> residual, uint64_t rows, uint64_t columns, const InputSample& inputs,
                                             double share);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_SELECTIVE_RESIDUAL_H_
