// The emulated device's memory.
#include "src/device/device_arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/device/host_pages.h"

namespace outrigger {
namespace {

uint64_t whole_pages(uint64_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }

std::byte* map(uint64_t bytes, int protection) {
  void* const data = ::mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return data == MAP_FAILED ? nullptr : static_cast<std::byte*>(data);
}

// Calls visit(begin, end) for each hole between the allocations, from the lowest up, until it says true.
template <typename Visit>
void visit_holes(const AllocationTable& table, uintptr_t begin, uintptr_t end, Visit visit) {
  for (const auto& [address, bytes] : table.ranges()) {
    if (visit(begin, address)) return;
    begin = address + whole_pages(bytes);
  }
  visit(begin, end);
}

}  // namespace

DeviceArena::DeviceArena(std::byte* addresses, std::byte* memory, uint64_t capacity)
    : addresses_(addresses),
      memory_(memory),
      capacity_(capacity),
      table_(reinterpret_cast<uintptr_t>(memory) - reinterpret_cast<uintptr_t>(addresses)) {}

Result<std::unique_ptr<DeviceArena>> DeviceArena::create(uint64_t bytes) {
  const uint64_t capacity = bytes / kPageBytes * kPageBytes;
  if (capacity == 0) {
    return Status(StatusCode::kInvalidArgument,
                  formatted("device memory: got {}, need at least {}", format_bytes(bytes), format_bytes(kPageBytes)));
  }
  std::byte* const addresses = map(capacity, PROT_NONE);
  std::byte* const memory = addresses == nullptr ? nullptr : map(capacity, PROT_READ | PROT_WRITE);
  auto* const arena = memory == nullptr ? nullptr : new (std::nothrow) DeviceArena(addresses, memory, capacity);
  if (arena != nullptr) {
    (void)::madvise(memory, capacity, MADV_HUGEPAGE);  // a wish, as for the host's own weights
    return std::unique_ptr<DeviceArena>(arena);
  }
  if (addresses != nullptr) ::munmap(addresses, capacity);
  if (memory != nullptr) ::munmap(memory, capacity);
  return Status(StatusCode::kOutOfMemory, formatted("the system refused {} for the emulated device's memory", format_bytes(capacity)));
}

DeviceArena::~DeviceArena() {
  ::munmap(addresses_, capacity_);
  ::munmap(memory_, capacity_);
}

uint64_t DeviceArena::largest_hole() const {
  uint64_t largest = 0;
  const auto begin = reinterpret_cast<uintptr_t>(addresses_);
  visit_holes(table_, begin, begin + capacity_, [&largest](uintptr_t from, uintptr_t to) {
    largest = std::max<uint64_t>(largest, to - from);
    return false;
  });
  return largest;
}

Result<std::byte*> DeviceArena::take(uint64_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(addresses_);
  std::byte* found = nullptr;
  if (bytes <= capacity_) {
    visit_holes(table_, begin, begin + capacity_, [bytes, &found](uintptr_t from, uintptr_t to) {
      if (to - from < whole_pages(bytes)) return false;
      found = reinterpret_cast<std::byte*>(from);
      return true;
    });
  }
  if (found == nullptr) {
    return Status(StatusCode::kOutOfMemory,
                  formatted("device memory: got {} free of {}, the largest piece {}, need {}", format_bytes(free_bytes()),
                            format_bytes(capacity_), format_bytes(largest_hole()), format_bytes(bytes)))
        .with_bytes(bytes, free_bytes());
  }
  if (!table_.insert(found, bytes)) return Status(StatusCode::kOutOfMemory, "the system refused memory for an allocation's entry");
  used_ += whole_pages(bytes);
  return found;
}

// Dropped pages are the system's again, and zeros when they are touched next.
void DeviceArena::give_back(std::byte* data, uint64_t bytes) noexcept {
  std::byte* const memory = table_.find(data, bytes);
  table_.erase(data);
  used_ -= whole_pages(bytes);
  ::madvise(memory, whole_pages(bytes), MADV_DONTNEED);
}

}  // namespace outrigger
