// LowRank: the best correction of a matrix by two thin factors, for the inputs that it has.
#ifndef OUTRIGGER_SRC_COMPRESS_LOW_RANK_H_
#define OUTRIGGER_SRC_COMPRESS_LOW_RANK_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "src/base/thread_team.h"
#include "src/compress/gram.h"
#include "src/forward/packed_matrix.h"
#include "src/memory/leased_vector.h"
#include "src/tensor/dtype.h"

namespace outrigger {

struct LowRankOptions {
  uint32_t rank = 32;         ///< a multiple of 32, at most rows and columns; 0 for none
  int factor_bits = 8;        ///< 4 or 8
  bool weighs_inputs = true;  ///< false: plain singular vectors of the residual, as HCInfer takes them

  /// Errors: kInvalidArgument.
  Status validate(uint64_t rows, uint64_t columns) const;
};

/// y += B (A x). Components in order of worth: the first 32 n of them are the best branch of that rank, up to the rounding of the factors.
struct LowRankBranch {
  uint64_t rows = 0, columns = 0;
  uint32_t rank = 0;
  DType type = DType::kQ8_0;
  LeasedVector<std::byte> a{MemoryUse::kBranches};  ///< [rank, columns], as a file has rows of the type
  LeasedVector<std::byte> b{MemoryUse::kBranches};  ///< [rows, rank]
  LeasedVector<float> importance;                   ///< [columns]: the mean square of each input, by which `a` is rounded
  std::vector<double> worth;  ///< [rank]: how much of the mean square of the residual's outputs the component restores
  double residual_loss = 0;   ///< the mean square of the residual's outputs; with damping
  double remaining_loss = 0;  ///< of what the branch, as it was rounded, leaves of it
};

/// A square root of a window's damped Gram matrix: what is multiplied with it is as long as the outputs are on average.
class InputRoot {
 public:
  /// Errors: kInvalidArgument (no tokens, inputs that are no numbers), kOutOfMemory.
  static Result<InputRoot> create(const Gram& gram, double damping);

  uint64_t width() const { return importance_.size(); }
  /// [width]: the mean square of each input.
  std::span<const float> importance() const { return importance_; }
  /// [rows, width] = `values` [rows, width] times the root. Throws std::bad_alloc.
  LeasedVector<float> weigh(std::span<const float> values, ThreadTeam& team) const;

 private:
  InputRoot(LeasedVector<float> importance, const ColumnGroups& groups) : importance_(std::move(importance)), groups_(groups) {}
  LeasedVector<float> importance_;
  ColumnGroups groups_;
  std::vector<PackedMatrix> transposed_;  ///< of each group's block
};

/// The branch of `residual` [rows, columns], row-major: what the matrix lost. Among all of its rank it leaves least of E |residual x - B A
/// x|^2, up to the rounding of factors, each of which is fitted to the other as that was rounded. Rank 0 gives no factors, and the loss.
/// Bits depend on nothing but the arguments, not on the number of threads. Cost: some 12 * (rank + 32) * rows * columns multiplications in
/// float32. Errors: kInvalidArgument (options, values that are not finite), kOutOfMemory.
/// @source EoRA (arXiv 2410.21271) and QERA (arXiv 2410.06040) have the same optimum in other words; found here by subspace iteration
/// (Halko, Martinsson and Tropp 2009, arXiv 0909.4061, section 4.5).
Result<LowRankBranch> low_rank_branch(std::span<const float> residual, uint64_t rows, uint64_t columns, const InputRoot& inputs,
                                      const LowRankOptions& options, ThreadTeam& team);

/// Factors `a` [rank, columns] and `b` [rows, rank], rounded, take the place of the branch's.
/// Errors: kInvalidArgument for numbers that are not finite; kOutOfMemory.
Status set_factors(std::span<const float> a, std::span<const float> b, LowRankBranch* branch);

/// What components restore, without making them.
struct LossSpectrum {
  std::vector<double> worth;  ///< [rank], falling: of the mean square of the residual's outputs
  double all = 0;             ///< all of it
};

/// The first `rank` components of the best branch; arguments, cost and errors as low_rank_branch's.
Result<LossSpectrum> loss_spectrum(std::span<const float> residual, uint64_t rows, uint64_t columns, const InputRoot& inputs, uint32_t rank,
                                   ThreadTeam& team);

/// B A, [rows, columns], as the codes say. Throws std::bad_alloc.
LeasedVector<float> branch_values(const LowRankBranch& branch, ThreadTeam& team);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_LOW_RANK_H_
