// Schedule: every rule of the ring and the lanes, on thousands of random plans; and figures that can be worked out by hand.
#include "src/plan/schedule.h"

#include <algorithm>
#include <map>
#include <set>

#include "src/plan/memory_model.h"
#include "src/tensor/stream_layout.h"
#include "tests/support/random_shape.h"
#include "tests/plan/scheduled.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

struct Case {
  StepShape shape;
  MachineProfile machine;
  Workload workload;
  Plan plan;
  StepWork work;
  StepSchedule schedule;
};

/// A random plan under a budget between the smallest and what would hold everything, and a random step of it.
Case random_case(uint64_t seed) {
  Random random(seed);
  Case c{random_shape(random), random_machine(random), random_workload(random), {}, {}, {}};
  const Result<Plan> starved = PlacementPlanner::plan(c.shape, c.machine, {1}, c.workload);
  const uint64_t minimum = starved.is_ok() ? starved.value().host.planned_bytes : starved.status().needed_bytes();
  const uint64_t most = PlacementPlanner::plan(c.shape, c.machine, {Budgets::kUnlimited}, c.workload).value().host.planned_bytes;
  c.plan = PlacementPlanner::plan(c.shape, c.machine, {pick(random, minimum, std::max(minimum, most))}, c.workload).value();
  const bool is_decode = pick(random, 0, 1) > 0;
  c.work.tokens = is_decode ? c.plan.decode.tokens : static_cast<uint32_t>(pick(random, 1, c.plan.step_tokens));
  c.work.position = static_cast<double>(pick(random, 0, 1000));
  c.work.logit_rows = pick(random, 0, 2) == 0 ? 0 : std::min(c.plan.logit_rows, c.work.tokens);
  c.schedule = scheduled(c.shape, c.plan, c.machine, c.work);
  return c;
}

std::vector<ScheduledTask> tasks_of(const StepSchedule& schedule, ScheduleLane lane) {
  std::vector<ScheduledTask> tasks;
  for (const ScheduledTask& task : schedule.tasks) {
    if (task.lane == lane) tasks.push_back(task);
  }
  return tasks;
}

TEST_CASE("Schedule: a lane does one thing at a time, in order, from 0 to the end of the step") {
  for (uint64_t seed = 0; seed < seeds(3000); ++seed) {
    CAPTURE(seed);
    const Case c = random_case(seed);
    double last_end = 0;
    for (const ScheduleLane lane : {ScheduleLane::kDisk, ScheduleLane::kHost}) {
      double free_from = 0, busy = 0;
      for (const ScheduledTask& task : tasks_of(c.schedule, lane)) {
        REQUIRE(task.begin_s >= free_from);
        REQUIRE(task.end_s >= task.begin_s);
        busy += task.end_s - task.begin_s;
        free_from = task.end_s;
      }
      REQUIRE(c.schedule.busy_s[static_cast<size_t>(lane)] == Approx(busy).margin(1e-12));
      REQUIRE(c.schedule.total_s >= free_from);
      last_end = std::max(last_end, free_from);
    }
    REQUIRE(c.schedule.total_s == last_end);
  }
}

// Plays the tasks against a model of the ring that knows units and slots only: what is where, and who still wants it.
TEST_CASE("Schedule: no unit is used before it came, no slot is written before its unit was used, and the ring ends as it began") {
  uint64_t fetches = 0;
  for (uint64_t seed = 0; seed < seeds(3000); ++seed) {
    CAPTURE(seed);
    const Case c = random_case(seed);
    const StreamLayout layout = layout_stream(c.shape, c.plan);
    const uint32_t units = layout.step_units(c.work.logit_rows > 0), slots = layout.ring_slots;
    REQUIRE(c.schedule.units == units);
    REQUIRE(c.schedule.ring_slots == slots);
    std::vector<ScheduledTask> disk = tasks_of(c.schedule, ScheduleLane::kDisk), host = tasks_of(c.schedule, ScheduleLane::kHost);
    std::erase_if(disk, [](const ScheduledTask& task) { return task.kind != TaskKind::kFetch; });
    REQUIRE(disk.size() == units);
    std::map<uint32_t, double> last_use;
    for (const ScheduledTask& task : host) {
      if (task.unit != kNoUnit) last_use[task.unit] = task.end_s;
    }
    REQUIRE(last_use.size() == units);
    std::vector<uint32_t> in_slot;
    for (uint32_t unit = 0; unit < slots; ++unit) in_slot.push_back(unit);
    for (uint32_t j = 0; j < disk.size(); ++j, ++fetches) {
      const ScheduledTask& fetch = disk[j];
      REQUIRE(fetch.unit == (j + slots) % units);
      REQUIRE(in_slot[fetch.slot] == j);
      REQUIRE(fetch.begin_s >= last_use[j]);  // unit j makes room
      if (fetch.unit >= slots) {
        for (const ScheduledTask& task : host) {
          if (task.unit == fetch.unit) REQUIRE(task.begin_s >= fetch.end_s);
          if (task.unit == fetch.unit) REQUIRE(task.slot == fetch.slot);
        }
      }
      REQUIRE(fetch.bytes == layout.units[fetch.unit].file_bytes);
      in_slot[fetch.slot] = fetch.unit;
    }
    if (units > 0) {
      for (uint32_t unit = 0; unit < slots; ++unit) REQUIRE(std::count(in_slot.begin(), in_slot.end(), unit) == 1);
    }
  }
  REQUIRE(fetches > seeds(10000));
}

