// Gram: what is known of a window's inputs, the mean of x^T x, and what a quantiser makes of it.
#ifndef OUTRIGGER_SRC_COMPRESS_GRAM_H_
#define OUTRIGGER_SRC_COMPRESS_GRAM_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/memory/leased_vector.h"

namespace outrigger {

/// Of a Gram matrix's mean diagonal, added to it: inputs that the calibration text never showed are not taken for free.
inline constexpr double kDamping = 0.01;

/// Columns of a matrix by which errors are made up for each other: all, or so many in turn, of a square block on the diagonal each. Blocks
/// stand one after the other, row-major.
class ColumnGroups {
 public:
  /// `most` 0: all columns in one.
  ColumnGroups(size_t width, size_t most) : width_(width), most_(most == 0 ? width : most) {}

  size_t width() const { return width_; }
  size_t count() const { return width_ == 0 ? 0 : (width_ + most_ - 1) / most_; }
  size_t group_of(size_t column) const { return column / most_; }
  size_t first(size_t group) const { return group * most_; }
  size_t size(size_t group) const { return group + 1 < count() ? most_ : width_ - first(group); }
  size_t largest() const { return most_ < width_ ? most_ : width_; }
  /// Elements of the blocks before it.
  size_t place(size_t group) const { return group * most_ * most_; }
  size_t elements() const { return width_ == 0 ? 0 : place(count() - 1) + size(count() - 1) * size(count() - 1); }

 private:
  size_t width_, most_;
};

/// [width, width], symmetric, of which the groups' blocks are kept; the rest is taken for nothing. Sums of a call are float32, in one order
/// whatever the number of threads; those over calls float64.
class Gram {
 public:
  /// Allocates 8 bytes an element: width * width of them in one group. `group`: columns of one, 0: all. Throws std::bad_alloc.
  explicit Gram(size_t width, size_t group = 0) : width_(width), groups_(width, group), sum_(groups_.elements(), MemoryUse::kGrams) {}

  /// Adds x^T x of `x` [tokens, width], any number of tokens. Cost: tokens * width^2 multiplications; `tokens` rounded up to 16 times
  /// `width` floats, and twice that, while it lasts. Throws std::bad_alloc.
  void add(std::span<const float> x, ThreadTeam& team);

  size_t width() const { return width_; }
  const ColumnGroups& groups() const { return groups_; }
  uint64_t tokens() const { return tokens_; }
  /// The mean of x_i x_j over all tokens. Precondition: there are some.
  double mean(size_t i, size_t j) const {
    const size_t group = groups_.group_of(i), first = groups_.first(group);
    if (groups_.group_of(j) != group) return 0;
    return sum_[groups_.place(group) + (i - first) * groups_.size(group) + j - first] / static_cast<double>(tokens_);
  }
  double mean_diagonal() const;
  /// As if `tokens` more had passed whose mean is that of `other`, of the same width and groups. Precondition: that has some.
  void add_mean(const Gram& other, uint64_t tokens);

 private:
  const size_t width_;
  const ColumnGroups groups_;
  uint64_t tokens_ = 0;
  LeasedVector<double> sum_;
};

/// How much of what a Gram matrix says is not believed.
struct FeedbackDamping {
  double diagonal = kDamping;  ///< of its mean diagonal, added to the diagonal
  double between = 0;          ///< of the products of two different columns, left out: 0 to 1
};

/// For a matrix of so many bits. Products of two columns are a text's own more than the columns' sizes are: with 0.3 of them left out three
/// and four bits come nearer on the text's own kind (KL 0.214 -> 0.199, 0.040 -> 0.037) and on another (0.718 -> 0.536, 0.114 -> 0.097). In
/// two bits errors are so large that making up for them is worth more than that: 0.1 changes nothing beyond its error, 0.3 costs a tenth on
/// the text's own kind.
constexpr FeedbackDamping feedback_damping(int bits) { return {kDamping, bits > 2 ? 0.3 : 0.0}; }

/// How an error in one column is spread over those that come later in its group: of each group U, upper triangular, as the Gram matrix'
/// blocks stand, with U^T U the inverse of the damped Gram matrix. What is added to the diagonal grows tenfold, three times at most, where
/// that is not positive definite. Errors: kInvalidArgument when the Gram matrix has no tokens, or values that are not finite, or cannot be
/// inverted all the same; kOutOfMemory.
/// @source GPTQ (arXiv 2210.17323), section 3.3: the Cholesky factor of the inverse. Got here without inverting: the reversed matrix is
/// factorised, and the factor inverted, by blocks of columns that the team shares. Bits do not depend on the number of threads. Leaving out
/// a part between columns is ours.
Result<LeasedVector<float>> feedback_factor(const Gram& gram, const FeedbackDamping& damping, ThreadTeam& team);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_GRAM_H_
