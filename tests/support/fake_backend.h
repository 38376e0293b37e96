// FakeBackend: a device of plain memory that counts its bytes and refuses the n-th allocation.
#ifndef OUTRIGGER_TESTS_SUPPORT_FAKE_BACKEND_H_
#define OUTRIGGER_TESTS_SUPPORT_FAKE_BACKEND_H_

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "src/device/backend.h"
#include "src/io/byte_source.h"

namespace outrigger {

class FakeBackend final : public Backend {
 public:
  std::string name() const override { return "fake"; }

  Result<DeviceMemory> allocate(uint64_t bytes) override {
    if (++allocations == failing_allocation) return Status(StatusCode::kOutOfMemory, "refused on purpose");
    auto* data =
        static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, (bytes + kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment));
    if (data == nullptr) return Status(StatusCode::kOutOfMemory, "the system refused");
    std::memset(data, 0, bytes);
    const uint64_t now = current_bytes += bytes;
    peak_bytes = std::max(peak_bytes.load(), now);
    return DeviceMemory(this, data, bytes);
  }
  bool supports(PackedKind) const override { return true; }

  std::atomic<uint64_t> current_bytes{0}, peak_bytes{0};
  std::atomic<uint64_t> allocations{0};
  uint64_t failing_allocation = 0;  ///< counted from 1; 0: none

 protected:
  void release(std::byte* data, uint64_t bytes) noexcept override {
    current_bytes -= bytes;
    std::free(data);
  }
};

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_FAKE_BACKEND_H_
