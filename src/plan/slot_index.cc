// SlotIndex: matrices by the slot they need, with running sums.
#include "src/plan/slot_index.h"

#include <algorithm>

#include "src/plan/memory_model.h"

namespace outrigger {

SlotIndex::SlotIndex(const StepShape& shape, std::span<const uint32_t> matrices) : first_(matrices.size() + 1) {
  std::vector<const MatrixShape*> sorted;
  sorted.reserve(matrices.size());
  for (uint32_t index : matrices) sorted.push_back(&shape.matrices[index]);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const MatrixShape* a, const MatrixShape* b) { return a->row_block_file_bytes < b->row_block_file_bytes; });

  least_slots_.reserve(sorted.size());
  for (size_t i = 0; i < sorted.size(); ++i) {
    const MatrixShape& matrix = *sorted[i];
    least_slots_.push_back(least_slot_bytes(matrix));
    Split& next = first_[i + 1];
    next = first_[i];
    next.file_bytes = add_bytes(next.file_bytes, matrix.file_bytes);
    next.packed_bytes = add_bytes(next.packed_bytes, matrix.packed_bytes);
    next.resident_bytes = add_bytes(next.resident_bytes, resident_bytes(matrix));
    if (is_looked_up(matrix)) next.row_bytes = std::max(next.row_bytes, matrix.row_file_bytes);
  }
  for (size_t i = sorted.size(); i-- > 0;) first_[i].forced_bytes = add_bytes(first_[i + 1].forced_bytes, resident_bytes(*sorted[i]));
}

SlotIndex::Split SlotIndex::at(uint64_t slot_bytes) const {
  return first_[static_cast<size_t>(std::upper_bound(least_slots_.begin(), least_slots_.end(), slot_bytes) - least_slots_.begin())];
}

}  // namespace outrigger
