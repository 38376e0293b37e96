// Self-draft plans: how the budget is shared between weights and copies, and what drafting with the copies is expected to give.
#include "src/plan/self_draft_plan.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/plan/cost_model.h"
#include "src/plan/memory_model.h"
#include "src/plan/placement_search.h"
#include "src/plan/plan_making.h"
#include "src/plan/step_prediction.h"
#include "src/tensor/low_bit_copy.h"
#include "src/tensor/stream_layout.h"

namespace outrigger {
namespace {

constexpr uint32_t kLeastBits = 2, kMostBits = 4;
// Chance that a token drafted with copies of 2, 3 or 4 bits of every matrix is the model's, if those before it were. A model of 135M in
// float16 said the first one too in 0.26, 0.53 and 0.83 of the passes, and a second one behind it in 0.2, 0.6 and 0.9 (six prompts, 40 to
// 64 tokens each, chains of four; later ones 0.75). What is resident as it is, which is better, does not count.
constexpr double kAcceptance[] = {0.2, 0.5, 0.8};
// Acceptances differ by a tenth from text to text: what is not worth more than that may as well lose.
constexpr double kLeastGain = 1.1;
// A quarter of the smallest slot that is tried: to what the budget is shared.
constexpr uint64_t kGranuleBytes = 64 << 10;

bool has_copies(const StepShape& shape, const std::vector<bool>& stays) {
  for (size_t i = 0; i < stays.size(); ++i) {
    if (has_stand_in(shape.matrices[i], stays[i])) return true;
  }
  return false;
}

// A step as a draft's: everything in memory, the copies for what streams.
StepShape with_stand_ins(StepShape shape, const std::vector<bool>& stays, uint32_t bits) {
  for (size_t i = 0; i < stays.size(); ++i) {
    MatrixShape& matrix = shape.matrices[i];
    if (!has_stand_in(matrix, stays[i])) continue;
    matrix.packed_bytes = stand_in_bytes(matrix, bits);
    if (matrix.product != ProductKind::kInt8Twice) matrix.product = ProductKind::kInt8;
  }
  return shape;
}

class SelfDraftPlans {
 public:
  SelfDraftPlans(const StepShape& shape, const MachineProfile& machine, const Workload& workload)
      : shape_(shape),
        machine_(machine),
        workload_(workload),
        demand_(demand_of(machine, workload)),
        cost_(shape, machine, workload),
        search_(shape, demand_, cost_, workload.kv_spilled_layers) {
    for (const ActivationCost& step : shape.activations) verifying_steps_.push_back(step.tokens > 1);
    least_ = search_.best(search_.minimum_bytes(verifying_steps_), &verifying_steps_);
  }

  /// Whether any plan's steps are long enough to verify a draft.
  bool can_verify() const { return least_.has_value(); }

  /// Everything that can stream, and copies of all that. Precondition: can_verify().
  uint64_t minimum_bytes(uint32_t bits) const { return bytes_with_copies(*least_, bits); }

  /// Whether something streams in a budget that holds copies: they are much smaller than what they stand for. Precondition: can_verify().
  bool saves_memory(uint32_t bits) const {
    const std::optional<Placement> plain = search_.best(minimum_bytes(bits));
    return plain && has_copies(shape_, search_.resident(*plain));
  }

  /// With most bytes for weights. Precondition: the budget is at least minimum_bytes(bits).
  Plan plan(uint64_t budget_bytes, uint32_t bits) const {
    uint64_t fits = least_->planned_bytes, too_much = budget_bytes;
    std::optional<Placement> best = least_;
    while (too_much - fits > kGranuleBytes) {
      const uint64_t middle = fits + (too_much - fits) / 2;
      std::optional<Placement> placement = search_.best(middle, &verifying_steps_);
      if (bytes_with_copies(*placement, bits) <= budget_bytes) {
        fits = middle;
        best = std::move(placement);
      } else {
        too_much = middle;
      }
    }
    Demand demand = demand_;
    demand.self_draft_bits = bits;
    Plan plan = plan_of(shape_, demand, cost_, without_device(search_, *best));
    plan.host.budget_bytes = budget_bytes;
    expect(&plan);
    return plan;
  }

