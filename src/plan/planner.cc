// PlacementPlanner: decides where every tensor lives, and says what that costs.
#include <outrigger/plan.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <new>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/plan/cost_model.h"
#include "src/plan/device_search.h"
#include "src/plan/memory_model.h"
#include "src/plan/placement_search.h"
#include "src/plan/plan_inputs.h"
#include "src/plan/plan_making.h"
#include "src/plan/self_draft_plan.h"
#include "src/plan/slowdown_plan.h"

namespace outrigger {
namespace {

// A search with and without the device, if there is one.
class Searches {
 public:
  Searches(const StepShape& shape, const Demand& demand, const CostModel& cost, const MachineProfile& machine, const Budgets& budgets,
           const Workload& workload)
      : host_(shape, demand, cost, workload.kv_spilled_layers) {
    // Which is the host's alone
    const bool must_spill = workload.kv_spilled_layers != Workload::kAsItPays && workload.kv_spilled_layers > 0;
    if (!DeviceRates::are_known(machine) || (must_spill && workload.draft_device_bytes == 0)) return;
    most_device_bytes_ = machine.device_memory_bytes;
    device_budget_ = budgets.device_bytes == Budgets::kDefault     ? most_device_bytes_ / 10 * 9
                     : budgets.device_bytes == Budgets::kUnlimited ? most_device_bytes_
                                                                   : std::min(budgets.device_bytes, most_device_bytes_);
    if (!must_spill) device_.emplace(shape, demand, cost, machine, workload.corrections);
  }

  uint64_t device_budget() const { return device_budget_; }
  uint64_t most_device_bytes() const { return most_device_bytes_; }
  uint64_t minimum_bytes() const {
    return device_ ? std::min(host_.minimum_bytes(), device_->minimum_host_bytes(device_budget_)) : host_.minimum_bytes();
  }
  std::optional<DevicePlacement> best(uint64_t host_budget, uint64_t device_budget) const {
    const bool reads = host_budget != Budgets::kUnlimited;
    const std::optional<DevicePlacement> alone = without_device(host_budget);
    if (!device_) return alone;
    std::optional<DevicePlacement> shared =
        device_->best(reads ? host_budget : UINT64_MAX - 1, device_budget, reads, alone ? alone->time.total_s : HUGE_VAL);
    return shared ? shared : alone;
  }
  std::optional<DevicePlacement> without_device(uint64_t host_budget) const {
    const std::optional<Placement> found = host_budget == Budgets::kUnlimited ? host_.everything_resident() : host_.best(host_budget);
    return found ? std::optional(outrigger::without_device(host_, *found)) : std::nullopt;
  }
  std::optional<DevicePlacement> everything_resident() const { return without_device(Budgets::kUnlimited); }
  std::optional<DevicePlacement> everything_on_device() const { return device_ ? device_->everything() : std::nullopt; }

