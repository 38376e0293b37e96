// PlacementPlanner with a device: never above either budget, never slower with more of either, exact at the minimum.
#include <algorithm>
#include <optional>

#include "src/plan/memory_model.h"
#include "tests/support/random_shape.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

struct Case {
  Case(uint64_t seed)
      : random(seed), shape(random_shape(random)), machine(random_machine(random)), workload(random_workload(random)) {  // NOLINT
    add_random_device(random, &machine);
  }
  Result<Plan> plan(uint64_t host_budget, uint64_t device_budget) const {
    return PlacementPlanner::plan(shape, machine, {host_budget, device_budget}, workload);
  }
  uint64_t minimum(uint64_t device_budget) const {
    const Result<Plan> starved = plan(1, device_budget);
    return starved.is_ok() ? starved.value().host.planned_bytes : starved.status().needed_bytes();
  }
  uint64_t some_device_budget() { return pick(random, 1, machine.device_memory_bytes); }

  Random random;
  StepShape shape;
  MachineProfile machine;
  Workload workload;
};

uint64_t bytes_on(const Plan& plan, Tier tier, Residence mode) {
  uint64_t bytes = 0;
  for (const TensorPlacement& tensor : plan.tensors) bytes += tensor.tier == tier && tensor.mode == mode ? tensor.bytes : 0;
  return bytes;
}

TEST_CASE("Planner: no plan is above its budgets, check_plan takes it, and it reads back from JSON as it was") {
  uint64_t used = 0, streamed = 0, beside_disk = 0;
  for (uint64_t seed = 0; seed < seeds(1000); ++seed) {
    Case c(seed);
    const uint64_t device_budget = c.some_device_budget(), minimum = c.minimum(device_budget);
    for (int i = 0; i < 3; ++i) {
      const uint64_t budget = i == 2 ? Budgets::kUnlimited : pick(c.random, minimum, minimum + (uint64_t{1} << pick(c.random, 10, 25)));
      CAPTURE(seed, budget, device_budget);
      const Result<Plan> made = c.plan(budget, device_budget);
      REQUIRE(made.status().to_string() == Status().to_string());
      const Plan& plan = made.value();
      REQUIRE(check_plan(plan, c.shape).to_string() == Status().to_string());
      if (budget != Budgets::kUnlimited) REQUIRE(plan.host.planned_bytes <= budget);
      REQUIRE(plan.device.planned_bytes <= device_budget);
      REQUIRE(plan.device.budget_bytes == device_budget);
      // In the words of TierBreakdown, summed once more.
      REQUIRE(plan.host.breakdown.weights_resident + kPageBytes >
              bytes_on(plan, Tier::kHost, Residence::kResident) + bytes_on(plan, Tier::kDevice, Residence::kStreamed));
      REQUIRE((plan.device.planned_bytes == 0 ||
               plan.device.breakdown.weights_resident >= bytes_on(plan, Tier::kDevice, Residence::kResident) + c.shape.fixed_bytes));
      REQUIRE(plan.minimum_device_bytes == 0);
      used += plan.device.planned_bytes > 0;
      streamed += plan.device_slots > 0;
      beside_disk += plan.device.planned_bytes > 0 && plan.stream_slots > 0;
      const Result<Plan> back = plan_from_json(plan_to_json(plan));
      REQUIRE(back.status().to_string() == Status().to_string());
      REQUIRE(plan_to_json(back.value()) == plan_to_json(plan));
      REQUIRE(plan_to_text(back.value()) == plan_to_text(plan));
      REQUIRE(check_plan(back.value(), c.shape).to_string() == Status().to_string());
    }
  }
  // All three ways of using a device come up.
  CHECK(used > seeds(300));
  CHECK(streamed > seeds(30));
  CHECK(beside_disk > seeds(60));
}

TEST_CASE("Planner: with a device more host memory never predicts a slower workload") {
  for (uint64_t seed = 0; seed < seeds(400); ++seed) {
    Case c(seed);
    const uint64_t device_budget = c.some_device_budget();
    uint64_t budget = c.minimum(device_budget);
    double before = 1e300;
    for (int i = 0; i < 20; ++i, budget += uint64_t{1} << pick(c.random, 10, 20)) {
      const Result<Plan> plan = c.plan(budget, device_budget);
      REQUIRE(plan.is_ok());
      const double now = predicted_ms(plan.value(), c.workload);
      CAPTURE(seed, budget, before, now);
      REQUIRE(now <= before * (1 + 1e-12));
      before = now;
    }
    REQUIRE(predicted_ms(c.plan(Budgets::kUnlimited, device_budget).value(), c.workload) <= before * (1 + 1e-12));
  }
}

