// KvSpill: the keys and values that a plan keeps on disk, and the slots in memory that they pass through.
#ifndef OUTRIGGER_SRC_MEMORY_KV_SPILL_H_
#define OUTRIGGER_SRC_MEMORY_KV_SPILL_H_

#include <outrigger/plan.h>
#include <outrigger/status.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "src/io/read_queue.h"
#include "src/io/spill_file.h"
#include "src/memory/residency.h"
#include "src/tensor/kv_spread.h"

namespace outrigger {

class KvSpill;

/// A session's part of every slot, and of every spilled layer's place in the file: at the same offset in all of them. Given back when it
/// goes. Movable; must not outlive what it is a part of.
class KvSpillPart {
 public:
  KvSpillPart() = default;
  KvSpillPart(KvSpill& spill, uint64_t offset) : spill_(&spill), offset_(offset) {}
  KvSpillPart(KvSpillPart&& other) noexcept;
  KvSpillPart& operator=(KvSpillPart&& other) noexcept;
  ~KvSpillPart();

  KvSpill* spill() const { return spill_; }
  uint64_t offset() const { return offset_; }

 private:
  KvSpill* spill_ = nullptr;
  uint64_t offset_ = 0;
};

/// Slots are numbered by the spilled layer that is in them: `number` is kv_spilled_before() of it. Nothing is taken to be in a slot but
/// between the fetch of a layer and its store.
/// Threads: fetch() and store() from one at a time; everything else from any.
class KvSpill {
 public:
  /// Takes the slots from the residency's budget and the space on the disk. Precondition: plan.kv_spilled_layers > 0, a plan that
  /// check_plan takes; the residency outlives it. Errors: kBudget, kOutOfMemory, those of SpillFile::create.
  static Result<std::unique_ptr<KvSpill>> create(TensorResidency& residency, const Plan& plan, const std::string& directory);

  /// Whether parts that were taken can stay under another plan.
  bool suits(const Plan& plan) const { return plan.kv_spilled_layers == layers_ && plan.kv_slot_bytes == slot_bytes_; }

  /// Room for one session: the first gap of `bytes`, whole pages. Errors: kBudget when there is none.
  Result<KvSpillPart> take(uint64_t bytes);
  bool has_room(uint64_t bytes) const { return place_for(bytes) != kNowhere; }
  bool has_parts() const;

  std::byte* slot(uint32_t number) const { return slots_.data() + number % kKvSlots * slot_bytes_; }

  /// Brings what each run holds in bytes [begin, end) from the disk into the layer's slot. Allocates nothing. Errors: kIo.
  Status fetch(const KvSpillPart& part, uint32_t number, const KvRuns& runs, uint64_t begin, uint64_t end);
  /// Writes bytes [begin, end) of each run back. Precondition: [0, begin) or just these were fetched, as their pages go along. Allocates
  /// nothing. Errors: kIo.
  Status store(const KvSpillPart& part, uint32_t number, const KvRuns& runs, uint64_t begin, uint64_t end);

  uint64_t bytes_read() const { return bytes_read_.load(std::memory_order_relaxed); }
  uint64_t bytes_written() const { return bytes_written_.load(std::memory_order_relaxed); }
  uint64_t slots_bytes() const { return slots_.bytes(); }
  bool is_direct() const { return file_->is_direct(); }

 private:
  friend class KvSpillPart;
  static constexpr uint64_t kNowhere = UINT64_MAX;

  KvSpill(uint32_t layers, uint64_t slot_bytes) : layers_(layers), slot_bytes_(slot_bytes) {}
  Status submit(uint64_t offset, std::span<std::byte> dst);
  uint64_t place_for(uint64_t bytes) const;
  uint64_t first_gap(uint64_t bytes) const;
  void give_back(uint64_t offset) noexcept;

  const uint32_t layers_;
  const uint64_t slot_bytes_;
  MemoryLease slots_;
  std::unique_ptr<SpillFile> file_;
  std::unique_ptr<ReadQueue> reads_;    ///< of the file, into the slots; before both in the order of destruction
  mutable std::mutex mutex_;
  std::map<uint64_t, uint64_t> parts_;  ///< bytes by offset; guarded by mutex_
  std::atomic<uint64_t> bytes_read_{0}, bytes_written_{0};
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_KV_SPILL_H_
