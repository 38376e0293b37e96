// Memory model: the bytes a plan reserves.
#include "src/plan/memory_model.h"

#include <algorithm>

#include "src/base/checked.h"
#include "src/base/formatted.h"
#include "src/plan/kv_spill_model.h"
#include "src/tensor/own_form.h"
#include "src/tensor/packed.h"

namespace outrigger {
namespace {

uint64_t saturated(CheckedSize size) { return size.value().value_or(UINT64_MAX); }

}  // namespace

uint64_t multiply_bytes(uint64_t a, uint64_t b) { return saturated(CheckedSize(a) * CheckedSize(b)); }

uint64_t round_up_bytes(uint64_t bytes, uint64_t unit) { return saturated(CheckedSize(bytes).round_up(unit)); }

uint64_t kv_bytes_per_token(const StepShape& shape, KvType type) {
  switch (type) {
    case KvType::kF16:
      return shape.kv_bytes_per_token;
    case KvType::kF32:
      return multiply_bytes(shape.kv_bytes_per_token, 2);
    case KvType::kQ8_0:  // a code each and a float16 for 32, instead of 32 times float16
      return shape.kv_bytes_per_token / 64 * 34;
  }
  return UINT64_MAX;
}

Status check_kv_type(const char* what, KvType type, const StepShape& shape) {
  if (type != KvType::kF16 && type != KvType::kF32 && type != KvType::kQ8_0) {
    return Status(StatusCode::kInvalidArgument, formatted("{}: kv_type is none that is known", what));
  }
  if (type != KvType::kQ8_0 || shape.kv_takes_q8_0) return {};
  return Status(StatusCode::kInvalidArgument,
                formatted("{}: kv_type is q8_0, which needs heads of a multiple of 32 elements, and this model's are not; use f16", what));
}

uint64_t kv_cache_bytes(const StepShape& shape, const Demand& demand, uint32_t layers) {
  const CheckedSize tokens = CheckedSize(demand.context_tokens).round_up(shape.kv_granule_tokens);
  const uint64_t per_token = kv_bytes_per_token(shape, demand.kv_type) / shape.kv_layers;  // of a layer
  const CheckedSize session = tokens * CheckedSize(multiply_bytes(per_token, layers - demand.kv_spilled_layers));
  const uint64_t resident = saturated(session.round_up(kPageBytes) * CheckedSize(demand.batch));
  return add_bytes(resident, demand.kv_spilled_layers == 0 ? 0 : multiply_bytes(kKvSlots, kv_slot_bytes(shape, demand)));
}

uint64_t activation_bytes(const StepShape& shape, const Demand& demand, const ActivationCost& step, bool has_corrections) {
  const CheckedSize scratch = CheckedSize(demand.threads) * CheckedSize(shape.activation_bytes_per_thread);
  const CheckedSize logits = CheckedSize(demand.rows_of(step)) * CheckedSize(shape.logits_row_bytes);
  const CheckedSize corrections = CheckedSize(has_corrections ? step.tokens : 0) * CheckedSize(shape.correction_row_bytes);
  return saturated((CheckedSize(step.bytes) + scratch + logits + corrections).round_up(kPageBytes));
}

uint64_t host_step_bytes(const StepShape& shape, const Demand& demand, const ActivationCost& step) {
  return add_bytes(add_bytes(whole_pages(shape.residual_bytes), whole_pages(demand.draft_bytes)), activation_bytes(shape, demand, step));
}

uint64_t stand_in_bytes(const MatrixShape& matrix, uint32_t bits) {
  const PackedKind kind = *packed_kind(*own_type(static_cast<int>(bits)));
  return multiply_bytes((matrix.rows + kPackRows - 1) / kPackRows, packed_block_bytes(kind, matrix.columns));
}

uint64_t stand_ins_bytes(const StepShape& shape, const Demand& demand, const std::vector<bool>& stays) {
  if (demand.self_draft_bits == 0) return 0;
  uint64_t copies = 0;
  for (size_t i = 0; i < shape.matrices.size(); ++i) {
    if (has_stand_in(shape.matrices[i], stays[i])) copies = add_bytes(copies, stand_in_bytes(shape.matrices[i], demand.self_draft_bits));
  }
  const CheckedSize scratch = CheckedSize(demand.threads) * CheckedSize(shape.activation_bytes_per_thread);
  const CheckedSize logits = CheckedSize(kStandInTokens) * CheckedSize(shape.logits_row_bytes);
  return add_bytes(whole_pages(copies),
                   saturated((CheckedSize(shape.draft_step_bytes) + scratch + logits).round_up(kPageBytes)));
}

uint32_t reads_in_flight(uint64_t row_block_bytes, const Slots& slots) {
  constexpr uint64_t kReadsOfExpert = 3;  // gate, up and down, a read each at least
  const uint64_t read = whole_pages(std::clamp(slots.ring_slot_bytes, uint64_t{1}, std::max(kMostReadBytes, row_block_bytes)));
  const uint64_t of_ring = slots.ring > 0 ? multiply_bytes(slots.ring - 1, (slots.ring_slot_bytes + read - 1) / read) : 0;
  return static_cast<uint32_t>(std::min<uint64_t>(kMostReads, std::max(of_ring, kReadsOfExpert * expert_arrivals(slots.experts))));
}

uint64_t staging_bytes(uint64_t row_block_bytes, uint32_t threads, const Slots& slots) {
  const uint64_t unpacking = slots.ring > 0 ? multiply_bytes(threads, unpack_buffer_bytes(row_block_bytes, slots.ring_slot_bytes)) : 0;
  return add_bytes(unpacking, multiply_bytes(expert_arrivals(slots.experts), slots.of_expert.arrival_bytes));
}

ExpertSizes expert_sizes(const StepShape& shape) {
  const std::vector<ExpertLayer> layers = expert_layers(shape);
  return {expert_slot_bytes(layers), expert_arrival_bytes(layers)};
}

uint32_t expert_count(const StepShape& shape) {
  uint64_t count = 0;
  uint32_t layer = UINT32_MAX;
  for (const MatrixShape& matrix : shape.matrices) {
    if (matrix.use == MatrixUse::kRouted && matrix.layer != layer) count += matrix.experts, layer = matrix.layer;
  }
  return static_cast<uint32_t>(std::min<uint64_t>(count, UINT32_MAX / 2));
}

bool DeviceUse::is_used() const {
  const auto any = [](const std::vector<bool>& bits) { return std::find(bits.begin(), bits.end(), true) != bits.end(); };
  return any(resident) || any(streamed);
}

uint32_t DeviceUse::attention_layers(const StepShape& shape) const {
  uint32_t layers = 0, last = UINT32_MAX;
  for (size_t i = 0; i < shape.matrices.size(); ++i) {
    const MatrixShape& matrix = shape.matrices[i];
    if (matrix.part != MatrixPart::kAttention || !computes(i) || matrix.layer == last) continue;
    last = matrix.layer;
    ++layers;
  }
  return layers;
}

DeviceUse device_use(const Plan& plan) {
  DeviceUse device;
  for (const TensorPlacement& tensor : plan.tensors) {
    device.resident.push_back(tensor.tier == Tier::kDevice && tensor.mode == Residence::kResident);
    device.streamed.push_back(tensor.tier == Tier::kDevice && tensor.mode == Residence::kStreamed);
  }
  device.slots = plan.device_slots;
  device.slot_bytes = plan.device_slot_bytes;
  device.threads = plan.device_threads;
  device.transfer_bytes = plan.transfer_bytes;
  device.handoff_bytes = plan.handoff_bytes;
  device.corrections_beside = plan.corrections_beside;
  return device;
}

uint64_t transfer_bytes(const StepShape& shape, const DeviceUse& device) {
  if (!device.is_used()) return 0;
  uint64_t bytes = kLeastTransferBytes;
  for (size_t i = 0; i < shape.matrices.size(); ++i) {
    if (device.is_resident(i)) bytes = std::max(bytes, whole_pages(shape.matrices[i].row_block_bytes));
  }
  return bytes;
}

bool reads_rows(const StepShape& shape, const std::vector<bool>& resident, const DeviceUse& device, size_t matrix) {
  return is_looked_up(shape.matrices[matrix]) && (!resident[matrix] || device.is_resident(matrix));
}

uint64_t row_buffer_bytes(const StepShape& shape, const std::vector<bool>& resident, const DeviceUse& device) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < shape.matrices.size(); ++i) {
    if (reads_rows(shape, resident, device, i)) bytes = std::max(bytes, round_up_bytes(shape.matrices[i].row_file_bytes, kWeightAlignment));
  }
  return bytes;
}

