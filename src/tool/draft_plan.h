// A plan with a draft model: what it is expected to give, by what was accepted of it before.
#ifndef OUTRIGGER_SRC_TOOL_DRAFT_PLAN_H_
#define OUTRIGGER_SRC_TOOL_DRAFT_PLAN_H_

#include <outrigger/model.h>
#include <outrigger/plan.h>
#include <outrigger/speculation.h>
#include <outrigger/status.h>

#include "src/tool/options.h"

namespace outrigger::tool {

/// A plan with memory kept for --draft FILE, of the host's or of the device's as --draft-place says; with auto where more tokens a second
/// are expected of it.
/// Errors: those of Model::open, draft_model_bytes and PlacementPlanner::plan; kInvalidArgument for a device that there is none of.
Result<Plan> plan_with_draft(const Model& model, const CommonOptions& options, const MachineProfile& machine, const Budgets& budgets,
                             Workload workload);

/// Says in `plan`, which keeps memory for --draft FILE, what is expected of it, and adds the plan without it to the alternatives. A line on
/// stderr, unless progress is off, tells on what that rests. Nothing is said without a draft model, and of a plan that was given. Errors:
/// those of Model::open, PlacementPlanner::plan and forecast_draft.
Status expect_draft(const Model& model, const CommonOptions& options, const Workload& workload, const MachineProfile* given, Plan* plan);

/// What a run's texts are expected to take, from the first token that is written.
struct DraftJudgement {
  double drafted_ms = 0;    ///< with --draft FILE, as right as it was in earlier runs; its reading of the prompts is part of it
  double plain_ms = 0;      ///< without it, and with its memory for weights
  double known_drafts = 0;  ///< of earlier runs; 0: all of it is taken to be right, which is a loss already, or too few are known

  /// Nothing is to be had of it, by more than predictions err.
  bool is_loss() const;
};
/// `workload` is without the room for drafts that `drafted` has. Errors: those of plan_with_draft and forecast_draft.
Result<DraftJudgement> judge_draft(const Model& model, const CommonOptions& options, const Workload& workload, const Workload& drafted);

/// Keeps what a run's draft model had accepted, for later plans. Failures are remarks.
void keep_acceptance(const Model& model, const CommonOptions& options, const SpeculationReport& report);

}  // namespace outrigger::tool

#endif  // OUTRIGGER_SRC_TOOL_DRAFT_PLAN_H_
