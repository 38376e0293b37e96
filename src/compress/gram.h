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

/// [width, width], symmetric, row-major. Sums of a call are float32, in one order whatever the number of threads; those over calls float64.
class Gram {
 public:
  /// Allocates width * width * 8 bytes. Throws std::bad_alloc.
  explicit Gram(size_t width) : width_(width), sum_(width * width, MemoryUse::kGrams) {}

  /// Adds x^T x of `x` [tokens, width], any number of tokens. Cost: tokens * width^2 multiplications; `tokens` rounded up to 16 times `width` floats, and
  /// twice that, while it lasts. Throws std::bad_alloc.
  void add(std::span<const float> x, ThreadTeam& team);

  size_t width() const { return width_; }
  uint64_t tokens() const { return tokens_; }
  /// The mean of x_i x_j over all tokens. Precondition: there are some.
  double mean(size_t i, size_t j) const { return sum_[i * width_ + j] / static_cast<double>(tokens_); }
  double mean_diagonal() const;
  /// As if `tokens` more had passed whose mean is that of `other`, of the same width. Precondition: that has some.
  void add_mean(const Gram& other, uint64_t tokens);

 private:
  const size_t width_;
  uint64_t tokens_ = 0;
  LeasedVector<double> sum_;
};

/// How an error in one column is spread over those that come later: U [width, width], upper triangular, row-major, with U^T U the inverse of the Gram
/// matrix and `damping` times its mean diagonal on its diagonal. Damping grows tenfold, three times at most, where that is not positive definite.
/// Errors: kInvalidArgument when the Gram matrix has no tokens, or values that are not finite, or cannot be inverted all the same; kOutOfMemory.
/// @source GPTQ (arXiv 2210.17323), section 3.3: the Cholesky factor of the inverse. Got here without inverting: the reversed matrix is factorised, and the
/// factor inverted, by blocks of columns that the team shares. Bits do not depend on the number of threads.
Result<LeasedVector<float>> feedback_factor(const Gram& gram, double damping, ThreadTeam& team);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_GRAM_H_