// By the two slots alone: what is in them, and who still wants it.
TEST_CASE("Schedule: keys and values are in their slot when a layer attends, are stored after it, and nothing takes the slot before") {
  uint64_t attended = 0, alone = 0;
  for (uint64_t seed = 0; seed < seeds(3000); ++seed) {
    CAPTURE(seed);
    const Case c = random_case(seed);
    std::map<uint32_t, ScheduledTask> attention;
    for (const ScheduledTask& task : c.schedule.tasks) {
      if (task.kind == TaskKind::kAttention) attention[task.layer] = task;
    }
    std::vector<ScheduledTask> fetches, stores;
    for (const ScheduledTask& task : tasks_of(c.schedule, ScheduleLane::kDisk)) {
      if (task.kind == TaskKind::kFetchKv) fetches.push_back(task);
      if (task.kind == TaskKind::kStoreKv) stores.push_back(task);
    }
    REQUIRE(fetches.size() == c.plan.kv_spilled_layers);
    REQUIRE(stores.size() == c.plan.kv_spilled_layers);
    for (size_t i = 0; i < fetches.size(); ++i, ++attended) {
      REQUIRE(fetches[i].layer == stores[i].layer);
      REQUIRE((i == 0 || fetches[i].layer > fetches[i - 1].layer));
      REQUIRE(attention.count(fetches[i].layer) == 1);
      REQUIRE(attention[fetches[i].layer].begin_s >= fetches[i].end_s);
      REQUIRE(stores[i].begin_s >= attention[fetches[i].layer].end_s);
      if (i >= 2) REQUIRE(fetches[i].begin_s >= stores[i - 2].end_s);
    }
    for (const StepPrediction* step : {&c.plan.decode, &c.plan.prefill}) {
      uint64_t moved = 0;
      for (const ScheduledTask& task :
           scheduled(c.shape, c.plan, c.machine, {step->tokens, step->position, step->logit_rows, step->sequences}).tasks) {
        if (task.kind == TaskKind::kFetchKv || task.kind == TaskKind::kStoreKv) moved += task.bytes;
      }
      REQUIRE(moved == step->kv_disk_bytes);
    }
    // Where nothing else is on the lane the closed form is not below what is played, but for products of which only some are bound by
    // arithmetic.
    if (fetches.empty() || c.plan.stream_slots > 0 || c.plan.expert_slots > 0) continue;
    ++alone;
    for (const StepPrediction* step : {&c.plan.decode, &c.plan.prefill}) {
      const double played =
          scheduled(c.shape, c.plan, c.machine, {step->tokens, step->position, step->logit_rows, step->sequences}).total_s * 1e3;
      REQUIRE(step->predicted_ms >= played * 0.96);
      REQUIRE(step->predicted_ms <= played * 2);
    }
  }
  REQUIRE(attended > seeds(1000));
  REQUIRE(alone > seeds(20));
}

TEST_CASE("Schedule: memory is never above the plan, nor above the budget, and the ring never holds more than its slots") {
  for (uint64_t seed = 0; seed < seeds(3000); ++seed) {
    CAPTURE(seed);
    const Case c = random_case(seed);
    double before = -1;
    uint32_t most = 0;
    for (const MemoryMoment& moment : c.schedule.memory) {
      REQUIRE(moment.time_s > before);
      REQUIRE(moment.time_s <= c.schedule.total_s);
      REQUIRE(moment.host.total() <= c.plan.host.planned_bytes);
      REQUIRE(moment.host.total() <= c.plan.host.budget_bytes);
      REQUIRE(moment.filled_slots <= c.schedule.ring_slots);
      most = std::max(most, moment.filled_slots);
      before = moment.time_s;
    }
    REQUIRE(c.schedule.memory.front().time_s == 0);
    REQUIRE(most == c.schedule.ring_slots);
    REQUIRE(c.schedule.memory.back().filled_slots == c.schedule.ring_slots);
  }
}

