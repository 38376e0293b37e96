// Schedule with a device: the rules of its ring, its link and the chain, on thousands of random plans; and figures that can be worked out
// by hand.
#include <algorithm>
#include <map>
#include <optional>

#include "src/plan/memory_model.h"
#include "src/plan/schedule.h"
#include "src/tensor/stream_layout.h"
#include "tests/support/random_shape.h"
#include "tests/plan/scheduled.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

struct Case {
  StepShape shape;
  MachineProfile machine;
  Plan plan;
  StepWork work;
  StepSchedule schedule;
};

/// A random plan that uses its device, and a random step of it.
std::optional<Case> random_case(uint64_t seed) {
  Random random(seed);
  Case c{random_shape(random), random_machine(random), {}, {}, {}};
  add_random_device(random, &c.machine);
  const Workload workload = random_workload(random);
  const uint64_t device_budget = pick(random, 1, c.machine.device_memory_bytes);
  const Result<Plan> starved = PlacementPlanner::plan(c.shape, c.machine, {1, device_budget}, workload);
  const uint64_t minimum = starved.is_ok() ? starved.value().host.planned_bytes : starved.status().needed_bytes();
  const uint64_t budget = pick(random, 0, 2) == 0 ? 0 : pick(random, minimum, minimum + (8 << 20));
  c.plan = PlacementPlanner::plan(c.shape, c.machine, {budget, device_budget}, workload).value();
  c.work.tokens = pick(random, 0, 1) > 0 ? c.plan.decode.tokens : static_cast<uint32_t>(pick(random, 1, c.plan.step_tokens));
  c.work.position = static_cast<double>(pick(random, 0, 1000));
  c.work.logit_rows = pick(random, 0, 2) == 0 ? 0 : std::min(c.plan.logit_rows, c.work.tokens);
  if (c.plan.device.planned_bytes == 0) return std::nullopt;
  c.schedule = scheduled(c.shape, c.plan, c.machine, c.work);
  return c;
}

constexpr uint64_t kSeeds = seeds(2500);
bool is_chained(const ScheduledTask& task) {
  return task.kind != TaskKind::kFetch && task.kind != TaskKind::kFetchExperts && task.kind != TaskKind::kBring;
}

// What runs beside the chain.
bool is_of_correction(const ScheduledTask& task) {
  return task.kind == TaskKind::kInput || task.kind == TaskKind::kCorrect || task.kind == TaskKind::kResult;
}

TEST_CASE("Schedule with a device: a lane does one thing at a time, and of host, device and the residual's way only one does anything") {
  uint64_t tried = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    CAPTURE(seed);
    const std::optional<Case> c = random_case(seed);
    if (!c) continue;
    ++tried;
    double free_from[kScheduleLanes] = {}, busy[kScheduleLanes] = {}, chain = 0, last_end = 0;
    for (const ScheduledTask& task : c->schedule.tasks) {
      const auto lane = static_cast<size_t>(task.lane);
      REQUIRE(task.begin_s >= free_from[lane]);
      REQUIRE(task.end_s >= task.begin_s);
      free_from[lane] = task.end_s;
      busy[lane] += task.end_s - task.begin_s;
      last_end = std::max(last_end, task.end_s);
      if (!is_chained(task) || is_of_correction(task)) continue;
      REQUIRE(task.begin_s >= chain);
      chain = task.end_s;
    }
    for (size_t lane = 0; lane < kScheduleLanes; ++lane) REQUIRE(c->schedule.busy_s[lane] == Approx(busy[lane]));
    REQUIRE(c->schedule.total_s == last_end);
  }
  CHECK(tried > seeds(300));
}

