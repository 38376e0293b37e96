// A plan with everything in memory: only the step size is left to choose.
#include "src/plan/resident_plan.h"

#include <algorithm>
#include <optional>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/plan/cost_model.h"
#include "src/plan/device_search.h"
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

Status check_inputs(const StepShape& shape, const MachineProfile& machine, const Workload& workload) {
  OTR_TRY(check_shape(shape));
  OTR_TRY(check_profile(machine));
  return check_workload(workload, shape);
}

// In the order of preference.
std::vector<size_t> steps_up_to(const StepShape& shape, uint32_t most_step_tokens) {
  std::vector<size_t> steps;
  for (size_t i = shape.activations.size(); i-- > 0;) {
    if (shape.activations[i].tokens <= most_step_tokens) steps.push_back(i);
  }
  if (steps.empty()) steps.push_back(0);
  return steps;
}

bool holds(uint64_t budget_bytes, uint64_t bytes) { return budget_bytes == Budgets::kUnlimited || bytes <= budget_bytes; }

Status too_small(const char* tier, uint64_t needed_bytes, uint64_t given_bytes) {
  return Status(StatusCode::kBudget,
                formatted("{} memory: got {} ({} bytes), need {} ({} bytes) for all of the model; raise the budget or use a smaller model",
                          tier, format_bytes(given_bytes), given_bytes, format_bytes(needed_bytes), needed_bytes))
      .with_bytes(needed_bytes, given_bytes);
}

}  // namespace

Result<Plan> resident_plan(const StepShape& shape, const MachineProfile& machine, uint64_t budget_bytes, const Workload& workload,
                           uint32_t most_step_tokens) {
  OTR_TRY(check_inputs(shape, machine, workload));
  const Demand demand = demand_of(machine, workload);
  const CostModel cost(shape, machine, workload);
  uint64_t least = UINT64_MAX;
  for (const size_t step : steps_up_to(shape, most_step_tokens)) {
    Plan plan = plan_of(shape, demand, cost, all_resident(shape, cost, step));
    least = std::min(least, plan.host.planned_bytes);
    if (!holds(budget_bytes, plan.host.planned_bytes)) continue;
    plan.host.budget_bytes = budget_bytes;
    plan.minimum_host_bytes = plan.host.planned_bytes;
    return plan;
  }
  return too_small("host", least, budget_bytes);
}

Result<Plan> device_resident_plan(const StepShape& shape, const MachineProfile& machine, const Budgets& budgets, const Workload& workload,
                                  uint32_t most_step_tokens) {
  OTR_TRY(check_inputs(shape, machine, workload));
  const Demand demand = demand_of(machine, workload);
  const CostModel cost(shape, machine, workload);
  const DeviceSearch search(shape, demand, cost, machine, workload.corrections);
  uint64_t least_host = UINT64_MAX, least_device = UINT64_MAX;
  for (const size_t step : steps_up_to(shape, most_step_tokens)) {
    const std::optional<DevicePlacement> placement = search.everything(step);
    if (!placement) continue;
    Plan plan = plan_of(shape, demand, cost, *placement);
    least_host = std::min(least_host, plan.host.planned_bytes);
    least_device = std::min(least_device, plan.device.planned_bytes);
    if (!holds(budgets.host_bytes, plan.host.planned_bytes) || !holds(budgets.device_bytes, plan.device.planned_bytes)) continue;
    plan.host.budget_bytes = budgets.host_bytes;
    plan.device.budget_bytes = budgets.device_bytes;
    plan.minimum_host_bytes = plan.host.planned_bytes;
    return plan;
  }
  if (least_device == UINT64_MAX) return Status(StatusCode::kUnsupported, "nothing of this model is computed on a device; use the host");
  return holds(budgets.host_bytes, least_host) ? too_small("device", least_device, budgets.device_bytes)
                                               : too_small("host", least_host, budgets.host_bytes);
}

}  // namespace outrigger
