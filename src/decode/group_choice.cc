// One group or two: what was measured of both.
#include "src/decode/group_choice.h"

#include <algorithm>

namespace outrigger {
namespace {

// Drafting that takes as much of the least pass may be worth hiding; the least pass is only expected, so that less than all of it is asked.
constexpr double kWorthHiding = 0.7;
constexpr uint32_t kLeastDrafted = 3;
// That much longer is no noise: one draft is enough, since a short text would be over before the third.
constexpr double kSurelyWorthHiding = 1.4;
// The first pass of each group has no other's drafts beside it. Few passes tell what is far off, and more what is near.
constexpr uint32_t kIgnoredPasses = 2, kFewPasses = 6, kTrialPasses = 20;
constexpr double kFarOff = 0.85;
// The last 30 passes or so count: texts end, and others begin.
constexpr double kKept = 0.97;
// More than the noise of some passes.
constexpr double kLeastGain = 1.03;
// What was not worth it is tried again when the texts are others; what was, is measured again beside going together.
constexpr uint32_t kPausePasses = 256, kKeptPasses = 1024;

}  // namespace

double least_pass_ms(const Plan& plan) {
  const StepPrediction &few = plan.decode, &many = plan.prefill;
  if (many.tokens <= few.tokens) return few.predicted_ms;
  const double token_ms = std::max(0.0, many.predicted_ms - few.predicted_ms) / (many.tokens - few.tokens);
  const double reading_ms = std::min(std::max(few.lanes.disk_ms, few.lanes.h2d_ms), few.predicted_ms);
  return std::max(few.predicted_ms - few.tokens * token_ms, reading_ms);
}

void GroupChoice::Mean::add(double of, double by) {
  sum = kKept * sum + of;
  weight = kKept * weight + by;
}

void GroupChoice::record(const CycleRecord& cycle) {
  if (wanted_ != 0 || cycle.groups != groups_) return;
  ++passes_;
  if (groups_ == 2) {
    if (passes_ > kIgnoredPasses) alternating_.add(cycle.tokens, cycle.ms);
    judge_alternating();
    return;
  }
  if (pause_ > 0) --pause_;
  if (cycle.draft_ms <= 0) return plain_.add(cycle.tokens, cycle.ms);
  ++drafted_;
  together_.add(cycle.tokens, cycle.ms);
  draft_ms_.add(cycle.draft_ms, 1);
  pass_ms_.add(cycle.ms - cycle.draft_ms, 1);
  tokens_.add(cycle.tokens, 1);
  judge_together();
}

// Tokens over time, if half of the texts draft in half of the time that all do, which is the least.
double GroupChoice::most_alternating() const {
  const double least_ms = std::min(least_pass_ms_, pass_ms_.value());
  return tokens_.value() / std::max(least_ms + pass_ms_.value(), draft_ms_.value());
}

void GroupChoice::judge_together() {
  if (pause_ > 0) return;
  if (draft_ms_.value() < (drafted_ < kLeastDrafted ? kSurelyWorthHiding : kWorthHiding) * least_pass_ms_) return;
  if (most_alternating() < kLeastGain * best_together()) return;
  groups_ = 2;
  passes_ = 0;
  alternating_ = {};
}

void GroupChoice::judge_alternating() {
  const double gain = alternating_.value() / best_together();
  if (passes_ == kFewPasses && gain < kFarOff) go_together();
  if (passes_ == kTrialPasses && gain < kLeastGain) go_together();
  if (passes_ == kKeptPasses) {
    go_together();
    pause_ = 0;
  }
}

void GroupChoice::go_together() {
  groups_ = 1;
  passes_ = drafted_ = 0;
  draft_ms_ = pass_ms_ = tokens_ = plain_ = together_ = {};
  pause_ = kPausePasses;
}

}  // namespace outrigger
