// Device memory as an object, and the choice of a backend by name.
#include "src/device/backend.h"

#include <fmt/format.h>

#include <utility>

#include "src/device/cpu_backend.h"

namespace outrigger {

DeviceMemory::DeviceMemory(DeviceMemory&& other) noexcept
    : owner_(std::exchange(other.owner_, nullptr)), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
  std::swap(owner_, other.owner_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

DeviceMemory::~DeviceMemory() {
  if (owner_ != nullptr) owner_->release(data_, bytes_);
}

Result<std::unique_ptr<Backend>> open_backend(const std::string& device) {
  if (device == "cpu") return make_cpu_backend();
  if (device == "cuda" || device.starts_with("cuda:")) {
    return Status(StatusCode::kUnavailable, fmt::format("device \"{}\": this build has no CUDA backend; use \"cpu\"", device));
  }
  if (device.starts_with("emulated")) {
    return Status(StatusCode::kUnsupported, fmt::format("device \"{}\": this version has no emulated device yet; use \"cpu\"", device));
  }
  return Status(StatusCode::kInvalidArgument, fmt::format("device: got \"{}\", need \"cpu\"", device));
}

}  // namespace outrigger