// Plays the tasks against a model of the device's ring that knows units and slots only.
TEST_CASE(
    "Schedule with a device: no unit is used there before it came, no slot is written before its unit was used, and the ring ends as it "
    "began") {
  uint64_t brought = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    CAPTURE(seed);
    const std::optional<Case> c = random_case(seed);
    if (!c) continue;
    const StreamLayout layout = layout_device_stream(c->shape, c->plan);
    const bool streams = c->plan.device_from_tokens > 0 && c->work.tokens >= c->plan.device_from_tokens;
    const uint32_t units = streams ? layout.step_units(c->work.logit_rows > 0) : 0, slots = layout.ring_slots;
    REQUIRE(c->schedule.device_units == units);
    REQUIRE(c->schedule.device_ring_slots == slots);
    std::vector<ScheduledTask> copies;
    std::map<uint32_t, double> last_use;
    for (const ScheduledTask& task : c->schedule.tasks) {
      if (task.kind == TaskKind::kBring) copies.push_back(task);
      if (task.lane == ScheduleLane::kDevice && task.unit != kNoUnit) last_use[task.unit] = task.end_s;
    }
    REQUIRE(copies.size() == units);
    REQUIRE(last_use.size() == units);
    std::vector<uint32_t> in_slot;
    for (uint32_t unit = 0; unit < slots; ++unit) in_slot.push_back(unit);
    for (uint32_t j = 0; j < copies.size(); ++j, ++brought) {
      const ScheduledTask& copy = copies[j];
      REQUIRE(copy.unit == (j + slots) % units);
      REQUIRE(in_slot[copy.slot] == j);
      REQUIRE(copy.begin_s >= last_use[j]);
      REQUIRE(copy.bytes == layout.units[copy.unit].packed_bytes);
      for (const ScheduledTask& task : c->schedule.tasks) {
        if (copy.unit >= slots && task.lane == ScheduleLane::kDevice && task.unit == copy.unit) REQUIRE(task.begin_s >= copy.end_s);
      }
      in_slot[copy.slot] = copy.unit;
    }
    for (uint32_t unit = 0; units > 0 && unit < slots; ++unit) REQUIRE(std::count(in_slot.begin(), in_slot.end(), unit) == 1);
  }
  CHECK(brought > (kIsSanitized ? 40 : 400));
}

TEST_CASE("Schedule with a device: both memories stay within plan and budget at every moment") {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    CAPTURE(seed);
    const std::optional<Case> c = random_case(seed);
    if (!c) continue;
    for (const MemoryMoment& moment : c->schedule.memory) {
      REQUIRE(moment.host.total() <= c->plan.host.planned_bytes);
      REQUIRE(moment.device.total() <= c->plan.device.planned_bytes);
      REQUIRE(moment.device.total() <= c->plan.device.budget_bytes);
      REQUIRE(moment.filled_slots <= c->schedule.ring_slots);
      REQUIRE(moment.filled_device_slots <= c->schedule.device_ring_slots);
    }
    REQUIRE(c->schedule.memory.back().filled_device_slots == c->schedule.device_ring_slots);
    REQUIRE(c->schedule.memory.back().filled_slots == c->schedule.ring_slots);
  }
}

TEST_CASE(
    "Schedule with a device: every byte is multiplied with once, where the plan says; what is brought and read is what the plan counted") {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    CAPTURE(seed);
    const std::optional<Case> c = random_case(seed);
    if (!c) continue;
    const bool streams = c->plan.device_from_tokens > 0 && c->work.tokens >= c->plan.device_from_tokens, with_head = c->work.logit_rows > 0;
    uint64_t here = 0, there = 0, got_here = 0, got_there = 0, brought = 0, read = 0, rows = 0;
    uint64_t corrections = 0, got_corrections = 0;
    double corrected_s = 0;
    uint32_t crossings = 0, expected_crossings = 0;
    bool was_there = false;
    for (const bool heads : {false, true}) {
      for (size_t i = 0; i < c->shape.matrices.size(); ++i) {
        const MatrixShape& matrix = c->shape.matrices[i];
        if (matrix.use == MatrixUse::kRowLookup || (matrix.use == MatrixUse::kLogits) != heads || (heads && !with_head)) continue;
        const TensorPlacement& tensor = c->plan.tensors[i];
        const bool is_there = tensor.tier == Tier::kDevice && (tensor.mode == Residence::kResident || streams);
        if (c->plan.corrections_beside && matrix.is_branch && was_there) {  // of a part that is there
          corrections += matrix.packed_bytes;
          continue;
        }
        if (is_there) corrections += c->work.tokens * matrix.residual_read_bytes;
        if (matrix.use != MatrixUse::kRouted) (is_there ? there : here) += matrix.packed_bytes;
        expected_crossings += is_there != was_there;
        was_there = is_there;
      }
    }
    for (const ScheduledTask& task : c->schedule.tasks) {
      if (task.kind == TaskKind::kBring) brought += task.bytes;
      if (task.kind == TaskKind::kFetch) read += task.bytes;
      if (task.kind == TaskKind::kRowReads) rows += task.bytes;
      if (task.kind == TaskKind::kCorrect) got_corrections += task.bytes;
      if (task.kind == TaskKind::kResult) corrected_s = task.end_s;
      if (task.kind == TaskKind::kAdd) REQUIRE(task.begin_s >= corrected_s);
      if (task.kind == TaskKind::kProduct || task.kind == TaskKind::kHead)
        (task.lane == ScheduleLane::kDevice ? got_there : got_here) += task.bytes;
      if (task.kind == TaskKind::kUpload || task.kind == TaskKind::kDownload) {
        ++crossings;
        REQUIRE(task.bytes == c->work.tokens * c->shape.residual_row_bytes);
      }
      REQUIRE_FALSE(task_label(c->shape, task).empty());
    }
    REQUIRE(got_here == here);
    REQUIRE(got_there == there);
    REQUIRE(got_corrections == corrections);
    REQUIRE(crossings == expected_crossings);
    const StepPrediction& step = c->plan.decode;
    if (with_head && c->work.tokens == step.tokens) {
      REQUIRE(brought == step.h2d_bytes);
      REQUIRE(read + rows == step.streamed_bytes);
    }
  }
}

