// Schedule: a step played, and what is in memory meanwhile.
#include "src/plan/schedule.h"

#include <algorithm>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/plan/branch_share.h"
#include "src/plan/memory_model.h"
#include "src/plan/plan_inputs.h"
#include "src/plan/step_prediction.h"

namespace outrigger {
namespace {

// A plan of a file of a TiB through slots of 256 KiB; beyond that something is wrong with the plan, and memory would be short first.
constexpr uint64_t kMostUnits = uint64_t{1} << 22;

// When slots, staging buffer and row buffer hold something.
class MemoryNotes {
 public:
  MemoryNotes(const Plan& plan, StepSchedule* schedule) : plan_(plan), schedule_(*schedule) {}

  // A slot is full from the beginning of a fetch to the last use of what it brought; the step begins with all of them full.
  void note() {
    std::vector<Change> changes;
    std::vector<double> used(schedule_.units, 0), used_there(schedule_.device_units, 0);
    for (const ScheduledTask& task : schedule_.tasks) {
      if (task.kind == TaskKind::kRowReads) changes.insert(changes.end(), {{task.begin_s, 0, 0, 1, 0}, {task.end_s, 0, 0, -1, 0}});
      const bool is_of_experts = task.kind == TaskKind::kFetchExperts || (task.kind == TaskKind::kExperts && plan_.expert_slots > 0);
      if (is_of_experts) changes.insert(changes.end(), {{task.begin_s, 0, 1, 0, 0}, {task.end_s, 0, -1, 0, 0}});
      if (task.kind == TaskKind::kFetch) {
        changes.push_back({task.begin_s, 1, 0, 0, 0});
      } else if (task.kind == TaskKind::kBring) {
        changes.push_back({task.begin_s, 0, 0, 0, 1});
      } else if (task.unit != kNoUnit) {
        (task.lane == ScheduleLane::kDevice ? used_there : used)[task.unit] = task.end_s;
        if (task.lane == ScheduleLane::kHost) changes.insert(changes.end(), {{task.begin_s, 0, 1, 0, 0}, {task.end_s, 0, -1, 0, 0}});
      }
    }
    for (const double time_s : used) changes.push_back({time_s, -1, 0, 0, 0});
    for (const double time_s : used_there) changes.push_back({time_s, 0, 0, 0, -1});
    // What ends at a moment makes room for what begins then.
    std::sort(changes.begin(), changes.end(),
              [](const Change& a, const Change& b) { return std::pair(a.time_s, a.sum()) < std::pair(b.time_s, b.sum()); });
    Change now{0, static_cast<int>(schedule_.ring_slots), 0, 0, static_cast<int>(schedule_.device_ring_slots)};
    add_moment(now);
    for (const Change& change : changes) {
      now = {change.time_s, now.slots + change.slots, now.staging + change.staging, now.rows + change.rows,
             now.device_slots + change.device_slots};
      add_moment(now);
    }
  }

 private:
  struct Change {
    double time_s;
    int slots, staging, rows, device_slots;
    int sum() const { return slots + staging + rows + device_slots; }
  };