  double rate_of_everything_resident(uint64_t* bytes) const {
    const std::optional<Placement> everything = search_.everything_resident();
    *bytes = everything ? everything->planned_bytes : UINT64_MAX;
    return everything ? tokens_per_s(everything->time) : 0;
  }

 private:
  uint64_t bytes_with_copies(const Placement& placement, uint32_t bits) const {
    Demand demand = demand_;
    demand.self_draft_bits = bits;
    return add_bytes(placement.planned_bytes, stand_ins_bytes(shape_, demand, search_.resident(placement)));
  }

  // Of drafts as long as is best: what a pass gives, over what it and the draft before it take.
  void expect(Plan* plan) const {
    const std::vector<bool> stays = stays_in_memory(*plan);
    const DeviceUse no_device;
    const DeviceLoad nothing_there;
    const StreamLoad load = StepPredictor(shape_, *plan, cost_, no_device, nothing_there).load();
    StreamLoad of_draft;
    of_draft.row_reads = load.row_reads;
    of_draft.kv_spilled_layers = load.kv_spilled_layers;
    const StepShape drafting = with_stand_ins(shape_, stays, plan->self_draft_bits);
    const double position = cost_.decode_work(1).position, accepted = kAcceptance[plan->self_draft_bits - kLeastBits];
    const double draft_s = CostModel(drafting, machine_, workload_).step({1, position, 1}, of_draft).total_s;
    double tokens = 1, chance = 1;
    for (uint32_t drafted = 1; drafted <= plan->draft_tokens; ++drafted) {
      chance *= accepted;
      tokens += chance;
      const double rate = tokens / (cost_.step({drafted + 1, position, drafted + 1}, load).total_s + drafted * draft_s);
      if (rate <= plan->predicted_draft_tokens_per_s) continue;
      plan->predicted_draft_tokens_per_s = rate;
      plan->draft_tokens_per_pass = tokens;
    }
  }