TEST_CASE("Planner: more device memory never predicts a slower workload, nor needs more of the host's") {
  for (uint64_t seed = 0; seed < seeds(400); ++seed) {
    Case c(seed);
    // Enough for the host alone, by a little or a lot.
    const uint64_t budget = c.minimum(1) + (uint64_t{1} << pick(c.random, 10, 24));
    uint64_t device_budget = 1, least = c.minimum(1);
    double before = 1e300;
    for (int i = 0; i < 20; ++i, device_budget += uint64_t{1} << pick(c.random, 12, 21)) {
      const Result<Plan> plan = c.plan(budget, device_budget);
      REQUIRE(plan.is_ok());
      const double now = predicted_ms(plan.value(), c.workload);
      CAPTURE(seed, budget, device_budget, before, now);
      REQUIRE(now <= before * (1 + 1e-12));
      REQUIRE(plan.value().minimum_host_bytes <= least);
      before = now;
      least = plan.value().minimum_host_bytes;
    }
    REQUIRE(predicted_ms(c.plan(budget, Budgets::kUnlimited).value(), c.workload) <= before * (1 + 1e-12));
  }
}

TEST_CASE("Planner: with a device the minimum as a budget is enough, one byte less is a budget error that states it") {
  uint64_t less_than_alone = 0;
  for (uint64_t seed = 0; seed < seeds(600); ++seed) {
    Case c(seed);
    CAPTURE(seed);
    const uint64_t device_budget = c.some_device_budget(), minimum = c.minimum(device_budget);
    const Result<Plan> enough = c.plan(minimum, device_budget), less = c.plan(minimum - 1, device_budget);
    REQUIRE(enough.is_ok());
    REQUIRE(enough.value().minimum_host_bytes == minimum);
    REQUIRE(enough.value().host.planned_bytes == minimum);
    REQUIRE(less.status().code() == StatusCode::kBudget);
    REQUIRE(less.status().needed_bytes() == minimum);
    less_than_alone += minimum < c.minimum(1);
  }
  CHECK(less_than_alone > seeds(30));  // keys and values that are the device's
}