TierBreakdown host_breakdown(const StepShape& shape, const Demand& demand, const ActivationCost& step, const std::vector<bool>& resident,
                             const Slots& slots, const DeviceUse& device) {
  uint64_t weights = fixed_arena_bytes(shape);
  for (size_t i = 0; i < shape.matrices.size(); ++i) {
    if (resident[i] && !device.is_resident(i)) weights = add_bytes(weights, resident_bytes(shape.matrices[i]));
  }
  TierBreakdown breakdown;
  breakdown.weights_resident = whole_pages(weights);
  breakdown.stream_slots = add_bytes(
      add_bytes(multiply_bytes(slots.ring, slots.ring_slot_bytes), staging_bytes(largest_row_block(shape), demand.threads, slots)),
      whole_pages(row_buffer_bytes(shape, resident, device)));
  breakdown.kv_cache = kv_cache_bytes(shape, demand, shape.kv_layers - device.attention_layers(shape));
  breakdown.activations = activation_bytes(shape, demand, step);
  breakdown.experts = multiply_bytes(slots.experts, slots.of_expert.slot_bytes);
  breakdown.draft = demand.self_draft_bits > 0 ? stand_ins_bytes(shape, demand, resident) : whole_pages(demand.draft_bytes);
  breakdown.branches = whole_pages(shape.residual_bytes);
  breakdown.other = add_bytes(device.transfer_bytes, device.handoff_bytes);
  return breakdown;
}

TierBreakdown device_breakdown(const StepShape& shape, const Demand& demand, const ActivationCost& step, const DeviceUse& device) {
  TierBreakdown breakdown;
  breakdown.draft = whole_pages(demand.draft_device_bytes);
  if (device.is_used() || breakdown.draft > 0) breakdown.other = whole_pages(demand.device_taken_bytes);
  if (!device.is_used()) return breakdown;
  uint64_t weights = fixed_arena_bytes(shape);
  for (size_t i = 0; i < shape.matrices.size(); ++i) {
    if (device.is_resident(i)) weights = add_bytes(weights, resident_bytes(shape.matrices[i]));
  }
  Demand there = demand;
  there.threads = device.threads;
  there.kv_spilled_layers = 0;
  breakdown.weights_resident = whole_pages(weights);
  breakdown.stream_slots = multiply_bytes(device.slots, device.slot_bytes);
  breakdown.kv_cache = kv_cache_bytes(shape, demand, device.attention_layers(shape));
  breakdown.activations = activation_bytes(shape, there, step, device.corrections_beside);
  return breakdown;
}

}  // namespace outrigger
