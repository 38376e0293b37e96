// FakeBackend: the CPU's backend, that counts its bytes and refuses the n-th allocation.
#ifndef OUTRIGGER_TESTS_SUPPORT_FAKE_BACKEND_H_
#define OUTRIGGER_TESTS_SUPPORT_FAKE_BACKEND_H_

#include <algorithm>
#include <atomic>

#include "src/device/cpu_backend.h"

namespace outrigger {

class FakeBackend final : public CpuBackend {
 public:
  std::string name() const override { return "fake"; }

  Result<DeviceMemory> allocate(uint64_t bytes) override {
    if (++allocations == failing_allocation) return Status(StatusCode::kOutOfMemory, "refused on purpose");
    Result<DeviceMemory> memory = CpuBackend::allocate(bytes);
    if (!memory.is_ok()) return memory;
    const uint64_t now = current_bytes += bytes;
    peak_bytes = std::max(peak_bytes.load(), now);
    return memory;
  }

  std::atomic<uint64_t> current_bytes{0}, peak_bytes{0};
  std::atomic<uint64_t> allocations{0};
  uint64_t failing_allocation = 0;  ///< counted from 1; 0: none

 protected:
  void take_back(MemoryPlace place, std::byte* data, uint64_t bytes) noexcept override {
    if (place == MemoryPlace::kDevice) current_bytes -= bytes;
    CpuBackend::take_back(place, data, bytes);
  }
};

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_FAKE_BACKEND_H_
