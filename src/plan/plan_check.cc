// check_plan: counts a plan's bytes again, from the shape and the plan's own list of tensors.
#include <outrigger/plan.h>

#include <algorithm>
#include <cmath>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/plan/branch_share.h"
#include "src/plan/handoff_size.h"
#include "src/plan/kv_spill_model.h"
#include "src/plan/memory_model.h"
#include "src/plan/plan_inputs.h"
#include "src/tensor/low_bit_copy.h"

namespace outrigger {
namespace {

Status wrong(std::string what) {
  return Status(StatusCode::kInvalidArgument, "plan: " + std::move(what) + "; make a new plan for this model");
}

template <typename Got, typename Need>
Status equal(const char* what, const Got& got, const Need& need) {
  return got == static_cast<Got>(need) ? Status() : wrong(formatted("{} is {}, need {}", what, got, need));
}

Status check_tensors(const Plan& plan, const StepShape& shape, std::vector<bool>* resident) {
  OTR_TRY(equal("number of tensors", plan.tensors.size(), shape.matrices.size()));
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const TensorPlacement& tensor = plan.tensors[i];
    const MatrixShape& matrix = shape.matrices[i];
    if (tensor.name != matrix.name) return wrong(formatted("tensor {} is '{}', need '{}'", i, tensor.name, matrix.name));
    if (tensor.bytes != matrix.packed_bytes || tensor.file_bytes != matrix.file_bytes) {
      return wrong(formatted("got {} bytes and {} in the file, need {} and {}", tensor.bytes, tensor.file_bytes, matrix.packed_bytes,
                             matrix.file_bytes))
          .about(tensor.name);
    }
    if ((tensor.tier != Tier::kHost && tensor.tier != Tier::kDevice) || tensor.compute != tensor.tier) {
      return wrong(formatted("placed on {} and computed on {}, need host or device, and the same", tier_name(tensor.tier),
                             tier_name(tensor.compute)))
          .about(tensor.name);
    }
    resident->push_back(tensor.mode == Residence::kResident || tensor.tier == Tier::kDevice);
  }
  return {};
}

// Windows are corrected as a whole or not at all, and only those of a layer may be left out.
Status check_corrected_windows(const Plan& plan, const StepShape& shape) {
  const std::vector<LayerWindow> windows = layer_windows(shape);
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const TensorPlacement& tensor = plan.tensors[i];
    if (windows[i] == LayerWindow::kNone) {
      if (!tensor.is_corrected)
        return wrong("its corrections are left out, which only those of a layer's dense matrices can be").about(tensor.name);
      continue;
    }
    const bool joins = i > 0 && windows[i - 1] == windows[i] && shape.matrices[i - 1].layer == shape.matrices[i].layer;
    if (joins && plan.tensors[i - 1].is_corrected != tensor.is_corrected) {
      return wrong(formatted("corrected or not otherwise than '{}', which belongs to the same window", plan.tensors[i - 1].name))
          .about(tensor.name);
    }
  }
  return {};
}

