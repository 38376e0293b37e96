// How much of its branches a decode step uses: what each share was measured to take, beside what the host's owner allows.
#include "src/decode/branch_governor.h"

#include <algorithm>
#include <cmath>

namespace outrigger {
namespace {

// Of two times, one of which is a hiccup, the lesser is the other; one alone says nothing.
constexpr size_t kLeastBeside = 2;
// The settled share is given up at a tenth above the budget, others taken within it: between the two nothing moves to and fro.
constexpr double kTolerance = 1.1;
// With fewer samples it is given up only where each of them is far above.
constexpr size_t kLeastJudged = 5;
constexpr double kFarAbove = 2, kNoise = 0.02;
constexpr uint32_t kStepsOfTrial = 3;
constexpr uint32_t kLeastBetweenTrials = 16;
constexpr uint32_t kLeastBetweenBare = 2, kMostBetweenBare = 32;

}  // namespace

BranchGovernor::BranchGovernor(double max_slowdown, float share)
    : max_slowdown_(max_slowdown),
      settled_(static_cast<uint32_t>(std::lround(share * kWhole))),
      next_(settled_),
      since_bare_(kMostBetweenBare) {}

// What was overspent is saved in the steps that follow.
double BranchGovernor::budget() const { return std::max(0.0, max_slowdown_ - debt_ / kAverageSteps); }

// No less than without branches, whatever noise says.
double BranchGovernor::times(uint32_t eighths) const {
  if (eighths == 0) return 1;
  return std::max(1.0, bare_[eighths].size() >= kLeastBeside ? 1 / bare_[eighths].low() : tried_[eighths].low());
}

void BranchGovernor::record(double step_ms) {
  measure(step_ms);
  account(step_ms);
  decide();
}

// A settled step says how it is now; another one, beside those, what its share takes.
void BranchGovernor::measure(double step_ms) {
  ++since_bare_;
  ++since_trial_;
  if (next_ == settled_) {
    settled_ms_.add(step_ms);
    if (!settled_ms_.keep_after_leap()) return;
    for (TimeWindow& window : tried_) window.clear();
    for (TimeWindow& window : bare_) window.clear();
    since_bare_ = kMostBetweenBare;
    is_rising_ = false;
    return;
  }
  const double ratio = step_ms / settled_ms_.low();
  if (next_ == 0) {
    bare_[settled_].add(ratio);
  } else {
    tried_[next_].add(ratio * times(settled_));
  }
}

void BranchGovernor::account(double step_ms) {
  ++steps_;
  share_sum_ += share_of(next_);
  unknown_ms_[next_] += step_ms;
  ++unknown_steps_[next_];
  for (uint32_t i = 0; i <= kWhole; ++i) {
    if (unknown_steps_[i] == 0 || !has_samples(i, kLeastBeside)) continue;
    known_ms_ += unknown_ms_[i];
    bare_ms_ += unknown_ms_[i] / times(i);
    debt_ = std::max(0.0, debt_ + unknown_steps_[i] * (times(i) - 1 - max_slowdown_));
    unknown_ms_[i] = 0;
    unknown_steps_[i] = 0;
  }
}

void BranchGovernor::decide() {
  if (trial_steps_ > 0 && goes_on_trying()) return;
  if (next_ == 0) since_bare_ = 0;
  if (is_too_dear()) settle(lower());
  next_ = settled_;
  if (settled_ms_.size() < kLeastBeside) return;
  if (settled_ > 0 && since_bare_ >= steps_between_bare()) {
    next_ = 0;
  } else if (settled_ < kWhole && is_known(settled_) && (is_rising_ || since_trial_ >= steps_between_trials())) {
    next_ = higher();
    trial_steps_ = 1;
  }
}

// A trial is three steps, or two that are both far above the budget. Its end settles on the share if that fits.
bool BranchGovernor::goes_on_trying() {
  const uint32_t tried = next_;
  const TimeWindow& window = tried_[tried];
  const bool is_hopeless = trial_steps_ >= 2 && std::min(window.last(), window.low()) > 1 + kFarAbove * max_slowdown_ + kNoise;
  if (trial_steps_ < kStepsOfTrial && !is_hopeless) {
    ++trial_steps_;
    return true;
  }
  trial_steps_ = 0;
  since_trial_ = 0;
  is_rising_ = fits(tried);
  if (is_rising_) settle(tried);
  return false;
}

bool BranchGovernor::is_too_dear() const {
  const TimeWindow& window = bare_[settled_];
  if (settled_ == 0 || window.size() < kLeastBeside) return false;
  if (window.size() >= kLeastJudged) return times(settled_) > 1 + kTolerance * budget();
  return 1 / window.greatest() > 1 + kFarAbove * max_slowdown_ + kNoise;
}

void BranchGovernor::settle(uint32_t eighths) {
  if (eighths < settled_) is_rising_ = false, since_trial_ = 0;
  if (bare_[settled_].size() >= kLeastBeside) keep_as_tried();
  settled_ = eighths;
  settled_ms_.clear();
  since_bare_ = kMostBetweenBare;
}

// What is known of a share that is left is as old as its last sample, and gives way to trials.
void BranchGovernor::keep_as_tried() {
  const double known = times(settled_);
  tried_[settled_].clear();
  for (size_t i = 0; i < kLeastKnown; ++i) tried_[settled_].add(known);
  bare_[settled_].clear();
}

// As if the cost grew with the share.
uint32_t BranchGovernor::lower() const {
  return static_cast<uint32_t>(std::min<double>(settled_ - 1, settled_ * budget() / (times(settled_) - 1)));
}

// The same, twice as much at most, and below what is known not to fit but for the next one, which may have become cheaper.
uint32_t BranchGovernor::higher() const {
  const double cost = times(settled_) - 1, most = std::min(2 * settled_, kWhole);
  auto expected = static_cast<uint32_t>(cost > 0 ? std::min(most, settled_ * budget() / cost) : most);
  for (uint32_t i = settled_ + 1; i <= expected; ++i) {
    if (is_dear(i)) expected = i - 1;
  }
  return std::max(expected, settled_ + 1);
}

uint32_t BranchGovernor::steps_between_bare() const {
  return std::clamp(2 * static_cast<uint32_t>(bare_[settled_].size()), kLeastBetweenBare, kMostBetweenBare);
}

// Half of what the budget leaves above the settled share, or a sixteenth of it where nothing is left, is for trials.
double BranchGovernor::steps_between_trials() const {
  const uint32_t tried = higher();
  if (!has_samples(tried, 1)) return kLeastBetweenTrials;
  const double cost = times(tried) - times(settled_), left = std::max(budget() - (times(settled_) - 1), max_slowdown_ / 8);
  return std::max<double>(kLeastBetweenTrials, kStepsOfTrial * cost / (left / 2));
}

}  // namespace outrigger
