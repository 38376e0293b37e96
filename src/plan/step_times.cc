// StepPlayer: when each task of a step begins and ends.
#include "src/plan/step_player.h"

#include <algorithm>

#include "src/plan/memory_model.h"
#include "src/tensor/kv_spread.h"

namespace outrigger {

// Until here end_s is a duration. A step's overhead is spread over the host's work, the device's over its own.
void StepPlayer::spread_overheads() {
  double there = 0;
  for (const uint32_t i : attention_) there += host_[i].lane == ScheduleLane::kDevice;
  const double here = static_cast<double>(attention_.size()) - there, share = there > 0 ? 1 - there / shape_.kv_layers : 1;
  for (const uint32_t i : attention_) {
    host_[i].end_s = host_[i].lane == ScheduleLane::kDevice ? cost_.device().attention_s(work_) : cost_.attention_s(work_) * share / here;
  }
  const auto is_spread = [](const ScheduledTask& task, ScheduleLane lane) {
    return task.lane == lane && task.kind != TaskKind::kRowReads && task.kind != TaskKind::kExperts && task.kind != TaskKind::kCorrect &&
           task.kind != TaskKind::kAdd;
  };
  uint64_t tasks = 0, device_tasks = 0;
  for (const ScheduledTask& task : host_) {
    device_tasks += is_spread(task, ScheduleLane::kDevice);
    tasks += is_spread(task, ScheduleLane::kHost);
  }
  if (tasks == 0) {
    ScheduledTask submit;
    submit.kind = TaskKind::kSubmit;
    host_.insert(host_.begin(), submit);
    tasks = 1;
  }
  double corrected = 0;  // residuals that have tasks of their own
  for (const ScheduledTask& task : host_) corrected += task.kind == TaskKind::kCorrect ? residual_bytes_of(task) : 0;
  const double overhead = cost_.step_overhead_s(work_.tokens, corrected) / static_cast<double>(tasks);
  const double device_overhead = device_tasks > 0 ? cost_.device().overhead_s() / static_cast<double>(device_tasks) : 0;
  for (ScheduledTask& task : host_) {
    if (is_spread(task, ScheduleLane::kHost)) task.end_s += overhead;
    if (is_spread(task, ScheduleLane::kDevice)) task.end_s += device_overhead;
  }
}

StepTime StepPlayer::take_times() {
  const bool with_head = work_.logit_rows > 0;
  std::vector<size_t> disk_use(disk_ring_.layout.step_units(with_head), 0),
      device_use(streams_ ? device_ring_.layout.step_units(with_head) : 0, 0);
  for (size_t i = 0; i < host_.size(); ++i) {
    if (host_[i].unit != kNoUnit) (host_[i].lane == ScheduleLane::kDevice ? device_use : disk_use)[host_[i].unit] = i;
  }
  fetches_.reserve(disk_use.size());
  brought_.reserve(device_use.size());
  StepTime time;
  Clock clock;
  begin_kv(&clock.disk, &time);
  for (size_t i = 0; i < host_.size(); ++i) {
    ScheduledTask& task = host_[i];
    if (task.kind == TaskKind::kExperts) {
      take_experts_time(task, &clock.chain, &clock.disk, &time);
      continue;
    }
    const std::vector<size_t>& use = task.lane == ScheduleLane::kDevice ? device_use : disk_use;
    take_time(task, task.unit != kNoUnit && use[task.unit] == i, &clock, &time);
  }
  time.total_s = std::max({clock.chain, clock.disk, clock.link});
  return time;
}

bool StepPlayer::is_spilled(const ScheduledTask& task) const {
  return task.kind == TaskKind::kAttention && task.layer < shape_.kv_layers &&
         is_kv_spilled(shape_.kv_layers, kv_spilled_layers_, task.layer);
}

void StepPlayer::add_kv_task(TaskKind kind, uint32_t number, double begin_s, double* disk_free, StepTime* time) {
  ScheduledTask task;
  task.lane = ScheduleLane::kDisk;
  task.kind = kind;
  task.layer = kv_spilled_layer(shape_.kv_layers, kv_spilled_layers_, number);
  const KvExtent extent = cost_.kv().extent(work_.position, work_.tokens_each());
  const uint64_t each = kind == TaskKind::kFetchKv ? kv_range_bytes(cost_.kv().runs, 0, extent.prefix)
                                                   : kv_range_bytes(cost_.kv().runs, extent.begin, extent.end);
  task.bytes = multiply_bytes(work_.sequences, each);
  task.begin_s = std::max(begin_s, *disk_free);
  *disk_free = task.end_s = task.begin_s + (kind == TaskKind::kFetchKv ? cost_.kv_fetch_s(work_) : cost_.kv_store_s(work_));
  time->disk_s += task.end_s - task.begin_s;
  if (kind == TaskKind::kFetchKv) kv_ready_.push_back(task.end_s);
  kv_tasks_.push_back(task);
}

// Each slot's first layer is fetched as the step begins.
void StepPlayer::begin_kv(double* disk_free, StepTime* time) {
  for (uint32_t number = 0; number < std::min(kKvSlots, kv_spilled_layers_); ++number)
    add_kv_task(TaskKind::kFetchKv, number, 0, disk_free, time);
}

// A layer is written back when it has attended, and makes room for the next but one.
void StepPlayer::end_attention(const ScheduledTask& task, double* disk_free, StepTime* time) {
  const uint32_t number = kv_spilled_before(shape_.kv_layers, kv_spilled_layers_, task.layer);
  add_kv_task(TaskKind::kStoreKv, number, task.end_s, disk_free, time);
  if (number + kKvSlots < kv_spilled_layers_) add_kv_task(TaskKind::kFetchKv, number + kKvSlots, 0, disk_free, time);
}

double StepPlayer::begin_s(const ScheduledTask& task, const Clock& clock) const {
  if (task.kind == TaskKind::kCorrect || task.kind == TaskKind::kResult) return clock.correction;
  return task.kind == TaskKind::kAdd ? std::max(clock.chain, clock.correction + cost_.handoff_s(hands_words())) : clock.chain;
}

// As soon as what is before it is done, its unit is there, and its lane is free. After a unit's last use its slot is filled again.
void StepPlayer::take_time(ScheduledTask& task, bool is_last_use, Clock* clock, StepTime* time) {
  const bool is_there = task.lane == ScheduleLane::kDevice;
  const Ring& ring = is_there ? device_ring_ : disk_ring_;
  std::vector<ScheduledTask>& requests = is_there ? brought_ : fetches_;
  const uint32_t slots = ring.layout.ring_slots, units = ring.layout.step_units(work_.logit_rows > 0);
  const double duration = task.end_s, ready = task.unit != kNoUnit && task.unit >= slots ? requests[task.unit - slots].end_s : 0;
  task.begin_s = std::max({begin_s(task, *clock), ready,
                           is_spilled(task) ? kv_ready_[kv_spilled_before(shape_.kv_layers, kv_spilled_layers_, task.layer)] : 0});
  if (task.lane == ScheduleLane::kToDevice) task.begin_s = std::max(task.begin_s, clock->link);
  task.end_s = task.begin_s + duration;
  const bool is_of_correction = task.kind == TaskKind::kInput || task.kind == TaskKind::kCorrect || task.kind == TaskKind::kResult;
  (is_of_correction ? clock->correction : clock->chain) = task.end_s;
  if (task.lane == ScheduleLane::kToDevice) clock->link = task.end_s;
  double* const busy[kScheduleLanes] = {&time->disk_s, &time->host_s, &time->h2d_s, &time->device_s, &time->d2h_s};
  *busy[static_cast<size_t>(task.lane)] += duration;
  if (is_spilled(task)) end_attention(task, &clock->disk, time);
  if (!is_last_use) return;
  const auto j = static_cast<uint32_t>(requests.size());
  ScheduledTask request = unit_task(ring, (j + slots) % units, j % slots);
  double* const lane_free = is_there ? &clock->link : &clock->disk;
  request.begin_s = std::max(*lane_free, task.end_s);
  const StreamUnit& unit = ring.layout.units[request.unit];
  request.end_s =
      request.begin_s + (is_there ? cost_.device().upload_s(unit.packed_bytes) : disk_slowdown_ * cost_.fetch_s(unit.file_bytes, reads_));
  request.lane = is_there ? ScheduleLane::kToDevice : ScheduleLane::kDisk;
  request.kind = is_there ? TaskKind::kBring : TaskKind::kFetch;
  request.bytes = is_there ? unit.packed_bytes : unit.file_bytes;
  *lane_free = request.end_s;
  (is_there ? time->h2d_s : time->disk_s) += request.end_s - request.begin_s;
  requests.push_back(request);
}

// A layer's even share of what all of them take. Reading begins when the layer is routed.
void StepPlayer::take_experts_time(ScheduledTask& task, double* host_free, double* disk_free, StepTime* time) {
  const ExpertTime all = cost_.experts(work_, absent_experts_, reads_);
  const double layers = cost_.expert_layers(), waited = std::max(0.0, *disk_free - *host_free);
  const double routed_s = *host_free;
  *host_free = task.end_s = routed_s + (all.disk_s > 0 ? waited : 0) + all.total_s / layers;
  task.begin_s = std::max(routed_s, task.end_s - all.host_s / layers);  // as if in one piece, after what it has to wait for
  time->host_s += all.host_s / layers;
  if (all.disk_s == 0) return;
  ScheduledTask fetch = task;
  fetch.lane = ScheduleLane::kDisk;
  fetch.kind = TaskKind::kFetchExperts;
  fetch.begin_s = std::max(routed_s, *disk_free);
  *disk_free = fetch.end_s = fetch.begin_s + all.disk_s / layers;
  fetch.bytes = static_cast<uint64_t>(all.bytes / layers);
  time->disk_s += all.disk_s / layers;
  time->expert_bytes = all.bytes;
  expert_fetches_.push_back(fetch);
}

ScheduledTask StepPlayer::unit_task(const Ring& ring, uint32_t index, uint32_t slot) const {
  const StreamUnit& unit = ring.layout.units[index];
  ScheduledTask task;
  task.layer = shape_.matrices[unit.pieces.front().matrix].layer;
  task.first_matrix = unit.pieces.front().matrix;
  task.last_matrix = unit.pieces.back().matrix;
  task.unit = index;
  task.slot = slot;
  return task;
}

}  // namespace outrigger
