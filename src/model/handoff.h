// Handoff: how host and device pass to each other what they compute in turn, in the middle of a step.
#ifndef OUTRIGGER_SRC_MODEL_HANDOFF_H_
#define OUTRIGGER_SRC_MODEL_HANDOFF_H_

#include <outrigger/cancel.h>
#include <outrigger/status.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "src/device/device_op.h"
#include "src/memory/device_residency.h"
#include "src/plan/handoff_size.h"

namespace outrigger {

/// How long a device waits for the host's part of a window before it gives up: far more than any takes, and less than what a driver thinks
/// a kernel may take at most, where it has an opinion.
inline constexpr std::chrono::seconds kHostPatience{1};

/// Words in pinned memory (handoff_word.h), a place for each direction. The two take turns: the device sends, the host answers, the device
/// goes on; so what one sends comes after the other has read what was there before, and one place is enough. Each side counts the handoffs
/// of a step for itself, from the same number on. A step that fails, or a wait that takes too long, closes it for everybody until the next
/// begin().
///
/// Threads: begin() between steps; one thread at a time the device's functions, one the host's but for give(), any close(). Allocates
/// nothing.
/// @source the protocol's turns are ours; docs/design/0027-handing-over-by-words.md
class Handoff {
 public:
  /// `memory` is handoff_bytes(size) of pinned memory, zeroed, and outlives it. `device_patience`, `host_patience`: of either for the
  /// other.
  Handoff(std::byte* memory, const HandoffSize& size, std::chrono::nanoseconds device_patience = kHostPatience,
          std::chrono::nanoseconds host_patience = kDevicePatience);

  /// A step begins. Precondition: of the one before nothing is under way.
  void begin();
  /// Nobody waits any more: what has not come does not come.
  void close() noexcept;
  /// Whether the device gave up a wait for the host in this step.
  bool has_timed_out() const { return load_word(closed_) == kHandoffTimedOut; }

  // The device's side: operations in the order of the step. Precondition: kHandoffTokens times what the size says is room enough.
  /// The next handoff's.
  SendArgs send(const float* src, size_t count);
  /// The host's answer to it, from the `first` float on.
  ReceiveArgs receive(float* dst, size_t first, size_t count, bool accumulate) const;

  // The host's side of the same.
  /// Waits for what the next send() sends. Errors: kCancelled; kDevice when it was closed, or nothing came for as long as the host waits.
  Status take(float* dst, size_t count, const CancelToken& cancel);
  /// Floats [begin, end) of `src` as the answer, whose `first` float is src[0]. Threads: any, each its own.
  void give(const float* src, size_t first, size_t begin, size_t end);
  /// When the host last took or gave, on the steady clock; 0: not in this step. Threads: any.
  int64_t last_turn_ns() const { return last_turn_ns_.load(std::memory_order_relaxed); }

 private:
  void note_turn();

  HandoffWord *const closed_, *const to_host_, *const to_device_, *const end_;
  const std::chrono::nanoseconds device_patience_, host_patience_;
  uint32_t device_number_ = 0, host_number_ = 0;
  std::atomic<int64_t> last_turn_ns_{0};
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_HANDOFF_H_
