// Draft forecast: tokens of a pass over its time, for every length.
#include <outrigger/draft_forecast.h>

#include <algorithm>
#include <cmath>

#include "src/base/formatted.h"
#include "src/base/macros.h"

namespace outrigger {
namespace {

Status check(const DraftExpectation& draft, bool has_halves) {
  const auto is_time = [](double ms) { return std::isfinite(ms) && ms > 0; };
  if (!is_time(draft.step_ms) || (has_halves && !is_time(draft.half_step_ms))) {
    return Status(StatusCode::kInvalidArgument,
                  formatted("draft: got steps of {} and {} ms, need times above 0", draft.step_ms, draft.half_step_ms));
  }
  for (size_t i = 0; i < draft.accepted.size(); ++i) {
    if (draft.accepted[i] >= 0 && draft.accepted[i] <= 1) continue;
    return Status(StatusCode::kInvalidArgument, formatted("draft.accepted[{}]: got {}, need 0 to 1", i, draft.accepted[i]));
  }
  return {};
}

// Passes of one plan, of drafts of any length.
class Passes {
 public:
  Passes(const Plan& plan, const StepShape& shape, const MachineProfile& machine) : plan_(plan), shape_(shape), machine_(machine) {}

  uint32_t sessions() const { return std::max(1u, plan_.decode.sequences); }
  uint32_t half() const { return (sessions() + 1) / 2; }

  /// One that verifies a draft of so many tokens for each of `sessions`.
  Result<StepPrediction> pass(uint32_t sessions, uint32_t drafted) const {
    const uint32_t tokens = sessions * (drafted + 1);
    const auto last = static_cast<double>(plan_.context_tokens - std::min(plan_.context_tokens, drafted + 1));
    const auto position = static_cast<uint32_t>(std::clamp(plan_.decode.position, 0.0, last));
    return predict_step(plan_, shape_, machine_, tokens, position, tokens, sessions);
  }
  /// Whether the plan's steps are long enough for that.
  bool has_room(uint32_t sessions, uint32_t drafted) const {
    const uint64_t tokens = uint64_t{sessions} * (drafted + 1);
    return tokens <= plan_.step_tokens && tokens <= plan_.logit_rows && drafted + 1 <= plan_.context_tokens;
  }

 private:
  const Plan& plan_;
  const StepShape& shape_;
  const MachineProfile& machine_;
};

void take_if_faster(uint32_t drafted, uint32_t groups, double tokens, double tokens_per_s, DraftForecast* best) {
  if (tokens_per_s <= best->tokens_per_s) return;
  best->tokens = drafted, best->groups = groups, best->tokens_per_pass = tokens, best->tokens_per_s = tokens_per_s;
}

}  // namespace

std::array<double, kMostDraftTokens> unknown_acceptance() {
  std::array<double, kMostDraftTokens> accepted{};
  double chance = 1;
  for (double& of : accepted) of = chance *= kUnknownAcceptance;
  return accepted;
}

Result<DraftForecast> forecast_draft(const Plan& plan, const StepShape& shape, const MachineProfile& machine,
                                     const DraftExpectation& draft) {
  const Passes passes(plan, shape, machine);
  const uint32_t sessions = passes.sessions(), half = passes.half();
  OTR_TRY(check(draft, sessions > 1));
  OTR_ASSIGN(const StepPrediction plain, passes.pass(sessions, 0));
  DraftForecast best;
  best.plain_tokens_per_s = best.tokens_per_s = sessions * 1e3 / plain.predicted_ms;
  double tokens = 1, chance = 1;
  const uint32_t most = std::min(plan.draft_tokens, kMostDraftTokens);
  for (uint32_t drafted = 1; drafted <= most && passes.has_room(sessions, drafted); ++drafted) {
    tokens += chance = std::min(chance, draft.accepted[drafted - 1]);
    OTR_ASSIGN(const StepPrediction all, passes.pass(sessions, drafted));
    take_if_faster(drafted, 1, tokens, sessions * tokens * 1e3 / (all.predicted_ms + drafted * draft.step_ms), &best);
    if (sessions == 1) continue;
    OTR_ASSIGN(const StepPrediction group, passes.pass(half, drafted));
    // Who drafts computes for the pass too, one after the other or both at half the rate.
    const double computing_ms = draft.on_device ? group.lanes.device_ms : group.lanes.host_ms;
    const double turn_ms = std::max(group.predicted_ms, computing_ms + drafted * draft.half_step_ms);
    take_if_faster(drafted, 2, tokens, sessions * tokens * 1e3 / (2 * turn_ms), &best);
  }
  return best;
}

}  // namespace outrigger
