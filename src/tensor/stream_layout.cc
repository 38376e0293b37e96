// StreamLayout: fills one slot after the other.
#include "src/tensor/stream_layout.h"

#include <algorithm>

namespace outrigger {
namespace {

// Appends the units that hold all streamed matrices of one use. Slots are filled to the last row block that fits: each slot less in a
// step is one wait and one read less.
void append_units(const StepShape& shape, const std::vector<bool>& resident, uint64_t slot_bytes, MatrixUse use,
                  std::vector<StreamUnit>* units) {
  bool starts_unit = true;
  for (uint32_t index = 0; index < shape.matrices.size(); ++index) {
    const MatrixShape& matrix = shape.matrices[index];
    if (matrix.use != use || resident[index]) continue;
    const auto all_blocks = static_cast<uint32_t>(matrix.packed_bytes / matrix.row_block_bytes);
    for (uint32_t first = 0; first < all_blocks;) {
      if (starts_unit || slot_bytes - units->back().packed_bytes < matrix.row_block_bytes) units->emplace_back();
      starts_unit = false;
      StreamUnit& unit = units->back();
      const uint64_t room = (slot_bytes - unit.packed_bytes) / matrix.row_block_bytes;
      const auto blocks = static_cast<uint32_t>(std::min<uint64_t>(room, all_blocks - first));
      unit.pieces.push_back({index, first, blocks, unit.packed_bytes});
      unit.packed_bytes += blocks * matrix.row_block_bytes;
      // The file has no padding after the last row.
      const uint64_t file_begin = first * matrix.row_block_file_bytes;
      first += blocks;
      unit.file_bytes += std::min(matrix.file_bytes, first * matrix.row_block_file_bytes) - file_begin;
    }
  }
}

}  // namespace

StreamLayout layout_stream(const StepShape& shape, const Plan& plan) {
  std::vector<bool> resident;
  for (const TensorPlacement& tensor : plan.tensors) resident.push_back(tensor.mode == Residence::kResident || tensor.tier == Tier::kDevice);
  return layout_stream(shape, resident, plan.slot_bytes, plan.stream_slots);
}

StreamLayout layout_device_stream(const StepShape& shape, const Plan& plan) {
  std::vector<bool> stays;
  for (const TensorPlacement& tensor : plan.tensors) stays.push_back(tensor.mode == Residence::kResident || tensor.tier != Tier::kDevice);
  return layout_stream(shape, stays, plan.device_slot_bytes, plan.device_slots);
}

StreamLayout layout_stream(const StepShape& shape, const std::vector<bool>& resident, uint64_t slot_bytes, uint32_t slots) {
  StreamLayout layout;
  append_units(shape, resident, slot_bytes, MatrixUse::kEveryToken, &layout.units);
  layout.layer_units = static_cast<uint32_t>(layout.units.size());
  append_units(shape, resident, slot_bytes, MatrixUse::kLogits, &layout.units);
  const auto all = static_cast<uint32_t>(layout.units.size());
  layout.ring_slots = std::min(slots, layout.layer_units > 0 ? layout.layer_units : all);
  return layout;
}

}  // namespace outrigger
