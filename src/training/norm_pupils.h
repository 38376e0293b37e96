// NormPupils: the weights of a model's norms while steps move them.
#ifndef OUTRIGGER_SRC_TRAINING_NORM_PUPILS_H_
#define OUTRIGGER_SRC_TRAINING_NORM_PUPILS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/memory/leased_vector.h"
#include "src/model/layout.h"
#include "src/training/adam.h"

namespace outrigger {

/// A norm as a file is to have it.
struct TrainedNorm {
  uint64_t file_offset = 0;  ///< of the model's own tensor
  LeasedVector<float> weights;
};

/// Weights are trained as multiples of what they were. Norms that the model's file has in less than float32 stay as they are, since that is
/// how they are stored. Threads: one call at a time. Calls may throw std::bad_alloc.
class NormPupils {
 public:
  /// The norms of one layer, or of all and the last one: no layer. `fixed`: the layout's fixed tensors, which steps change. All arguments
  /// must outlive the object.
  NormPupils(const ModelLayout& layout, std::optional<uint32_t> layer, std::span<float> fixed, ThreadTeam& team);

  /// `gradients`: parallel to the fixed tensors; what they say of others than norms is not looked at.
  void step(std::span<const float> gradients, float rate);

  std::vector<TrainedNorm> norms() const;
  /// Leaves so much of the way that they went.
  void retreat(float part);
  /// Puts them back as they were in the beginning.
  void reset();

 private:
  struct Norm {
    uint64_t file_offset, offset, elements;
  };

  void show();

  const std::span<float> fixed_;
  ThreadTeam& team_;
  std::vector<Norm> norms_;
  // Of all norms, one after the other.
  LeasedVector<float> first_, multiples_, gradients_;
  Adam adam_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_NORM_PUPILS_H_
