// Plan making: bytes counted again, and the steps as they are played.
#include "src/plan/plan_making.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "src/plan/memory_model.h"
#include "src/plan/step_player.h"

namespace outrigger {
namespace {

// 16 GiB through slots of 256 KiB: some milliseconds. Of more, what is not hidden at the step's ends no longer shows.
constexpr uint64_t kMostPlayedUnits = uint64_t{1} << 16;

// The lanes' times are those of the step as it is played; its own is the closed form's, which never grows with memory
// (docs/design/0006-prediction.md). `player` is null where there are too many units to play.
StepPrediction prediction(const CostModel& cost, const StepWork& work, const StreamLoad& load, const DeviceLoad& device, uint64_t row_bytes,
                          uint64_t kv_bytes, StepPlayer* player) {
  const StepTime time = cost.step(work, load, &device), lanes = player != nullptr ? player->play(work) : time;
  StepPrediction step;
  step.tokens = work.tokens;
  step.lanes.disk_ms = lanes.disk_s * 1e3;
  step.lanes.h2d_ms = lanes.h2d_s * 1e3;
  step.lanes.host_ms = lanes.host_s * 1e3;
  step.lanes.device_ms = lanes.device_s * 1e3;
  step.predicted_ms = time.total_s * 1e3;
  step.streamed_bytes = load.layer_file + load.head_file + work.tokens * row_bytes;
  step.expert_bytes = static_cast<uint64_t>(time.expert_bytes);
  step.h2d_bytes = device.sums(work.tokens).layer_upload_bytes + device.sums(work.tokens).head_upload_bytes;
  step.kv_disk_bytes = kv_bytes;
  step.position = work.position;
  step.logit_rows = work.logit_rows;
  return step;
}

// The lane that is busy longest; the host's, if none is busier.
const char* binding_lane(const LaneTimes& lanes) {
  const std::pair<double, const char*> all[] = {
      {lanes.host_ms, "host"}, {lanes.device_ms, "device"}, {lanes.h2d_ms, "h2d"}, {lanes.disk_ms, "disk"}};
  return std::max_element(std::begin(all), std::end(all), [](const auto& a, const auto& b) { return a.first < b.first; })->second;
}

}  // namespace

Plan plan_of(const StepShape& shape, Demand demand, const CostModel& cost, const DevicePlacement& placement) {
  const ActivationCost& step = shape.activations[placement.step];
  const std::vector<bool>& resident = placement.resident;
  const DeviceUse& device = placement.use;
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
  plan.row_buffer_bytes = row_buffer_bytes(shape, resident, device);
  plan.expert_slots = placement.slots.experts;
  plan.expert_slot_bytes = placement.slots.expert_slot_bytes;
  plan.device_slots = device.slots;
  plan.device_slot_bytes = device.slot_bytes;
  plan.device_from_tokens = placement.load.from_tokens;
  plan.device_threads = device.threads;
  plan.transfer_bytes = device.transfer_bytes;

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
    const Tier tier = device.computes(i) ? Tier::kDevice : Tier::kHost;
    const Residence mode = resident[i] && !device.is_streamed(i) ? Residence::kResident : Residence::kStreamed;
    plan.tensors.push_back({matrix.name, matrix.packed_bytes, matrix.file_bytes, tier, mode, tier});
    if (reads_rows(shape, resident, device, i)) row_bytes += matrix.row_file_bytes, ++load.row_reads;
    if (resident[i]) continue;
    if (matrix.use == MatrixUse::kEveryToken) load.layer_file += matrix.file_bytes, load.layer_packed += matrix.packed_bytes;
    if (matrix.use == MatrixUse::kLogits) load.head_file += matrix.file_bytes, load.head_packed += matrix.packed_bytes;
  }
  plan.host.breakdown = host_breakdown(shape, demand, step, resident, placement.slots, device);
  plan.host.planned_bytes = plan.host.breakdown.total();
  plan.device.breakdown = device_breakdown(shape, demand, step, device);
  plan.device.planned_bytes = plan.device.breakdown.total();

  const WorkloadTime time = cost.workload(step.tokens, load, &placement.load);
  std::optional<StepPlayer> player;
  if (least_units(shape, resident, plan.slot_bytes) <= kMostPlayedUnits && least_device_units(shape, device) <= kMostPlayedUnits) {
    player.emplace(shape, cost, resident, plan.slot_bytes, plan.stream_slots, load.absent_experts, plan.reads, plan.kv_spilled_layers, device,
                   plan.device_from_tokens);
  }
  const auto predict = [&](const StepWork& work) {
    const uint64_t kv_bytes = kv_disk_bytes(shape, demand, work.position, work.tokens);
    return prediction(cost, work, load, placement.load, row_bytes, kv_bytes, player ? &*player : nullptr);
  };
  plan.decode = predict(cost.decode_work());
  plan.prefill = predict(cost.prefill_work(step.tokens));
  plan.predicted_prefill_ms = time.prefill_s * 1e3;
  plan.predicted_decode_tokens_per_s = tokens_per_s(time);
  plan.binding_lane = binding_lane(plan.decode.lanes);
  return plan;
}

}  // namespace outrigger
