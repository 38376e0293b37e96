// StreamLayout: fills one slot after the other.
#include "src/tensor/stream_layout.h"

#include <algorithm>

namespace outrigger {
namespace {

// Cuts matrices into pieces and fills slots with them, each to the last row block that fits: a slot less in a step is a wait less.
class Cutter {
 public:
  Cutter(uint64_t slot_bytes, SlotsHold hold, std::vector<StreamUnit>* units) : slot_bytes_(slot_bytes), hold_(hold), units_(*units) {}

  // Units hold matrices of one use.
  void begin_use() { starts_unit_ = true; }

  void add(uint32_t index, const MatrixShape& matrix) {
    const auto all_blocks = static_cast<uint32_t>(matrix.packed_bytes / matrix.row_block_bytes);
    for (uint32_t first = 0; first < all_blocks;) {
      if (starts_unit_ || room(matrix) == 0) {
        units_.emplace_back();
        used_ = 0;
      }
      starts_unit_ = false;
      StreamUnit& unit = units_.back();
      const auto blocks = static_cast<uint32_t>(std::min<uint64_t>(room(matrix), all_blocks - first));
      unit.pieces.push_back({index, first, blocks, used_});
      used_ += slot_bytes_of(matrix, blocks);
      unit.packed_bytes += blocks * matrix.row_block_bytes;
      // The file has no padding after the last row.
      const uint64_t file_begin = first * matrix.row_block_file_bytes;
      first += blocks;
      unit.file_bytes += std::min(matrix.file_bytes, first * matrix.row_block_file_bytes) - file_begin;
    }
  }

 private:
  uint64_t slot_bytes_of(const MatrixShape& matrix, uint64_t blocks) const {
    return hold_ == SlotsHold::kPacked ? blocks * matrix.row_block_bytes : read_room_bytes(blocks * matrix.row_block_file_bytes);
  }
  // Row blocks that the next piece may have.
  uint64_t room(const MatrixShape& matrix) const {
    const uint64_t left = slot_bytes_ - used_;
    if (hold_ == SlotsHold::kPacked) return left / matrix.row_block_bytes;
    const uint64_t fit = left < 2 * kReadAlignment ? 0 : (left - kReadAlignment) / matrix.row_block_file_bytes;
    return std::min(fit, std::max<uint64_t>(1, kMostReadBytes / matrix.row_block_file_bytes));
  }

  const uint64_t slot_bytes_;
  const SlotsHold hold_;
  std::vector<StreamUnit>& units_;
  uint64_t used_ = 0;
  bool starts_unit_ = true;
};

// The units that hold all streamed matrices of one use.
void append_units(const StepShape& shape, const std::vector<bool>& resident, MatrixUse use, Cutter* cutter) {
  cutter->begin_use();
  for (uint32_t index = 0; index < shape.matrices.size(); ++index) {
    const MatrixShape& matrix = shape.matrices[index];
    if (matrix.use != use || resident[index]) continue;
    cutter->add(index, matrix);
  }
}

}  // namespace

uint64_t largest_row_block(const StepShape& shape) {
  uint64_t largest = 0;
  for (const MatrixShape& matrix : shape.matrices) {
    if (matrix.use != MatrixUse::kRowLookup) largest = std::max(largest, matrix.row_block_bytes);
  }
  return largest;
}

uint64_t unpack_buffer_bytes(uint64_t row_block_bytes, uint64_t slot_bytes) {
  const uint64_t bytes = std::max(row_block_bytes, std::min(kUnpackBytes, slot_bytes)), rest = bytes % kReadAlignment;
  if (rest == 0) return bytes;
  return bytes > UINT64_MAX - kReadAlignment ? UINT64_MAX : bytes - rest + kReadAlignment;
}

std::vector<bool> stays_in_memory(const Plan& plan) {
  std::vector<bool> stays;
  stays.reserve(plan.tensors.size());
  for (const TensorPlacement& tensor : plan.tensors) stays.push_back(tensor.mode == Residence::kResident || tensor.tier == Tier::kDevice);
  return stays;
}

StreamLayout layout_stream(const StepShape& shape, const Plan& plan) {
  return layout_stream(shape, stays_in_memory(plan), plan.slot_bytes, plan.stream_slots, SlotsHold::kFileRows);
}

StreamLayout layout_device_stream(const StepShape& shape, const Plan& plan) {
  std::vector<bool> stays;
  for (const TensorPlacement& tensor : plan.tensors) stays.push_back(tensor.mode == Residence::kResident || tensor.tier != Tier::kDevice);
  return layout_stream(shape, stays, plan.device_slot_bytes, plan.device_slots, SlotsHold::kPacked);
}

StreamLayout layout_stream(const StepShape& shape, const std::vector<bool>& resident, uint64_t slot_bytes, uint32_t slots, SlotsHold hold) {
  StreamLayout layout;
  Cutter cutter(slot_bytes, hold, &layout.units);
  append_units(shape, resident, MatrixUse::kEveryToken, &cutter);
  layout.layer_units = static_cast<uint32_t>(layout.units.size());
  append_units(shape, resident, MatrixUse::kLogits, &cutter);
  const auto all = static_cast<uint32_t>(layout.units.size());
  layout.ring_slots = std::min(slots, layout.layer_units > 0 ? layout.layer_units : all);
  return layout;
}

}  // namespace outrigger
