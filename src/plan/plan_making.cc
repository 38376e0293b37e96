// Plan making: bytes counted again, and the steps as they are predicted.
#include "src/plan/plan_making.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "src/plan/memory_model.h"
#include "src/plan/step_prediction.h"

namespace outrigger {
namespace {

// The lane that is busy longest; the host's, if none is busier.
const char* binding_lane(const LaneTimes& lanes) {
  const std::pair<double, const char*> all[] = {
      {lanes.host_ms, "host"}, {lanes.device_ms, "device"}, {lanes.h2d_ms, "h2d"}, {lanes.disk_ms, "disk"}};
  return std::max_element(std::begin(all), std::end(all), [](const auto& a, const auto& b) { return a.first < b.first; })->second;
}

}  // namespace

Demand demand_of(const MachineProfile& machine, const Workload& workload) {
  // A step of decoding has a token of every session, and a draft behind each.
  const uint64_t batch_rows = uint64_t{workload.batch} * (workload.draft_tokens + 1);
  const auto rows = static_cast<uint32_t>(std::clamp<uint64_t>(batch_rows, workload.logit_rows, UINT32_MAX));
  Demand demand{machine.threads, workload.batch, workload.context_tokens, rows, workload.kv_type};
  demand.draft_tokens = workload.draft_tokens;
  demand.draft_bytes = workload.draft_bytes;
  demand.draft_device_bytes = workload.draft_device_bytes;
  demand.device_threads = machine.device_threads;
  demand.device_taken_bytes = machine.device_taken_bytes;
  if (demand.context_tokens == 0) demand.context_tokens = workload.prompt_tokens + workload.new_tokens;
  return demand;
}

DevicePlacement without_device(const PlacementSearch& search, const Placement& placement) {
  DevicePlacement alone;
  alone.step = placement.step;
  alone.resident = search.resident(placement);
  alone.slots = placement.slots;
  alone.time = placement.time;
  alone.host_bytes = placement.planned_bytes;
  alone.kv_spilled_layers = placement.kv_spilled_layers;
  return alone;
}

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
  plan.logit_rows = demand.rows_of(step);
  plan.draft_tokens = std::min(demand.draft_tokens, plan.logit_rows - 1);
  plan.self_draft_bits = demand.self_draft_bits;
  plan.step_tokens = step.tokens;
  plan.stream_slots = placement.slots.ring;
  plan.slot_bytes = placement.slots.ring_slot_bytes;
  plan.reads = reads_in_flight(largest_row_block(shape), placement.slots);
  plan.staging_bytes = staging_bytes(largest_row_block(shape), demand.threads, placement.slots);
  plan.row_buffer_bytes = row_buffer_bytes(shape, resident, device);
  plan.expert_slots = placement.slots.experts;
  plan.expert_slot_bytes = placement.slots.of_expert.slot_bytes;
  plan.expert_repetition = cost.expert_repetition();
  plan.device_slots = device.slots;
  plan.device_slot_bytes = device.slot_bytes;
  plan.device_from_tokens = placement.load.from_tokens;
  plan.device_threads = demand.draft_device_bytes > 0 ? demand.device_threads : device.threads;
  plan.corrections_beside = device.is_used() && device.corrections_beside && shape.correction_row_bytes > 0;
  plan.transfer_bytes = device.transfer_bytes;
  plan.handoff_bytes = device.handoff_bytes;

  plan.tensors.reserve(shape.matrices.size());
  for (size_t i = 0; i < resident.size(); ++i) {
    const MatrixShape& matrix = shape.matrices[i];
    const Tier tier = device.computes(i) ? Tier::kDevice : Tier::kHost;
    const Residence mode = resident[i] && !device.is_streamed(i) ? Residence::kResident : Residence::kStreamed;
    plan.tensors.push_back({matrix.name, matrix.packed_bytes, matrix.file_bytes, tier, mode, tier});
  }
  plan.host.breakdown = host_breakdown(shape, demand, step, resident, placement.slots, device);
  plan.host.planned_bytes = plan.host.breakdown.total();
  plan.device.breakdown = device_breakdown(shape, demand, step, device);
  plan.device.planned_bytes = plan.device.breakdown.total();

  StepPredictor predictor(shape, plan, cost, device, placement.load);
  plan.decode = predictor.predict(cost.decode_work(step.tokens));
  plan.prefill = predictor.predict(cost.prefill_work(step.tokens));
  const WorkloadTime time = cost.workload(step.tokens, predictor.load(), &placement.load);
  plan.predicted_prefill_ms = time.prefill_s * 1e3;
  plan.predicted_decode_tokens_per_s = tokens_per_s(time);
  plan.binding_lane = binding_lane(plan.decode.lanes);
  return plan;
}

}  // namespace outrigger
