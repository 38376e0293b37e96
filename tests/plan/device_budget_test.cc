// PlacementPlanner with a device: never above either budget, never slower with more of either, exact at the minimum.
#include <algorithm>

#include "src/plan/memory_model.h"
#include "tests/plan/random_shape.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

struct Case {
  Case(uint64_t seed) : random(seed), shape(random_shape(random)), machine(random_machine(random)), workload(random_workload(random)) {  // NOLINT
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
  int used = 0, streamed = 0, beside_disk = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
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
      REQUIRE(plan.host.breakdown.weights_resident + kPageBytes > bytes_on(plan, Tier::kHost, Residence::kResident) + bytes_on(plan, Tier::kDevice, Residence::kStreamed));
      REQUIRE((plan.device.planned_bytes == 0 || plan.device.breakdown.weights_resident >= bytes_on(plan, Tier::kDevice, Residence::kResident) + c.shape.fixed_bytes));
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
  CHECK(used > 300);
  CHECK(streamed > 30);
  CHECK(beside_disk > 60);
}

TEST_CASE("Planner: with a device more host memory never predicts a slower workload") {
  for (uint64_t seed = 0; seed < 400; ++seed) {
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
  for (uint64_t seed = 0; seed < 400; ++seed) {
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
  int less_than_alone = 0;
  for (uint64_t seed = 0; seed < 600; ++seed) {
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
  CHECK(less_than_alone > 50);  // keys and values that are the device's
}

// Every set of parts on the device that fits it, everything else of a model without experts streaming or resident as needs least: no plan can need
// less, and where the parts are few enough for the planner's orders to be all sets there are, it needs as much.
TEST_CASE("Planner: with a device the minimum is that of all sets of parts there are, where a layer has one and the head none") {
  int tried = 0;
  for (uint64_t seed = 0; seed < 3000 && tried < 60; ++seed) {
    Case c(seed);
    if (c.shape.used_experts > 0 || c.shape.kv_layers != 1) continue;
    CAPTURE(seed);
    const uint64_t device_budget = c.some_device_budget();
    uint64_t least = c.minimum(1);
    for (unsigned set = 1; set < 8; ++set) {  // attention, feed-forward, head
      const auto is_there = [set](const MatrixShape& matrix) {
        return matrix.part != MatrixPart::kHost && (set >> (static_cast<int>(matrix.part) - 1) & 1) != 0;
      };
      StepShape rest = c.shape;
      uint64_t on_device = (c.shape.fixed_bytes + 63) / 64 * 64, row_block = 0, row = 0, most_row_block = 0;
      bool has_kv = false, has_all = true;
      for (int part = 1; part <= 3; ++part) {
        const bool exists = std::any_of(rest.matrices.begin(), rest.matrices.end(), [part](const MatrixShape& matrix) { return static_cast<int>(matrix.part) == part; });
        has_all = has_all && (exists || !(set >> (part - 1) & 1));
      }
      if (!has_all) continue;
      for (const MatrixShape& matrix : c.shape.matrices) {
        if (matrix.use != MatrixUse::kRowLookup) most_row_block = std::max(most_row_block, matrix.row_block_bytes);
        if (!is_there(matrix)) continue;
        on_device += matrix.packed_bytes;
        row_block = std::max(row_block, (matrix.row_block_bytes + 4095) / 4096 * 4096);
        if (matrix.also_rows) row = std::max(row, (matrix.row_file_bytes + 63) / 64 * 64);
        has_kv = has_kv || matrix.part == MatrixPart::kAttention;
      }
      std::erase_if(rest.matrices, is_there);
      if (has_kv) rest.kv_bytes_per_token = 0;
      // Its own caches and activations, by the rule of the host's: as a shape without matrices has them.
      StepShape there = c.shape;
      there.matrices.clear();
      there.fixed_bytes = on_device;
      if (!has_kv) there.kv_bytes_per_token = 0;
      for (size_t step = 0; step < c.shape.activations.size(); ++step) {
        rest.activations = there.activations = {c.shape.activations[step]};
        MachineProfile alone = c.machine;
        alone.device_memory_bytes = 0;
        const uint64_t host_threads = alone.threads;
        alone.threads = c.machine.device_threads;
        const uint64_t needs = PlacementPlanner::plan(there, alone, {Budgets::kUnlimited}, c.workload).value().host.planned_bytes;
        if (needs > device_budget) continue;
        alone.threads = static_cast<uint32_t>(host_threads);
        const Result<Plan> starved = PlacementPlanner::plan(rest, alone, {1}, c.workload);
        // Its rows' buffer, and the readers', which are for the whole model's row blocks, are told apart from the host's alone.
        const Plan host = PlacementPlanner::plan(rest, alone, {starved.is_ok() ? starved.value().host.planned_bytes : starved.status().needed_bytes()}, c.workload).value();
        uint64_t bytes = host.host.planned_bytes - (host.row_buffer_bytes + 4095) / 4096 * 4096 + (std::max(host.row_buffer_bytes, row) + 4095) / 4096 * 4096;
        if (host.stream_slots > 0) {
          bytes += reads_in_flight(most_row_block, {host.stream_slots, host.slot_bytes, 0, 0}) * 0 + staging_bytes(most_row_block, {host.stream_slots, host.slot_bytes, 0, 0}) - host.staging_bytes;
        }
        least = std::min(least, bytes + std::max<uint64_t>(1 << 20, row_block));
      }
    }
    // The row buffer and the staging of another choice of the rest might be smaller; so this is where the planner's must not be above.
    REQUIRE(c.minimum(device_budget) <= least);
    ++tried;
  }
  REQUIRE(tried >= 40);
}

TEST_CASE("Planner: a device too small for anything, or of which a rate is not known, changes nothing") {
  for (uint64_t seed = 0; seed < 200; ++seed) {
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

TEST_CASE("Planner: a device's budget is 90 % of its memory, all of it, or what is asked for as far as it is there") {
  const Case c(1);
  const uint64_t memory = c.machine.device_memory_bytes;
  CHECK(c.plan(Budgets::kUnlimited, Budgets::kDefault).value().device.budget_bytes == memory / 10 * 9);
  CHECK(c.plan(Budgets::kUnlimited, Budgets::kUnlimited).value().device.budget_bytes == memory);
  CHECK(c.plan(Budgets::kUnlimited, 12345).value().device.budget_bytes == 12345);
  CHECK(c.plan(Budgets::kUnlimited, memory + 1).value().device.budget_bytes == memory);
}

TEST_CASE("Planner: with a device sizes near 2^60 are planned or refused, never wrapped around") {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Case c(seed);
    c.machine.device_memory_bytes = uint64_t{1} << pick(c.random, 20, 63);
    for (MatrixShape& matrix : c.shape.matrices) {
      const unsigned shift = static_cast<unsigned>(pick(c.random, 0, 40));
      matrix.packed_bytes <<= shift;
      matrix.file_bytes <<= shift;
      if (pick(c.random, 0, 3) == 0) matrix.row_block_bytes <<= shift, matrix.row_block_file_bytes <<= shift, matrix.row_file_bytes <<= shift;
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
