// PlacementPlanner and budgets: never above, exact at the minimum, never slower with more.
#include <algorithm>

#include "src/plan/memory_model.h"
#include "tests/support/random_shape.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

constexpr uint64_t kNone = UINT64_MAX;

struct Case {
  Case(uint64_t seed)
      : random(seed), shape(random_shape(random)), machine(random_machine(random)), workload(random_workload(random)) {}  // NOLINT
  Result<Plan> plan(uint64_t budget) const { return PlacementPlanner::plan(shape, machine, {budget}, workload); }
  uint64_t minimum() const {
    const Result<Plan> starved = plan(1);
    return starved.is_ok() ? starved.value().host.planned_bytes : starved.status().needed_bytes();
  }

  Random random;
  StepShape shape;
  MachineProfile machine;
  Workload workload;
};

uint64_t pages(uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

// Bytes of the largest expert: three stacks in a row are a layer's.
uint64_t largest_expert(const Case& c) {
  uint64_t largest = 0, bytes = 0, stacks = 0;
  for (const MatrixShape& matrix : c.shape.matrices) {
    if (matrix.use != MatrixUse::kRouted) continue;
    bytes = (stacks++ % 3 == 0 ? 0 : bytes) + matrix.packed_bytes / matrix.experts;
    largest = std::max(largest, bytes);
  }
  return largest;
}

// Where its rows arrive: each read of at most 1 MiB, row blocks permitting, wherever in a page it begins.
uint64_t largest_arrival(const Case& c) {
  uint64_t largest = 0, bytes = 0, stacks = 0;
  for (const MatrixShape& matrix : c.shape.matrices) {
    if (matrix.use != MatrixUse::kRouted) continue;
    const uint64_t blocks = matrix.packed_bytes / matrix.experts / matrix.row_block_bytes;
    const uint64_t of_read = std::clamp<uint64_t>((1 << 20) / matrix.row_block_file_bytes, 1, blocks);
    bytes = (stacks++ % 3 == 0 ? 0 : bytes) + (blocks + of_read - 1) / of_read * pages(of_read * matrix.row_block_file_bytes + 4095);
    largest = std::max(largest, bytes);
  }
  return largest;
}

// The definition of the minimum: every set of resident matrices, the experts as one of them, with the smallest ring it can do with, one
// slot for experts and one place where they arrive, and every number of layers whose keys and values are on disk, in the words of
// TierBreakdown.
uint64_t minimum_by_definition(const Case& c) {
  std::vector<MatrixShape> matrices;
  MatrixShape experts;
  for (const MatrixShape& matrix : c.shape.matrices) {
    if (matrix.use != MatrixUse::kRouted) matrices.push_back(matrix);
    if (matrix.use == MatrixUse::kRouted)
      experts.packed_bytes += matrix.packed_bytes, experts.experts = matrix.experts, experts.use = matrix.use;
  }
  if (experts.packed_bytes > 0) matrices.push_back(experts);
  const size_t count = matrices.size();
  uint64_t best = kNone;
  for (uint64_t set = 0; set < uint64_t{1} << count; ++set) {
    uint64_t resident = c.shape.fixed_bytes, slot = 0, row = 0, expert_slot = 0;
    for (size_t i = 0; i < count; ++i) {
      const MatrixShape& matrix = matrices[i];
      if (set >> i & 1) {
        resident += matrix.packed_bytes;
        continue;
      }
      if (matrix.use == MatrixUse::kRouted) {
        expert_slot = pages(largest_expert(c));
        continue;
      }
      if (matrix.use != MatrixUse::kRowLookup)
        slot = std::max(slot, pages(matrix.row_block_file_bytes + 4096));  // wherever the bytes begin
      if (matrix.use == MatrixUse::kRowLookup || matrix.also_rows) row = std::max(row, (matrix.row_file_bytes + 63) / 64 * 64);
    }
    // Two slots of the ring, and each thread's buffer to pack in.
    uint64_t row_block = 0;
    for (const MatrixShape& matrix : c.shape.matrices)
      row_block = std::max(row_block, matrix.use == MatrixUse::kRowLookup ? 0 : matrix.row_block_bytes);
    const uint64_t unpacking = slot == 0 ? 0 : c.machine.threads * pages(std::max(std::min<uint64_t>(128 << 10, slot), row_block));
    const uint64_t staging = unpacking + (expert_slot == 0 ? 0 : largest_arrival(c));
    best = std::min(best, pages(resident) + 2 * slot + expert_slot + staging + pages(row));
  }
  const uint32_t context = c.workload.context_tokens > 0 ? c.workload.context_tokens : c.workload.prompt_tokens + c.workload.new_tokens;
  const uint64_t granule = c.shape.kv_granule_tokens, halves = c.shape.kv_bytes_per_token;
  const uint64_t token = c.workload.kv_type == KvType::kF32 ? 2 * halves : c.workload.kv_type == KvType::kQ8_0 ? halves * 17 / 32 : halves;
  const uint64_t layer = (context + granule - 1) / granule * granule * token / c.shape.kv_layers;
  uint64_t caches = c.workload.batch * pages(c.shape.kv_layers * layer);
  for (uint32_t spilled = 1; spilled <= (c.workload.kv_spilled_layers == 0 ? 0 : c.shape.kv_layers); ++spilled) {
    caches = std::min(caches, c.workload.batch * (pages((c.shape.kv_layers - spilled) * layer) + 2 * pages(layer)));
  }
  uint64_t step = kNone;
  for (const ActivationCost& cost : c.shape.activations) {
    const uint64_t rows = std::min(cost.tokens, std::max(c.workload.logit_rows, c.workload.batch * (c.workload.draft_tokens + 1)));
    step = std::min(step, (cost.bytes + c.machine.threads * c.shape.activation_bytes_per_thread + rows * c.shape.logits_row_bytes + 4095) /
                              4096 * 4096);
  }
  return best + caches + step + pages(c.shape.residual_bytes) + pages(c.workload.draft_bytes);
}

TEST_CASE("Planner: the minimum is that of all residencies there are, tried one by one") {
  uint64_t tried = 0;
  for (uint64_t seed = 0; seed < seeds(600); ++seed) {
    const Case c(seed);
    if (c.shape.matrices.size() > 12) continue;
    CAPTURE(seed);
    REQUIRE(c.minimum() == minimum_by_definition(c));
    ++tried;
  }
  REQUIRE(tried > seeds(100));
}

TEST_CASE("Planner: the minimum as a budget is enough, one byte less is a budget error that states it") {
  for (uint64_t seed = 0; seed < seeds(1500); ++seed) {
    const Case c(seed);
    CAPTURE(seed);
    const uint64_t minimum = c.minimum();
    const Result<Plan> enough = c.plan(minimum), less = c.plan(minimum - 1);
    REQUIRE(enough.is_ok());
    REQUIRE(enough.value().minimum_host_bytes == minimum);
    REQUIRE(enough.value().host.planned_bytes == minimum);
    REQUIRE(less.status().code() == StatusCode::kBudget);
    REQUIRE(less.status().needed_bytes() == minimum);
    REQUIRE(less.status().given_bytes() == minimum - 1);
  }
}

TEST_CASE("Planner: no plan is above its budget, and its parts add up to what it says") {
  for (uint64_t seed = 0; seed < seeds(1500); ++seed) {
    Case c(seed);
    const uint64_t minimum = c.minimum();
    for (int i = 0; i < 4; ++i) {
      const uint64_t budget = pick(c.random, minimum, minimum + (uint64_t{1} << pick(c.random, 10, 25)));
      CAPTURE(seed, budget);
      const Result<Plan> plan = c.plan(budget);
      REQUIRE(plan.is_ok());
      REQUIRE(plan.value().host.planned_bytes <= budget);
      REQUIRE(plan.value().host.planned_bytes == plan.value().host.breakdown.total());
      REQUIRE(plan.value().host.planned_bytes % kPageBytes == 0);
      REQUIRE(check_plan(plan.value(), c.shape).to_string() == Status().to_string());
    }
  }
}

TEST_CASE("Planner: random plans spill keys and values, and those that were asked for are spilled") {
  uint64_t spilling = 0, beside_resident_weights = 0;
  for (uint64_t seed = 0; seed < 500; ++seed) {  // with sanitizers too: few plans spill beside weights that are all resident
    Case c(seed);
    CAPTURE(seed);
    const Plan plan = c.plan(c.minimum() + (uint64_t{1} << pick(c.random, 10, 23))).value();
    spilling += plan.kv_spilled_layers > 0;
    beside_resident_weights += plan.kv_spilled_layers > 0 && plan.stream_slots == 0;
    c.workload.kv_spilled_layers = static_cast<uint32_t>(pick(c.random, 0, c.shape.kv_layers));
    for (const uint64_t budget : {c.minimum(), Budgets::kUnlimited}) {
      const Plan asked = c.plan(budget).value();
      REQUIRE(asked.kv_spilled_layers == c.workload.kv_spilled_layers);
      REQUIRE(check_plan(asked, c.shape).to_string() == Status().to_string());
    }
    c.workload.kv_spilled_layers = c.shape.kv_layers + 1;
    REQUIRE(c.plan(Budgets::kUnlimited).status().code() == StatusCode::kInvalidArgument);
  }
  REQUIRE(spilling > 50);
  REQUIRE(beside_resident_weights > 5);
}

TEST_CASE("Planner: more memory never predicts a slower workload") {
  for (uint64_t seed = 0; seed < seeds(700); ++seed) {
    Case c(seed);
    uint64_t budget = c.minimum();
    double before = 1e300;
    // Small steps find an exchange of one matrix for another, large ones the changes of slots and step sizes.
    for (int i = 0; i < 25; ++i, budget += uint64_t{1} << pick(c.random, 10, 19)) {
      const Result<Plan> plan = c.plan(budget);
      REQUIRE(plan.is_ok());
      const double now = predicted_ms(plan.value(), c.workload);
      CAPTURE(seed, budget, before, now);
      REQUIRE(now <= before * (1 + 1e-12));
      before = now;
    }
    REQUIRE(predicted_ms(c.plan(Budgets::kUnlimited).value(), c.workload) <= before * (1 + 1e-12));
  }
}

TEST_CASE("Planner: the minimum does not depend on the machine's rates") {
  for (uint64_t seed = 0; seed < seeds(300); ++seed) {
    Case c(seed);
    const uint64_t minimum = c.minimum();
    const uint32_t threads = c.machine.threads;
    c.machine = random_machine(c.random);
    c.machine.threads = threads;
    REQUIRE(c.minimum() == minimum);
  }
}

TEST_CASE("Planner: without a limit everything is resident and there is no ring") {
  for (uint64_t seed = 0; seed < seeds(200); ++seed) {
    const Case c(seed);
    const Result<Plan> plan = c.plan(Budgets::kUnlimited);
    REQUIRE(plan.is_ok());
    for (const TensorPlacement& tensor : plan.value().tensors) REQUIRE(tensor.mode == Residence::kResident);
    REQUIRE(plan.value().stream_slots == 0);
    REQUIRE(plan.value().host.breakdown.stream_slots == 0);
    REQUIRE(plan.value().alternatives.empty());
    REQUIRE(check_plan(plan.value(), c.shape).is_ok());
  }
}

TEST_CASE("Planner: sizes near 2^60 are planned or refused, never wrapped around") {
  for (uint64_t seed = 0; seed < seeds(500); ++seed) {
    Case c(seed);
    for (MatrixShape& matrix : c.shape.matrices) {
      const unsigned shift = static_cast<unsigned>(pick(c.random, 0, 40));
      matrix.packed_bytes <<= shift;
      matrix.file_bytes <<= shift;
      if (pick(c.random, 0, 3) == 0)
        matrix.row_block_bytes <<= shift, matrix.row_block_file_bytes <<= shift, matrix.row_file_bytes <<= shift;
    }
    if (pick(c.random, 0, 3) == 0) {
      c.shape.kv_layers = uint32_t{1} << pick(c.random, 0, 6);
      c.shape.kv_bytes_per_token = uint64_t{1} << pick(c.random, 30, 63);
    }
    if (pick(c.random, 0, 3) == 0) c.shape.fixed_bytes = UINT64_MAX - pick(c.random, 0, 5000);
    for (uint64_t budget : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 30, uint64_t{1} << 62, UINT64_MAX - 1}) {
      CAPTURE(seed, budget);
      const Result<Plan> plan = c.plan(budget);
      if (!plan.is_ok()) {
        REQUIRE((plan.status().code() == StatusCode::kBudget || plan.status().code() == StatusCode::kInvalidArgument));
        if (plan.status().code() == StatusCode::kBudget) REQUIRE(plan.status().needed_bytes() > budget);
        continue;
      }
      REQUIRE(check_plan(plan.value(), c.shape).to_string() == Status().to_string());
      double sum = 0;  // in floating point, where nothing wraps
      for (size_t i = 0; i < c.shape.matrices.size(); ++i) {
        if (plan.value().tensors[i].mode == Residence::kResident) sum += static_cast<double>(c.shape.matrices[i].packed_bytes);
      }
      REQUIRE(sum <= static_cast<double>(plan.value().host.planned_bytes) * (1 + 1e-9));
    }
  }
}

}  // namespace
}  // namespace outrigger
