// Plans with low-bit copies of what streams from disk, with which a model drafts for itself.
#ifndef OUTRIGGER_SRC_PLAN_SELF_DRAFT_PLAN_H_
#define OUTRIGGER_SRC_PLAN_SELF_DRAFT_PLAN_H_

#include <outrigger/plan.h>
#include <outrigger/status.h>
#include <outrigger/step_shape.h>

namespace outrigger {

/// `plain`, what is planned without copies, or a plan with them, as Workload::stand_ins asks. Copies and resident weights share what the
/// budget has beside the rest: as many bytes go to weights as leave room for the copies of all others. Preconditions:
/// PlacementPlanner::plan's, checked; stand_ins is not kNone. Errors: those of PlacementPlanner::plan about stand_ins, and plain's.
Result<Plan> plan_self_draft(Result<Plan> plain, const StepShape& shape, const MachineProfile& machine, const Budgets& budgets,
                             const Workload& workload);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_SELF_DRAFT_PLAN_H_
