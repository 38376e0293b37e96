// The CPU as a device: host memory in huge pages, and work that is done when submitting it returns.
#ifndef OUTRIGGER_SRC_DEVICE_CPU_BACKEND_H_
#define OUTRIGGER_SRC_DEVICE_CPU_BACKEND_H_

#include <mutex>

#include "src/base/thread_team.h"
#include "src/device/allocation_table.h"
#include "src/device/backend.h"

namespace outrigger {

/// Copies are memcpy, operations run on the calling thread, one at a time, events are ready. The host's own steps do not come this way:
/// they run on a team of their own, with the memory that this backend allocates.
class CpuBackend : public Backend, protected MemoryOwner {
 public:
  Inventory inventory() const override;
  std::string name() const override { return "cpu"; }
  DeviceWorkCounts work() const override;
  Result<DeviceMemory> allocate(uint64_t bytes) override;
  Result<PinnedMemory> allocate_pinned(uint64_t bytes) override;
  /// Not handoffs: nobody could answer while the caller waits.
  bool supports(DeviceOpKind op, PackedKind) const override { return !is_handoff(op); }
  uint64_t scratch_bytes(const DeviceOp& op) const override;
  Status copy_to_device(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) override;
  Status copy_to_host(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) override;
  Status launch(Stream stream, const DeviceOp& op) override;
  Result<Event> record(Stream stream) override;
  Status wait(Stream stream, const Event& event) override;
  Result<bool> query(const Event& event) override;
  Status synchronize(const Event& event, std::chrono::nanoseconds timeout) override;

 protected:
  void take_back(MemoryPlace place, std::byte* data, uint64_t bytes) noexcept override;

 private:
  template <MemoryPlace kPlace>
  Result<OwnedMemory<kPlace>> allocate_in(AllocationTable& table, uint64_t bytes);
  Status copy(Stream stream, std::byte* dst, const std::byte* src, const std::byte* device, const std::byte* host, uint64_t bytes);
  Status fail(Status status);

  mutable std::mutex mutex_;  // of everything below
  Status failure_;
  DeviceWorkCounts counts_;
  AllocationTable memory_, pinned_;
  std::unique_ptr<ThreadTeam> team_;  // of one, made by the first operation: as a place for weights this needs none
};

std::unique_ptr<Backend> make_cpu_backend();

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_CPU_BACKEND_H_