TEST_CASE("Schedule: every byte of every matrix that is used is multiplied with once, in the order of the step") {
  for (uint64_t seed = 0; seed < seeds(2000); ++seed) {
    CAPTURE(seed);
    const Case c = random_case(seed);
    uint64_t expected = 0, got = 0, read = 0;
    for (const MatrixShape& matrix : c.shape.matrices) {
      const bool is_used = matrix.use == MatrixUse::kEveryToken || (matrix.use == MatrixUse::kLogits && c.work.logit_rows > 0);
      if (is_used) expected += matrix.packed_bytes;
    }
    uint32_t matrix = 0;
    std::map<uint32_t, int> attentions;
    for (const ScheduledTask& task : c.schedule.tasks) {
      if (task.kind == TaskKind::kFetch) read += task.bytes;
      if (task.kind == TaskKind::kAttention) ++attentions[task.layer];
      if (task.kind != TaskKind::kProduct && task.kind != TaskKind::kHead) continue;
      got += task.bytes;
      REQUIRE(task.first_matrix >= matrix);
      matrix = task.first_matrix;
      REQUIRE_FALSE(task_label(c.shape, task).empty());
    }
    REQUIRE(got == expected);
    std::set<uint32_t> layers;
    for (const MatrixShape& of : c.shape.matrices) {
      if (of.use == MatrixUse::kEveryToken) layers.insert(of.layer);
    }
    REQUIRE(attentions.size() == std::max<size_t>(1, layers.size()));  // without matrices there is still one
    for (const auto& [layer, count] : attentions) REQUIRE(count == 1);
    if (c.work.logit_rows > 0 && c.work.tokens == c.plan.decode.tokens) {
      uint64_t rows = 0;
      for (size_t i = 0; i < c.shape.matrices.size(); ++i) {
        if (is_looked_up(c.shape.matrices[i]) && c.plan.tensors[i].mode == Residence::kStreamed)
          rows += c.work.tokens * c.shape.matrices[i].row_file_bytes;
      }
      REQUIRE(read + rows == c.plan.decode.streamed_bytes);
    }
  }
}

TEST_CASE("Schedule: a step is never shorter than its longest lane, nor longer than all of them one after the other") {
  for (uint64_t seed = 0; seed < seeds(2000); ++seed) {
    CAPTURE(seed);
    const Case c = random_case(seed);
    const double disk = c.schedule.busy_s[0], host = c.schedule.busy_s[1];
    REQUIRE(c.schedule.total_s >= std::max(disk, host) * (1 - 1e-12));
    REQUIRE(c.schedule.total_s <= (disk + host) * (1 + 1e-12));
    REQUIRE((c.schedule.binding_lane() == ScheduleLane::kDisk) == (disk > host));
  }
}

TEST_CASE("Schedule: is played as soon as it can be: each task begins at 0, or when the one before it or what it waits for ends") {
  for (uint64_t seed = 0; seed < seeds(1000); ++seed) {
    CAPTURE(seed);
    const Case c = random_case(seed);
    std::set<double> ends = {0};
    for (const ScheduledTask& task : c.schedule.tasks) ends.insert(task.end_s);
    // Experts are drawn in one piece after what they wait for, though the first of them are computed sooner.
    for (const ScheduledTask& task : c.schedule.tasks) REQUIRE((task.kind == TaskKind::kExperts || ends.count(task.begin_s) == 1));
  }
}

TEST_CASE("Schedule: a plan's lanes, and which of them binds, are those of its steps as they are played") {
  for (uint64_t seed = 0; seed < seeds(500); ++seed) {
    CAPTURE(seed);
    const Case c = random_case(seed);
    for (const StepPrediction* step : {&c.plan.decode, &c.plan.prefill}) {
      const StepSchedule schedule =
          scheduled(c.shape, c.plan, c.machine, {step->tokens, step->position, step->logit_rows, step->sequences});
      CHECK(step->lanes.disk_ms == schedule.busy_s[0] * 1e3);
      CHECK(step->lanes.host_ms == schedule.busy_s[1] * 1e3);
      if (step == &c.plan.decode) CHECK(c.plan.binding_lane == schedule_lane_name(schedule.binding_lane()));
    }
  }
}

