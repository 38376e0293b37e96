// SlotIndex: for any slot size, what of a group of matrices can stream through it.
#ifndef OUTRIGGER_SRC_PLAN_SLOT_INDEX_H_
#define OUTRIGGER_SRC_PLAN_SLOT_INDEX_H_

#include <outrigger/step_shape.h>

#include <cstdint>
#include <span>
#include <vector>

namespace outrigger {

/// Sums over the matrices whose row blocks fit a slot, and over the rest. Built once, asked for many sizes: a model with a different row
/// length for each matrix has as many slot sizes to try.
class SlotIndex {
 public:
  struct Split {
    uint64_t file_bytes = 0, packed_bytes = 0, resident_bytes = 0;  ///< of those that can stream
    uint64_t row_bytes = 0;                                         ///< the longest row in the file that is looked up among them
    uint64_t forced_bytes = 0;                                      ///< resident_bytes of those that cannot
  };

  SlotIndex(const StepShape& shape, std::span<const uint32_t> matrices);

  /// Cost: logarithmic.
  Split at(uint64_t slot_bytes) const;
  /// Each size from which one more matrix can stream, ascending, in whole pages.
  const std::vector<uint64_t>& least_slots() const { return least_slots_; }

 private:
  std::vector<uint64_t> least_slots_;  ///< of each matrix, ascending
  std::vector<Split> first_;           ///< first_[i]: the first i stream and the others are forced
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_SLOT_INDEX_H_