// A part of a layer is in one place.
Status check_parts(const Plan& plan, const StepShape& shape) {
  size_t first = 0;  // of the part
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const TensorPlacement& tensor = plan.tensors[i];
    const MatrixShape& matrix = shape.matrices[i];
    if (tensor.tier == Tier::kDevice && matrix.part == MatrixPart::kHost)
      return wrong("placed on the device, which does not compute with it").about(tensor.name);
    if (tensor.tier == Tier::kDevice && tensor.mode == Residence::kStreamed && matrix.part == MatrixPart::kAttention &&
        plan.device_from_tokens != 1) {
      return wrong(
                 formatted("streams to the device from {} tokens on, need 1, since its keys and values are there", plan.device_from_tokens))
          .about(tensor.name);
    }
    const bool joins = i > 0 && matrix.part != MatrixPart::kHost && shape.matrices[i - 1].layer == matrix.layer &&
                       shape.matrices[i - 1].part == matrix.part;
    if (!joins) first = i;
    const TensorPlacement& of_part = plan.tensors[first];
    if (of_part.tier == Tier::kDevice && plan.corrections_beside && matrix.is_branch) {
      if (tensor.tier == Tier::kHost && tensor.mode == Residence::kResident) continue;
      return wrong(formatted("placed on {}, {}, need host, resident, since it corrects there what is on the device", tier_name(tensor.tier),
                             residence_name(tensor.mode)))
          .about(tensor.name);
    }
    if (tensor.tier == Tier::kDevice && matrix.residual_read_bytes > 0 && !plan.corrections_beside) {
      return wrong("placed on the device, and its residual, which only the host computes with, does not correct it").about(tensor.name);
    }
    if (of_part.tier == tensor.tier && (tensor.tier == Tier::kHost || of_part.mode == tensor.mode)) continue;
    return wrong(formatted("not placed as '{}', which belongs to the same part of its layer", of_part.name)).about(tensor.name);
  }
  OTR_TRY(check_corrected_windows(plan, shape));
  if (!(plan.branch_share >= 0 && plan.branch_share <= 1)) return wrong(formatted("branch_share is {}, need 0 to 1", plan.branch_share));
  if (plan.corrections_beside && (shape.correction_row_bytes == 0 || !device_use(plan).is_used()))
    return wrong("corrections_beside is true, and there is nothing to correct on a device");
  return {};
}

// The device's ring: there when something streams to it, and then large enough.
Status check_device_ring(const Plan& plan, const StepShape& shape, const DeviceUse& device) {
  uint64_t least_slot = 0;
  for (size_t i = 0; i < shape.matrices.size(); ++i) {
    if (device.is_streamed(i)) least_slot = std::max(least_slot, least_device_slot_bytes(shape.matrices[i]));
  }
  OTR_TRY(equal("transfer_bytes", plan.transfer_bytes, transfer_bytes(shape, device)));
  if (plan.handoff_bytes != 0)
    OTR_TRY(equal("handoff_bytes", plan.handoff_bytes, device.is_used() ? handoff_bytes(handoff_size(shape)) : 0));
  const bool has_work = device.is_used() || plan.device.breakdown.draft > 0;
  if (!has_work) OTR_TRY(equal("device_threads", plan.device_threads, 0));
  if (has_work && plan.device_threads == 0) return wrong("device_threads is 0, need at least 1");
  if (least_slot == 0) {
    OTR_TRY(equal("device_from_tokens", plan.device_from_tokens, 0));
    OTR_TRY(equal("device_slots", plan.device_slots, 0));
    return equal("device_slot_bytes", plan.device_slot_bytes, 0);
  }
  if (plan.device_from_tokens == 0 || plan.device_from_tokens > plan.step_tokens) {
    return wrong(formatted("device_from_tokens is {}, need 1 to {}", plan.device_from_tokens, plan.step_tokens));
  }
  if (plan.device_slots < kLeastSlots) return wrong(formatted("device_slots is {}, need at least {}", plan.device_slots, kLeastSlots));
  if (plan.device_slot_bytes >= least_slot && plan.device_slot_bytes % kPageBytes == 0) return {};
  return wrong(formatted("device_slot_bytes is {}, need a multiple of {} of at least {}", plan.device_slot_bytes, kPageBytes, least_slot));
}

Slots slots_of(const Plan& plan, const StepShape& shape) {
  return {plan.stream_slots, plan.slot_bytes, plan.expert_slots, plan.expert_slots > 0 ? expert_sizes(shape) : ExpertSizes()};
}

// A mixture's experts: all resident, or none and slots for some.
Status check_expert_slots(const Plan& plan, const StepShape& shape, const std::vector<bool>& resident) {
  OTR_TRY(check_expert_repetition("plan", plan.expert_repetition));
  uint64_t stacks = 0, stacks_resident = 0;
  for (size_t i = 0; i < resident.size(); ++i) {
    if (shape.matrices[i].use == MatrixUse::kRouted) ++stacks, stacks_resident += resident[i];
  }
  if (stacks_resident == stacks) {
    OTR_TRY(equal("expert_slots", plan.expert_slots, 0));
    return equal("expert_slot_bytes", plan.expert_slot_bytes, 0);
  }
  if (stacks_resident != 0) return wrong(formatted("{} of {} stacks of experts are resident, need all or none", stacks_resident, stacks));
  const uint32_t most = expert_count(shape), least = std::min(kLeastExpertSlots, most);
  if (plan.expert_slots < least || plan.expert_slots > most) {
    return wrong(formatted("expert_slots is {}, need {} to {}", plan.expert_slots, least, most));
  }
  return equal("expert_slot_bytes", plan.expert_slot_bytes, expert_sizes(shape).slot_bytes);
}

