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
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/device/backend.h"
#include "src/graph/operand.h"
#include "src/io/byte_source.h"
#include "src/memory/ledger.h"
#include "src/tensor/packed.h"
#include "src/tensor/stream_layout.h"

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
  void release() noexcept;

  MemoryLedger* ledger_ = nullptr;
  MemoryUse use_ = MemoryUse::kOther;
  DeviceMemory memory_;
};

/// Threads: reserve() and report() from any thread; load(), prime(), fetch() and invalidate() from one at a time (the disk lane);
/// operand() and read_row() as stated.
class TensorResidency final : public OperandSource {
 public:
  /// Reserves resident weights, ring, staging and row buffer as the plan says, each in whole pages of 4096 bytes; reads nothing. `shape`
  /// and `weights` must describe the same matrices; `backend` must outlive the residency.
  /// Errors: kInvalidArgument (check_plan, weights that contradict the shape or reach beyond the source, buffers of the plan that are too
  /// small), kBudget, kOutOfMemory. Nothing is kept after a failure.
  static Result<std::unique_ptr<TensorResidency>> create(Backend& backend, std::shared_ptr<const ByteSource> source, const StepShape& shape,
                                                         std::vector<WeightSource> weights, const Plan& plan);

  /// Reads and packs every resident matrix, in chunks shared by the team's threads. `progress` is called on the calling thread.
  /// The threads' buffers lie in the ring, which is idle, or are counted in the ledger while the call lasts and stay within
  /// Plan::host.planned_bytes, given that activations and KV caches are reserved afterwards.
  /// Errors: kIo, also when the file has changed; kCancelled; kBudget when not even one row block of each matrix can be buffered within the
  /// budget; kOutOfMemory; kInternal when `progress` throws. After any of them the residency is only good to be destroyed.
  Status load(ThreadTeam& team, const Progress& progress, const CancelToken& cancel);

  /// StepShape::fixed_bytes of zeroed memory, aligned to 64 bytes, for the model to fill. Null when that is 0. Lives as long as the residency.
  std::byte* fixed_memory() const { return fixed_memory_; }

  /// Takes memory within the budget, zeroed, aligned to 4096 bytes, in whole pages of 4096. Errors: kBudget, kOutOfMemory.
  Result<MemoryLease> reserve(MemoryUse use, uint64_t bytes);

  /// Precondition as in OperandSource; a streamed operand lies inside one StreamPiece. Any thread. Cost: a search among the pieces of its
  /// matrix.
  const std::byte* operand(const OperandRef& ref) const override;
  bool is_resident(uint32_t matrix) const { return resident_[matrix] != nullptr; }

  const StreamLayout& stream() const { return stream_; }
  /// Brings the ring to the state a step starts from: its first units loaded. Free when it is already so. Errors: as fetch().
  Status prime();
  /// Reads and packs `unit` into the slot that is next in the ring. Units are fetched in cyclic order of a step. A step's j-th fetch reuses the
  /// slot of its j-th unit. Errors: kIo, also when the file has changed; the slot then holds nothing, and the ring must be invalidated.
  Status fetch(uint32_t unit);
  /// After a step that did not complete: what the ring holds is unknown, the next prime() starts anew.
  void invalidate() noexcept;

  /// dst[columns] = row `row` of a matrix, from memory or, where it is not resident, from the file. One thread at a time.
  /// Precondition: the matrix is resident, or one whose rows are looked up (kRowLookup, also_rows). Errors: kIo as fetch(), kUnsupported.
  Status read_row(uint32_t matrix, uint64_t row, float* dst);

  TierUse report() const { return ledger_.report(); }
  /// Bytes read from disk by prime, fetch and read_row.
  uint64_t streamed_bytes() const { return streamed_bytes_.load(std::memory_order_relaxed); }

 private:
  struct Loading;
  /// A StreamPiece as operand() looks for it.
  struct PiecePlace {
    uint32_t first_block = 0, unit = 0;
    uint64_t slot_offset = 0;
  };

  TensorResidency(Backend& backend, std::shared_ptr<const ByteSource> source, const StepShape& shape, std::vector<WeightSource> weights,
                  const Plan& plan);
  Status reserve_all(const StepShape& shape, const Plan& plan);
  void index_pieces();

  uint64_t block_bytes(uint32_t matrix) const { return block_bytes_[matrix]; }
  uint64_t block_count(uint32_t matrix) const;
  uint64_t block_file_bytes(uint32_t matrix) const { return weights_[matrix].row_bytes * kPackRows; }
  /// Bytes of row blocks [first_block, first_block + blocks) in the file, where the last one may be short.
  uint64_t file_bytes(uint32_t matrix, uint64_t first_block, uint64_t blocks) const;
  /// Row blocks that one read into `staging_bytes` can bring, at most `most`; 0 if not even one.
  uint64_t blocks_in_staging(uint32_t matrix, uint64_t staging_bytes, uint64_t most) const;
  /// Reads row blocks through `staging` and packs them to `dst`. While `try_cache` holds, what the page cache has is taken from there; the
  /// first read that finds it wanting clears it.
  Status load_blocks(uint32_t matrix, uint64_t first_block, uint64_t blocks, std::span<std::byte> staging, bool& try_cache, std::byte* dst) const;
  /// Gives each of up to `threads` readers a buffer for at least one row block; the lease holds what is not the ring's.
  Result<MemoryLease> share_staging(Loading& loading, size_t threads, uint64_t largest_block);
  Status load_all(Loading& loading, ThreadTeam& team);
  void load_chunks(Loading& loading, size_t reader) noexcept;

  std::shared_ptr<const ByteSource> source_;
  Backend* backend_;
  std::vector<WeightSource> weights_;
  std::vector<uint64_t> block_bytes_;       ///< per matrix: packed, of one row block
  StreamLayout stream_;
  std::vector<PiecePlace> places_;          ///< grouped by matrix, ascending in first_block
  std::vector<uint32_t> places_begin_;      ///< per matrix, and the end
  MemoryLedger ledger_;                     ///< before the leases, which count in it until they are gone
  MemoryLease resident_memory_, ring_memory_, staging_memory_, row_memory_;
  std::byte* fixed_memory_ = nullptr;
  std::vector<std::byte*> resident_;        ///< per matrix; null when it streams
  uint64_t slot_bytes_ = 0;
  std::vector<uint32_t> slot_of_unit_;      ///< where a unit was fetched to last
  std::vector<uint32_t> unit_in_slot_;      ///< what a slot holds; kNoUnit: nothing, or it is unknown
  uint32_t next_slot_ = 0;
  std::atomic<uint64_t> streamed_bytes_{0};
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_RESIDENCY_H_
