// What a draft model takes: bytes, and the time of a step.
#include "src/decode/draft_plan.h"

#include <outrigger/draft_forecast.h>
#include <outrigger/speculation.h>

#include <algorithm>
#include <new>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/decode/tree_draft.h"
#include "src/plan/device_cost.h"
#include "src/plan/resident_plan.h"

namespace outrigger {
namespace {

constexpr Budgets kUnlimited{Budgets::kUnlimited, Budgets::kUnlimited};

// Nothing is left to decide by rates where everything is resident.
MachineProfile any_machine(const DraftThreads& threads) {
  MachineProfile machine;
  machine.machine = "any";
  machine.threads = threads.host;
  machine.host_stream_bytes.per_s = 20e9;
  machine.host_int8_ops.per_s = 300e9;
  machine.host_small_batch_ops.per_s = 150e9;
  machine.host_attention_flops.per_s = 50e9;
  machine.host_repack_bytes.per_s = 4e9;
  machine.disk_bytes.per_s = 1e9;
  if (threads.device == 0) return machine;
  machine.device = "any";
  machine.device_memory_bytes = UINT64_MAX / 2;
  machine.device_threads = threads.device;
  machine.h2d_bytes.per_s = machine.d2h_bytes.per_s = 10e9;
  machine.device_stream_bytes.per_s = 500e9;
  machine.device_int8_ops.per_s = machine.device_small_batch_ops.per_s = 10e12;
  machine.device_attention_flops.per_s = 5e12;
  return machine;
}

Result<Plan> plan_resident(const StepShape& shape, const MachineProfile& machine, const Budgets& budgets, const Workload& workload,
                           bool on_device) {
  // Prompts go through a draft in such steps: twice as large ones read it not noticeably faster, and take twice the activations.
  static constexpr uint32_t kStepTokens = 64;
  return on_device ? device_resident_plan(shape, machine, budgets, workload, kStepTokens)
                   : resident_plan(shape, machine, budgets.host_bytes, workload, kStepTokens);
}

Status check_room(const DraftTexts& texts, const DraftThreads& threads, bool on_device) {
  if (texts.context_tokens > 0 && texts.count > 0 && threads.host > 0 && (!on_device || threads.device > 0)) return {};
  return Status(StatusCode::kInvalidArgument,
                formatted("draft: got {} tokens of context, {} texts, {} threads{}, need at least 1 of each", texts.context_tokens,
                          texts.count, threads.host, on_device ? formatted(" and {} of the device", threads.device) : ""));
}

// All of the draft resident where it computes, for the middle of the new tokens.
Result<Plan> plan_steps(const Model& draft, const MachineProfile& machine, const DraftSteps& steps, bool on_device) {
  OTR_TRY(check_room({steps.context_tokens, steps.texts}, {machine.threads, machine.device_threads}, on_device));
  if (on_device && !DeviceRates::are_known(machine))
    return Status(StatusCode::kInvalidArgument, "draft: the machine's profile has no device; let it compute on the host");
  OTR_ASSIGN(const StepShape shape, draft.step_shape());
  Workload workload;
  workload.batch = steps.texts;
  workload.context_tokens = static_cast<uint32_t>(std::min<uint64_t>(steps.context_tokens, shape.context_tokens));
  workload.new_tokens = std::min(steps.new_tokens, workload.context_tokens - 1);
  workload.prompt_tokens = workload.context_tokens - workload.new_tokens;
  MachineProfile used = machine;
  if (!on_device) used.device_memory_bytes = 0;
  return plan_resident(shape, used, kUnlimited, workload, on_device);
}

}  // namespace

Result<Plan> plan_draft(const Model& draft, const DraftTexts& texts, const DraftThreads& threads, const Budgets& budgets) {
  OTR_ASSIGN(const StepShape shape, draft.step_shape());
  Workload workload;
  workload.context_tokens = static_cast<uint32_t>(std::min<uint64_t>(texts.context_tokens, shape.context_tokens));
  workload.prompt_tokens = workload.context_tokens;
  workload.new_tokens = 0;
  workload.batch = texts.count;
  // A level of a tree is one step, and wants all of its logits; several texts draft chains.
  workload.draft_tokens = texts.count == 1 ? kModelTreeWidth - 1 : 0;
  return plan_resident(shape, any_machine(threads), budgets, workload, threads.device > 0);
}

Result<uint64_t> draft_model_bytes(const Model& draft, uint32_t context_tokens, uint32_t threads, uint32_t texts) try {
  const DraftTexts room{context_tokens, texts};
  OTR_TRY(check_room(room, {threads, 0}, false));
  OTR_ASSIGN(const Plan plan, plan_draft(draft, room, {threads, 0}, kUnlimited));
  return plan.host.planned_bytes;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Result<DraftDeviceBytes> draft_model_device_bytes(const Model& draft, uint32_t context_tokens, uint32_t threads, uint32_t device_threads,
                                                  uint32_t texts) try {
  const DraftTexts room{context_tokens, texts};
  OTR_TRY(check_room(room, {threads, device_threads}, true));
  OTR_ASSIGN(const Plan plan, plan_draft(draft, room, {threads, device_threads}, kUnlimited));
  return DraftDeviceBytes{plan.host.planned_bytes, plan.device.planned_bytes};
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Result<double> draft_model_step_ms(const Model& draft, const MachineProfile& machine, const DraftSteps& steps, bool on_device) try {
  OTR_ASSIGN(const Plan plan, plan_steps(draft, machine, steps, on_device));
  return plan.decode.predicted_ms;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

Result<DraftExpectation> untried_draft(const Model& draft, const MachineProfile& machine, const DraftSteps& steps, bool on_device) try {
  OTR_ASSIGN(const Plan plan, plan_steps(draft, machine, steps, on_device));
  DraftExpectation expected;
  expected.accepted = unknown_acceptance();
  expected.on_device = on_device;
  expected.step_ms = plan.decode.predicted_ms;
  expected.read_ms = plan.prefill.predicted_ms / std::max(1u, plan.prefill.tokens);
  if (steps.texts > 1) {
    const DraftSteps of_half{steps.context_tokens, steps.new_tokens, (steps.texts + 1) / 2};
    OTR_ASSIGN(expected.half_step_ms, draft_model_step_ms(draft, machine, of_half, on_device));
  }
  return expected;
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