// The ring: there when something that is multiplied streams, and then large enough.
Status check_ring(const Plan& plan, const StepShape& shape, const std::vector<bool>& resident) {
  uint64_t least_slot = 0;
  for (size_t i = 0; i < resident.size(); ++i) {
    if (!resident[i] && is_multiplied(shape.matrices[i])) least_slot = std::max(least_slot, least_slot_bytes(shape.matrices[i]));
  }
  if (least_slot == 0) {
    OTR_TRY(equal("stream_slots", plan.stream_slots, 0));
    OTR_TRY(equal("slot_bytes", plan.slot_bytes, 0));
  } else {
    if (plan.stream_slots < kLeastSlots) return wrong(formatted("stream_slots is {}, need at least {}", plan.stream_slots, kLeastSlots));
    if (plan.slot_bytes < least_slot || plan.slot_bytes % kPageBytes != 0) {
      return wrong(formatted("slot_bytes is {}, need a multiple of {} of at least {}", plan.slot_bytes, kPageBytes, least_slot));
    }
  }
  OTR_TRY(check_expert_slots(plan, shape, resident));
  const Slots slots = slots_of(plan, shape);
  OTR_TRY(equal("reads", plan.reads, reads_in_flight(largest_row_block(shape), slots)));
  OTR_TRY(equal("staging_bytes", plan.staging_bytes, staging_bytes(largest_row_block(shape), plan.threads, slots)));
  return equal("row_buffer_bytes", plan.row_buffer_bytes, row_buffer_bytes(shape, resident, device_use(plan)));
}

Status check_streamed_bytes(const Plan& plan, const StepShape& shape, const std::vector<bool>& resident) {
  const DeviceUse device = device_use(plan);
  uint64_t bytes = 0, row_bytes = 0, to_device = 0;
  for (size_t i = 0; i < resident.size(); ++i) {
    const MatrixShape& matrix = shape.matrices[i];
    if (!resident[i] && is_multiplied(matrix)) bytes += matrix.file_bytes;
    if (reads_rows(shape, resident, device, i)) row_bytes += matrix.row_file_bytes;
  }
  for (size_t i = 0; i < resident.size(); ++i) to_device += device.is_streamed(i) ? shape.matrices[i].packed_bytes : 0;
  OTR_TRY(equal("step.decode.h2d_bytes", plan.decode.h2d_bytes, plan.decode.tokens >= plan.device_from_tokens ? to_device : 0));
  OTR_TRY(equal("step.prefill.h2d_bytes", plan.prefill.h2d_bytes, plan.prefill.tokens >= plan.device_from_tokens ? to_device : 0));
  OTR_TRY(equal("step.decode.streamed_bytes", plan.decode.streamed_bytes, bytes + plan.decode.tokens * row_bytes));
  return equal("step.prefill.streamed_bytes", plan.prefill.streamed_bytes, bytes + plan.prefill.tokens * row_bytes);
}

