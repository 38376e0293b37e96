// AllocationTable: which addresses of a device belong to an allocation, and where they can be reached.
#ifndef OUTRIGGER_SRC_DEVICE_ALLOCATION_TABLE_H_
#define OUTRIGGER_SRC_DEVICE_ALLOCATION_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <map>

#include "src/base/checked.h"

namespace outrigger {

/// Not thread-safe.
class AllocationTable {
 public:
  /// An address that was handed out is reached at the address plus `shift`, modulo 2^64.
  explicit AllocationTable(uintptr_t shift = 0) : shift_(shift) {}

  /// False if there is no memory for the entry.
  bool insert(const std::byte* data, uint64_t bytes) noexcept;
  void erase(const std::byte* data) noexcept { ranges_.erase(reinterpret_cast<uintptr_t>(data)); }

  /// Where the `bytes` bytes, at least 1, at `address` can be reached; null unless they lie in one allocation.
  std::byte* find(const void* address, CheckedSize bytes) const;

  /// Allocations by their first address, with their bytes.
  const std::map<uintptr_t, uint64_t>& ranges() const { return ranges_; }

 private:
  uintptr_t shift_;
  std::map<uintptr_t, uint64_t> ranges_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_ALLOCATION_TABLE_H_
