// Adam: gradient steps of about the same length in every number.
#ifndef OUTRIGGER_SRC_TRAINING_ADAM_H_
#define OUTRIGGER_SRC_TRAINING_ADAM_H_

#include <cstdint>
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/memory/leased_vector.h"

namespace outrigger {

/// The running means of one array's gradients. Threads: one call at a time.
/// @source Kingma and Ba 2014 (arXiv 1412.6980), algorithm 1, with its constants.
class Adam {
 public:
  /// Throws std::bad_alloc.
  explicit Adam(size_t count) : mean_(count), square_(count) {}

  /// Moves `values` [count] against `gradient`, by about `rate` each.
  void step(std::span<float> values, std::span<const float> gradient, float rate, ThreadTeam& team);

 private:
  uint32_t steps_ = 0;
  LeasedVector<float> mean_, square_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_ADAM_H_
