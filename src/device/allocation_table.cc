// Which addresses of a device belong to an allocation.
#include "src/device/allocation_table.h"

#include <new>
#include <optional>

namespace outrigger {

bool AllocationTable::insert(const std::byte* data, uint64_t bytes) noexcept try {
  ranges_.emplace(reinterpret_cast<uintptr_t>(data), bytes);
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

std::byte* AllocationTable::find(const void* address, CheckedSize bytes) const {
  const auto at = reinterpret_cast<uintptr_t>(address);
  auto range = ranges_.upper_bound(at);
  if (range == ranges_.begin()) return nullptr;
  --range;
  const uint64_t before = at - range->first;
  const std::optional<uint64_t> wanted = bytes.value();
  if (!wanted || before >= range->second || *wanted > range->second - before) return nullptr;
  return reinterpret_cast<std::byte*>(at + shift_);
}

}  // namespace outrigger