// The figures of docs/design/0006-prediction.md, so that they stay true: fails as well when the two have come closer.
TEST_CASE("Schedule: how far the closed form is from the step as it is played") {
  struct Expected {
    double disk_per_s, least, median, most;
  };
  const auto ratios = [](double disk_per_s, bool is_decode) {
    MachineProfile machine = two_cores();
    machine.disk_bytes.per_s = disk_per_s;
    std::vector<double> found;
    for (uint64_t budget = 30 << 20; budget < 125 << 20; budget += 1 << 19) {
      const Plan plan = PlacementPlanner::plan(small_model(), machine, {budget}, {}).value();
      const StepPrediction& step = is_decode ? plan.decode : plan.prefill;
      if (plan.stream_slots == 0) continue;
      found.push_back(scheduled(small_model(), plan, machine, {step.tokens, step.position, step.logit_rows, step.sequences}).total_s * 1e3 /
                      step.predicted_ms);
    }
    std::sort(found.begin(), found.end());
    return found;
  };
  for (const auto& [expected, is_decode] : {std::pair<Expected, bool>{{0.7e9, 0.94, 0.99, 1.76}, true},
                                            {{0.7e9, 0.85, 0.94, 1.26}, false},
                                            {{7e9, 0.85, 0.91, 1.19}, true},
                                            {{7e9, 0.93, 0.98, 1.11}, false}}) {
    CAPTURE(expected.disk_per_s, is_decode);
    const std::vector<double> found = ratios(expected.disk_per_s, is_decode);
    REQUIRE(found.size() > 100);
    CHECK(found.front() == Approx(expected.least).margin(0.01));
    CHECK(found[(found.size() - 1) / 2] == Approx(expected.median).margin(0.01));
    CHECK(found.back() == Approx(expected.most).margin(0.02));
  }
}

// Two matrices of four row blocks each, slots of one block, every rate a round number.
struct ByHand {
  StepShape shape;
  MachineProfile machine;
  Plan plan;
};

ByHand by_hand() {
  ByHand made;
  for (uint32_t i = 0; i < 2; ++i) {
    MatrixShape matrix;
    matrix.name = i == 0 ? "blk.0.attn_q.weight" : "blk.0.ffn_up.weight";
    matrix.window = i;
    matrix.rows = 64;
    matrix.columns = 256;
    matrix.row_block_bytes = matrix.row_block_file_bytes = 4096;
    matrix.packed_bytes = matrix.file_bytes = 4 * 4096;
    made.shape.matrices.push_back(matrix);
  }
  made.shape.context_tokens = 100;
  made.shape.activations = {{1, 4096}};
  made.machine.threads = 1000000;                      // whose share of repacking is nothing
  made.machine.host_stream_bytes.per_s = 4096 * 1000;  // 1 ms a block
  made.machine.host_int8_ops.per_s = made.machine.host_small_batch_ops.per_s = 1e15;
  made.machine.host_attention_flops.per_s = 1e15;
  made.machine.host_repack_bytes.per_s = 1e18;
  made.machine.disk_bytes.per_s = 4096 / (2e-3 - 60e-6) / 0.4;  // by single reads, with the unit's overhead, 2 ms a block
  Plan& plan = made.plan;
  plan.threads = 1;
  plan.step_tokens = plan.logit_rows = 1;
  plan.context_tokens = 100;
  plan.stream_slots = 2;
  plan.slot_bytes = 2 * 4096;  // a block from anywhere in a page
  plan.reads = 1;
  plan.staging_bytes = 2 * 4096;
  plan.binding_lane = "disk";
  plan.tensors = {{"blk.0.attn_q.weight", 4 * 4096, 4 * 4096, Tier::kHost, Residence::kResident, Tier::kHost},
                  {"blk.0.ffn_up.weight", 4 * 4096, 4 * 4096, Tier::kHost, Residence::kStreamed, Tier::kHost}};
  plan.decode.tokens = plan.prefill.tokens = 1;
  plan.decode.streamed_bytes = plan.prefill.streamed_bytes = 4 * 4096;
  plan.host.breakdown = {4 * 4096, 6 * 4096, 0, 4096, 0, 0, 0};
  plan.host.planned_bytes = plan.host.budget_bytes = 11 * 4096;
  return made;
}

