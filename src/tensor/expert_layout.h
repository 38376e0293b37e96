// ExpertLayout: where the matrices of an expert lie, packed in a slot and as the file's rows where they arrive.
#ifndef OUTRIGGER_SRC_TENSOR_EXPERT_LAYOUT_H_
#define OUTRIGGER_SRC_TENSOR_EXPERT_LAYOUT_H_

#include <outrigger/step_shape.h>

#include <cstdint>
#include <vector>

namespace outrigger {

/// One matrix of an expert. Its rows arrive in reads of `blocks_of_read` row blocks, the last one of what is left, each at the beginning of
/// a page.
struct ExpertPart {
  uint32_t matrix = 0;                ///< the stack: an index into StepShape::matrices
  uint32_t blocks = 0;                ///< row blocks of one expert
  uint32_t blocks_of_read = 0;
  uint64_t slot_offset = 0;           ///< packed, one matrix after the other
  uint64_t arrival_offset = 0;
  uint64_t read_room_bytes = 0;       ///< from one read to the next

  uint32_t reads() const { return (blocks + blocks_of_read - 1) / blocks_of_read; }
};

/// All experts of a layer are alike. Sums stay at the largest value instead of wrapping.
struct ExpertLayer {
  uint32_t layer = 0;
  std::vector<ExpertPart> parts;      ///< in the order of StepShape::matrices
  uint64_t slot_bytes = 0, arrival_bytes = 0;

  uint32_t reads() const;
};

/// The layers that have stacks of experts, ascending.
std::vector<ExpertLayer> expert_layers(const StepShape& shape);

/// What a slot has to hold, and a place where rows arrive: whole pages, room for the largest expert of any layer. 0 without experts.
uint64_t expert_slot_bytes(const std::vector<ExpertLayer>& layers);
uint64_t expert_arrival_bytes(const std::vector<ExpertLayer>& layers);

/// How many experts may be on their way where so many have slots: a small part, since they hold memory that slots could have; two at least,
/// so that one is read while another is computed with, unless there is but one slot. Eight are what a disk of 3 GB/s brings, 1.6 MB each,
/// while a layer's attention over a prompt of 512 tokens keeps the processors busy.
constexpr uint32_t expert_arrivals(uint32_t slots) {
  constexpr uint32_t kSlotsPerArrival = 8, kMost = 8;
  if (slots < 2) return slots;
  const uint32_t share = slots / kSlotsPerArrival;
  return share < 2 ? 2 : share > kMost ? kMost : share;
}

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_EXPERT_LAYOUT_H_