// Old plans know nothing of keys and values on disk, and have none there.
Status check_spilled(const Plan& plan, const StepShape& shape, const Demand& demand) {
  const bool spills = plan.kv_spilled_layers > 0;
  if (plan.kv_spilled_layers > shape.kv_layers)
    return wrong(formatted("kv.spilled_layers is {}, need at most {}", plan.kv_spilled_layers, shape.kv_layers));
  if (spills) OTR_TRY(equal("kv.layers", plan.kv_layers, shape.kv_layers));
  OTR_TRY(equal("kv.slots", plan.kv_slots, spills ? kKvSlots : 0));
  OTR_TRY(equal("kv.slot_bytes", plan.kv_slot_bytes, spills ? kv_slot_bytes(shape, demand) : 0));
  OTR_TRY(equal("kv.spill_bytes", plan.kv_spill_bytes, multiply_bytes(plan.kv_spilled_layers, plan.kv_slot_bytes)));
  for (const auto& [name, step] : {std::pair{"step.decode.kv_disk_bytes", &plan.decode}, {"step.prefill.kv_disk_bytes", &plan.prefill}}) {
    const uint64_t each = kv_disk_bytes(shape, demand, step->position, step->tokens / step->sequences);
    OTR_TRY(equal(name, step->kv_disk_bytes, multiply_bytes(step->sequences, each)));
  }
  return {};
}

Status check_breakdown(const char* tier, const TierPlan& got, const TierBreakdown& need) {
  const auto part = [tier](const char* name, uint64_t got_bytes, uint64_t need_bytes) {
    return equal(formatted("tiers.{}.{}", tier, name).c_str(), got_bytes, need_bytes);
  };
  OTR_TRY(part("weights_resident", got.breakdown.weights_resident, need.weights_resident));
  OTR_TRY(part("stream_slots", got.breakdown.stream_slots, need.stream_slots));
  OTR_TRY(part("kv_cache", got.breakdown.kv_cache, need.kv_cache));
  OTR_TRY(part("activations", got.breakdown.activations, need.activations));
  OTR_TRY(part("draft", got.breakdown.draft, need.draft));
  OTR_TRY(part("branches", got.breakdown.branches, need.branches));
  OTR_TRY(part("experts", got.breakdown.experts, need.experts));
  OTR_TRY(part("other", got.breakdown.other, need.other));
  OTR_TRY(part("planned_bytes", got.planned_bytes, need.total()));
  if (got.budget_bytes != Budgets::kUnlimited && got.planned_bytes > got.budget_bytes) {
    return wrong(formatted("plans {} bytes of {} memory, above the budget of {}", got.planned_bytes, tier, got.budget_bytes));
  }
  return {};
}

Status check_predictions(const Plan& plan) {
  for (const auto& [name, step] : {std::pair{"step.decode", &plan.decode}, {"step.prefill", &plan.prefill}}) {
    if (step->sequences == 0 || step->sequences > plan.batch || step->tokens % step->sequences != 0) {
      return wrong(formatted("{} has {} tokens of {} sessions, need as many of each, and at most the batch's {}", name, step->tokens,
                             step->sequences, plan.batch));
    }
  }
  for (double value :
       {plan.draft_tokens_per_pass, plan.predicted_draft_tokens_per_s, plan.decode.position, plan.prefill.position,
        plan.decode.predicted_ms, plan.decode.lanes.disk_ms, plan.decode.lanes.host_ms, plan.decode.lanes.h2d_ms,
        plan.decode.lanes.device_ms, plan.prefill.predicted_ms, plan.prefill.lanes.disk_ms, plan.prefill.lanes.host_ms,
        plan.prefill.lanes.h2d_ms, plan.prefill.lanes.device_ms, plan.predicted_prefill_ms, plan.predicted_decode_tokens_per_s}) {
    if (!std::isfinite(value) || value < 0) return wrong(formatted("a predicted time is {}, need a finite number of at least 0", value));
  }
  for (const char* lane : {"disk", "host", "h2d", "device"}) {
    if (plan.binding_lane == lane) return {};
  }
  return wrong(formatted("binding_lane is '{}', need disk, host, h2d or device", plan.binding_lane));
}

