// BranchedMatrix: a frozen matrix and the low-rank branch beside it, whose factors are trained.
#ifndef OUTRIGGER_SRC_TRAINING_BRANCHED_MATRIX_H_
#define OUTRIGGER_SRC_TRAINING_BRANCHED_MATRIX_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "src/forward/packed_matrix.h"
#include "src/memory/leased_vector.h"

namespace outrigger {

/// A branch while it is trained: y += B (A x), of the matrix with that index in the layout.
struct TrainedBranch {
  uint32_t matrix = 0;
  uint32_t rank = 0;
  LeasedVector<float> a;  ///< [rank, columns]
  LeasedVector<float> b;  ///< [rows, rank]
};

/// y += B (A x), and what the loss says of the factors.
struct TrainedFactors {
  size_t rank = 0;
  LeasedVector<float> a, a_gradient;  ///< [rank, columns]
  LeasedVector<float> b, b_gradient;  ///< [rank, rows]: B transposed
};

/// Memory that products share. Grows to what the largest one needs.
struct BranchScratch {
  PackedMatrix packed;
  LeasedVector<float> hidden, hidden_gradient, turned;
  LeasedVector<float> weight_gradients;
};

/// Told what the loss says of a matrix's own weights, [rows, columns] of some rows at a time.
using WeightGradientSink = std::function<void(size_t first_row, std::span<const float> gradients)>;

/// Threads: one call at a time. All calls may throw std::bad_alloc.
class BranchedMatrix {
 public:
  /// Takes over `values` [rows, columns]; holds them twice if it `can_go_back`.
  void set(std::span<const float> values, size_t rows, size_t columns, bool can_go_back, ThreadTeam& team);
  /// Precondition: the branch's sizes are the matrix's.
  void set_branch(const TrainedBranch& branch, ThreadTeam& team);
  /// By every way back from now on; it costs as much as the rest of the way. Empty: nobody.
  void watch_weights(WeightGradientSink sink) { weight_sink_ = std::move(sink); }
  /// After a change of the factors.
  void repack(ThreadTeam& team);

  /// dst [tokens, rows] = or += the product with `x` [tokens, columns].
  void forward(const FloatRows& x, size_t tokens, float* dst, size_t dst_stride, bool adds, BranchScratch& scratch, ThreadTeam& team) const;
  /// `x_gradient` [tokens, columns], contiguous, = or += what `y_gradient` [tokens, rows] means for x; sets the factors' gradients.
  /// Precondition: it can go back.
  void backward(const FloatRows& x, const FloatRows& y_gradient, size_t tokens, float* x_gradient, bool adds, BranchScratch& scratch,
                ThreadTeam& team);

  bool has_branch() const { return factors_.rank > 0; }
  TrainedFactors& factors() { return factors_; }
  const TrainedFactors& factors() const { return factors_; }
  size_t rows() const { return values_.rows(); }
  size_t columns() const { return values_.columns(); }

 private:
  void show_weight_gradients(const FloatRows& x, const FloatRows& y_gradient, size_t tokens, BranchScratch& scratch,
                             ThreadTeam& team) const;

  PackedMatrix values_, turned_values_;
  TrainedFactors factors_;
  PackedMatrix a_, turned_a_, b_, turned_b_;
  WeightGradientSink weight_sink_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_BRANCHED_MATRIX_H_
