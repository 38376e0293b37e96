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
#include <optional>
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/device/backend.h"
#include "src/graph/operand.h"
#include "src/io/byte_source.h"
#include "src/memory/device_residency.h"
#include "src/memory/expert_pool.h"
#include "src/memory/ledger.h"
#include "src/memory/memory_lease.h"
#include "src/memory/slot_ring.h"
#include "src/memory/stream_ring.h"
#include "src/memory/weight_source.h"
#include "src/tensor/packed.h"
#include "src/tensor/stream_layout.h"

namespace outrigger {

/// Threads: reserve() and report() from any thread; place(), load(), prime(), request(), arrive() and invalidate() from one at a time;
/// operand() and read_row() as stated.
class TensorResidency final : public OperandSource {
 public:
  /// A residency that is placed as the plan says. `device` is null, or `backend` once more where it has memory that the host cannot
  /// address: then the host's is pinned, and work goes to `streams`. `shape` and `weights` must describe the same matrices; `backend` and
  /// `shape` must outlive the residency.
  /// Errors: kInvalidArgument (check_plan, weights that contradict the shape or reach beyond the source, buffers of the plan that are too
  /// small), kBudget, kOutOfMemory. Nothing is kept after a failure.
  static Result<std::unique_ptr<TensorResidency>> create(Backend& backend, std::shared_ptr<const ByteSource> source, const StepShape& shape,
                                                         std::vector<WeightSource> weights, const Plan& plan, Backend* device = nullptr,
                                                         const StreamSet& streams = {});

  /// A residency without weights, of what someone needs besides: reserve(), claim() and what tells of the ledger are all that may be
  /// called. `budget_bytes` 0: no limit. `backend` must outlive it. Errors: kOutOfMemory.
  static Result<std::unique_ptr<TensorResidency>> create_empty(Backend& backend, uint64_t budget_bytes);

  /// Whether place() would take the plan. Errors: kInvalidArgument, kUnsupported.
  Status check(const Plan& plan) const;
  /// Gives back the memory of all weights and reserves that of another plan: resident weights, ring, expert slots, staging and row buffer,
  /// each in whole pages of 4096 bytes; reads nothing, so load() comes next. Leases stay as they are and count in the new budget.
  /// Errors: as create(); after kInvalidArgument nothing has changed, after the others no weights are left, and place() may be called
  /// again.
  Status place(const Plan& plan);

  /// Reads and packs every resident matrix, in chunks shared by the team's threads. `progress` is called on the calling thread.
  /// Then, one after the other, what is resident on a device. The threads' buffers lie in the ring, which is idle, or are counted in the
  /// ledger while the call lasts and stay within Plan::host.planned_bytes, given that activations and KV caches are reserved afterwards.
  /// Errors: kIo, also when the file has changed; kCancelled; kBudget when not even one row block of each matrix can be buffered within the
  /// budget; kOutOfMemory; kInternal when `progress` throws. After any of them the residency is good for place() or to be destroyed.
  Status load(ThreadTeam& team, const Progress& progress, const CancelToken& cancel);

  /// StepShape::fixed_bytes of zeroed memory, aligned to 64 bytes, for the model to fill. Null when that is 0. Lives as long as the
  /// residency.
  std::byte* fixed_memory() const { return fixed_memory_; }

  /// Takes memory within the budget, zeroed, aligned to 4096 bytes, in whole pages of 4096. Errors: kBudget, kOutOfMemory.
  Result<MemoryLease> reserve(MemoryUse use, uint64_t bytes);
  /// Counts bytes that another residency takes within this one's budget. The claim must not outlive this. Errors: kBudget.
  Result<MemoryClaim> claim(MemoryUse use, uint64_t bytes);

  /// Packed row blocks of a resident matrix. Of a streamed one the rows as the file has them, aligned to nothing (StreamRing::rows); its
  /// operand lies inside one StreamPiece whose unit has arrived. Any thread. Cost: for a streamed one a search among the pieces of its
  /// matrix.
  const std::byte* operand(const OperandRef& ref) const override;
  /// Where a thread of the team packs what streams, before it multiplies with it: at least a row block. Empty when nothing streams.
  std::span<std::byte> unpack_buffer(size_t member) const { return {staging_memory_.data() + member * unpack_bytes_, unpack_bytes_}; }
  /// In host memory.
  bool is_resident(uint32_t matrix) const { return resident_[matrix] != nullptr; }

