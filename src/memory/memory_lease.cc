// MemoryLease: memory first, then its count, so that the ledger never says less than what is held.
#include "src/memory/memory_lease.h"

namespace outrigger {

MemoryLease::MemoryLease(MemoryLease&& other) noexcept
    : ledger_(std::exchange(other.ledger_, nullptr)),
      use_(other.use_),
      memory_(std::move(other.memory_)),
      pinned_(std::move(other.pinned_)) {}

MemoryLease& MemoryLease::operator=(MemoryLease&& other) noexcept {
  if (this != &other) {
    release();
    ledger_ = std::exchange(other.ledger_, nullptr);
    use_ = other.use_;
    memory_ = std::move(other.memory_);
    pinned_ = std::move(other.pinned_);
  }
  return *this;
}

MemoryLease::~MemoryLease() { release(); }

void MemoryLease::release() noexcept {
  if (ledger_ == nullptr) return;
  const uint64_t bytes = this->bytes();
  memory_ = DeviceMemory();
  pinned_ = PinnedMemory();
  ledger_->refund(use_, bytes);
  ledger_ = nullptr;
}

}  // namespace outrigger
