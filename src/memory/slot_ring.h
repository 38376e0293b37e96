// SlotRing: which unit of a streamed layout is in which slot, and where in it a row block lies.
#ifndef OUTRIGGER_SRC_MEMORY_SLOT_RING_H_
#define OUTRIGGER_SRC_MEMORY_SLOT_RING_H_

#include <outrigger/step_shape.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/graph/operand.h"
#include "src/tensor/stream_layout.h"

namespace outrigger {

/// Bookkeeping only: it neither owns the slots nor reads into them. Units come in the cyclic order of a step, each into the slot that is
/// next, so that a step's j-th request reuses the slot of its j-th unit.
/// Threads: operand() any, as long as the unit is not replaced; the rest one at a time.
class SlotRing {
 public:
  /// `shape` must outlive the ring.
  SlotRing(const StepShape& shape, StreamLayout layout, uint64_t slot_bytes);

  const StreamLayout& layout() const { return layout_; }
  /// Where the slots begin, one after the other.
  void set_memory(std::byte* slots) { slots_ = slots; }

  /// A piece, and its number when all pieces are counted unit by unit.
  struct PiecePlace {
    uint32_t first_block = 0, unit = 0, number = 0;
    uint64_t slot_offset = 0;
  };
  /// Precondition: a streamed operand inside one StreamPiece. Cost: a search among the pieces of its matrix.
  const PiecePlace& place_of(const OperandRef& ref) const;
  /// Of a ring that holds packed row blocks. Precondition: as place_of(), and the unit is in a slot.
  const std::byte* operand(const OperandRef& ref) const;

  /// Whether the slots hold a step's first units, the next one to be reused first.
  bool is_primed() const;
  /// The slot that is next. What it held is forgotten.
  uint32_t take_next();
  std::byte* slot(uint32_t slot) const { return slots_ + slot * slot_bytes_; }
  /// The slot that was taken holds the unit, or will once it has come.
  void fill(uint32_t slot, uint32_t unit);
  uint32_t slot_of(uint32_t unit) const { return slot_of_unit_[unit]; }
  /// What the slots hold is unknown; the first one is next.
  void forget();

 private:
  const StepShape& shape_;
  const StreamLayout layout_;
  const uint64_t slot_bytes_;
  std::byte* slots_ = nullptr;
  std::vector<PiecePlace> places_;      // grouped by matrix, ascending in first_block
  std::vector<uint32_t> places_begin_;  // per matrix, and the end
  std::vector<uint32_t> slot_of_unit_;  // where a unit was put last
  std::vector<uint32_t> unit_in_slot_;  // kNoUnit: nothing, or it is unknown
  uint32_t next_slot_ = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_SLOT_RING_H_