  /// Null without a device of its own memory.
  DeviceResidency* device() { return device_.get(); }
  const DeviceResidency* device() const { return device_.get(); }
  /// Pinned memory for what goes to and comes from a device besides activations; empty when a plan uses none. One user at a time.
  std::span<std::byte> transfer() const { return {transfer_memory_.data(), transfer_memory_.bytes()}; }

  const StreamLayout& stream() const { return ring_->layout(); }
  /// Brings the ring to the state a step starts from: its first units asked for. Free when it is already so. Errors: as request().
  Status prime();
  /// Begins to read `unit` into the slot that is next in the ring; does not wait for the disk. Units are requested in cyclic order of a
  /// step. A step's j-th request reuses the slot of its j-th unit. Errors: kIo, also when the file has changed; the ring must then be
  /// invalidated.
  Status request(uint32_t unit);
  /// Waits until a requested unit is in its slot. Errors: as request().
  Status arrive(uint32_t unit);
  /// When it was on its way.
  const UnitTimes& unit_times(uint32_t unit) const { return streams_->times(unit); }
  /// After a step that did not complete: waits for what is being read, and forgets it; the next prime() starts anew.
  void invalidate() noexcept;

  /// Where the experts of a mixture are that are not all resident; null otherwise.
  ExpertPool* experts() { return experts_.get(); }
  const ExpertPool* experts() const { return experts_.get(); }

  /// dst[columns] = row `row` of a matrix, from memory or, where it is not resident, from the file. One thread at a time.
  /// Precondition: the matrix is resident, or one whose rows are looked up (kRowLookup, also_rows). Errors: kIo as fetch(), kUnsupported.
  Status read_row(uint32_t matrix, uint64_t row, float* dst);

  TierUse report() const { return ledger_.report(); }
  const MemoryLedger& ledger() const { return ledger_; }
  /// Bytes of the file: of units and experts that were asked for, and of rows that have come.
  uint64_t streamed_bytes() const { return past_bytes_.load(std::memory_order_relaxed) + read_bytes(); }

 private:
  struct Loading;

  TensorResidency(Backend& backend, std::shared_ptr<const ByteSource> source, const StepShape& shape, std::vector<WeightSource> weights,
                  Backend* device, const StreamSet& streams);
  void give_back() noexcept;
  Status reserve_all(const Plan& plan);

  Status make_readers(const Plan& plan);
  uint64_t read_bytes() const { return (experts_ ? experts_->bytes_read() : 0) + (streams_ ? streams_->bytes_read() : 0); }
  uint64_t block_bytes(uint32_t matrix) const { return shape_.matrices[matrix].row_block_bytes; }
  /// Row blocks that one read into `staging_bytes` can bring, at most `most`; 0 if not even one.
  uint64_t blocks_in_staging(uint32_t matrix, uint64_t staging_bytes, uint64_t most) const;
  /// Reads row blocks through `staging` and packs them to `dst`. While `try_cache` holds, what the page cache has is taken from there; the
  /// first read that finds it wanting clears it.
  Status load_blocks(uint32_t matrix, uint64_t first_block, uint64_t blocks, std::span<std::byte> staging, bool& try_cache,
                     std::byte* dst) const;
  /// Gives each of up to `threads` readers a buffer for at least one row block; the lease holds what is not the ring's.
  Result<MemoryLease> share_staging(Loading& loading, size_t threads, uint64_t largest_block);
  Status load_all(Loading& loading, ThreadTeam& team);
  Status load_device(Loading& loading);
  void load_chunks(Loading& loading, size_t reader) noexcept;

  std::shared_ptr<const ByteSource> source_;
  Backend* backend_;
  const StepShape& shape_;
  std::vector<WeightSource> weights_;
  std::optional<SlotRing> ring_;
  MemoryLedger ledger_;                     ///< before the leases, which count in it until they are gone
  std::unique_ptr<DeviceResidency> device_;
  MemoryLease resident_memory_, ring_memory_, staging_memory_, row_memory_, expert_memory_, transfer_memory_;
  std::byte* fixed_memory_ = nullptr;
  std::vector<std::byte*> resident_;        ///< per matrix; null when it is not resident in host memory
  std::atomic<uint64_t> past_bytes_{0};     ///< read for rows, and by earlier readers
  uint64_t unpack_bytes_ = 0;               ///< of each thread, at the beginning of the staging memory
  std::unique_ptr<StreamRing> streams_;     ///< null when nothing streams through the ring; after the memory it writes to
  std::unique_ptr<ExpertPool> experts_;     ///< null when they are all resident or there are none; after the memory it writes to
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_RESIDENCY_H_
