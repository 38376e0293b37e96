// StandInWeights: low-bit copies of what a plan streams from disk, in memory, which the steps of a draft multiply with instead.
#ifndef OUTRIGGER_SRC_MODEL_STAND_IN_WEIGHTS_H_
#define OUTRIGGER_SRC_MODEL_STAND_IN_WEIGHTS_H_

#include <outrigger/cancel.h>
#include <outrigger/plan.h>
#include <outrigger/status.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "src/base/thread_team.h"
#include "src/graph/operand.h"
#include "src/memory/residency.h"
#include "src/model/layout.h"
#include "src/model/step_buffers.h"

namespace outrigger {

/// What is resident is the residency's, and so is all that is not multiplied with. Everything that a product names is in memory.
class StandInWeights final : public OperandSource {
 public:
  /// Reserves the plan's TierBreakdown::draft, and reads everything that streams once through the ring, which is afterwards as it is before
  /// a step. The team quantises (src/tensor/low_bit_copy.h) what has come while the next is read. `progress` is called on the calling
  /// thread, from 0 to 1. Preconditions: the plan has self_draft_bits and is what the residency was placed and loaded by. `residency` must
  /// outlive the copies, `layout` this call. Errors: kBudget, kOutOfMemory; kIo, also when the file has changed; kCancelled; kInternal when
  /// `progress` throws. The ring is then invalidated.
  static Result<std::unique_ptr<StandInWeights>> make(const ModelLayout& layout, const Plan& plan, TensorResidency& residency,
                                                      ThreadTeam& team, const Progress& progress, const CancelToken& cancel);

  /// The model's, the copies in their matrices' places.
  const ModelLayout& layout() const { return layout_; }
  /// For steps of up to kStandInTokens, with the logits of each.
  const StepBuffers& buffers() const { return buffers_; }
  const std::byte* operand(const OperandRef& ref) const override;
  /// Of the file, that making them read.
  uint64_t read_bytes() const { return read_bytes_; }

 private:
  StandInWeights(const ModelLayout& layout, const TensorResidency& residency) : layout_(layout), residency_(residency) {}
  Status reserve(const Plan& plan, TensorResidency& residency);
  Status copy_units(TensorResidency& residency, ThreadTeam& team, const Progress& progress, const CancelToken& cancel);
  void copy_piece(const WeightSource& weight, const StreamPiece& piece, const TensorResidency& residency, const TeamMember& member) const;

  ModelLayout layout_;
  const TensorResidency& residency_;
  MemoryLease copies_, activations_;
  std::vector<std::byte*> copy_of_;  ///< per matrix; null for those that do not stream
  std::vector<WeightSource> whole_;  ///< the matrices as they are in the file
  StepBuffers buffers_;
  uint64_t read_bytes_ = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_STAND_IN_WEIGHTS_H_