TEST_CASE("Schedule with a device: a plan's lanes, and which of them binds, are those of its steps as they are played") {
  for (uint64_t seed = 0; seed < seeds(600); ++seed) {
    CAPTURE(seed);
    const std::optional<Case> c = random_case(seed);
    if (!c) continue;
    for (const StepPrediction* step : {&c->plan.decode, &c->plan.prefill}) {
      const StepSchedule schedule =
          scheduled(c->shape, c->plan, c->machine, {step->tokens, step->position, step->logit_rows, step->sequences});
      CHECK(step->lanes.disk_ms == schedule.busy_s[0] * 1e3);
      CHECK(step->lanes.host_ms == schedule.busy_s[1] * 1e3);
      CHECK(step->lanes.h2d_ms == schedule.busy_s[2] * 1e3);
      CHECK(step->lanes.device_ms == schedule.busy_s[3] * 1e3);
      if (step == &c->plan.decode) CHECK(c->plan.binding_lane == schedule_lane_name(schedule.binding_lane()));
    }
  }
}

// The figures of docs/design/0010-placing-on-a-device.md.
TEST_CASE("Schedule with a device: how far the closed form is from the step as it is played") {
  std::vector<double> still, streamed, corrected;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const std::optional<Case> c = random_case(seed);
    if (!c || c->shape.used_experts > 0) continue;
    for (const StepPrediction* step : {&c->plan.decode, &c->plan.prefill}) {
      const double ratio =
          scheduled(c->shape, c->plan, c->machine, {step->tokens, step->position, step->logit_rows, step->sequences}).total_s * 1e3 /
          step->predicted_ms;
      const bool reads = c->plan.stream_slots > 0;
      if (c->plan.corrections_beside) {
        corrected.push_back(ratio);
        continue;
      }
      if (!reads && step->h2d_bytes == 0) still.push_back(ratio);
      if (!reads && step->h2d_bytes > 0) streamed.push_back(ratio);
    }
  }
  std::sort(still.begin(), still.end());
  std::sort(streamed.begin(), streamed.end());
  std::sort(corrected.begin(), corrected.end());
  const auto at = [](const std::vector<double>& sorted, double share) {
    return sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1))];
  };
  REQUIRE(still.size() > seeds(200));
  REQUIRE(streamed.size() > seeds(50));
  // Products apart take a little longer than their sum where only some are bound by arithmetic: most where kinds alternate.
  CHECK(still.front() >= 1 - 1e-9);
  CHECK(at(still, 0.95) == Approx(1).margin(0.001));
  CHECK(still.back() == Approx(1.02).margin(0.02));
  if (kIsSanitized) return;
  CHECK(streamed.front() == Approx(0.90).margin(0.02));
  CHECK(at(streamed, 0.5) == Approx(1.02).margin(0.02));
  CHECK(at(streamed, 0.95) == Approx(1.42).margin(0.05));
  CHECK(streamed.back() == Approx(1.72).margin(0.05));
  // Where the host corrects: windows of one place in their layers are summed before the longer of both sides is taken.
  REQUIRE(corrected.size() > 50);
  CHECK(at(corrected, 0.5) == Approx(1).margin(0.01));
  CHECK(at(corrected, 0.05) == Approx(0.97).margin(0.03));
}

}  // namespace
}  // namespace outrigger
