// HeadLoss: how far one model's distributions of the next token are from another's.
#ifndef OUTRIGGER_SRC_TRAINING_HEAD_LOSS_H_
#define OUTRIGGER_SRC_TRAINING_HEAD_LOSS_H_

#include <cstddef>
#include <span>
#include <vector>

#include "src/forward/packed_matrix.h"

namespace outrigger {

/// Threads: one call at a time. Memory: the head twice as float32, and 128 * vocabulary floats.
class HeadLoss {
 public:
  /// `head`: [vocabulary, width], what both models multiply their last norm's vectors with. Throws std::bad_alloc.
  HeadLoss(std::span<const float> head, size_t vocabulary, size_t width, ThreadTeam& team);

  /// The mean over tokens of KL(teacher || student), in nats, for the last norms' vectors [tokens, width] of both. Sets the loss's gradient
  /// of the student's vectors [tokens, width], unless that is null. May throw std::bad_alloc.
  double divergence(std::span<const float> teacher, std::span<const float> student, float* gradient);

 private:
  const size_t vocabulary_, width_;
  ThreadTeam& team_;
  PackedMatrix head_, turned_head_;
  LeasedVector<float> teacher_logits_, student_logits_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TRAINING_HEAD_LOSS_H_
