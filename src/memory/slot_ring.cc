// SlotRing: the pieces indexed by matrix, and a pointer that goes round.
#include "src/memory/slot_ring.h"

#include <algorithm>
#include <utility>

namespace outrigger {
namespace {

constexpr uint32_t kNoUnit = UINT32_MAX;

}  // namespace

SlotRing::SlotRing(const StepShape& shape, StreamLayout layout, uint64_t slot_bytes)
    : shape_(shape),
      layout_(std::move(layout)),
      slot_bytes_(slot_bytes),
      slot_of_unit_(layout_.units.size(), 0),
      unit_in_slot_(layout_.ring_slots, kNoUnit) {
  places_begin_.assign(shape.matrices.size() + 1, 0);
  for (const StreamUnit& unit : layout_.units) {
    for (const StreamPiece& piece : unit.pieces) ++places_begin_[piece.matrix + 1];
  }
  for (size_t i = 1; i < places_begin_.size(); ++i) places_begin_[i] += places_begin_[i - 1];
  places_.resize(places_begin_.back());
  std::vector<uint32_t> next(places_begin_.begin(), places_begin_.end() - 1);
  uint32_t number = 0;
  for (uint32_t unit = 0; unit < layout_.units.size(); ++unit) {
    for (const StreamPiece& piece : layout_.units[unit].pieces)
      places_[next[piece.matrix]++] = {piece.first_block, unit, number++, piece.slot_offset};
  }
}

const SlotRing::PiecePlace& SlotRing::place_of(const OperandRef& ref) const {
  const auto begin = places_.begin() + places_begin_[ref.matrix], end = places_.begin() + places_begin_[ref.matrix + 1];
  const auto after =
      std::upper_bound(begin, end, ref.first_block, [](uint32_t block, const PiecePlace& place) { return block < place.first_block; });
  return *(after - 1);
}

const std::byte* SlotRing::operand(const OperandRef& ref) const {
  const PiecePlace& place = place_of(ref);
  return slot(slot_of_unit_[place.unit]) + place.slot_offset +
         (ref.first_block - place.first_block) * shape_.matrices[ref.matrix].row_block_bytes;
}

bool SlotRing::is_primed() const {
  const uint32_t slots = layout_.ring_slots;
  for (uint32_t i = 0; i < slots; ++i) {
    if (unit_in_slot_[(next_slot_ + i) % slots] != i) return false;
  }
  return true;
}

uint32_t SlotRing::take_next() {
  const uint32_t slot = next_slot_;
  unit_in_slot_[slot] = kNoUnit;
  return slot;
}

void SlotRing::fill(uint32_t slot, uint32_t unit) {
  unit_in_slot_[slot] = unit;
  slot_of_unit_[unit] = slot;
  next_slot_ = (slot + 1) % layout_.ring_slots;
}

void SlotRing::forget() {
  std::fill(unit_in_slot_.begin(), unit_in_slot_.end(), kNoUnit);
  next_slot_ = 0;
}

}  // namespace outrigger
