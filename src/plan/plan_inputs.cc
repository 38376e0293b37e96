// The planner's preconditions.
#include "src/plan/plan_inputs.h"

#include <cmath>
#include <set>
#include <utility>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/plan/memory_model.h"

namespace outrigger {
namespace {

Status invalid(std::string message) { return Status(StatusCode::kInvalidArgument, std::move(message)); }

Status check_matrix(const MatrixShape& matrix) {
  const auto wrong = [&matrix](std::string what) { return invalid("matrix shape: " + std::move(what)).about(matrix.name); };
  if (matrix.rows == 0 || matrix.columns == 0)
    return wrong(formatted("got {} x {} elements, need at least 1 x 1", matrix.rows, matrix.columns));
  if (matrix.packed_bytes == 0 || matrix.packed_bytes % kWeightAlignment != 0) {
    return wrong(formatted("got {} packed bytes, need a positive multiple of {}", matrix.packed_bytes, kWeightAlignment));
  }
  if (matrix.row_block_bytes == 0 || matrix.row_block_bytes > matrix.packed_bytes) {
    return wrong(formatted("got row blocks of {} bytes, need 1 to {}", matrix.row_block_bytes, matrix.packed_bytes));
  }
  if (matrix.row_block_file_bytes > matrix.row_block_bytes || (matrix.row_block_file_bytes == 0 && is_multiplied(matrix))) {
    return wrong(formatted("a row block has {} bytes in the file, need 1 to its {} packed bytes", matrix.row_block_file_bytes,
                           matrix.row_block_bytes));
  }
  if (matrix.experts == 0 || (matrix.experts > 1 && matrix.use != MatrixUse::kRouted)) {
    return wrong(formatted("got {} experts, need 1, or more where tokens are routed", matrix.experts));
  }
  if (matrix.packed_bytes % (uint64_t{matrix.experts} * kWeightAlignment) != 0 || matrix.file_bytes % matrix.experts != 0) {
    return wrong(formatted("{} packed bytes and {} in the file are not those of {} equal experts", matrix.packed_bytes, matrix.file_bytes,
                           matrix.experts));
  }
  if (is_looked_up(matrix) && (matrix.row_file_bytes == 0 || matrix.row_file_bytes > matrix.row_block_bytes)) {
    return wrong(formatted("a row to be looked up has {} bytes in the file, need 1 to the {} of a row block", matrix.row_file_bytes,
                           matrix.row_block_bytes));
  }
  if (matrix.also_rows && matrix.use != MatrixUse::kLogits) return wrong("only the output head can also be looked up by rows");
  const bool is_of_layer = matrix.part == MatrixPart::kAttention || matrix.part == MatrixPart::kFeedForward;
  if ((is_of_layer && matrix.use != MatrixUse::kEveryToken) || (matrix.part == MatrixPart::kHead && matrix.use != MatrixUse::kLogits)) {
    return wrong("a part of a layer is used for every token, the head for logits, and this is not");
  }
  return {};
}

// Each part's matrices side by side, and no more layers with attention than keep keys and values.
Status check_parts(const StepShape& shape) {
  std::set<std::pair<uint32_t, MatrixPart>> parts;
  uint32_t attentions = 0;
  const MatrixShape* before = nullptr;
  for (const MatrixShape& matrix : shape.matrices) {
    const bool joins = before != nullptr && before->part == matrix.part && before->layer == matrix.layer;
    before = &matrix;
    if (joins || matrix.part == MatrixPart::kHost) continue;
    if (!parts.emplace(matrix.layer, matrix.part).second)
      return invalid("step shape: a part of its layer that others stand in between of").about(matrix.name);
    attentions += matrix.part == MatrixPart::kAttention;
  }
  if (attentions <= shape.kv_layers) return {};
  return invalid(formatted("step shape: {} layers with attention, of which {} keep keys and values", attentions, shape.kv_layers));
}

Status check_rate(const char* name, const Rate& rate, bool may_be_unknown) {
  // Below one a second a time could be infinite.
  if ((may_be_unknown && rate.per_s == 0) || (std::isfinite(rate.per_s) && rate.per_s >= 1)) return {};
  return invalid(formatted("machine profile: {} is {} per second, need a finite number of at least 1{}; measure the machine again", name,
                           rate.per_s, may_be_unknown ? ", or 0 if unknown" : ""));
}

}  // namespace

Status check_shape(const StepShape& shape) {
  if (shape.activations.empty()) return invalid("step shape: no step sizes to choose from, need at least one");
  uint32_t previous = 0;
  for (const ActivationCost& step : shape.activations) {
    if (step.tokens <= previous)
      return invalid(formatted("step shape: step size {} after {}, need ascending sizes from 1", step.tokens, previous));
    previous = step.tokens;
  }
  if (!std::isfinite(shape.attention_flops_per_token_per_position) || shape.attention_flops_per_token_per_position < 0) {
    return invalid(formatted("step shape: {} attention operations, need a finite number of at least 0",
                             shape.attention_flops_per_token_per_position));
  }
  if (!std::isfinite(shape.activation_flops_per_token) || shape.activation_flops_per_token < 0) {
    return invalid(formatted("step shape: {} operations on a token's activations, need a finite number of at least 0",
                             shape.activation_flops_per_token));
  }
  if (shape.kv_takes_q8_0 && shape.kv_bytes_per_token % 64 != 0) {
    return invalid(
        formatted("step shape: {} bytes of keys and values a token, need a multiple of 64 for q8_0", shape.kv_bytes_per_token));
  }
  if (shape.kv_layers == 0 || shape.kv_bytes_per_token % (uint64_t{shape.kv_layers} * (shape.kv_takes_q8_0 ? 64 : 1)) != 0) {
    return invalid(formatted("step shape: {} bytes of keys and values a token are not those of {} equal layers", shape.kv_bytes_per_token,
                             shape.kv_layers));
  }
  OTR_TRY(check_parts(shape));
  if (shape.kv_runs == 0 || multiply_bytes(shape.kv_bytes_per_token / shape.kv_layers, shape.kv_granule_tokens) % shape.kv_runs != 0) {
    return invalid(formatted("step shape: a layer's {} bytes of keys and values a token are not those of {} equal runs",
                             shape.kv_bytes_per_token / shape.kv_layers, shape.kv_runs));
  }
  uint32_t experts = 0;
  for (const MatrixShape& matrix : shape.matrices) {
    OTR_TRY(check_matrix(matrix));
    if (matrix.use != MatrixUse::kRouted) continue;
    if (experts != 0 && experts != matrix.experts) return invalid("step shape: layers of different numbers of experts").about(matrix.name);
    experts = matrix.experts;
  }
  if (experts > 0 && (shape.used_experts == 0 || shape.used_experts > experts)) {
    return invalid(formatted("step shape: {} of {} experts are used, need 1 to all", shape.used_experts, experts));
  }
  if (shape.kv_granule_tokens == 0) return invalid("step shape: kv_granule_tokens is 0, need at least 1");
  return {};
}

Status check_profile(const MachineProfile& machine) {
  if (machine.threads == 0) return invalid("machine profile: 0 threads, need at least 1");
  OTR_TRY(check_rate("host_stream_bytes", machine.host_stream_bytes, false));
  OTR_TRY(check_rate("host_int8_ops", machine.host_int8_ops, false));
  OTR_TRY(check_rate("host_small_batch_ops", machine.host_small_batch_ops, false));
  OTR_TRY(check_rate("host_attention_flops", machine.host_attention_flops, false));
  OTR_TRY(check_rate("host_repack_bytes", machine.host_repack_bytes, false));
  OTR_TRY(check_rate("host_float_ops", machine.host_float_ops, true));
  OTR_TRY(check_rate("host_float_small_batch_ops", machine.host_float_small_batch_ops, true));
  OTR_TRY(check_rate("host_bf16_ops", machine.host_bf16_ops, true));
  OTR_TRY(check_rate("host_bf16_small_batch_ops", machine.host_bf16_small_batch_ops, true));
  OTR_TRY(check_rate("host_float_repack_bytes", machine.host_float_repack_bytes, true));
  OTR_TRY(check_rate("disk_bytes", machine.disk_bytes, true));
  OTR_TRY(check_rate("disk_bytes_busy", machine.disk_bytes_busy, true));
  OTR_TRY(check_rate("host_stream_bytes_busy", machine.host_stream_bytes_busy, true));
  OTR_TRY(check_rate("h2d_bytes", machine.h2d_bytes, true));
  OTR_TRY(check_rate("d2h_bytes", machine.d2h_bytes, true));
  OTR_TRY(check_rate("device_stream_bytes", machine.device_stream_bytes, true));
  OTR_TRY(check_rate("device_int8_ops", machine.device_int8_ops, true));
  OTR_TRY(check_rate("device_small_batch_ops", machine.device_small_batch_ops, true));
  OTR_TRY(check_rate("device_attention_flops", machine.device_attention_flops, true));
  for (const auto& [name, us] : {std::pair("device_step_overhead_us", machine.device_step_overhead_us),
                                 {"link_latency_us", machine.link_latency_us},
                                 {"handoff_us", machine.handoff_us}}) {
    if (!std::isfinite(us) || us < 0)
      return invalid(formatted("machine profile: {} is {}, need a finite number of at least 0", name, us));
  }
  if (!std::isfinite(machine.host_step_overhead_us) || machine.host_step_overhead_us < 0) {
    return invalid(
        formatted("machine profile: host_step_overhead_us is {}, need a finite number of at least 0", machine.host_step_overhead_us));
  }
  return {};
}

Status check_expert_repetition(const char* what, double repetition) {
  if (repetition >= 1 && repetition <= kMostExpertRepetition) return {};
  return invalid(formatted("{}: expert_repetition is {}, need 1 to {}", what, repetition, kMostExpertRepetition));
}

Status check_workload(const Workload& workload, const StepShape& shape) {
  const uint64_t tokens = uint64_t{workload.prompt_tokens} + workload.new_tokens;
  const uint64_t context = workload.context_tokens > 0 ? workload.context_tokens : tokens;
  if (tokens == 0) return invalid("workload: 0 tokens, need a prompt or new tokens");
  if (workload.batch == 0) return invalid("workload: batch is 0, need at least 1 session");
  OTR_TRY(check_kv_type("workload", workload.kv_type, shape));
  if (workload.kv_spilled_layers != Workload::kAsItPays && workload.kv_spilled_layers > shape.kv_layers) {
    return invalid(formatted("workload: keys and values of {} layers are to be on disk, the model has {}", workload.kv_spilled_layers,
                             shape.kv_layers));
  }
  if (workload.max_slowdown != Workload::kAnySlowdown && !(workload.max_slowdown >= 0 && std::isfinite(workload.max_slowdown))) {
    return invalid(
        formatted("workload: max_slowdown is {}, need at least 0, or {} for any", workload.max_slowdown, Workload::kAnySlowdown));
  }
  OTR_TRY(check_expert_repetition("workload", workload.expert_repetition));
  const bool is_place = workload.corrections == CorrectionPlace::kAsItPays || workload.corrections == CorrectionPlace::kOnDevice ||
                        workload.corrections == CorrectionPlace::kOnHost;
  if (!is_place) return invalid(formatted("workload: corrections is {}, need 0 to 2", static_cast<int>(workload.corrections)));
  if (workload.draft_tokens > kMostTreeDraftTokens) {
    return invalid(formatted("workload: draft_tokens is {}, need at most {}", workload.draft_tokens, kMostTreeDraftTokens));
  }
  const auto stand_ins = static_cast<int32_t>(workload.stand_ins);
  if (stand_ins < static_cast<int32_t>(StandIns::kNone) || stand_ins > static_cast<int32_t>(StandIns::kAsFit)) {
    return invalid(formatted("workload: stand_ins is {}, need 0 to 5", stand_ins));
  }
  if (workload.stand_ins != StandIns::kNone && (workload.draft_tokens == 0 || workload.draft_bytes > 0)) {
    return invalid(formatted("workload: stand_ins with draft_tokens of {} and draft_bytes of {}, need at least 1 and 0",
                             workload.draft_tokens, workload.draft_bytes));
  }
  if (workload.draft_device_bytes > 0 && workload.draft_bytes == 0) {
    return invalid(formatted("workload: draft_device_bytes of {} and draft_bytes of 0, need both of a draft on a device",
                             workload.draft_device_bytes));
  }
  if (workload.logit_rows == 0) return invalid("workload: logit_rows is 0, need at least 1");
  if (context < tokens) {
    return invalid(formatted("workload: {} prompt and {} new tokens in a context of {}, need a context of at least {}",
                             workload.prompt_tokens, workload.new_tokens, context, tokens));
  }
  if (context > shape.context_tokens) {
    return invalid(formatted("workload: a context of {} tokens, the model has at most {}{}; ask for fewer tokens", context,
                             shape.context_tokens, shape.context_note.empty() ? "" : formatted(" ({})", shape.context_note)));
  }
  return {};
}

}  // namespace outrigger
