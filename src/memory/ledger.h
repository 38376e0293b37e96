// MemoryLedger: counts every byte of a tier by purpose, and says no when the budget is spent.
#ifndef OUTRIGGER_SRC_MEMORY_LEDGER_H_
#define OUTRIGGER_SRC_MEMORY_LEDGER_H_

#include <outrigger/engine.h>
#include <outrigger/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace outrigger {

enum class MemoryUse : uint8_t {
  kWeights,
  kStreamSlots,
  kKvCache,
  kActivations,
  kDraft,
  kBranches,
  kExperts,
  kOther,
  // Of compressing; a TierBreakdown has them among what is other.
  kCalibration,
  kGrams,
  kMatrices,
  kBackbone,
  kTraining,
};
inline constexpr size_t kMemoryUses = 13;

/// Threads: any. Cheap: a lock and an addition; nothing in a step calls it.
class MemoryLedger {
 public:
  /// `budget_bytes` 0: no limit, everything is still counted.
  explicit MemoryLedger(uint64_t budget_bytes, uint64_t planned_bytes) : budget_bytes_(budget_bytes), planned_bytes_(planned_bytes) {}

  /// Another plan's limits; what is counted stays. A budget below it only says no to more.
  void set_limits(uint64_t budget_bytes, uint64_t planned_bytes);
  /// Counts `bytes` before they are allocated. Errors: kBudget with bytes needed and given; nothing is then counted.
  Status charge(MemoryUse use, uint64_t bytes);
  /// Precondition: as many were charged.
  void refund(MemoryUse use, uint64_t bytes) noexcept;
  TierUse report() const;
  /// The most at any time for one purpose.
  uint64_t peak_bytes(MemoryUse use) const;
  /// What charge() said when it last said no; fine where it never did.
  Status last_refusal() const;

 private:
  mutable std::mutex mutex_;
  uint64_t budget_bytes_, planned_bytes_;
  TierBreakdown current_;
  uint64_t peak_bytes_ = 0;
  std::array<uint64_t, kMemoryUses> of_use_{}, peaks_{};
  Status last_refusal_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_LEDGER_H_
