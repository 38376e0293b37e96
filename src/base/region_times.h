// RegionTimes: whether a team's region was slow because others had the processors.
#ifndef OUTRIGGER_SRC_BASE_REGION_TIMES_H_
#define OUTRIGGER_SRC_BASE_REGION_TIMES_H_

#include <algorithm>
#include <chrono>
#include <cstddef>

namespace outrigger {

/// What is known of a region when it has ended.
struct RegionTimes {
  std::chrono::nanoseconds whole;  ///< of the caller
  std::chrono::nanoseconds lost;   ///< that members waited for each other, waits of a moment aside; of all members together
  std::chrono::nanoseconds late;   ///< after the region's beginning that the last of the workers who had slept came; 0: none had
  size_t threads;

  /// A short region may have lost a time slice by chance.
  bool can_be_judged() const { return whole >= std::chrono::microseconds(500); }

  /// Whether members lost a third of all their time to others: a quiet machine takes a few per cent, a busy one nearly everything. Waiting
  /// for workers that were asleep is nobody's doing: where the host computes every second part of a step they sleep before each, and a
  /// virtual machine may take most of a millisecond to wake a processor. What is later than that was kept out.
  bool was_disturbed() const {
    constexpr std::chrono::nanoseconds kLongestWaking = std::chrono::milliseconds(1);
    const auto count = static_cast<int64_t>(threads);
    return lost - std::min(late, kLongestWaking) * count >= whole * count / 3;
  }
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_BASE_REGION_TIMES_H_
