// StreamLayout: how the streamed matrices of a plan are cut into units that each fill one slot of the ring.
#ifndef OUTRIGGER_SRC_TENSOR_STREAM_LAYOUT_H_
#define OUTRIGGER_SRC_TENSOR_STREAM_LAYOUT_H_

#include <outrigger/plan.h>
#include <outrigger/step_shape.h>

#include <cstdint>
#include <vector>

namespace outrigger {

inline constexpr uint64_t kReadAlignment = 4096;     ///< of direct reads, in the file and in memory
inline constexpr uint64_t kMostReadBytes = 1 << 20;  ///< of one read, row blocks permitting: docs/design/0005-reading-the-disk.md

/// What the slots of a ring hold: rows as they are in the file, each piece a read of its own and at the beginning of a page; or packed row
/// blocks, one after the other.
enum class SlotsHold { kFileRows, kPacked };
/// Room for a direct read of so many bytes of a file, wherever they begin.
inline uint64_t read_room_bytes(uint64_t file_bytes) { return (file_bytes + 2 * kReadAlignment - 1) / kReadAlignment * kReadAlignment; }

/// Of a thread's rows from the ring, packed just before it multiplies with them: they stay in its second-level cache.
inline constexpr uint64_t kUnpackBytes = 128 << 10;
/// The largest row block of whatever may be read while running.
uint64_t largest_row_block(const StepShape& shape);
/// One thread's buffer for that: room for a row block, and for more as far as a slot has more. In whole pages; saturates.
uint64_t unpack_buffer_bytes(uint64_t row_block_bytes, uint64_t slot_bytes);

/// Row blocks [first_block, first_block + blocks) of a matrix, at `slot_offset` bytes into the slot.
struct StreamPiece {
  uint32_t matrix = 0;
  uint32_t first_block = 0, blocks = 0;
  uint64_t slot_offset = 0;
};

/// What one slot holds: consecutive pieces in the order of the step. Small matrices share a unit, large ones span several.
struct StreamUnit {
  std::vector<StreamPiece> pieces;
  uint64_t packed_bytes = 0, file_bytes = 0;
};

struct StreamLayout {
  std::vector<StreamUnit> units;  ///< in the order a step needs them: those of the layers, then those of the head
  uint32_t layer_units = 0;       ///< a step without logits uses only these
  uint32_t ring_slots = 0;        ///< slots that can be used: never more than a step without logits cycles through

  /// Units a step of this kind cycles through.
  uint32_t step_units(bool with_logits) const { return with_logits ? static_cast<uint32_t>(units.size()) : layer_units; }
};

/// Per matrix, whether it does not stream from disk.
std::vector<bool> stays_in_memory(const Plan& plan);

/// Pure. Every streamed matrix that is multiplied (kEveryToken, kLogits) is covered exactly once; no unit mixes layers and head.
/// Precondition: check_plan(plan, shape) is ok, so that every row block fits a slot.
StreamLayout layout_stream(const StepShape& shape, const Plan& plan);
/// The same of what streams from host memory to a device.
StreamLayout layout_device_stream(const StepShape& shape, const Plan& plan);
/// Of a plan that is not made yet, and of either. Precondition: every streamed row block fits a slot.
StreamLayout layout_stream(const StepShape& shape, const std::vector<bool>& resident, uint64_t slot_bytes, uint32_t slots, SlotsHold hold);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_TENSOR_STREAM_LAYOUT_H_