// Copies to draft with, of all that streams from disk.
Status check_stand_ins(const Plan& plan, const StepShape& shape, const std::vector<bool>& resident) {
  if (plan.self_draft_bits == 0) return {};
  if (plan.self_draft_bits < 2 || plan.self_draft_bits > 4)
    return wrong(formatted("draft.bits is {}, need 0 or 2 to 4", plan.self_draft_bits));
  if (plan.draft_tokens == 0) return wrong("draft.bits is not 0, and draft.tokens is");
  if (device_use(plan).is_used() || shape.correction_row_bytes > 0)
    return wrong("there are copies to draft with beside a device or branches, need none");
  bool has_any = false;
  for (size_t i = 0; i < resident.size(); ++i) {
    const MatrixShape& matrix = shape.matrices[i];
    if (matrix.use == MatrixUse::kRouted)
      return wrong("there are copies to draft with of a mixture of experts, need none").about(matrix.name);
    if (!has_stand_in(matrix, resident[i])) continue;
    if (matrix.columns % kCopyColumns != 0)
      return wrong(formatted("rows of {} weights have no copy to draft with", matrix.columns)).about(matrix.name);
    has_any = true;
  }
  return has_any ? Status() : wrong(formatted("draft.bits is {}, need 0 where nothing streams from disk", plan.self_draft_bits));
}

}  // namespace

Status check_plan(const Plan& plan, const StepShape& shape) {
  OTR_TRY(check_shape(shape));
  const auto step = std::find_if(shape.activations.begin(), shape.activations.end(),
                                 [&plan](const ActivationCost& cost) { return cost.tokens == plan.step_tokens; });
  if (step == shape.activations.end())
    return wrong(formatted("step_tokens is {}, which is none of the model's step sizes", plan.step_tokens));
  if (plan.threads == 0 || plan.batch == 0)
    return wrong(formatted("{} threads and a batch of {}, need at least 1", plan.threads, plan.batch));
  if (plan.context_tokens == 0 || plan.context_tokens > shape.context_tokens) {
    return wrong(formatted("context_tokens is {}, need 1 to {}", plan.context_tokens, shape.context_tokens));
  }
  OTR_TRY(check_kv_type("plan", plan.kv_type, shape));
  if (plan.logit_rows == 0 || plan.logit_rows > plan.step_tokens) {
    return wrong(formatted("logit_rows is {}, need 1 to {}", plan.logit_rows, plan.step_tokens));
  }

  std::vector<bool> resident;
  OTR_TRY(check_tensors(plan, shape, &resident));
  OTR_TRY(check_parts(plan, shape));
  const DeviceUse device = device_use(plan);
  OTR_TRY(check_device_ring(plan, shape, device));
  OTR_TRY(check_ring(plan, shape, resident));
  OTR_TRY(check_streamed_bytes(plan, shape, resident));
  OTR_TRY(check_predictions(plan));
  if (plan.draft_tokens >= plan.logit_rows)
    return wrong(formatted("draft.tokens is {}, need less than the {} of logit_rows", plan.draft_tokens, plan.logit_rows));
  OTR_TRY(check_stand_ins(plan, shape, resident));
  Demand demand{plan.threads,           plan.batch, plan.context_tokens,      plan.logit_rows, plan.kv_type,
                plan.kv_spilled_layers, 0,          plan.host.breakdown.draft};
  demand.self_draft_bits = plan.self_draft_bits;
  demand.draft_device_bytes = plan.device.breakdown.draft;
  demand.device_taken_bytes = plan.device.breakdown.other;
  OTR_TRY(check_spilled(plan, shape, demand));
  if (plan.kv_spilled_layers > 0 && device.is_used())
    return wrong("keys and values are on disk and parts of the model on a device, need one or the other");
  OTR_TRY(check_breakdown("host", plan.host, host_breakdown(shape, demand, *step, resident, slots_of(plan, shape), device)));
  OTR_TRY(check_breakdown("device", plan.device, device_breakdown(shape, demand, *step, device)));
  if (plan.minimum_host_bytes > plan.host.planned_bytes) {
    return wrong(
        formatted("minimum.host_bytes is {}, need at most the {} bytes planned", plan.minimum_host_bytes, plan.host.planned_bytes));
  }
  if (plan.minimum_device_bytes <= plan.device.planned_bytes) return {};
  return wrong(
      formatted("minimum.device_bytes is {}, need at most the {} bytes planned", plan.minimum_device_bytes, plan.device.planned_bytes));
}

}  // namespace outrigger
