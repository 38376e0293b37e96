// LinkClock: when the copies of a throttled link end.
#ifndef OUTRIGGER_SRC_DEVICE_LINK_CLOCK_H_
#define OUTRIGGER_SRC_DEVICE_LINK_CLOCK_H_

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>

namespace outrigger {

/// One direction of a link: one copy at a time, each `latency` and then its bytes. Ends are absolute: a copy that was ready in time begins
/// where the one before it ended, however late the thread that waits for both wakes up, so that the rate over many copies is exact.
class LinkClock {
 public:
  using Clock = std::chrono::steady_clock;
  LinkClock(double bytes_per_s, std::chrono::nanoseconds latency) : bytes_per_s_(bytes_per_s), latency_(latency) {}

  /// The end of a copy that could begin at `ready`; the copies come in the order in which the link takes them.
  Clock::time_point next_end(Clock::time_point ready, uint64_t bytes) {
    // Times are counted in 2^63 ns: a copy of a century stands for those that take longer.
    const double ns = std::min(std::ceil(static_cast<double>(bytes) / bytes_per_s_ * 1e9), 3e18);
    return free_at_ = std::max(free_at_, ready) + latency_ + std::chrono::nanoseconds(static_cast<int64_t>(ns));
  }

 private:
  double bytes_per_s_;
  std::chrono::nanoseconds latency_;
  Clock::time_point free_at_{};
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DEVICE_LINK_CLOCK_H_
