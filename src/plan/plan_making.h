// Plan making: a placement that was found, as the plan says it.
#ifndef OUTRIGGER_SRC_PLAN_PLAN_MAKING_H_
#define OUTRIGGER_SRC_PLAN_PLAN_MAKING_H_

#include <outrigger/plan.h>
#include <outrigger/step_shape.h>

#include <algorithm>

#include "src/plan/cost_model.h"
#include "src/plan/device_search.h"
#include "src/plan/memory_model.h"
#include "src/plan/placement_search.h"

namespace outrigger {

/// Preconditions: PlacementPlanner::plan's, checked.
Demand demand_of(const MachineProfile& machine, const Workload& workload);

inline double tokens_per_s(const WorkloadTime& time) { return 1 / std::max(time.decode_s, 1e-9); }

/// The same of the host's alone as of what a device shares.
DevicePlacement without_device(const PlacementSearch& search, const Placement& placement);

/// Everything of a plan but what lies beyond its placement: budgets, least budgets, alternatives. Counted again from the list of tensors,
/// not taken from the search.
Plan plan_of(const StepShape& shape, Demand demand, const CostModel& cost, const DevicePlacement& placement);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PLAN_PLAN_MAKING_H_
