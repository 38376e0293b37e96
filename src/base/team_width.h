// TeamWidth: how many members of a team run its next region, while other programs want the processors too.
#ifndef OUTRIGGER_SRC_BASE_TEAM_WIDTH_H_
#define OUTRIGGER_SRC_BASE_TEAM_WIDTH_H_

#include <algorithm>
#include <chrono>
#include <cstddef>

#include "src/base/region_times.h"

namespace outrigger {

/// Members who wait for each other at barriers lose a time slice whenever one of them has no processor. So after a region that was
/// disturbed a quarter of the members stays out, again and again until none is disturbed or one is left: one hog costs sixteen members
/// four, and two of them one. After a while it tries more again, and each time in vain doubles the while. Pure: knows no clock.
class TeamWidth {
 public:
  using Duration = std::chrono::nanoseconds;
  using TimePoint = std::chrono::steady_clock::time_point;

  explicit TeamWidth(size_t threads) : threads_(threads), settled_(threads) {}

  /// Members of a region that begins `now`.
  size_t next(TimePoint now) const { return settled_ == threads_ || now < until_ ? settled_ : wider(settled_); }

  /// What came of a region of `times.threads` members, which ended `now`.
  void record(const RegionTimes& times, TimePoint now) {
    if (times.threads == 1 || !times.can_be_judged()) return;
    const bool was_trial = times.threads > settled_;
    if (!times.was_disturbed()) {
      if (!was_trial) return;
      settled_ = times.threads;
      pause_ = kShortest;
      until_ = now;
      return;
    }
    if (was_trial) {
      pause_ = std::min(2 * pause_, kLongest);
    } else {
      settled_ = narrower(times.threads);
    }
    until_ = now + std::max(pause_, kPauseRegions * times.whole);
  }

 private:
  /// Of a pause before more members are tried: at first a few tokens, at most so that the trials, which may take half a second each, cost
  /// a tenth.
  static constexpr Duration kShortest = std::chrono::milliseconds(100), kLongest = std::chrono::milliseconds(6400);
  /// And at least so many times what the disturbed region took: a prompt's, of which one takes longer than the shortest pause, would
  /// otherwise be tried by turns.
  static constexpr int kPauseRegions = 6;

  static size_t narrower(size_t count) { return count - (count + 3) / 4; }
  size_t wider(size_t count) const { return std::min(threads_, count + std::max<size_t>(1, count / 3)); }

  size_t threads_, settled_;
  Duration pause_ = kShortest;
  TimePoint until_{};
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_BASE_TEAM_WIDTH_H_
