// Backend: the seam between the library and a device. Narrow on purpose: what a backend does not need to know it is not asked.
#ifndef OUTRIGGER_SRC_DEVICE_BACKEND_H_
#define OUTRIGGER_SRC_DEVICE_BACKEND_H_

#include <outrigger/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "src/tensor/packed.h"

namespace outrigger {

class Backend;

/// Memory of a backend, given back when the object dies. Movable, not copyable.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(Backend* owner, std::byte* data, uint64_t bytes) : owner_(owner), data_(data), bytes_(bytes) {}
  DeviceMemory(DeviceMemory&& other) noexcept;
  DeviceMemory& operator=(DeviceMemory&& other) noexcept;
  ~DeviceMemory();

  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  Backend* owner_ = nullptr;
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
};

/// One device. Threads: allocate from any thread.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;
  /// Zeroed memory at a multiple of kDirectAlignment, in huge pages where the system has them. Must outlive no backend.
  /// Errors: kOutOfMemory with the size.
  virtual Result<DeviceMemory> allocate(uint64_t bytes) = 0;
  /// Whether the device multiplies by weights of this kind.
  virtual bool supports(PackedKind kind) const = 0;

 protected:
  friend class DeviceMemory;
  virtual void release(std::byte* data, uint64_t bytes) noexcept = 0;
};

/// The backend that `device` names: "cpu". Errors: kUnavailable for "cuda[:N]" in a build or on a machine without it, kUnsupported for
/// "emulated:...", kInvalidArgument for anything else, with the list of what there is.
Result<std::unique_ptr<Backend>> open_backend(const std::string& device);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_BACKEND_H_
