// Memory that a backend hands out, as objects that give it back: the device's own, and host memory that copies go through.
#ifndef OUTRIGGER_SRC_DEVICE_DEVICE_MEMORY_H_
#define OUTRIGGER_SRC_DEVICE_DEVICE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <utility>

namespace outrigger {

enum class MemoryPlace : uint8_t {
  kDevice,
  kPinned,  ///< host memory that a device copies from and to by itself
};

/// Who takes memory back.
class MemoryOwner {
 public:
  /// What `data` and `bytes` were handed out as. Any thread; waits for work that may still use it.
  virtual void take_back(MemoryPlace place, std::byte* data, uint64_t bytes) noexcept = 0;

 protected:
  ~MemoryOwner() = default;
};

/// Memory of a backend, given back when the object dies. Movable, not copyable.
template <MemoryPlace kPlace>
class OwnedMemory {
 public:
  OwnedMemory() = default;
  OwnedMemory(MemoryOwner* owner, std::byte* data, uint64_t bytes) : owner_(owner), data_(data), bytes_(bytes) {}
  OwnedMemory(OwnedMemory&& other) noexcept
      : owner_(std::exchange(other.owner_, nullptr)), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  OwnedMemory& operator=(OwnedMemory&& other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~OwnedMemory() {
    if (owner_ != nullptr) owner_->take_back(kPlace, data_, bytes_);
  }

  /// kDevice: an address of the device, which the host may use as one of its own only if Inventory::host_addressable.
  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  MemoryOwner* owner_ = nullptr;
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
};

using DeviceMemory = OwnedMemory<MemoryPlace::kDevice>;
using PinnedMemory = OwnedMemory<MemoryPlace::kPinned>;

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_DEVICE_MEMORY_H_
