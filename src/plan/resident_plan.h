// A plan with everything in memory, the host's or a device's, for a model that nothing is to be streamed of.
#ifndef OUTRIGGER_SRC_PLAN_RESIDENT_PLAN_H_
#define OUTRIGGER_SRC_PLAN_RESIDENT_PLAN_H_

#include <outrigger/plan.h>
#include <outrigger/step_shape.h>

namespace outrigger {

/// Of the step sizes up to `most_step_tokens` the largest that the budget holds; the smallest, if all are larger than that. Pure; no device
/// is used. Its predictions are by `machine`'s rates, which decide nothing. Errors: kBudget with the fewest bytes that would do;
/// kInvalidArgument as PlacementPlanner::plan.
Result<Plan> resident_plan(const StepShape& shape, const MachineProfile& machine, uint64_t budget_bytes, const Workload& workload,
                           uint32_t most_step_tokens);
/// The same with all on a device that can be there, of both budgets. `machine` has a device (DeviceRates::are_known).
Result<Plan> device_resident_plan(const StepShape& shape, const MachineProfile& machine, const Budgets& budgets, const Workload& workload,
                                  uint32_t most_step_tokens);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_RESIDENT_PLAN_H_
