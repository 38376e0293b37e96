// DeviceArena: the emulated device's memory. Its addresses are of a range that nobody can read or write; the memory itself is mapped
// elsewhere.
#ifndef OUTRIGGER_SRC_DEVICE_DEVICE_ARENA_H_
#define OUTRIGGER_SRC_DEVICE_DEVICE_ARENA_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "src/device/allocation_table.h"

namespace outrigger {

/// Host code that takes a device address for one of its own is killed by the processor at once, as it should be, instead of working here
/// and failing on a real device. Not thread-safe.
class DeviceArena {
 public:
  /// `bytes` are rounded down to whole pages, and become host memory as they are written. Errors: kOutOfMemory, kInvalidArgument for less
  /// than a page.
  static Result<std::unique_ptr<DeviceArena>> create(uint64_t bytes);
  ~DeviceArena();
  DeviceArena(const DeviceArena&) = delete;
  DeviceArena& operator=(const DeviceArena&) = delete;

  /// Zeroed, at a multiple of 4096; takes whole pages, the first ones that are free. Errors: kOutOfMemory with what is needed and left.
  Result<std::byte*> take(uint64_t bytes);
  void give_back(std::byte* data, uint64_t bytes) noexcept;

  uint64_t capacity() const { return capacity_; }
  uint64_t free_bytes() const { return capacity_ - used_; }
  /// The allocations, and where each can be reached.
  const AllocationTable& table() const { return table_; }

 private:
  DeviceArena(std::byte* addresses, std::byte* memory, uint64_t capacity);
  uint64_t largest_hole() const;

  std::byte* addresses_;  // PROT_NONE
  std::byte* memory_;
  uint64_t capacity_;
  uint64_t used_ = 0;
  AllocationTable table_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_DEVICE_ARENA_H_
