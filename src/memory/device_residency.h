// DeviceResidency: the memory of a device: what is resident there, the ring that weights of host memory stream through, and leases.
#ifndef OUTRIGGER_SRC_MEMORY_DEVICE_RESIDENCY_H_
#define OUTRIGGER_SRC_MEMORY_DEVICE_RESIDENCY_H_

#include <outrigger/plan.h>
#include <outrigger/status.h>
#include <outrigger/step_shape.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "src/device/backend.h"
#include "src/graph/operand.h"
#include "src/memory/ledger.h"
#include "src/memory/memory_lease.h"
#include "src/memory/slot_ring.h"

namespace outrigger {

/// A device that has not answered for so long is taken for dead: a step's longest piece of work takes seconds on the slowest.
inline constexpr std::chrono::seconds kDevicePatience{60};

/// Addresses are the device's. Threads: reserve() and report() any; request() and arrive() one at a time (the link's lane); operand() any;
/// the rest between steps.
class DeviceResidency final : public OperandSource {
 public:
  /// `backend` and `shape` must outlive it. Work of its model is submitted to `streams`.
  DeviceResidency(Backend& backend, const StepShape& shape, const StreamSet& streams = {})
      : backend_(backend), shape_(shape), streams_(streams) {}

  Backend& backend() const { return backend_; }
  const StreamSet& streams() const { return streams_; }
  /// Reserves the weights and the ring of a plan, after give_back(). Errors: kBudget, kOutOfMemory, kDevice.
  Status place(const Plan& plan);
  void give_back() noexcept;

  Result<MemoryLease> reserve(MemoryUse use, uint64_t bytes);
  /// As TensorResidency's.
  Result<MemoryClaim> claim(MemoryUse use, uint64_t bytes);
  /// Host memory that copies can start from and end in; counted in a ledger of the host's.
  Result<MemoryLease> reserve_pinned(MemoryLedger& ledger, MemoryUse use, uint64_t bytes);

  bool is_resident(uint32_t matrix) const { return !resident_.empty() && resident_[matrix] != nullptr; }
  /// Where a resident matrix begins. Its fixed tensors: fixed_memory().
  std::byte* matrix(uint32_t matrix) const { return resident_[matrix]; }
  std::byte* fixed_memory() const { return fixed_memory_; }
  const std::byte* operand(const OperandRef& ref) const override;

  /// Copies that have ended when they return. `host` must be pinned. Errors: kDevice, kInvalidArgument.
  Status upload(std::byte* device, const std::byte* host, uint64_t bytes);
  Status download(std::byte* host, const std::byte* device, uint64_t bytes);
  /// An operation that has ended when it returns. Errors: kDevice, kInvalidArgument.
  Status run(const DeviceOp& op);
  /// Copies of any host memory, in pieces through `pinned`.
  Status upload_through(std::span<std::byte> pinned, std::byte* device, const std::byte* host, uint64_t bytes);
  Status download_through(std::span<std::byte> pinned, std::byte* host, const std::byte* device, uint64_t bytes);
  /// The same in a step: they count.
  Status copy_in(std::byte* device, const std::byte* host, uint64_t bytes);
  Status copy_out(std::byte* host, const std::byte* device, uint64_t bytes);

  /// Submitted only, and ordered with what the device computes: the copy out comes after what was launched so far, and its event is ready
  /// when it is there; what is launched later comes after the copy in. They count.
  Status submit_copy_in(std::byte* device, const std::byte* host, uint64_t bytes);
  Result<Event> submit_copy_out(std::byte* host, const std::byte* device, uint64_t bytes);

  /// What words carried, which no copy did. It counts as the copies of a step do.
  void count_handoff(uint64_t in_bytes, uint64_t out_bytes) {
    copied_in_bytes_.fetch_add(in_bytes, std::memory_order_relaxed);
    copied_out_bytes_.fetch_add(out_bytes, std::memory_order_relaxed);
  }

  /// What streams, in the order of a step.
  const StreamLayout& stream() const { return ring_->layout(); }
  /// As TensorResidency's: units come from `home`, where they are resident in pinned memory.
  Status prime(const OperandSource& home);
  Status request(uint32_t unit, const OperandSource& home);
  Status arrive(uint32_t unit);
  /// After a step that did not complete: waits for what the device still does, as far as it answers.
  void invalidate() noexcept;

  TierUse report() const { return ledger_.report(); }
  /// By steps: weights that streamed, what copy_in() and copy_out() moved, and count_handoff()'s.
  uint64_t copied_in_bytes() const { return copied_in_bytes_.load(std::memory_order_relaxed); }
  uint64_t copied_out_bytes() const { return copied_out_bytes_.load(std::memory_order_relaxed); }

 private:
  Status finish(Stream stream);

  Backend& backend_;
  const StepShape& shape_;
  const StreamSet streams_;
  MemoryLedger ledger_{0, 0};
  MemoryClaim taken_;  // by the device itself
  MemoryLease resident_memory_, ring_memory_;
  std::byte* fixed_memory_ = nullptr;
  std::vector<std::byte*> resident_;     // per matrix; null when it is not resident here
  std::optional<SlotRing> ring_;
  std::vector<Event> arrivals_;          // per slot
  std::atomic<uint64_t> copied_in_bytes_{0}, copied_out_bytes_{0};
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MEMORY_DEVICE_RESIDENCY_H_
