// BranchGovernor: how much of its branches a decode step uses, from what the steps before it took.
#ifndef OUTRIGGER_SRC_DECODE_BRANCH_GOVERNOR_H_
#define OUTRIGGER_SRC_DECODE_BRANCH_GOVERNOR_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "src/decode/time_window.h"

namespace outrigger {

/// Finds the largest share of the branches with which steps take no more than 1 + max_slowdown times as long as without, and follows it
/// when other programs make the host busy or leave it. What counts is the time beside steps of the same minute without branches, not the
/// time itself: so steps that all become slower change nothing.
///
/// Shares are eighths. Most steps use the one that is settled on. To compare with, a step is made without branches after every second step
/// while little is known, and after every 32nd later: it takes no longer than others, and its token is that of the bare weights. Now and
/// then a larger share is tried for three steps, so rarely that this takes half of what the budget leaves. What a share takes is a lower
/// quartile of its latest samples; a step's time that leaps makes all of them void. What was spent beyond the budget, by finding out or
/// before a leap was noticed, is saved over the next kAverageSteps steps. Pure: knows no clock. For steps that all have as many tokens.
class BranchGovernor {
 public:
  static constexpr uint32_t kWhole = 8;  ///< eighths
  static constexpr uint32_t kAverageSteps = 200;

  /// Begins with the eighth next to `share`. Precondition: max_slowdown is above 0.
  BranchGovernor(double max_slowdown, float share);

  /// Of the next step's branches.
  float next_share() const { return share_of(next_); }
  /// Of steps that are not measured.
  float settled_share() const { return share_of(settled_); }
  /// What the step with next_share() took, above 0.
  void record(double step_ms);

  uint64_t steps() const { return steps_; }
  double share_sum() const { return share_sum_; }  ///< over steps()
  /// Time of the steps whose share's cost is known, and what they had taken without branches.
  double known_ms() const { return known_ms_; }
  double bare_ms() const { return bare_ms_; }

 private:
  static float share_of(uint32_t eighths) { return static_cast<float>(eighths) / kWhole; }

  /// Time of a step with so many eighths, of one without branches as the unit. Precondition: was measured.
  double times(uint32_t eighths) const;
  bool has_samples(uint32_t eighths, size_t least) const {
    return eighths == 0 || std::max(tried_[eighths].size(), bare_[eighths].size()) >= least;
  }
  bool is_known(uint32_t eighths) const { return has_samples(eighths, kLeastKnown); }
  bool fits(uint32_t eighths) const { return is_known(eighths) && times(eighths) <= 1 + budget(); }
  bool is_dear(uint32_t eighths) const { return eighths > 0 && is_known(eighths) && times(eighths) > 1 + budget(); }
  bool is_too_dear() const;
  double budget() const;

  void measure(double step_ms);
  void account(double step_ms);
  void decide();
  bool goes_on_trying();
  void settle(uint32_t eighths);
  void keep_as_tried();
  uint32_t lower() const;
  uint32_t higher() const;
  uint32_t steps_between_bare() const;
  double steps_between_trials() const;

  static constexpr size_t kLeastKnown = 3;

  const double max_slowdown_;
  uint32_t settled_, next_;
  std::array<TimeWindow, kWhole + 1> tried_;  ///< samples of times() from trials, by eighths
  std::array<TimeWindow, kWhole + 1> bare_;   ///< steps without branches, beside those with so many eighths: samples of 1 / times()
  TimeWindow settled_ms_;                     ///< of the steps since the share was settled on
  uint32_t trial_steps_ = 0;                  ///< of the trial that is being made
  bool is_rising_ = false;                    ///< a trial has just succeeded: the next one need not wait
  uint32_t since_bare_, since_trial_ = 0;     ///< steps
  double debt_ = 0;                           ///< beyond the budget, in steps without branches

  uint64_t steps_ = 0;
  double share_sum_ = 0, known_ms_ = 0, bare_ms_ = 0;
  std::array<double, kWhole + 1> unknown_ms_{};  ///< of steps whose share's cost is not known yet
  std::array<uint32_t, kWhole + 1> unknown_steps_{};
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_BRANCH_GOVERNOR_H_