uint64_t pages(uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

// Of one step size: caches of so many bytes a token, activations, scratch, logits.
uint64_t beside_weights(const Case& c, const ActivationCost& step, uint64_t kv_bytes_per_token, uint64_t threads) {
  const uint32_t context = c.workload.context_tokens > 0 ? c.workload.context_tokens : c.workload.prompt_tokens + c.workload.new_tokens;
  const uint64_t granule = c.shape.kv_granule_tokens;
  const uint64_t token = c.workload.kv_type == KvType::kF32    ? 2 * kv_bytes_per_token
                         : c.workload.kv_type == KvType::kQ8_0 ? kv_bytes_per_token * 17 / 32
                                                               : kv_bytes_per_token;
  const uint64_t session = pages((context + granule - 1) / granule * granule * token),
                 rows = std::min(step.tokens, std::max(c.workload.logit_rows, c.workload.batch * (c.workload.draft_tokens + 1)));
  return c.workload.batch * session + pages(step.bytes + threads * c.shape.activation_bytes_per_thread + rows * c.shape.logits_row_bytes);
}

// Everything on the device, in the words of TierBreakdown: what the host then needs, or nothing if the device has not the memory.
std::optional<uint64_t> host_bytes_beside_everything(const Case& c, uint64_t device_budget) {
  const uint64_t fixed = (c.shape.fixed_bytes + 63) / 64 * 64;
  uint64_t weights = fixed, row_block = 0, row = 0;
  for (const MatrixShape& matrix : c.shape.matrices) {
    weights += matrix.packed_bytes;
    row_block = std::max(row_block, pages(matrix.row_block_bytes));
    if (matrix.also_rows) row = std::max(row, (matrix.row_file_bytes + 63) / 64 * 64);
  }
  const bool has_attention = std::any_of(c.shape.matrices.begin(), c.shape.matrices.end(),
                                         [](const MatrixShape& matrix) { return matrix.part == MatrixPart::kAttention; });
  std::optional<uint64_t> least;
  for (const ActivationCost& step : c.shape.activations) {
    const uint64_t kv = c.shape.kv_bytes_per_token;
    if (pages(weights) + beside_weights(c, step, has_attention ? kv : 0, c.machine.device_threads) > device_budget) continue;
    const uint64_t bytes = pages(fixed) + pages(row) + pages(c.workload.draft_bytes) + std::max<uint64_t>(1 << 20, row_block) +
                           beside_weights(c, step, has_attention ? 0 : kv, c.machine.threads);
    least = std::min(least.value_or(UINT64_MAX), bytes);
  }
  return least;
}

TEST_CASE("Planner: with a device the minimum is not above what the host needs beside a device that holds everything") {
  uint64_t tried = 0, met = 0;
  for (uint64_t seed = 0; seed < seeds(3000); ++seed) {
    Case c(seed);
    const bool is_all_parts = std::all_of(c.shape.matrices.begin(), c.shape.matrices.end(),
                                          [](const MatrixShape& matrix) { return matrix.part != MatrixPart::kHost; });
    if (!is_all_parts || c.shape.matrices.empty() || c.shape.residual_bytes > 0) continue;  // residuals are the host's
    const uint64_t device_budget = c.some_device_budget();
    const std::optional<uint64_t> expected = host_bytes_beside_everything(c, device_budget);
    if (!expected) continue;
    CAPTURE(seed, device_budget);
    const uint64_t minimum = c.minimum(device_budget);
    REQUIRE(minimum <= *expected);
    // Less than that takes leaving something out of the device that needs a buffer there: a head whose rows are looked up, a long row
    // block.
    met += minimum == *expected;
    ++tried;
  }
  CHECK(tried > seeds(100));
  CHECK(met > seeds(50));
}

TEST_CASE("Planner: a device too small for anything, or of which a rate is not known, changes nothing") {
  for (uint64_t seed = 0; seed < seeds(200); ++seed) {
    Case c(seed);
    CAPTURE(seed);
    MachineProfile alone = c.machine, unknown = c.machine;
    alone.device_memory_bytes = 0;
    unknown.d2h_bytes.per_s = 0;
    const uint64_t budget = c.minimum(1) + pick(c.random, 0, 1 << 22);
    const Result<Plan> expected = PlacementPlanner::plan(c.shape, alone, {budget}, c.workload);
    REQUIRE(plan_to_json(PlacementPlanner::plan(c.shape, unknown, {budget}, c.workload).value()) == plan_to_json(expected.value()));
    Plan small = c.plan(budget, 4096).value();
    small.device.budget_bytes = 0;
    std::erase_if(small.alternatives, [](const PlanAlternative& other) { return other.what.find("device") != std::string::npos; });
    for (PlanAlternative& other : small.alternatives) other.device_bytes = 0;
    REQUIRE(plan_to_json(small) == plan_to_json(expected.value()));
  }
}

TEST_CASE(
    "Planner: what is kept on a device for a draft is there first, with what the device itself takes, and the rest is planned as on a "
    "smaller device") {
  uint64_t used = 0, alone = 0;
  for (uint64_t seed = 0; seed < seeds(400); ++seed) {
    Case c(seed);
    if (c.workload.draft_bytes == 0) c.workload.draft_bytes = 10000;
    const uint64_t draft = pick(c.random, 1, c.machine.device_memory_bytes / 4),
                   taken = seed % 3 == 0 ? pick(c.random, 1, c.machine.device_memory_bytes / 4) : 0, before = pages(draft) + pages(taken);
    const uint64_t device_budget = before + pick(c.random, 1, c.machine.device_memory_bytes / 2 - 8192);
    const uint64_t budget = c.minimum(1) + pick(c.random, 0, 1 << 22);
    CAPTURE(seed, draft, device_budget);
    Plan without = c.plan(budget, device_budget - before).value();
    c.workload.draft_device_bytes = draft;
    c.machine.device_taken_bytes = taken;
    Plan with = c.plan(budget, device_budget).value();
    REQUIRE(check_plan(with, c.shape).to_string() == Status().to_string());
    const Result<Plan> back = plan_from_json(plan_to_json(with));
    REQUIRE(plan_to_json(back.value()) == plan_to_json(with));
    REQUIRE(with.device.planned_bytes == without.device.planned_bytes + before);
    REQUIRE(with.device.breakdown.other == pages(taken));
    REQUIRE(with.device_threads == c.machine.device_threads);
    REQUIRE(with.minimum_device_bytes == before);
    REQUIRE(c.plan(budget, before - 1).status().code() == StatusCode::kBudget);
    REQUIRE(c.plan(budget, before - 1).status().needed_bytes() == before);
    used += with.device.own_bytes() > 0;
    alone += with.device.own_bytes() == 0;
    with.device.breakdown.draft = with.device.breakdown.other = with.minimum_device_bytes = 0;
    with.device.planned_bytes = without.device.planned_bytes;
    with.device.budget_bytes = without.device.budget_bytes;
    with.device_threads = without.device_threads;
    with.alternatives.clear(), without.alternatives.clear();  // steps of more memory are those of the whole budget
    REQUIRE(plan_to_json(with) == plan_to_json(without));
  }
  CHECK(used > seeds(10));  // of budgets that are often too small for what turns need
  CHECK(alone > seeds(20));
}

TEST_CASE("Planner: what a device takes by being used counts in its budget if anything is computed there, and else not") {
  uint64_t used = 0, alone = 0;
  for (uint64_t seed = 0; seed < seeds(300); ++seed) {
    Case c(seed);
    const uint64_t device_budget = c.some_device_budget(), budget = c.minimum(1) + pick(c.random, 0, 1 << 22);
    const uint64_t taken = pick(c.random, 1, c.machine.device_memory_bytes / 4);
    CAPTURE(seed, device_budget, taken);
    const Plan smaller = c.plan(budget, std::max<uint64_t>(1, device_budget - std::min(device_budget, pages(taken)))).value();
    c.machine.device_taken_bytes = taken;
    const Plan plan = c.plan(budget, device_budget).value();
    REQUIRE(check_plan(plan, c.shape).to_string() == Status().to_string());
    const bool is_used = plan.device.own_bytes() > 0;
    REQUIRE(plan.device.breakdown.other == (is_used ? pages(taken) : 0));
    REQUIRE(plan.device.own_bytes() == smaller.device.planned_bytes);
    REQUIRE(plan.predicted_decode_tokens_per_s == smaller.predicted_decode_tokens_per_s);
    REQUIRE(plan.minimum_device_bytes == 0);
    used += is_used, alone += !is_used;
  }
  CHECK(used > seeds(25));
  CHECK(alone > seeds(50));
}

TEST_CASE("Planner: a draft on a device is refused where there is none, and without memory of the host's") {
  Case c(3);
  c.workload.draft_bytes = c.workload.draft_device_bytes = 4096;
  MachineProfile alone = c.machine;
  alone.device_memory_bytes = 0;
  const Status none = PlacementPlanner::plan(c.shape, alone, {Budgets::kUnlimited}, c.workload).status();
  CHECK(none.code() == StatusCode::kInvalidArgument);
  CHECK(none.message().find("no device") != std::string::npos);
  c.workload.draft_bytes = 0;
  CHECK(c.plan(Budgets::kUnlimited, Budgets::kUnlimited).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Planner: a device's budget is 90 % of its memory, all of it, or what is asked for as far as it is there") {
  const Case c(1);
  const uint64_t memory = c.machine.device_memory_bytes;
  CHECK(c.plan(Budgets::kUnlimited, Budgets::kDefault).value().device.budget_bytes == memory / 10 * 9);
  CHECK(c.plan(Budgets::kUnlimited, Budgets::kUnlimited).value().device.budget_bytes == memory);
  CHECK(c.plan(Budgets::kUnlimited, 12345).value().device.budget_bytes == 12345);
  CHECK(c.plan(Budgets::kUnlimited, memory + 1).value().device.budget_bytes == memory);
}

TEST_CASE("Planner: with a device sizes near 2^60 are planned or refused, never wrapped around") {
  for (uint64_t seed = 0; seed < seeds(300); ++seed) {
    Case c(seed);
    c.machine.device_memory_bytes = uint64_t{1} << pick(c.random, 20, 63);
    for (MatrixShape& matrix : c.shape.matrices) {
      const unsigned shift = static_cast<unsigned>(pick(c.random, 0, 40));
      matrix.packed_bytes <<= shift;
      matrix.file_bytes <<= shift;
      if (pick(c.random, 0, 3) == 0)
        matrix.row_block_bytes <<= shift, matrix.row_block_file_bytes <<= shift, matrix.row_file_bytes <<= shift;
    }
    if (pick(c.random, 0, 3) == 0) c.shape.fixed_bytes = UINT64_MAX - pick(c.random, 0, 5000);
    for (uint64_t budget : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 30, uint64_t{1} << 62, UINT64_MAX - 1}) {
      CAPTURE(seed, budget);
      const Result<Plan> plan = c.plan(budget, Budgets::kUnlimited);
      if (plan.is_ok()) {
        REQUIRE(check_plan(plan.value(), c.shape).to_string() == Status().to_string());
      } else {
        REQUIRE((plan.status().code() == StatusCode::kBudget || plan.status().code() == StatusCode::kInvalidArgument));
        if (plan.status().code() == StatusCode::kBudget) REQUIRE(plan.status().needed_bytes() > budget);
      }
    }
  }
}

}  // namespace
}  // namespace outrigger
