// The CPU as a device.
#include "src/device/cpu_backend.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/device/host_memory.h"
#include "src/device/host_pages.h"
#include "src/device/op_check.h"
#include "src/device/op_run.h"
#include "src/device/submission.h"

namespace outrigger {

Inventory CpuBackend::inventory() const {
  const uint64_t all =
      static_cast<uint64_t>(std::max(0L, ::sysconf(_SC_PHYS_PAGES))) * static_cast<uint64_t>(std::max(0L, ::sysconf(_SC_PAGESIZE)));
  return {name(), all, std::min(all, available_memory("/proc/meminfo").value_or(all)), true};
}

template <MemoryPlace kPlace>
Result<OwnedMemory<kPlace>> CpuBackend::allocate_in(AllocationTable& table, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (!failure_.is_ok()) return failure_;
  if (bytes == 0) return OwnedMemory<kPlace>();
  std::byte* const data = map_host_pages(bytes);
  if (data != nullptr && table.insert(data, bytes)) return OwnedMemory<kPlace>(this, data, bytes);
  if (data != nullptr) unmap_host_pages(data, bytes);
  return Status(StatusCode::kOutOfMemory, formatted("the system refused {} of memory", format_bytes(bytes)));
}

Result<DeviceMemory> CpuBackend::allocate(uint64_t bytes) { return allocate_in<MemoryPlace::kDevice>(memory_, bytes); }
Result<PinnedMemory> CpuBackend::allocate_pinned(uint64_t bytes) { return allocate_in<MemoryPlace::kPinned>(pinned_, bytes); }

void CpuBackend::take_back(MemoryPlace place, std::byte* data, uint64_t bytes) noexcept {
  {
    const std::lock_guard lock(mutex_);
    (place == MemoryPlace::kDevice ? memory_ : pinned_).erase(data);
  }
  unmap_host_pages(data, bytes);
}

uint64_t CpuBackend::scratch_bytes(const DeviceOp& op) const {
  const auto* const attention = std::get_if<AttentionArgs>(&op);
  return attention != nullptr ? attention_scratch_bytes(attention->head_dim) : 0;
}

DeviceWorkCounts CpuBackend::work() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

Status CpuBackend::fail(Status status) { return failure_ = std::move(status); }

Status CpuBackend::copy(Stream stream, std::byte* dst, const std::byte* src, const std::byte* device, const std::byte* host,
                        uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (!failure_.is_ok()) return failure_;
  OTR_TRY(check_stream(stream));
  if (bytes == 0) return {};
  OTR_TRY(check_pinned(pinned_, host, bytes));
  if (memory_.find(device, bytes) == nullptr) return fail(illegal_address(device, bytes));
  std::memcpy(dst, src, bytes);
  return {};
}

Status CpuBackend::copy_to_device(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) {
  return copy(stream, dst, src, dst, src, bytes);
}
Status CpuBackend::copy_to_host(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) {
  return copy(stream, dst, src, src, dst, bytes);
}

Status CpuBackend::launch(Stream stream, const DeviceOp& op) {
  const std::lock_guard lock(mutex_);
  if (!failure_.is_ok()) return failure_;
  OTR_TRY(check_stream(stream));
  OTR_TRY(check_op(op));
  OTR_TRY(check_handoff(false, op));
  DeviceOp reachable = op;
  if (Status status = translate_op(memory_, pinned_, scratch_bytes(op), &reachable); !status.is_ok()) return fail(std::move(status));
  if (!team_) {
    OTR_ASSIGN(team_, ThreadTeam::create(1));
  }
  ++counts_.operations, ++counts_.launches;
  team_->run([&reachable](const TeamMember& member) { run_op(reachable, member); });
  return {};
}

// All that was submitted is done: every event is the one that is ready from the start.
Result<Event> CpuBackend::record(Stream stream) {
  const std::lock_guard lock(mutex_);
  if (!failure_.is_ok()) return failure_;
  OTR_TRY(check_stream(stream));
  return Event{stream, 0};
}

Status CpuBackend::wait(Stream stream, const Event& event) {
  const std::lock_guard lock(mutex_);
  if (!failure_.is_ok()) return failure_;
  OTR_TRY(check_stream(event.stream));
  return check_stream(stream);
}

Result<bool> CpuBackend::query(const Event& event) {
  OTR_TRY(wait(event.stream, event));
  return true;
}

Status CpuBackend::synchronize(const Event& event, std::chrono::nanoseconds) { return wait(event.stream, event); }

std::unique_ptr<Backend> make_cpu_backend() { return std::make_unique<CpuBackend>(); }

}  // namespace outrigger