  const StepShape& shape_;
  const MachineProfile& machine_;
  const Workload& workload_;
  const Demand demand_;
  const CostModel cost_;
  const PlacementSearch search_;
  std::vector<bool> verifying_steps_;
  std::optional<Placement> least_;
};

// What copies cannot be made of. The matrix is named that is the reason. `plain`: null where not even that fits.
Status check_copies(const StepShape& shape, const Plan* plain) {
  constexpr const char* kWhat = "low-bit copies to draft with";
  if (plain != nullptr && plain->device.planned_bytes > 0) {
    return Status(
        StatusCode::kUnsupported,
        formatted("{}: the plan uses a device, where this version has none; plan without the device, or use another draft", kWhat));
  }
  for (const MatrixShape& matrix : shape.matrices) {
    if (matrix.use == MatrixUse::kRouted) {
      return Status(StatusCode::kUnsupported, formatted("{}: not of a mixture of experts in this version; use another draft", kWhat))
          .about(matrix.name);
    }
    if (is_multiplied(matrix) && matrix.columns % kCopyColumns != 0) {
      return Status(StatusCode::kUnsupported,
                    formatted("{}: rows of {} weights are not whole blocks of {}; use another draft", kWhat, matrix.columns, kCopyColumns))
          .about(matrix.name);
    }
  }
  if (shape.correction_row_bytes == 0) return {};
  return Status(StatusCode::kUnsupported, formatted("{}: this model has branches, and drafts without these; ask for no copies", kWhat));
}

Status below_minimum(uint32_t bits, uint64_t needed, uint64_t given) {
  return Status(StatusCode::kBudget, formatted("host memory budget: got {} ({} bytes), need at least {} ({} bytes) with {}-bit copies of "
                                               "what streams, to draft with; raise the budget "
                                               "or use another draft",
                                               format_bytes(given), given, format_bytes(needed), needed, bits))
      .with_bytes(needed, given);
}

std::string reads_text(const Plan& plan) {
  return formatted("{}-bit copies of {} to draft with: {} read for {:.1f} tokens", plan.self_draft_bits,
                   format_bytes(plan.host.breakdown.draft), format_bytes(plan.decode.streamed_bytes), plan.draft_tokens_per_pass);
}

// In the order of preference.
std::vector<uint32_t> bits_to_choose_from(const SelfDraftPlans& plans, StandIns wanted) {
  const bool is_open = wanted == StandIns::kAsItPays || wanted == StandIns::kAsFit;
  std::vector<uint32_t> all;
  for (uint32_t bits = kMostBits; bits >= kLeastBits && plans.can_verify(); --bits) {
    if ((is_open || bits == static_cast<uint32_t>(wanted)) && plans.saves_memory(bits)) all.push_back(bits);
  }
  return all;
}

// With what copies would be in such a budget: the plan's own, where they are not worth their memory, or the least that they need.
Plan declined(Plan plain, const SelfDraftPlans& plans, uint64_t budget, uint32_t bits) {
  const Plan drafting = plans.plan(budget, bits);
  plain.alternatives.push_back({reads_text(drafting), drafting.host.budget_bytes, drafting.predicted_draft_tokens_per_s, 0});
  return plain;
}

Plan taken(const Plan& plain, Plan plan, const SelfDraftPlans& plans) {
  plan.device.budget_bytes = plain.device.budget_bytes;
  plan.alternatives.push_back({formatted("nothing to draft with: {} read for 1 token", format_bytes(plain.decode.streamed_bytes)),
                               plan.host.budget_bytes, plain.predicted_decode_tokens_per_s, 0});
  uint64_t everything_bytes = 0;
  const double everything = plans.rate_of_everything_resident(&everything_bytes);
  if (everything > 0) plan.alternatives.push_back({"everything resident", everything_bytes, everything, 0});
  return plan;
}

}  // namespace

Result<Plan> plan_self_draft(Result<Plan> plain, const StepShape& shape, const MachineProfile& machine, const Budgets& budgets,
                             const Workload& workload) {
  const StandIns wanted = workload.stand_ins;
  const bool if_it_pays = wanted == StandIns::kAsItPays, is_open = if_it_pays || wanted == StandIns::kAsFit, has_plan = plain.is_ok();
  if (!has_plan && (if_it_pays || plain.status().code() != StatusCode::kBudget)) return plain;
  if (is_open && shape.correction_row_bytes > 0) return plain;
  if (has_plan && plain.value().expert_slots == 0 && !has_copies(shape, stays_in_memory(plain.value()))) return plain;
  if (Status status = check_copies(shape, has_plan ? &plain.value() : nullptr); !status.is_ok())
    return if_it_pays ? plain : std::move(status);
  Workload drafting = workload;
  // Copies are right oftener and further than the n-grams that room was asked for, where it was left to the plan whether there are any.
  if (if_it_pays) drafting.draft_tokens = std::max(workload.draft_tokens, kMostDraftTokens);
  const SelfDraftPlans plans(shape, machine, drafting);
  const std::vector<uint32_t> bits = bits_to_choose_from(plans, wanted);
  if (bits.empty())
    return if_it_pays
               ? plain
               : Status(StatusCode::kUnsupported,
                        "low-bit copies to draft with: memory for these would hold all of the model as well; use that, or another draft");
  const uint64_t budget = budgets.host_bytes, needed = plans.minimum_bytes(bits.back());
  const auto fit = std::find_if(bits.begin(), bits.end(), [&](uint32_t b) { return plans.minimum_bytes(b) <= budget; });
  if (!if_it_pays && fit == bits.end()) return below_minimum(bits.back(), needed, budget);
  if (fit == bits.end()) return declined(std::move(plain).value(), plans, needed, bits.back());
  Plan plan = plans.plan(budget, *fit);
  if (!has_copies(shape, stays_in_memory(plan))) return plain;
  const bool pays = plan.predicted_draft_tokens_per_s > kLeastGain * plain.value().predicted_decode_tokens_per_s;
  if (if_it_pays && !pays) return declined(std::move(plain).value(), plans, budget, *fit);
  plan.minimum_host_bytes = if_it_pays ? plain.value().minimum_host_bytes : std::min(needed, plan.host.planned_bytes);
  return taken(plain.value(), std::move(plan), plans);
}

}  // namespace outrigger
