// PlacementPlanner: decides where every tensor lives, and says what that costs.
#include <fmt/format.h>
#include <outrigger/plan.h>

#include <algorithm>
#include <bit>
#include <new>

#include "src/base/bytes.h"
#include "src/base/macros.h"
#include "src/plan/cost_model.h"
#include "src/plan/memory_model.h"
#include "src/plan/placement_search.h"
#include "src/plan/plan_inputs.h"
#include "src/plan/step_player.h"

namespace outrigger {
namespace {

// 16 GiB through slots of 256 KiB: some milliseconds. Of more, what is not hidden at the step's ends no longer shows.
constexpr uint64_t kMostPlayedUnits = uint64_t{1} << 16;

double tokens_per_s(const WorkloadTime& time) { return 1 / std::max(time.decode_s, 1e-9); }

Demand demand_of(const MachineProfile& machine, const Workload& workload) {
  Demand demand{machine.threads, workload.batch, workload.context_tokens, workload.logit_rows, workload.kv_type};
  if (demand.context_tokens == 0) demand.context_tokens = workload.prompt_tokens + workload.new_tokens;
  return demand;
}

// The lanes' times are those of the step as it is played; its own is the closed form's, which never grows with memory
// (docs/design/0006-prediction.md). `player` is null where there are too many units to play.
StepPrediction prediction(const CostModel& cost, const StepWork& work, const StreamLoad& load, uint64_t row_bytes, uint64_t kv_bytes, StepPlayer* player) {
  const StepTime time = cost.step(work, load), lanes = player != nullptr ? player->play(work) : time;
  StepPrediction step;
  step.tokens = work.tokens;
  step.lanes.disk_ms = lanes.disk_s * 1e3;
  step.lanes.host_ms = lanes.host_s * 1e3;
  step.predicted_ms = time.total_s * 1e3;
  step.streamed_bytes = load.layer_file + load.head_file + work.tokens * row_bytes;
  step.expert_bytes = static_cast<uint64_t>(time.expert_bytes);
  step.kv_disk_bytes = kv_bytes;
  step.position = work.position;
  step.logit_rows = work.logit_rows;
  return step;
}

// What a placement is made of, as the plan says it. Everything is counted again from the list of tensors, not taken from the search.
Plan plan_of(const StepShape& shape, Demand demand, const CostModel& cost, const PlacementSearch& search, const Placement& placement) {
  const ActivationCost& step = shape.activations[placement.step];
  const std::vector<bool> resident = search.resident(placement);
  demand.kv_spilled_layers = placement.kv_spilled_layers;
  Plan plan;
  plan.threads = demand.threads;
  plan.batch = demand.batch;
  plan.context_tokens = demand.context_tokens;
  plan.kv_type = demand.kv_type;
  plan.kv_layers = shape.kv_layers;
  plan.kv_spilled_layers = demand.kv_spilled_layers;
  if (demand.kv_spilled_layers > 0) {
    plan.kv_slots = kKvSlots;
    plan.kv_slot_bytes = kv_slot_bytes(shape, demand);
    plan.kv_spill_bytes = multiply_bytes(plan.kv_spilled_layers, plan.kv_slot_bytes);
  }
  plan.logit_rows = std::min(demand.logit_rows, step.tokens);
  plan.step_tokens = step.tokens;
  plan.stream_slots = placement.slots.ring;
  plan.slot_bytes = placement.slots.ring_slot_bytes;
  plan.reads = reads_in_flight(largest_row_block(shape), placement.slots);
  plan.staging_bytes = staging_bytes(largest_row_block(shape), placement.slots);
  plan.row_buffer_bytes = row_buffer_bytes(shape, resident);
  plan.expert_slots = placement.slots.experts;
  plan.expert_slot_bytes = placement.slots.expert_slot_bytes;

  StreamLoad load;
  load.slots = plan.stream_slots;
  load.slot_bytes = plan.slot_bytes;
  load.reads = plan.reads;
  load.kv_spilled_layers = plan.kv_spilled_layers;
  if (plan.expert_slots > 0) load.absent_experts = 1 - static_cast<double>(plan.expert_slots) / expert_count(shape);
  uint64_t row_bytes = 0;
  plan.tensors.reserve(shape.matrices.size());
  for (size_t i = 0; i < resident.size(); ++i) {
    const MatrixShape& matrix = shape.matrices[i];
    plan.tensors.push_back({matrix.name, matrix.packed_bytes, matrix.file_bytes, Tier::kHost,
                            resident[i] ? Residence::kResident : Residence::kStreamed, Tier::kHost});
    if (resident[i]) continue;
    if (matrix.use == MatrixUse::kEveryToken) load.layer_file += matrix.file_bytes, load.layer_packed += matrix.packed_bytes;
    if (matrix.use == MatrixUse::kLogits) load.head_file += matrix.file_bytes, load.head_packed += matrix.packed_bytes;
    if (is_looked_up(matrix)) row_bytes += matrix.row_file_bytes, ++load.row_reads;
  }
  plan.host.breakdown = host_breakdown(shape, demand, step, resident, placement.slots);
  plan.host.planned_bytes = plan.host.breakdown.total();

  const WorkloadTime time = cost.workload(step.tokens, load);
  std::optional<StepPlayer> player;
  if (least_units(shape, resident, plan.slot_bytes) <= kMostPlayedUnits) player.emplace(shape, cost, resident, plan.slot_bytes, plan.stream_slots, load.absent_experts, plan.reads, plan.kv_spilled_layers);
  const auto predict = [&](const StepWork& work) {
    const uint64_t kv_bytes = kv_disk_bytes(shape, demand, work.position, work.tokens);
    return prediction(cost, work, load, row_bytes, kv_bytes, player ? &*player : nullptr);
  };
  plan.decode = predict(cost.decode_work());
  plan.prefill = predict(cost.prefill_work(step.tokens));
  plan.predicted_prefill_ms = time.prefill_s * 1e3;
  plan.predicted_decode_tokens_per_s = tokens_per_s(time);
  plan.binding_lane = plan.decode.lanes.disk_ms > plan.decode.lanes.host_ms ? "disk" : "host";
  return plan;
}

// What more memory would buy, in steps that matter at this model's size, as far as it buys anything.
std::vector<PlanAlternative> alternatives_to(const Plan& plan, const PlacementSearch& search) {
  std::vector<PlanAlternative> alternatives;
  const bool all_resident = std::all_of(plan.tensors.begin(), plan.tensors.end(),
                                        [](const TensorPlacement& tensor) { return tensor.mode == Residence::kResident; });
  if (all_resident && plan.kv_spilled_layers == 0) return alternatives;
  const std::optional<Placement> everything = search.everything_resident();
  const uint64_t most_bytes = everything ? everything->planned_bytes : UINT64_MAX - 1;
  double so_far = plan.predicted_decode_tokens_per_s;
  uint64_t more = std::max<uint64_t>(uint64_t{8} << 20, std::bit_floor((plan.decode.streamed_bytes + plan.decode.expert_bytes + plan.decode.kv_disk_bytes) / 16));
  for (int i = 0; i < 3; ++i, more *= 2) {
    const uint64_t budget = add_bytes(plan.host.budget_bytes, more);
    if (budget >= most_bytes) break;
    const double rate = tokens_per_s(search.best(budget)->time);
    if (rate < so_far * 1.005) continue;
    alternatives.push_back({format_bytes(more) + " more host memory", budget, rate});
    so_far = rate;
  }
  if (everything) alternatives.push_back({"everything resident", most_bytes, tokens_per_s(everything->time)});
  return alternatives;
}

Status below_minimum(const Plan& least, const Demand& demand, uint64_t given_bytes) {
  const TierBreakdown& parts = least.host.breakdown;
  const uint64_t needed = least.host.planned_bytes,
                 most = std::max({parts.weights_resident, parts.stream_slots, parts.kv_cache, parts.activations, parts.experts});
  std::string what, remedy;
  if (most == parts.kv_cache) {
    what = fmt::format("the KV cache of {} tokens", demand.context_tokens);
    if (demand.batch > 1) what += fmt::format(" for each of {} sessions", demand.batch);
    remedy = demand.batch > 1 ? "a smaller context or batch" : "a smaller context";
  } else if (most == parts.activations) {
    what = fmt::format("activations and scratch of {} threads", demand.threads);
    remedy = "fewer threads";
  } else if (most == parts.experts) {
    what = "the slots of two experts";
    remedy = "a model with smaller experts";
  } else if (most == parts.stream_slots) {
    what = "the slots that weights stream through";
    remedy = "a model with shorter rows";
  } else {
    what = "weights that cannot stream";
    remedy = "a smaller model";
  }
  return Status(StatusCode::kBudget,
                fmt::format(
                    "host memory budget: got {} ({} bytes), need at least {} ({} bytes), of which {} are {}; raise the budget or use {}",
                    format_bytes(given_bytes), given_bytes, format_bytes(needed), needed, format_bytes(most), what, remedy))
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

Result<Plan> PlacementPlanner::plan(const StepShape& shape, const MachineProfile& machine, const Budgets& budgets,
                                    const Workload& workload) try {
  OTR_TRY(check_shape(shape));
  OTR_TRY(check_profile(machine));
  OTR_TRY(check_workload(workload, shape));
  const uint64_t budget = budgets.host_bytes;
  if (budget == Budgets::kDefault) {
    return Status(StatusCode::kInvalidArgument, "host memory budget: not resolved; give bytes, or default_host_budget()");
  }

  const Demand demand = demand_of(machine, workload);
  const CostModel cost(shape, machine, workload);
  const PlacementSearch search(shape, demand, cost, workload.kv_spilled_layers);
  const std::optional<Placement> best = budget == Budgets::kUnlimited ? search.everything_resident() : search.best(budget);
  if (!best) {
    if (budget == Budgets::kUnlimited || search.minimum_bytes() == UINT64_MAX) {
      return Status(StatusCode::kInvalidArgument,
                    "this model and workload need more bytes than 64 bits can count; ask for a smaller context");
    }
    return below_minimum(plan_of(shape, demand, cost, search, search.least()), demand, budget);
  }
  Plan plan = plan_of(shape, demand, cost, search, *best);
  plan.host.budget_bytes = budget;
  plan.minimum_host_bytes = search.minimum_bytes();
  plan.alternatives = alternatives_to(plan, search);
  return plan;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");  // short enough to need none
}

}  // namespace outrigger