 private:
  PlacementSearch host_;
  std::optional<DeviceSearch> device_;
  uint64_t device_budget_ = 0, most_device_bytes_ = 0;
};

// What more memory would buy, in steps that matter at this model's size, as far as it buys anything.
std::vector<PlanAlternative> alternatives_to(const Plan& plan, const Searches& searches) {
  std::vector<PlanAlternative> alternatives;
  const std::vector<bool> stays = stays_in_memory(plan);
  const bool reads_nothing = std::find(stays.begin(), stays.end(), false) == stays.end();
  if (reads_nothing && plan.kv_spilled_layers == 0) return alternatives;
  const std::optional<DevicePlacement> everything = searches.everything_resident();
  const uint64_t most_bytes = everything ? everything->host_bytes : UINT64_MAX - 1;
  double so_far = plan.predicted_decode_tokens_per_s;
  uint64_t more = std::max<uint64_t>(
      uint64_t{8} << 20, std::bit_floor((plan.decode.streamed_bytes + plan.decode.expert_bytes + plan.decode.kv_disk_bytes) / 16));
  for (int i = 0; i < 3; ++i, more *= 2) {
    const uint64_t budget = add_bytes(plan.host.budget_bytes, more);
    if (budget >= most_bytes) break;
    const double rate = tokens_per_s(searches.best(budget, plan.device.budget_bytes)->time);
    if (rate < so_far * 1.005) continue;
    alternatives.push_back({format_bytes(more) + " more host memory", budget, rate, plan.device.budget_bytes});
    so_far = rate;
  }
  if (everything && plan.device.own_bytes() == 0) {
    alternatives.push_back({"everything resident", most_bytes, tokens_per_s(everything->time), plan.device.budget_bytes});
  }
  return alternatives;
}

// The same of a device's: a quarter more, twice as much, everything there; and what it is worth.
void add_device_alternatives(const Searches& searches, Plan* plan) {
  const uint64_t budget = plan->device.budget_bytes;
  if (budget == 0) return;
  double so_far = plan->predicted_decode_tokens_per_s;
  const std::optional<DevicePlacement> everything = searches.everything_on_device();
  uint64_t more = std::max<uint64_t>(uint64_t{1} << 20, std::bit_floor(budget / 4));
  for (int i = 0; i < 2; ++i, more *= 4) {
    const uint64_t bytes = add_bytes(budget, more);
    if (everything && bytes >= everything->device_bytes) break;
    const double rate = tokens_per_s(searches.best(plan->host.budget_bytes, bytes)->time);
    if (rate < so_far * 1.005) continue;
    plan->alternatives.push_back({format_bytes(more) + " more device memory", plan->host.budget_bytes, rate, bytes});
    so_far = rate;
  }
  if (everything && everything->device_bytes > budget) {
    plan->alternatives.push_back(
        {"everything on the device", everything->host_bytes, tokens_per_s(everything->time), everything->device_bytes});
  }
  if (plan->device.own_bytes() == 0) return;
  const std::optional<DevicePlacement> alone = searches.without_device(plan->host.budget_bytes);
  if (alone) plan->alternatives.push_back({"without the device", plan->host.budget_bytes, tokens_per_s(alone->time), 0});
}

Status below_minimum(const Plan& least, const Demand& demand, uint64_t given_bytes) {
  const TierBreakdown& parts = least.host.breakdown;
  const uint64_t needed = least.host.planned_bytes,
                 most =
                     std::max({parts.weights_resident, parts.stream_slots, parts.kv_cache, parts.activations, parts.experts, parts.draft});
  std::string what, remedy;
  if (most == parts.kv_cache) {
    what = formatted("the KV cache of {} tokens", demand.context_tokens);
    if (demand.batch > 1) what += formatted(" for each of {} sessions", demand.batch);
    remedy = demand.batch > 1 ? "a smaller context or batch" : "a smaller context";
  } else if (most == parts.draft) {
    what = "the draft model";
    remedy = "a smaller draft";
  } else if (most == parts.activations) {
    what = formatted("activations and scratch of {} threads", demand.threads);
    remedy = "fewer threads";
  } else if (most == parts.experts) {
    what = "the slot of an expert";
    remedy = "a model with smaller experts";
  } else if (most == parts.stream_slots) {
    what = "the slots that weights stream through";
    remedy = least.expert_slots > 0 ? "a model with smaller experts or shorter rows" : "a model with shorter rows";
  } else {
    what = "weights that cannot stream";
    remedy = "a smaller model";
  }
  return Status(StatusCode::kBudget,
                formatted(
                    "host memory budget: got {} ({} bytes), need at least {} ({} bytes), of which {} are {}{}; raise the budget or use {}",
                    format_bytes(given_bytes), given_bytes, format_bytes(needed), needed, format_bytes(most), what,
                    parts.draft > 0 && most != parts.draft ? formatted(" and {} the draft model", format_bytes(parts.draft)) : "", remedy))
      .with_bytes(needed, given_bytes);
}

}  // namespace

const char* tier_name(Tier tier) noexcept {
  switch (tier) {
    case Tier::kDisk:
      return "disk";
    case Tier::kHost:
      return "host";
    case Tier::kDevice:
      return "device";
  }
  return "unknown";
}

const char* kv_type_name(KvType type) noexcept {
  switch (type) {
    case KvType::kF16:
      return "f16";
    case KvType::kF32:
      return "f32";
    case KvType::kQ8_0:
      return "q8_0";
  }
  return "unknown";
}

const char* residence_name(Residence mode) noexcept { return mode == Residence::kResident ? "resident" : "streamed"; }

namespace {

// What is kept on the device for a draft, before anything of the model itself goes there.
Status check_draft_room(const Demand& demand, const MachineProfile& machine, uint64_t device_budget) {
  if (demand.draft_device_bytes == 0) return {};
  const uint64_t taken = whole_pages(demand.device_taken_bytes), needed = add_bytes(whole_pages(demand.draft_device_bytes), taken);
  if (!DeviceRates::are_known(machine)) {
    return Status(
        StatusCode::kInvalidArgument,
        formatted("workload: draft_device_bytes is {}, and the machine's profile has no device; let the draft compute on the host",
                  demand.draft_device_bytes));
  }
  if (needed <= device_budget) return {};
  return Status(StatusCode::kBudget,
                formatted("device memory budget: got {} ({} bytes), need at least {} ({} bytes) for the draft model{}; raise the budget, "
                          "use a smaller draft, or let it compute on the host",
                          format_bytes(device_budget), device_budget, format_bytes(needed), needed,
                          taken > 0 ? formatted(", {} of them what the device takes by being used", format_bytes(taken)) : ""))
      .with_bytes(needed, device_budget);
}

// Steps use all that the shape says of branches and residuals. Preconditions: PlacementPlanner::plan's, checked.
Result<Plan> plan_steps(const StepShape& shape, const MachineProfile& machine, const Budgets& budgets, const Workload& workload) {
  const uint64_t budget = budgets.host_bytes;
  const Demand demand = demand_of(machine, workload);
  const CostModel cost(shape, machine, workload);
  const Searches searches(shape, demand, cost, machine, budgets, workload);
  const uint64_t device_budget = searches.device_budget(), minimum = searches.minimum_bytes();
  OTR_TRY(check_draft_room(demand, machine, device_budget));
  const std::optional<DevicePlacement> best = searches.best(budget, device_budget);
  if (!best) {
    if (budget == Budgets::kUnlimited || minimum == UINT64_MAX) {
      return Status(StatusCode::kInvalidArgument,
                    "this model and workload need more bytes than 64 bits can count; ask for a smaller context");
    }
    return below_minimum(plan_of(shape, demand, cost, *searches.best(minimum, device_budget)), demand, budget);
  }
  Plan plan = plan_of(shape, demand, cost, *best);
  plan.host.budget_bytes = budget;
  plan.device.budget_bytes = device_budget;
  plan.minimum_host_bytes = minimum;
  plan.minimum_device_bytes = plan.device.breakdown.draft > 0 ? plan.device.breakdown.draft + plan.device.breakdown.other : 0;
  plan.alternatives = alternatives_to(plan, searches);
  add_device_alternatives(searches, &plan);
  return plan;
}

}  // namespace

Result<Plan> PlacementPlanner::plan(const StepShape& shape, const MachineProfile& machine, const Budgets& budgets,
                                    const Workload& workload) try {
  OTR_TRY(check_shape(shape));
  OTR_TRY(check_profile(machine));
  OTR_TRY(check_workload(workload, shape));
  if (budgets.host_bytes == Budgets::kDefault) {
    return Status(StatusCode::kInvalidArgument, "host memory budget: not resolved; give bytes, or default_host_budget()");
  }
  const bool has_choice = workload.max_slowdown != Workload::kAnySlowdown && shape.correction_row_bytes > 0;
  const auto plan_of = [&](const StepShape& used) { return plan_steps(used, machine, budgets, workload); };
  Result<Plan> plan = has_choice ? plan_within_slowdown(shape, workload.max_slowdown, plan_of) : plan_of(shape);
  return workload.stand_ins == StandIns::kNone ? plan : plan_self_draft(std::move(plan), shape, machine, budgets, workload);
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");  // short enough to need none
}

}  // namespace outrigger