TEST_CASE("Schedule: a step that can be worked out by hand") {
  const ByHand made = by_hand();
  const StepSchedule schedule = scheduled(made.shape, made.plan, made.machine, {1, 0, 0});
  // Host: the resident matrix 0-4 ms, units 0 and 1 at once 4-6, unit 2 (fetched 5-7) 7-8, unit 3 (7-9) 9-10; then units 0 and 1 for the
  // next step, as their slots are free from 8 and 10 on.
  const std::vector<ScheduledTask> host = tasks_of(schedule, ScheduleLane::kHost), disk = tasks_of(schedule, ScheduleLane::kDisk);
  const std::vector<std::pair<double, double>> host_ms = {{0, 4}, {4, 4}, {4, 5}, {5, 6}, {7, 8}, {9, 10}},
                                               disk_ms = {{5, 7}, {7, 9}, {9, 11}, {11, 13}};
  REQUIRE(host.size() == host_ms.size());
  for (size_t i = 0; i < host.size(); ++i) {
    CHECK(host[i].begin_s * 1e3 == Approx(host_ms[i].first).margin(1e-4));
    CHECK(host[i].end_s * 1e3 == Approx(host_ms[i].second).margin(1e-4));
  }
  REQUIRE(disk.size() == disk_ms.size());
  for (size_t i = 0; i < disk.size(); ++i) {
    CHECK(disk[i].begin_s * 1e3 == Approx(disk_ms[i].first).margin(1e-4));
    CHECK(disk[i].end_s * 1e3 == Approx(disk_ms[i].second).margin(1e-4));
  }
  CHECK(schedule.total_s * 1e3 == Approx(13).margin(1e-4));
  CHECK(schedule.binding_lane() == ScheduleLane::kHost);  // 8 ms, as the disk
  CHECK(task_label(made.shape, host[0]) == "blk.0 attn_q");
  CHECK(task_label(made.shape, host[1]) == "attention, layer 0");
  CHECK(task_label(made.shape, host[2]) == "blk.0 ffn_up");
  CHECK(task_label(made.shape, disk[0]) == "fetch unit 2: blk.0 ffn_up");
  // The ring is full but between a use and the fetch into the slot: from 6 to 7, from 8 to 9, from 10 to 11.
  for (const MemoryMoment& moment : schedule.memory) {
    const double ms = moment.time_s * 1e3;
    const bool has_gap = (ms > 5.9 && ms < 6.9) || (ms > 7.9 && ms < 8.9) || (ms > 9.9 && ms < 10.9);
    CHECK(moment.filled_slots == (has_gap ? 1u : 2u));
  }
}

TEST_CASE("Schedule: what is no plan for the shape, no profile, or would have no end is refused") {
  ByHand made = by_hand();
  made.plan.tensors[0].name = "another";
  CHECK(schedule_step(made.shape, made.plan, made.machine, {1, 0, 0}).status().code() == StatusCode::kInvalidArgument);
  made = by_hand();
  made.machine.host_stream_bytes.per_s = 0;
  CHECK(schedule_step(made.shape, made.plan, made.machine, {1, 0, 0}).status().code() == StatusCode::kInvalidArgument);
  made = by_hand();
  MatrixShape& matrix = made.shape.matrices[1];
  TensorPlacement& tensor = made.plan.tensors[1];
  matrix.rows = uint64_t{1} << 30;
  matrix.packed_bytes = matrix.file_bytes = tensor.bytes = tensor.file_bytes = (uint64_t{1} << 26) * 4096;
  made.plan.decode.streamed_bytes = made.plan.prefill.streamed_bytes = tensor.file_bytes;
  CHECK(schedule_step(made.shape, made.plan, made.machine, {1, 0, 0}).status().code() == StatusCode::kUnsupported);
}

TEST_CASE("Schedule: labels of a model's windows and units name their ends") {
  const StepShape shape = small_model();
  ScheduledTask task;
  task.first_matrix = 7;
  task.last_matrix = 9;
  CHECK(task_label(shape, task) == "blk.1 attn_q, attn_k, attn_v");
  task.kind = TaskKind::kFetch;
  task.unit = 3;
  task.last_matrix = 15;
  CHECK(task_label(shape, task) == "fetch unit 3: blk.1 attn_q, ..., blk.2 attn_k");
  task.kind = TaskKind::kHead;
  task.first_matrix = task.last_matrix = 210;
  CHECK(task_label(shape, task) == "token_embd");
}

}  // namespace
}  // namespace outrigger