  void add_moment(const Change& now) {
    if (!schedule_.memory.empty() && schedule_.memory.back().time_s == now.time_s) schedule_.memory.pop_back();
    MemoryMoment moment{now.time_s, static_cast<uint32_t>(now.slots), static_cast<uint32_t>(now.device_slots), plan_.host.breakdown,
                        plan_.device.breakdown};
    moment.host.stream_slots = static_cast<uint64_t>(now.slots) * plan_.slot_bytes +
                               (now.staging > 0 ? plan_.staging_bytes : 0) +  // rows are packed in it, or experts arrive in it
                               static_cast<uint64_t>(now.rows) * whole_pages(plan_.row_buffer_bytes);
    moment.device.stream_slots = static_cast<uint64_t>(now.device_slots) * plan_.device_slot_bytes;
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

const char* schedule_lane_name(ScheduleLane lane) {
  switch (lane) {
    case ScheduleLane::kDisk:
      return "disk";
    case ScheduleLane::kHost:
      return "host";
    case ScheduleLane::kToDevice:
      return "h2d";
    case ScheduleLane::kDevice:
      return "device";
    case ScheduleLane::kToHost:
      return "d2h";
  }
  return "unknown";
}

// Of the lanes that a plan names; equals in this order.
ScheduleLane StepSchedule::binding_lane() const {
  ScheduleLane binding = ScheduleLane::kHost;
  for (const ScheduleLane lane : {ScheduleLane::kDevice, ScheduleLane::kToDevice, ScheduleLane::kDisk}) {
    if (busy_s[static_cast<size_t>(lane)] > busy_s[static_cast<size_t>(binding)]) binding = lane;
  }
  return binding;
}

std::string task_label(const StepShape& shape, const ScheduledTask& task) {
  switch (task.kind) {
    case TaskKind::kAttention:
      return formatted("attention, layer {}", task.layer);
    case TaskKind::kRowReads:
      return "rows of " + matrices_label(shape, task.first_matrix, task.last_matrix);
    case TaskKind::kFetch:
      return formatted("fetch unit {}: {}", task.unit, matrices_label(shape, task.first_matrix, task.last_matrix));
    case TaskKind::kFetchKv:
      return formatted("fetch keys and values, layer {}", task.layer);
    case TaskKind::kStoreKv:
      return formatted("store keys and values, layer {}", task.layer);
    case TaskKind::kExperts:
      return formatted("experts, layer {}", task.layer);
    case TaskKind::kFetchExperts:
      return formatted("fetch experts, layer {}", task.layer);
    case TaskKind::kSubmit:
      return "submit to the device";
    case TaskKind::kUpload:
      return formatted("residual to the device, layer {}", task.layer);
    case TaskKind::kDownload:
      return formatted("residual to the host, layer {}", task.layer);
    case TaskKind::kLogits:
      return "logits to the host";
    case TaskKind::kBring:
      return formatted("bring unit {}: {}", task.unit, matrices_label(shape, task.first_matrix, task.last_matrix));
    case TaskKind::kInput:
      return "input to the host: " + matrices_label(shape, task.first_matrix, task.last_matrix);
    case TaskKind::kCorrect:
      return "corrections of " + matrices_label(shape, task.first_matrix, task.last_matrix);
    case TaskKind::kResult:
      return "corrections to the device: " + matrices_label(shape, task.first_matrix, task.last_matrix);
    case TaskKind::kAdd:
      return "add corrections of " + matrices_label(shape, task.first_matrix, task.last_matrix);
    case TaskKind::kProduct:
    case TaskKind::kHead:
      break;
  }
  return matrices_label(shape, task.first_matrix, task.last_matrix);
}

Result<StepSchedule> schedule_step(const StepShape& whole, const Plan& plan, const MachineProfile& machine, const StepWork& work) {
  OTR_TRY(check_plan(plan, whole));
  const StepShape shape = with_corrections_of(plan, whole);
  OTR_TRY(check_profile(machine));
  const std::vector<bool> resident = stays_in_memory(plan);
  const DeviceUse device = device_use(plan);
  OTR_TRY(check_device_rates(device, machine));
  if (least_units(shape, resident, plan.slot_bytes) > kMostUnits || least_device_units(shape, device) > kMostUnits) {
    return Status(StatusCode::kUnsupported,
                  formatted("the plan streams through slots of {} bytes, which makes more units than a schedule is made for",
                            plan.device_slots > 0 ? plan.device_slot_bytes : plan.slot_bytes));
  }
  const CostModel cost(shape, machine, workload_of(plan));
  const double absent = plan.expert_slots == 0 ? 0 : 1 - static_cast<double>(plan.expert_slots) / expert_count(shape);
  StepPlayer player(shape, cost, resident, plan.slot_bytes, plan.stream_slots, absent, plan.reads, plan.kv_spilled_layers, device,
                    plan.device_from_tokens);
  const StepTime time = player.play(work);
  StepSchedule schedule;
  schedule.work = work;
  schedule.tasks = player.fetches();
  for (const std::vector<ScheduledTask>* others : {&player.expert_fetches(), &player.kv_tasks(), &player.brought()}) {
    schedule.tasks.insert(schedule.tasks.end(), others->begin(), others->end());
  }
  std::stable_sort(schedule.tasks.begin(), schedule.tasks.end(), [](const ScheduledTask& a, const ScheduledTask& b) {
    return std::pair(a.begin_s, a.end_s) < std::pair(b.begin_s, b.end_s);
  });
  const auto at = static_cast<std::ptrdiff_t>(schedule.tasks.size());
  schedule.tasks.insert(schedule.tasks.end(), player.host_tasks().begin(), player.host_tasks().end());
  // Corrections stand behind what they run beside.
  std::stable_sort(schedule.tasks.begin() + at, schedule.tasks.end(),
                   [](const ScheduledTask& a, const ScheduledTask& b) { return a.begin_s < b.begin_s; });
  // The link's lane has both of what is brought and of the residual's ways.
  std::inplace_merge(schedule.tasks.begin(), schedule.tasks.begin() + at, schedule.tasks.end(),
                     [](const ScheduledTask& a, const ScheduledTask& b) { return a.begin_s < b.begin_s; });
  schedule.busy_s = {time.disk_s, time.host_s, time.h2d_s, time.device_s, time.d2h_s};
  schedule.total_s = time.total_s;
  schedule.units = player.layout().step_units(work.logit_rows > 0);
  schedule.ring_slots = player.layout().ring_slots;
  schedule.device_units = player.streams_to_device() ? player.device_layout().step_units(work.logit_rows > 0) : 0;
  schedule.device_ring_slots = player.device_layout().ring_slots;
  MemoryNotes(plan, &schedule).note();
  return schedule;
}

}  // namespace outrigger
