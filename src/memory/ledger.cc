// MemoryLedger: one sum per purpose under one lock.
#include "src/memory/ledger.h"

#include <algorithm>

#include "src/base/bytes.h"
#include "src/base/formatted.h"

namespace outrigger {
namespace {

uint64_t& part(TierBreakdown& breakdown, MemoryUse use) {
  switch (use) {
    case MemoryUse::kWeights:
      return breakdown.weights_resident;
    case MemoryUse::kStreamSlots:
      return breakdown.stream_slots;
    case MemoryUse::kKvCache:
      return breakdown.kv_cache;
    case MemoryUse::kActivations:
      return breakdown.activations;
    case MemoryUse::kDraft:
      return breakdown.draft;
    case MemoryUse::kBranches:
      return breakdown.branches;
    case MemoryUse::kExperts:
      return breakdown.experts;
    default:
      return breakdown.other;
  }
}

const char* use_name(MemoryUse use) {
  switch (use) {
    case MemoryUse::kWeights:
      return "weights";
    case MemoryUse::kStreamSlots:
      return "streaming";
    case MemoryUse::kKvCache:
      return "the KV cache";
    case MemoryUse::kActivations:
      return "activations";
    case MemoryUse::kDraft:
      return "the draft";
    case MemoryUse::kBranches:
      return "branches";
    case MemoryUse::kExperts:
      return "experts";
    case MemoryUse::kCalibration:
      return "the calibration's vectors";
    case MemoryUse::kGrams:
      return "Gram matrices";
    case MemoryUse::kMatrices:
      return "matrices as floats";
    case MemoryUse::kBackbone:
      return "the backbone";
    case MemoryUse::kTraining:
      return "training";
    case MemoryUse::kOther:
      break;
  }
  return "other uses";
}

}  // namespace

void MemoryLedger::set_limits(uint64_t budget_bytes, uint64_t planned_bytes) {
  const std::lock_guard lock(mutex_);
  budget_bytes_ = budget_bytes;
  planned_bytes_ = planned_bytes;
}

Status MemoryLedger::charge(MemoryUse use, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  const uint64_t used = current_.total();
  uint64_t needed;
  const bool overflows = __builtin_add_overflow(used, bytes, &needed);
  if (overflows || (budget_bytes_ != 0 && needed > budget_bytes_)) {
    if (overflows) needed = UINT64_MAX;
    last_refusal_ =
        Status(StatusCode::kBudget, formatted("{} for {} beside the {} in use make {}; the budget is {}: raise it, or plan for less",
                                              format_bytes(bytes), use_name(use), format_bytes(used), format_bytes(needed),
                                              budget_bytes_ == 0 ? "all memory" : format_bytes(budget_bytes_)))
            .with_bytes(needed, budget_bytes_);
    return last_refusal_;
  }
  part(current_, use) += bytes;
  uint64_t& of_use = of_use_[static_cast<size_t>(use)];
  uint64_t& peak = peaks_[static_cast<size_t>(use)];
  peak = std::max(peak, of_use += bytes);
  peak_bytes_ = std::max(peak_bytes_, needed);
  return {};
}

void MemoryLedger::refund(MemoryUse use, uint64_t bytes) noexcept {
  const std::lock_guard lock(mutex_);
  part(current_, use) -= bytes;
  of_use_[static_cast<size_t>(use)] -= bytes;
}

TierUse MemoryLedger::report() const {
  const std::lock_guard lock(mutex_);
  return {budget_bytes_, planned_bytes_, current_.total(), peak_bytes_, current_};
}

uint64_t MemoryLedger::peak_bytes(MemoryUse use) const {
  const std::lock_guard lock(mutex_);
  return peaks_[static_cast<size_t>(use)];
}

Status MemoryLedger::last_refusal() const {
  const std::lock_guard lock(mutex_);
  return last_refusal_;
}

}  // namespace outrigger
