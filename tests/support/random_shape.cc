// Shapes, machines and workloads for the planner's tests.
#include "tests/support/random_shape.h"

#include <algorithm>
#include <cmath>

namespace outrigger {
namespace {

double log_uniform(Random& random, double low, double high) {
  return std::exp(std::uniform_real_distribution<double>(std::log(low), std::log(high))(random));
}

void add_steps(StepShape* shape, uint64_t bytes_per_token) {
  for (uint32_t tokens = 1; tokens <= 2048; tokens *= 2) shape->activations.push_back({tokens, tokens * bytes_per_token + 1000});
}

// Some of a part's matrices become factors of branches of those before them, some have residuals.
void add_corrections(Random& random, StepShape* shape) {
  const bool has_branches = pick(random, 0, 1) == 0, has_residuals = pick(random, 0, 1) == 0;
  for (size_t i = 1; i < shape->matrices.size(); ++i) {
    MatrixShape& matrix = shape->matrices[i];
    const MatrixShape& before = shape->matrices[i - 1];
    if (matrix.use != MatrixUse::kEveryToken || before.use != MatrixUse::kEveryToken || matrix.layer != before.layer ||
        matrix.part != before.part)
      continue;
    if (has_branches && pick(random, 0, 2) == 0) {
      matrix.is_branch = true;
      matrix.adds_to_window = before.is_branch;
      matrix.window = before.adds_to_window == matrix.adds_to_window ? before.window : matrix.window;
    } else if (has_residuals && pick(random, 0, 2) == 0) {
      matrix.residual_read_bytes = pick(random, 1, 10000);
      shape->residual_read_bytes_per_token += matrix.residual_read_bytes;
      shape->residual_bytes += 2 * matrix.residual_read_bytes;
    } else {
      continue;
    }
    shape->correction_row_bytes = 64 * pick(random, 1, 100);
  }
}

}  // namespace

uint64_t pick(Random& random, uint64_t low, uint64_t high) { return std::uniform_int_distribution<uint64_t>(low, high)(random); }

MatrixShape matrix_of(std::string name, uint64_t rows, uint64_t columns, MatrixUse use) {
  MatrixShape matrix;
  matrix.name = std::move(name);
  matrix.rows = rows;
  matrix.columns = columns;
  matrix.use = use;
  matrix.product = use == MatrixUse::kLogits ? ProductKind::kInt8Twice : ProductKind::kInt8;
  matrix.row_block_bytes = columns / 32 * 320;
  matrix.row_block_file_bytes = matrix.row_block_bytes;
  matrix.row_file_bytes = columns / 32 * 20;
  matrix.packed_bytes = (rows + 15) / 16 * matrix.row_block_bytes;
  matrix.file_bytes = rows * (columns / 32 * 20);
  return matrix;
}

// A stack for each of gate, up and down.
void add_experts(StepShape* shape, uint32_t layer, uint32_t experts, uint64_t width, uint64_t ffn_width) {
  for (const char* part : {"gate", "up", "down"}) {
    const bool is_down = std::string(part) == "down";
    MatrixShape stack = matrix_of("blk." + std::to_string(layer) + ".ffn_" + part + "_exps.weight", is_down ? width : ffn_width,
                                  is_down ? ffn_width : width, MatrixUse::kRouted);
    stack.layer = layer;
    stack.experts = experts;
    stack.packed_bytes *= experts;
    stack.file_bytes *= experts;
    shape->matrices.push_back(stack);
  }
}

StepShape random_shape(Random& random) {
  StepShape shape;
  const uint64_t layers = pick(random, 0, 8), kinds = pick(random, 1, 8);
  const bool equal_layers = pick(random, 0, 3) > 0;
  const uint64_t seed = random();
  const auto experts = static_cast<uint32_t>(pick(random, 0, 3) == 0 ? pick(random, 1, 40) : 0);
  if (experts > 0 && layers > 0) shape.used_experts = static_cast<uint32_t>(pick(random, 1, experts));
  const uint64_t expert_width = 32 * pick(random, 1, 20);
  for (uint64_t layer = 0; layer < layers; ++layer) {
    Random sizes(equal_layers ? seed : seed + layer);
    for (uint64_t kind = 0; kind < kinds; ++kind) {
      const uint64_t columns = 32 * pick(sizes, 1, pick(sizes, 1, 100)), rows = pick(sizes, 1, 1000);
      shape.matrices.push_back(matrix_of("blk." + std::to_string(layer) + ".m" + std::to_string(kind) + ".weight", rows, columns));
      shape.matrices.back().layer = static_cast<uint32_t>(layer);
    }
    if (experts > 0) add_experts(&shape, static_cast<uint32_t>(layer), experts, expert_width, 32 * pick(sizes, 1, 20));
  }
  if (pick(random, 0, 3) > 0) {
    shape.matrices.push_back(matrix_of("output.weight", pick(random, 1, 5000), 32 * pick(random, 1, 60), MatrixUse::kLogits));
    shape.matrices.back().also_rows = pick(random, 0, 1) > 0;
  }
  if (pick(random, 0, 2) == 0) {
    shape.matrices.push_back(matrix_of("token_embd.weight", pick(random, 1, 5000), 32 * pick(random, 1, 60), MatrixUse::kRowLookup));
  }
  shape.fixed_bytes = 64 * pick(random, 0, 1000);
  shape.kv_layers = static_cast<uint32_t>(std::max<uint64_t>(layers, 1));
  shape.kv_runs = uint32_t{1} << pick(random, 0, 4);
  shape.kv_bytes_per_token = 64 * shape.kv_layers * shape.kv_runs * pick(random, 0, 500 / (shape.kv_layers * shape.kv_runs));
  shape.kv_takes_q8_0 = true;
  shape.kv_granule_tokens = pick(random, 0, 1) == 0 ? 1 : 16;
  shape.context_tokens = 4096;
  shape.activation_bytes_per_thread = pick(random, 0, 100000);
  shape.logits_row_bytes = pick(random, 0, 200000);
  shape.attention_flops_per_token_per_position = static_cast<double>(pick(random, 0, 100000));
  add_steps(&shape, pick(random, 0, 50000));
  shape.residual_row_bytes = 4 * pick(random, 0, 5000);
  // The first matrices of a layer are its attention's, the others the feed-forward part's; a mixture's others are the host's.
  const uint64_t of_attention = pick(random, 0, kinds);
  uint32_t layer = UINT32_MAX;
  uint64_t at = 0;
  for (MatrixShape& matrix : shape.matrices) {
    if (matrix.layer != layer || matrix.use != MatrixUse::kEveryToken) at = 0;
    layer = matrix.layer;
    if (matrix.use == MatrixUse::kLogits) matrix.part = MatrixPart::kHead;
    if (matrix.use != MatrixUse::kEveryToken) continue;
    matrix.window = static_cast<uint32_t>(8 * matrix.layer + at);
    if (at++ < of_attention) matrix.part = MatrixPart::kAttention;
    else if (experts == 0) matrix.part = MatrixPart::kFeedForward;
  }
  if (pick(random, 0, 1) == 0) {
    for (MatrixShape& matrix : shape.matrices) matrix.product = static_cast<ProductKind>(pick(random, 0, 3));
  }
  if (pick(random, 0, 2) == 0) add_corrections(random, &shape);
  return shape;
}

MachineProfile random_machine(Random& random) {
  MachineProfile machine;
  machine.threads = static_cast<uint32_t>(pick(random, 1, 16));
  machine.host_stream_bytes.per_s = log_uniform(random, 1e9, 5e11);
  machine.host_int8_ops.per_s = log_uniform(random, 1e10, 1e14);
  machine.host_small_batch_ops.per_s = log_uniform(random, 1e10, 1e13);
  machine.host_attention_flops.per_s = log_uniform(random, 1e9, 1e13);
  machine.host_repack_bytes.per_s = log_uniform(random, 1e8, 1e11);
  machine.disk_bytes.per_s = pick(random, 0, 9) == 0 ? 0 : log_uniform(random, 1e7, 1e11);
  machine.host_step_overhead_us = static_cast<double>(pick(random, 0, 200));
  if (pick(random, 0, 1) == 0) return machine;
  for (Rate* rate :
       {&machine.host_float_ops, &machine.host_float_small_batch_ops, &machine.host_bf16_ops, &machine.host_bf16_small_batch_ops}) {
    rate->per_s = log_uniform(random, 1e9, 1e13);
  }
  machine.host_float_repack_bytes.per_s = log_uniform(random, 1e8, 1e11);
  return machine;
}

void add_random_device(Random& random, MachineProfile* machine) {
  machine->device = "test device";
  machine->device_memory_bytes = uint64_t{1} << pick(random, 18, 26);
  machine->h2d_bytes.per_s = log_uniform(random, 1e8, 1e11);
  machine->d2h_bytes.per_s = log_uniform(random, 1e8, 1e11);
  machine->device_stream_bytes.per_s = log_uniform(random, 1e10, 5e12);
  machine->device_int8_ops.per_s = log_uniform(random, 1e11, 1e15);
  machine->device_small_batch_ops.per_s = log_uniform(random, 1e11, 1e14);
  machine->device_attention_flops.per_s = log_uniform(random, 1e10, 1e14);
  machine->link_latency_us = static_cast<double>(pick(random, 0, 30));
  // Of every third device not known; without a draw of its own, so that the others stay what they were.
  const auto latency_us = static_cast<uint64_t>(machine->link_latency_us);
  machine->handoff_us = latency_us % 3 == 0 ? 0 : static_cast<double>(1 + latency_us / 2);
  machine->device_threads = static_cast<uint32_t>(pick(random, 1, 40));
  machine->device_step_overhead_us = static_cast<double>(pick(random, 0, 200));
  if (pick(random, 0, 1) == 0) machine->host_stream_bytes_busy.per_s = machine->host_stream_bytes.per_s * 0.7;
}

Workload random_workload(Random& random) {
  Workload workload;
  workload.prompt_tokens = static_cast<uint32_t>(pick(random, 0, 1500));
  workload.new_tokens = static_cast<uint32_t>(pick(random, workload.prompt_tokens == 0 ? 1 : 0, 300));
  workload.batch = static_cast<uint32_t>(pick(random, 1, 3));
  workload.context_tokens =
      pick(random, 0, 1) == 0 ? 0 : workload.prompt_tokens + workload.new_tokens + static_cast<uint32_t>(pick(random, 0, 500));
  workload.logit_rows = pick(random, 0, 2) > 0 ? 1 : static_cast<uint32_t>(pick(random, 1, 600));
  constexpr KvType kTypes[] = {KvType::kF16, KvType::kF16, KvType::kF32, KvType::kQ8_0};
  workload.kv_type = kTypes[pick(random, 0, 3)];
  if (pick(random, 0, 5) == 0) workload.kv_spilled_layers = 0;
  if (workload.prompt_tokens % 3 == 0) workload.draft_tokens = workload.prompt_tokens % (kMostDraftTokens + 1);
  if (workload.prompt_tokens % 5 == 0) workload.draft_bytes = uint64_t{5000} * workload.prompt_tokens;
  if (workload.prompt_tokens % 2 == 0) workload.expert_repetition = 1 + workload.prompt_tokens % 32;
  return workload;
}

Workload workload_of(uint32_t prompt_tokens, uint32_t new_tokens, uint32_t batch, uint32_t context_tokens, uint32_t logit_rows) {
  Workload workload;
  workload.prompt_tokens = prompt_tokens;
  workload.new_tokens = new_tokens;
  workload.batch = batch;
  workload.context_tokens = context_tokens;
  workload.logit_rows = logit_rows;
  return workload;
}

StepShape small_model() {
  StepShape shape;
  for (uint32_t layer = 0; layer < 30; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    const auto add = [&](const char* name, uint64_t rows, uint64_t columns, uint32_t window) {
      shape.matrices.push_back(matrix_of(prefix + name + ".weight", rows, columns));
      shape.matrices.back().layer = layer;
      shape.matrices.back().window = 4 * layer + window;
      shape.matrices.back().part = window < 2 ? MatrixPart::kAttention : MatrixPart::kFeedForward;
    };
    add("attn_q", 576, 576, 0);
    add("attn_k", 192, 576, 0);
    add("attn_v", 192, 576, 0);
    add("attn_output", 576, 576, 1);
    add("ffn_gate", 1536, 576, 2);
    add("ffn_up", 1536, 576, 2);
    add("ffn_down", 576, 1536, 3);
  }
  MatrixShape head = matrix_of("token_embd.weight", 49152, 576, MatrixUse::kLogits);
  head.layer = 30;
  head.window = 120;
  head.also_rows = true;
  head.part = MatrixPart::kHead;
  head.row_block_bytes = head.row_block_file_bytes = 18 * 544;  // Q8_0
  head.row_file_bytes = 18 * 34;
  head.packed_bytes = head.file_bytes = 49152 / 16 * head.row_block_bytes;
  shape.matrices.push_back(head);
  shape.fixed_bytes = 61 * 576 * 4;
  shape.kv_layers = 30;
  shape.kv_runs = 6;
  shape.kv_bytes_per_token = 30 * 2 * 192 * 2;
  shape.kv_takes_q8_0 = true;
  shape.kv_granule_tokens = 16;
  shape.context_tokens = 8192;
  add_steps(&shape, 4 * (576 * 4 + 1536 * 3) + 640);
  shape.activation_bytes_per_thread = 16384;
  shape.logits_row_bytes = 49152 * 4;
  shape.residual_row_bytes = 576 * 4;
  shape.attention_flops_per_token_per_position = 4.0 * 576 * 30;
  return shape;
}

MachineProfile two_cores() {
  MachineProfile machine;
  machine.machine = "test machine";
  machine.threads = 2;
  machine.host_stream_bytes.per_s = 40e9;
  machine.host_int8_ops.per_s = 650e9;
  machine.host_small_batch_ops.per_s = 300e9;
  machine.host_attention_flops.per_s = 150e9;
  machine.host_repack_bytes.per_s = 8e9;
  machine.disk_bytes.per_s = 2e9;
  machine.host_step_overhead_us = 60;
  return machine;
}

MachineProfile with_device(MachineProfile machine, uint64_t memory_bytes) {
  machine.device = "test device";
  machine.device_memory_bytes = memory_bytes;
  machine.h2d_bytes.per_s = machine.d2h_bytes.per_s = 12e9;
  machine.device_stream_bytes.per_s = 400e9;
  machine.device_int8_ops.per_s = 20e12;
  machine.device_small_batch_ops.per_s = 5e12;
  machine.device_attention_flops.per_s = 5e12;
  machine.link_latency_us = 10;
  machine.device_threads = 8;
  machine.device_step_overhead_us = 400;
  return machine;
}

double predicted_ms(const Plan& plan, const Workload& workload) {
  return plan.predicted_prefill_ms + workload.new_tokens * 1e3 / plan.predicted_decode_tokens_per_s;
}

}  // namespace outrigger
