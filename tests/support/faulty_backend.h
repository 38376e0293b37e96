// FaultyBackend: a backend whose n-th call of a kind fails, for sweeping over the failure paths of what uses one.
#ifndef OUTRIGGER_TESTS_SUPPORT_FAULTY_BACKEND_H_
#define OUTRIGGER_TESTS_SUPPORT_FAULTY_BACKEND_H_

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "src/base/macros.h"
#include "src/device/backend.h"

namespace outrigger {

enum class Fault : uint8_t {
  kAllocate,        ///< kOutOfMemory, once
  kAllocatePinned,  ///< the same
  kCopyToDevice,    ///< kDevice, and it stays
  kCopyToHost,
  kLaunch,
  kRecord,
  kWait,
  kSynchronize,
  kLateCopyToDevice,  ///< accepted; whatever comes next fails with kDevice, and it stays
  kLateCopyToHost,
  kLateLaunch,
  kHang,  ///< from the n-th record() on no new event is ever ready: waiting for it fails at once, as if the time had run out
  kLost,  ///< the n-th call of any kind fails with kDevice, and it stays
};
inline constexpr size_t kFaults = 13;

/// Passes everything on to `inner`. Counts every call, so that a first run without a fault tells how far a sweep has to go.
class FaultyBackend final : public Backend {
 public:
  explicit FaultyBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  /// The `nth` call of the fault's kind from now on fails; 1 is the next. One fault at a time.
  void inject(Fault fault, uint64_t nth) {
    const std::lock_guard lock(mutex_);
    fault_ = fault;
    at_ = counts_[static_cast<size_t>(fault)] + nth;
  }
  /// Calls so far that the fault could have hit.
  uint64_t calls(Fault fault) const {
    const std::lock_guard lock(mutex_);
    return counts_[static_cast<size_t>(fault)];
  }
  bool has_happened() const {
    const std::lock_guard lock(mutex_);
    return has_happened_;
  }
  /// Handoffs that were submitted to the device, one side's.
  uint64_t handoffs() const {
    const std::lock_guard lock(mutex_);
    return handoffs_;
  }
  /// From now on the device waits no longer than this for the host, or (0) as long as it is told.
  void make_impatient(uint64_t patience_ns) {
    const std::lock_guard lock(mutex_);
    patience_ns_ = patience_ns;
  }
  /// From now on the device has no handoffs.
  void take_handoffs() { has_handoffs_ = false; }
  Backend& inner() { return *inner_; }

  Inventory inventory() const override { return inner_->inventory(); }
  std::string name() const override { return inner_->name(); }
  DeviceWorkCounts work() const override { return inner_->work(); }
  bool supports(DeviceOpKind op, PackedKind kind) const override {
    return (has_handoffs_ || !is_handoff(op)) && inner_->supports(op, kind);
  }
  uint64_t scratch_bytes(const DeviceOp& op) const override { return inner_->scratch_bytes(op); }

  Result<DeviceMemory> allocate(uint64_t bytes) override {
    OTR_TRY(enter(Fault::kAllocate));
    return inner_->allocate(bytes);
  }
  Result<PinnedMemory> allocate_pinned(uint64_t bytes) override {
    OTR_TRY(enter(Fault::kAllocatePinned));
    return inner_->allocate_pinned(bytes);
  }
  Status copy_to_device(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) override {
    OTR_TRY(enter(Fault::kCopyToDevice));
    return leave(Fault::kLateCopyToDevice, inner_->copy_to_device(stream, dst, src, bytes));
  }
  Status copy_to_host(Stream stream, std::byte* dst, const std::byte* src, uint64_t bytes) override {
    OTR_TRY(enter(Fault::kCopyToHost));
    return leave(Fault::kLateCopyToHost, inner_->copy_to_host(stream, dst, src, bytes));
  }
  Status launch(Stream stream, const DeviceOp& op) override {
    OTR_TRY(enter(Fault::kLaunch));
    return leave(Fault::kLateLaunch, inner_->launch(stream, seen(op)));
  }
  Result<Event> record(Stream stream) override {
    OTR_TRY(enter(Fault::kRecord));
    OTR_ASSIGN(Event event, inner_->record(stream));
    if (is_hanging_event()) event.sequence |= kHanging;
    return event;
  }
  // A stream that waits for what is never ready would keep inner() from ending: it goes on, and what is recorded behind it hangs too.
  Status wait(Stream stream, const Event& event) override {
    OTR_TRY(enter(Fault::kWait));
    return inner_->wait(stream, real(event));
  }
  Result<bool> query(const Event& event) override {
    OTR_TRY(enter(std::nullopt));
    if (is_hanging(event)) return false;
    return inner_->query(event);
  }
  Status synchronize(const Event& event, std::chrono::nanoseconds timeout) override {
    OTR_TRY(enter(Fault::kSynchronize));
    if (is_hanging(event)) return Status(StatusCode::kDevice, "injected: not done in time");
    return inner_->synchronize(event, timeout);
  }

 private:
  static constexpr uint64_t kHanging = uint64_t{1} << 63;
  static bool is_hanging(const Event& event) { return (event.sequence & kHanging) != 0; }
  static Event real(const Event& event) { return {event.stream, event.sequence & ~kHanging}; }

  // Under the lock: whether the fault strikes with this call.
  bool strikes(Fault fault) {
    const bool now = ++counts_[static_cast<size_t>(fault)] == at_ && fault_ == fault;
    has_happened_ = has_happened_ || now;
    return now;
  }

  Status enter(std::optional<Fault> fault) {
    const std::lock_guard lock(mutex_);
    if (!failure_.is_ok()) return failure_;
    if (strikes(Fault::kLost)) return failure_ = Status(StatusCode::kDevice, "injected: the device is lost");
    if (!fault || !strikes(*fault)) return {};
    if (*fault == Fault::kAllocate || *fault == Fault::kAllocatePinned) return Status(StatusCode::kOutOfMemory, "injected: no memory");
    return failure_ = Status(StatusCode::kDevice, "injected: the call failed");
  }

  Status leave(Fault late, Status status) {
    const std::lock_guard lock(mutex_);
    if (status.is_ok() && strikes(late)) failure_ = Status(StatusCode::kDevice, "injected: the work failed");
    return status;
  }

  DeviceOp seen(DeviceOp op) {
    const std::lock_guard lock(mutex_);
    handoffs_ += kind_of(op) == DeviceOpKind::kSend;
    if (auto* const receive = std::get_if<ReceiveArgs>(&op); receive != nullptr && patience_ns_ > 0) receive->patience_ns = patience_ns_;
    return op;
  }

  bool is_hanging_event() {
    const std::lock_guard lock(mutex_);
    hangs_ = strikes(Fault::kHang) || hangs_;
    return hangs_;
  }

  std::unique_ptr<Backend> inner_;
  mutable std::mutex mutex_;  // of everything below
  std::array<uint64_t, kFaults> counts_{};
  std::optional<Fault> fault_;
  uint64_t at_ = 0;
  bool has_happened_ = false, hangs_ = false, has_handoffs_ = true;
  uint64_t handoffs_ = 0, patience_ns_ = 0;
  Status failure_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_TESTS_SUPPORT_FAULTY_BACKEND_H_
