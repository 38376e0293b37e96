// Memory model: the bytes a plan reserves.
#include "src/plan/memory_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/checked.h"

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
    return Status(StatusCode::kInvalidArgument, fmt::format("{}: kv_type is none that is known", what));
  }
  if (type != KvType::kQ8_0 || shape.kv_takes_q8_0) return {};
  return Status(StatusCode::kInvalidArgument,
                fmt::format("{}: kv_type is q8_0, which needs heads of a multiple of 32 elements, and this model's are not; use f16", what));
}

uint64_t kv_cache_bytes(const StepShape& shape, const Demand& demand) {
  const CheckedSize tokens = CheckedSize(demand.context_tokens).round_up(shape.kv_granule_tokens);
  const CheckedSize session = tokens * CheckedSize(kv_bytes_per_token(shape, demand.kv_type));
  return saturated(session.round_up(kPageBytes) * CheckedSize(demand.batch));
}

uint64_t activation_bytes(const StepShape& shape, const Demand& demand, const ActivationCost& step) {
  const CheckedSize scratch = CheckedSize(demand.threads) * CheckedSize(shape.activation_bytes_per_thread);
  const CheckedSize logits = CheckedSize(std::min(demand.logit_rows, step.tokens)) * CheckedSize(shape.logits_row_bytes);
  return saturated((CheckedSize(step.bytes) + scratch + logits).round_up(kPageBytes));
}

StreamSizes stream_sizes(const StepShape& shape, const std::vector<bool>& resident, uint64_t slot_bytes) {
  StreamSizes sizes;
  for (size_t i = 0; i < shape.matrices.size(); ++i) {
    if (resident[i]) continue;
    const MatrixShape& matrix = shape.matrices[i];
    if (is_multiplied(matrix)) sizes.staging_bytes = staging_for_slot(slot_bytes);
    if (is_looked_up(matrix))
      sizes.row_buffer_bytes = std::max(sizes.row_buffer_bytes, round_up_bytes(matrix.row_file_bytes, kWeightAlignment));
  }
  return sizes;
}

TierBreakdown host_breakdown(const StepShape& shape, const Demand& demand, const ActivationCost& step, const std::vector<bool>& resident,
                             uint32_t slots, uint64_t slot_bytes) {
  uint64_t weights = fixed_arena_bytes(shape);
  for (size_t i = 0; i < shape.matrices.size(); ++i) {
    if (resident[i]) weights = add_bytes(weights, resident_bytes(shape.matrices[i]));
  }
  const StreamSizes sizes = stream_sizes(shape, resident, slot_bytes);
  TierBreakdown breakdown;
  breakdown.weights_resident = whole_pages(weights);
  breakdown.stream_slots =
      add_bytes(add_bytes(multiply_bytes(slots, slot_bytes), sizes.staging_bytes), whole_pages(sizes.row_buffer_bytes));
  breakdown.kv_cache = kv_cache_bytes(shape, demand);
  breakdown.activations = activation_bytes(shape, demand, step);
  return breakdown;
}

}  // namespace outrigger
