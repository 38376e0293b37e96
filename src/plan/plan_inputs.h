// The planner's preconditions: what a shape, a profile and a workload must be for a plan to mean anything.
#ifndef OUTRIGGER_SRC_PLAN_PLAN_INPUTS_H_
#define OUTRIGGER_SRC_PLAN_PLAN_INPUTS_H_

#include <outrigger/machine_profile.h>
#include <outrigger/plan.h>
#include <outrigger/status.h>
#include <outrigger/step_shape.h>

namespace outrigger {

/// Each is ok or kInvalidArgument naming the first thing that does not hold.
Status check_shape(const StepShape& shape);
Status check_profile(const MachineProfile& machine);
Status check_workload(const Workload& workload, const StepShape& shape);
/// The same of a workload's or a plan's, which `what` begins with.
Status check_expert_repetition(const char* what, double repetition);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_PLAN_INPUTS_H_
