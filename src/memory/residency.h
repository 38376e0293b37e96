// TensorResidency: owns every byte of a model in memory: resident weights, the ring of slots that streamed ones pass through, and the
// leases of KV caches and activations.
#ifndef OUTRIGGER_SRC_MEMORY_RESIDENCY_H_
#define OUTRIGGER_SRC_MEMORY_RESIDENCY_H_

#include <outrigger/cancel.h>
#include <outrigger/engine.h>
#include <outrigger/plan.h>
#include <outrigger/status.h>
#include <outrigger/step_shape.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "src/base/thread_team.h"
#include "src/device/backend.h"
#include "src/graph/operand.h"
#include "src/io/byte_source.h"
#include "src/memory/ledger.h"
#include "src/memory/stream_layout.h"
#include "src/tensor/packed.h"

namespace outrigger {

/// Where a matrix of the shape is in the file, and as what. One per StepShape::matrices, in that order.
struct WeightSource {
  DType type = DType::kF32;
  PackedKind kind = PackedKind::kF32;
  uint64_t rows = 0, columns = 0;
  uint64_t file_offset = 0;
  uint64_t row_bytes = 0;          ///< in the file
};

/// Memory counted in the ledger for as long as the lease lives. Movable; must not outlive the residency.
class MemoryLease {
 public:
  MemoryLease() = default;
  MemoryLease(MemoryLedger* ledger, MemoryUse use, DeviceMemory memory) : ledger_(ledger), use_(use), memory_(std::move(memory)) {}
  MemoryLease(MemoryLease&& other) noexcept;
  MemoryLease& operator=(MemoryLease&& other) noexcept;
  ~MemoryLease();

  std::byte* data() const { return memory_.data(); }
  uint64_t bytes() const { return memory_.bytes(); }

 private:
  MemoryLedger* ledger_ = nullptr;
  MemoryUse use_ = MemoryUse::kOther;
  DeviceMemory memory_;
};

/// Threads: reserve() and report() from any thread; load(), prime(), fetch() and invalidate() from one at a time (the disk lane);
/// operand() and read_row() as stated.
class TensorResidency final : public OperandSource {
 public:
  /// Reserves resident weights, ring, staging and row buffer as the plan says; reads nothing. `shape` and `weights` must describe the
  /// same matrices; `backend` must outlive the residency.
  /// Errors: kInvalidArgument (check_plan), kBudget, kOutOfMemory.
  static Result<std::unique_ptr<TensorResidency>> create(Backend& backend, std::shared_ptr<const ByteSource> source, const StepShape& shape,
                                                         std::vector<WeightSource> weights, const Plan& plan);

  /// Reads and packs every resident matrix, in chunks shared by the team's threads. `progress` is called on the calling thread.
  /// Errors: kIo, kCancelled; the residency is then only good to be destroyed.
  Status load(ThreadTeam& team, const Progress& progress, const CancelToken& cancel);

  /// Takes memory within the budget, zeroed, aligned to 4096 bytes. Errors: kBudget, kOutOfMemory.
  Result<MemoryLease> reserve(MemoryUse use, uint64_t bytes);

  /// Precondition as in OperandSource. Any thread.
  const std::byte* operand(const OperandRef& ref) const override;
  bool is_resident(uint32_t matrix) const { return resident_[matrix] != nullptr; }

  const StreamLayout& stream() const { return stream_; }
  /// Brings the ring to the state a step starts from: its first units loaded. Free when it is already so.
  Status prime();
  /// Reads and packs `unit` into the slot that is next in the ring. Units are fetched in cyclic order of a step. A step's j-th fetch reuses the
  /// slot of its j-th unit. Errors: kIo, also when the file has changed; the ring must then be invalidated.
  Status fetch(uint32_t unit);
  /// After a step that did not complete: what the ring holds is unknown, the next prime() starts anew.
  void invalidate() noexcept;

  /// dst[columns] = row `row` of a matrix, from memory or, where it is not resident, from the file. One thread at a time.
  Status read_row(uint32_t matrix, uint64_t row, float* dst);

  TierUse report() const { return ledger_.report(); }
  /// Bytes read from disk by prime, fetch and read_row.
  uint64_t streamed_bytes() const { return streamed_bytes_.load(std::memory_order_relaxed); }

 private:
  TensorResidency(std::shared_ptr<const ByteSource> source, std::vector<WeightSource> weights, const Plan& plan, StreamLayout stream);
  Status load_blocks(uint32_t matrix, uint64_t first_block, uint64_t blocks, std::span<std::byte> staging, std::byte* dst);

  Backend* backend_ = nullptr;
  std::shared_ptr<const ByteSource> source_;
  std::vector<WeightSource> weights_;
  StreamLayout stream_;
  MemoryLedger ledger_;
  MemoryLease resident_memory_, ring_memory_, staging_memory_, row_memory_;
  std::vector<std::byte*> resident_;        ///< per matrix; null when it streams
  uint64_t slot_bytes_ = 0;
  std::vector<uint32_t> slot_of_unit_;
  uint32_t next_slot_ = 0;
  bool primed_ = false;
  std::atomic<uint64_t> streamed_bytes_{0};
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_RESIDENCY_H_
