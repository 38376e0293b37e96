// StreamRing: streamed weights on their way from the file: rows as the file has them, read straight into the slots of a ring.
#ifndef OUTRIGGER_SRC_MEMORY_STREAM_RING_H_
#define OUTRIGGER_SRC_MEMORY_STREAM_RING_H_

#include <outrigger/status.h>
#include <outrigger/step_shape.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "src/io/byte_source.h"
#include "src/io/read_queue.h"
#include "src/memory/slot_ring.h"
#include "src/memory/unit_times.h"
#include "src/memory/weight_source.h"

namespace outrigger {

/// Reads go on by themselves as far as there are slots, so that nobody but the one who computes is needed, and the processors are all his
/// (docs/design/0012-streaming-without-a-thread.md).
/// Threads: one call at a time; rows() any, as long as the unit stays; bytes_read() any. After create() nothing is allocated, but for the
/// text of an error.
class StreamRing {
 public:
  /// `ring` says what goes where, and has the slots, `memory`; it, `weights` and the memory must outlive the ring.
  /// Errors: those of ReadQueue::create; kInvalidArgument when a piece's read takes more than its room in a slot; kOutOfMemory.
  static Result<std::unique_ptr<StreamRing>> create(std::shared_ptr<const ByteSource> source, const std::vector<WeightSource>& weights,
                                                    SlotRing& ring, std::span<std::byte> memory);

  /// Brings the ring to the state a step starts from: its first units asked for. Free when it is already so. Errors: as request().
  Status prime();
  /// Begins to read `unit` into the slot that is next; never waits for the disk. Units are requested in cyclic order of a step.
  /// Errors: kIo, also when the file has changed; reset() comes next.
  Status request(uint32_t unit);
  /// Waits until a requested unit is in its slot. Errors: as request().
  Status arrive(uint32_t unit);
  /// Drops everything, after an error or a cancelled step; waits for reads that write to memory.
  void reset() noexcept;

  /// The file's bytes of a streamed operand, which lies inside one StreamPiece whose unit has arrived: `WeightSource::block_file_bytes` a
  /// row block. Aligned to nothing.
  const std::byte* rows(const OperandRef& ref) const;
  /// Of the latest request of the unit.
  const UnitTimes& times(uint32_t unit) const { return times_[unit]; }
  /// Of the units that were asked for since it was made.
  uint64_t bytes_read() const { return bytes_read_.load(std::memory_order_relaxed); }

 private:
  struct Piece {
    uint32_t unit = 0;
    uint64_t file_offset = 0, file_bytes = 0, slot_offset = 0, room_bytes = 0;
    const std::byte* data = nullptr;  ///< where its first byte came to lie
  };

  StreamRing(std::shared_ptr<const ByteSource> source, const std::vector<WeightSource>& weights, SlotRing& ring)
      : source_(std::move(source)), weights_(weights), ring_(ring) {}
  Status add_pieces();
  uint32_t most_pieces() const;
  Status start_reads();
  Status take(const ReadDone& done);

  const std::shared_ptr<const ByteSource> source_;
  const std::vector<WeightSource>& weights_;
  SlotRing& ring_;
  std::unique_ptr<ReadQueue> queue_;
  std::vector<Piece> pieces_;          ///< by number
  std::vector<uint32_t> first_piece_;  ///< per unit, and the end
  std::vector<uint32_t> missing_;      ///< per unit: pieces that have not come
  std::vector<UnitTimes> times_;       ///< per unit
  std::vector<uint32_t> waiting_;      ///< a ring: pieces that the queue has no room for yet
  size_t first_waiting_ = 0, waiting_count_ = 0;
  std::atomic<uint64_t> bytes_read_{0};
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_STREAM_RING_H_
