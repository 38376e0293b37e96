// Schedule: a step played, and what is in memory meanwhile.
#include "src/plan/schedule.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/macros.h"
#include "src/plan/memory_model.h"
#include "src/plan/plan_inputs.h"

namespace outrigger {
namespace {

// A plan of a file of a TiB through slots of 256 KiB; beyond that something is wrong with the plan, and memory would be short first.
constexpr uint64_t kMostUnits = uint64_t{1} << 22;

// The cost model asks a workload for the type and the size of its caches only, as far as single steps go.
Workload workload_of(const Plan& plan) {
  Workload workload;
  workload.kv_type = plan.kv_type;
  workload.context_tokens = plan.context_tokens;
  return workload;
}

// When slots, staging buffer and row buffer hold something.
class MemoryNotes {
 public:
  MemoryNotes(const Plan& plan, StepSchedule* schedule) : plan_(plan), schedule_(*schedule) {}

  // A slot is full from the beginning of a fetch to the last use of what it brought; the step begins with all of them full.
  void note() {
    std::vector<Change> changes;
    std::vector<double> used(schedule_.units, 0);
    for (const ScheduledTask& task : schedule_.tasks) {
      if (task.kind == TaskKind::kRowReads) changes.insert(changes.end(), {{task.begin_s, 0, 0, 1}, {task.end_s, 0, 0, -1}});
      if (task.kind == TaskKind::kFetchExperts) changes.insert(changes.end(), {{task.begin_s, 0, 1, 0}, {task.end_s, 0, -1, 0}});
      if (task.kind == TaskKind::kFetch) {
        changes.insert(changes.end(), {{task.begin_s, 1, 1, 0}, {task.end_s, 0, -1, 0}});
      } else if (task.unit != kNoUnit) {
        used[task.unit] = task.end_s;
      }
    }
    for (const double time_s : used) changes.push_back({time_s, -1, 0, 0});
    // What ends at a moment makes room for what begins then.
    std::sort(changes.begin(), changes.end(), [](const Change& a, const Change& b) {
      return std::pair(a.time_s, a.slots + a.staging + a.rows) < std::pair(b.time_s, b.slots + b.staging + b.rows);
    });
    int slots = static_cast<int>(schedule_.ring_slots), staging = 0, rows = 0;
    add_moment(0, slots, staging, rows);
    for (const Change& change : changes) add_moment(change.time_s, slots += change.slots, staging += change.staging, rows += change.rows);
  }

 private:
  struct Change {
    double time_s;
    int slots, staging, rows;
  };

  void add_moment(double time_s, int slots, int staging, int rows) {
    if (!schedule_.memory.empty() && schedule_.memory.back().time_s == time_s) schedule_.memory.pop_back();
    MemoryMoment moment{time_s, static_cast<uint32_t>(slots), plan_.host.breakdown};
    moment.host.stream_slots = static_cast<uint64_t>(slots) * plan_.slot_bytes + static_cast<uint64_t>(staging) * plan_.staging_bytes +
                               static_cast<uint64_t>(rows) * whole_pages(plan_.row_buffer_bytes);
    schedule_.memory.push_back(moment);
  }

