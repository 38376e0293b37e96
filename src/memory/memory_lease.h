// MemoryLease: memory counted in a ledger for as long as the lease lives; MemoryClaim: the count alone.
#ifndef OUTRIGGER_SRC_MEMORY_MEMORY_LEASE_H_
#define OUTRIGGER_SRC_MEMORY_MEMORY_LEASE_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "src/device/device_memory.h"
#include "src/memory/ledger.h"

namespace outrigger {

/// Movable; must outlive neither the ledger nor the backend that the memory is of.
class MemoryLease {
 public:
  MemoryLease() = default;
  MemoryLease(MemoryLedger* ledger, MemoryUse use, DeviceMemory memory) : ledger_(ledger), use_(use), memory_(std::move(memory)) {}
  MemoryLease(MemoryLedger* ledger, MemoryUse use, PinnedMemory memory) : ledger_(ledger), use_(use), pinned_(std::move(memory)) {}
  MemoryLease(MemoryLease&& other) noexcept;
  MemoryLease& operator=(MemoryLease&& other) noexcept;
  ~MemoryLease();

  std::byte* data() const { return memory_.bytes() > 0 ? memory_.data() : pinned_.data(); }
  uint64_t bytes() const { return memory_.bytes() + pinned_.bytes(); }

 private:
  void release() noexcept;

  MemoryLedger* ledger_ = nullptr;
  MemoryUse use_ = MemoryUse::kOther;
  DeviceMemory memory_;  // one of the two
  PinnedMemory pinned_;
};

/// Bytes counted in a ledger for as long as the claim lives, which someone else takes and counts too: a draft model's, in its target's.
/// Movable.
class MemoryClaim {
 public:
  MemoryClaim() = default;
  MemoryClaim(MemoryLedger* ledger, MemoryUse use, uint64_t bytes) : ledger_(ledger), use_(use), bytes_(bytes) {}
  MemoryClaim(MemoryClaim&& other) noexcept : ledger_(std::exchange(other.ledger_, nullptr)), use_(other.use_), bytes_(other.bytes_) {}
  MemoryClaim& operator=(MemoryClaim&& other) noexcept {
    std::swap(ledger_, other.ledger_);
    std::swap(use_, other.use_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MemoryClaim() {
    if (ledger_ != nullptr) ledger_->refund(use_, bytes_);
  }

 private:
  MemoryLedger* ledger_ = nullptr;
  MemoryUse use_ = MemoryUse::kOther;
  uint64_t bytes_ = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_MEMORY_LEASE_H_
