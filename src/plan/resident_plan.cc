// A plan with everything in host memory: only the step size is left to choose.
#include "src/plan/resident_plan.h"

#include <algorithm>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/plan/cost_model.h"
#include "src/plan/plan_inputs.h"
#include "src/plan/plan_making.h"

namespace outrigger {
namespace {

DevicePlacement all_resident(const StepShape& shape, const CostModel& cost, size_t step) {
  DevicePlacement placement;
  placement.step = step;
  placement.resident.assign(shape.matrices.size(), true);
  placement.time = cost.workload(shape.activations[step].tokens, StreamLoad(), nullptr);
  return placement;
}

}  // namespace

Result<Plan> resident_plan(const StepShape& shape, const MachineProfile& machine, uint64_t budget_bytes, const Workload& workload,
                           uint32_t most_step_tokens) {
  OTR_TRY(check_shape(shape));
  OTR_TRY(check_profile(machine));
  OTR_TRY(check_workload(workload, shape));
  const Demand demand = demand_of(machine, workload);
  const CostModel cost(shape, machine, workload);
  std::vector<size_t> steps;  // in the order of preference
  for (size_t i = shape.activations.size(); i-- > 0;) {
    if (shape.activations[i].tokens <= most_step_tokens) steps.push_back(i);
  }
  if (steps.empty()) steps.push_back(0);
  uint64_t least = UINT64_MAX;
  for (const size_t step : steps) {
    Plan plan = plan_of(shape, demand, cost, all_resident(shape, cost, step));
    least = std::min(least, plan.host.planned_bytes);
    if (budget_bytes != Budgets::kUnlimited && plan.host.planned_bytes > budget_bytes) continue;
    plan.host.budget_bytes = budget_bytes;
    plan.minimum_host_bytes = plan.host.planned_bytes;
    return plan;
  }
  return Status(
             StatusCode::kBudget,
             formatted("host memory: got {} ({} bytes), need {} ({} bytes) for all of the model; raise the budget or use a smaller model",
                       format_bytes(budget_bytes), budget_bytes, format_bytes(least), least))
      .with_bytes(least, budget_bytes);
}

}  // namespace outrigger