  const Plan& plan_;
  StepSchedule& schedule_;
};

// "blk.3.attn_q.weight" -> {"blk.3", "attn_q"}
std::pair<std::string, std::string> name_parts(std::string name) {
  constexpr std::string_view kSuffix = ".weight";
  if (name.size() > kSuffix.size() && name.ends_with(kSuffix)) name.resize(name.size() - kSuffix.size());
  const size_t dot = name.rfind('.');
  return dot == std::string::npos ? std::pair(std::string(), name) : std::pair(name.substr(0, dot), name.substr(dot + 1));
}

std::string matrices_label(const StepShape& shape, uint32_t first, uint32_t last) {
  std::string label, prefix;
  for (uint32_t i = first; i <= last; ++i) {
    if (i != first && i != last && last - first > 3) {  // a unit of many small matrices: its ends say enough
      if (i == first + 1) label += ", ...";
      continue;
    }
    const auto [of, own] = name_parts(shape.matrices[i].name);
    if (i > first) label += ", ";
    if ((i == first || of != prefix) && !of.empty()) label += of + " ";
    label += own;
    prefix = of;
  }
  return label;
}

}  // namespace

const char* schedule_lane_name(ScheduleLane lane) { return lane == ScheduleLane::kDisk ? "disk" : "host"; }

ScheduleLane StepSchedule::binding_lane() const {
  return static_cast<ScheduleLane>(std::max_element(busy_s.rbegin(), busy_s.rend()).base() - busy_s.begin() - 1);
}

std::string task_label(const StepShape& shape, const ScheduledTask& task) {
  switch (task.kind) {
    case TaskKind::kAttention:
      return fmt::format("attention, layer {}", task.layer);
    case TaskKind::kRowReads:
      return "rows of " + matrices_label(shape, task.first_matrix, task.last_matrix);
    case TaskKind::kFetch:
      return fmt::format("fetch unit {}: {}", task.unit, matrices_label(shape, task.first_matrix, task.last_matrix));
    case TaskKind::kFetchKv:
      return fmt::format("fetch keys and values, layer {}", task.layer);
    case TaskKind::kStoreKv:
      return fmt::format("store keys and values, layer {}", task.layer);
    case TaskKind::kExperts:
      return fmt::format("experts, layer {}", task.layer);
    case TaskKind::kFetchExperts:
      return fmt::format("fetch experts, layer {}", task.layer);
    case TaskKind::kProduct:
    case TaskKind::kHead:
      break;
  }
  return matrices_label(shape, task.first_matrix, task.last_matrix);
}

Result<StepSchedule> schedule_step(const StepShape& shape, const Plan& plan, const MachineProfile& machine, const StepWork& work) {
  OTR_TRY(check_plan(plan, shape));
  OTR_TRY(check_profile(machine));
  std::vector<bool> resident;
  for (const TensorPlacement& tensor : plan.tensors) resident.push_back(tensor.mode == Residence::kResident);
  if (least_units(shape, resident, plan.slot_bytes) > kMostUnits) {
    return Status(StatusCode::kUnsupported,
                  fmt::format("the plan streams through slots of {} bytes, which makes more units than a schedule is made for", plan.slot_bytes));
  }
  const CostModel cost(shape, machine, workload_of(plan));
  const double absent = plan.expert_slots == 0 ? 0 : 1 - static_cast<double>(plan.expert_slots) / expert_count(shape);
  StepPlayer player(shape, cost, resident, plan.slot_bytes, plan.stream_slots, absent, plan.reads, plan.kv_spilled_layers);
  const StepTime time = player.play(work);
  StepSchedule schedule;
  schedule.work = work;
  schedule.tasks = player.fetches();
  schedule.tasks.insert(schedule.tasks.end(), player.expert_fetches().begin(), player.expert_fetches().end());
  schedule.tasks.insert(schedule.tasks.end(), player.kv_tasks().begin(), player.kv_tasks().end());
  std::stable_sort(schedule.tasks.begin(), schedule.tasks.end(), [](const ScheduledTask& a, const ScheduledTask& b) { return std::pair(a.begin_s, a.end_s) < std::pair(b.begin_s, b.end_s); });
  schedule.tasks.insert(schedule.tasks.end(), player.host_tasks().begin(), player.host_tasks().end());
  schedule.busy_s = {time.disk_s, time.host_s};
  schedule.total_s = time.total_s;
  schedule.units = player.layout().step_units(work.logit_rows > 0);
  schedule.ring_slots = player.layout().ring_slots;
  MemoryNotes(plan, &schedule).note();
  return schedule;
}

}  // namespace outrigger
