// Step prediction: the closed form's time, the played step's lanes.
#include "src/plan/step_prediction.h"

#include <algorithm>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/plan/branch_share.h"
#include "src/plan/device_parts.h"
#include "src/plan/memory_model.h"
#include "src/plan/plan_inputs.h"

namespace outrigger {
namespace {

// 16 GiB through slots of 256 KiB: some milliseconds. Of more, what is not hidden at the step's ends no longer shows.
constexpr uint64_t kMostPlayedUnits = uint64_t{1} << 16;

StreamLoad stream_load(const StepShape& shape, const Plan& plan, const std::vector<bool>& resident, const DeviceUse& device) {
  StreamLoad load;
  load.slots = plan.stream_slots;
  load.slot_bytes = plan.slot_bytes;
  load.reads = plan.reads;
  load.kv_spilled_layers = plan.kv_spilled_layers;
  if (plan.expert_slots > 0) load.absent_experts = 1 - static_cast<double>(plan.expert_slots) / expert_count(shape);
  for (size_t i = 0; i < resident.size(); ++i) {
    const MatrixShape& matrix = shape.matrices[i];
    if (reads_rows(shape, resident, device, i)) load.row_bytes += matrix.row_file_bytes, ++load.row_reads;
    if (resident[i]) continue;
    if (matrix.use == MatrixUse::kEveryToken) load.layer_file += matrix.file_bytes, load.layer_packed += matrix.packed_bytes;
    if (matrix.use == MatrixUse::kLogits) load.head_file += matrix.file_bytes, load.head_packed += matrix.packed_bytes;
  }
  return load;
}

Status check_step(const Plan& plan, uint32_t tokens, uint32_t position, uint32_t logit_rows, uint32_t sequences) {
  if (tokens == 0 || tokens > plan.step_tokens) {
    return Status(StatusCode::kInvalidArgument,
                  formatted("step: got {} tokens, need 1 to {}, the plan's most", tokens, plan.step_tokens));
  }
  if (sequences == 0 || sequences > plan.batch || tokens % sequences != 0) {
    return Status(StatusCode::kInvalidArgument,
                  formatted("step: got {} tokens of {} sessions, need as many of each, and at most {} sessions, the plan's batch", tokens,
                            sequences, plan.batch));
  }
  if (logit_rows > std::min(tokens, plan.logit_rows)) {
    return Status(StatusCode::kInvalidArgument,
                  formatted("step: got logits of {} tokens, need at most {}", logit_rows, std::min(tokens, plan.logit_rows)));
  }
  if (uint64_t{position} + tokens / sequences > plan.context_tokens) {
    return Status(StatusCode::kInvalidArgument, formatted("step: got {} tokens after {}, need at most {} together, the plan's context",
                                                          tokens, position, plan.context_tokens));
  }
  return {};
}

}  // namespace

Workload workload_of(const Plan& plan) {
  Workload workload;
  workload.kv_type = plan.kv_type;
  workload.context_tokens = plan.context_tokens;
  workload.expert_repetition = plan.expert_repetition;
  return workload;
}

Status check_device_rates(const DeviceUse& device, const MachineProfile& machine) {
  if (!device.is_used() || DeviceRates::are_known(machine)) return {};
  return Status(StatusCode::kInvalidArgument,
                "the plan uses a device, of which this machine profile does not have all rates; measure it with the device");
}

StepPredictor::StepPredictor(const StepShape& shape, const Plan& plan, const CostModel& cost, const DeviceUse& device,
                             const DeviceLoad& device_load)
    : shape_(shape), plan_(plan), cost_(cost), device_load_(device_load), load_(stream_load(shape, plan, stays_in_memory(plan), device)) {
  const std::vector<bool> resident = stays_in_memory(plan);
  if (least_units(shape, resident, plan.slot_bytes) > kMostPlayedUnits || least_device_units(shape, device) > kMostPlayedUnits) return;
  player_.emplace(shape, cost, resident, plan.slot_bytes, plan.stream_slots, load_.absent_experts, plan.reads, plan.kv_spilled_layers,
                  device, plan.device_from_tokens);
}

// The lanes' times are those of the step as it is played; its own is the closed form's, which never grows with memory
// (docs/design/0006-prediction.md).
StepPrediction StepPredictor::predict(const StepWork& work) {
  const StepTime time = cost_.step(work, load_, &device_load_), lanes = player_ ? player_->play(work) : time;
  const DeviceSums& there = device_load_.sums(work.tokens);
  const Demand demand{plan_.threads, plan_.batch, plan_.context_tokens, plan_.logit_rows, plan_.kv_type, plan_.kv_spilled_layers};
  StepPrediction step;
  step.tokens = work.tokens;
  step.lanes.disk_ms = lanes.disk_s * 1e3;
  step.lanes.h2d_ms = lanes.h2d_s * 1e3;
  step.lanes.host_ms = lanes.host_s * 1e3;
  step.lanes.device_ms = lanes.device_s * 1e3;
  step.predicted_ms = time.total_s * 1e3;
  step.streamed_bytes = load_.layer_file + (work.logit_rows > 0 ? load_.head_file : 0) + work.tokens * load_.row_bytes;
  step.expert_bytes = static_cast<uint64_t>(time.expert_bytes);
  step.h2d_bytes = there.layer_upload_bytes + (work.logit_rows > 0 ? there.head_upload_bytes : 0);
  step.kv_disk_bytes = multiply_bytes(work.sequences, kv_disk_bytes(shape_, demand, work.position, work.tokens_each()));
  step.position = work.position;
  step.logit_rows = work.logit_rows;
  step.sequences = work.sequences;
  return step;
}

Result<StepPrediction> predict_step(const Plan& plan, const StepShape& whole, const MachineProfile& machine, uint32_t tokens,
                                    uint32_t position, uint32_t logit_rows, uint32_t sequences) {
  OTR_TRY(check_plan(plan, whole));
  const StepShape shape = with_corrections_of(plan, whole);
  OTR_TRY(check_profile(machine));
  OTR_TRY(check_step(plan, tokens, position, logit_rows, sequences));
  const DeviceUse device = device_use(plan);
  OTR_TRY(check_device_rates(device, machine));
  const CostModel cost(shape, machine, workload_of(plan));
  DeviceLoad there;
  if (device.is_used()) {
    const PartChain chain(shape);
    there = device_load(chain, part_places(chain, device), plan.device_from_tokens, plan.device_slots, plan.device_slot_bytes,
                        plan.corrections_beside);
  }
  return StepPredictor(shape, plan, cost, device, there).predict({tokens, static_cast<double>(position), logit_rows, sequences});
}

}  // namespace outrigger
