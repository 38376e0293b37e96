// DraftForecast: what a draft model is expected to give a plan, before it has drafted anything.
#ifndef OUTRIGGER_DRAFT_FORECAST_H_
#define OUTRIGGER_DRAFT_FORECAST_H_

#include <outrigger/export.h>
#include <outrigger/machine_profile.h>
#include <outrigger/model.h>
#include <outrigger/plan.h>
#include <outrigger/status.h>
#include <outrigger/step_shape.h>

#include <array>
#include <cstdint>

namespace outrigger {

/// What a draft model's steps are of.
struct DraftSteps {
  uint32_t context_tokens = 0;  ///< of each text, or as many as the draft is made for
  uint32_t new_tokens = 0;      ///< of these, at the end
  uint32_t texts = 1;           ///< of each of which a step has a token
};
/// The predicted time of such a step half way through the new tokens, all of the draft resident on the host, or on the machine's device.
/// Pure. Any thread.
/// Errors: kUnsupported where the model cannot run, or a device computes nothing of it; kInvalidArgument.
OTR_API Result<double> draft_model_step_ms(const Model& draft, const MachineProfile& machine, const DraftSteps& steps, bool on_device);

/// What is known of a draft.
struct DraftExpectation {
  /// A step of the draft with a token of each session of the plan's batch, where it computes: draft_model_step_ms()
  double step_ms = 0;
  double half_step_ms = 0;  ///< the same for half of them, rounded up, as with two groups; 0 where the batch is one
  /// Chance that a draft is accepted up to and with its token i, as SpeculationReport::chain_accepted_at is of chain_drafted_at. What is
  /// above the one before counts as that.
  std::array<double, kMostDraftTokens> accepted = {};
  bool on_device = false;   ///< where it computes: on the target's device, or on the host
  double read_ms = 0;       ///< of a prompt's token, once, before the first draft: no part of a forecast, which is of what is written
};
/// What is believed of a token of a draft that was never tried, if those before it were right: about what a small model of the same family
/// gets.
inline constexpr double kUnknownAcceptance = 0.6;
/// DraftExpectation::accepted of such a draft.
OTR_API std::array<double, kMostDraftTokens> unknown_acceptance();
/// What is expected of a draft model that was never tried: unknown_acceptance(), and the steps that draft_model_step_ms() predicts with all
/// texts and, where they are several, with half of them. Pure. Any thread. Errors: those.
OTR_API Result<DraftExpectation> untried_draft(const Model& draft, const MachineProfile& machine, const DraftSteps& steps, bool on_device);

/// The draft that is worth most.
struct DraftForecast {
  uint32_t tokens = 0;             ///< of its length; 0: plain steps are as fast
  uint32_t groups = 1;             ///< 2: one drafts beside the other's pass (BatchOptions::groups)
  double tokens_per_pass = 1;      ///< of a session
  double tokens_per_s = 0;         ///< of all sessions together
  double plain_tokens_per_s = 0;   ///< the same without a draft, by the same plan
};

/// Lengths from 1 to plan.draft_tokens, in one group or two, are compared by what passes give for what they and their drafts take. With two
/// groups a draft is made beside a pass of half of the sessions, and takes from it the time that the host, or the device, computes for
/// both. Pure. Cost: some 20 us for each length and 200 matrices. Any thread.
/// Errors: those of predict_step; kInvalidArgument for a time that is not above 0, and a chance that is not one.
OTR_API Result<DraftForecast> forecast_draft(const Plan& plan, const StepShape& shape, const MachineProfile& machine,
                                             const DraftExpectation& draft);

}  // namespace outrigger

#endif  // OUTRIGGER_DRAFT_FORECAST_H_
