// A step's nodes as operations of a device.
#include "src/model/device_runner.h"

#include <algorithm>
#include <utility>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"

namespace outrigger {

DeviceRunner::DeviceRunner(const ModelLayout& layout, DeviceResidency& residency, const OperandSource& home, const SideBuffers& buffers,
                           const float* fixed, Numerics numerics, Handoff* handoff)
    : layout_(layout), config_(layout.config), residency_(residency), backend_(residency.backend()), home_(home), buffers_(buffers),
      handoff_(handoff), args_(layout, residency, buffers.device, fixed, numerics),
      host_args_(layout, home, buffers.host, fixed, numerics) {}

Status DeviceRunner::check_scratch(const Backend& backend, const ModelConfig& config, uint32_t threads) {
  AttentionArgs args{};
  args.tokens = 1, args.heads = config.heads, args.kv_heads = config.kv_heads, args.head_dim = config.head_dim,
  args.capacity = kKvInterleave;
  const uint64_t needed = backend.scratch_bytes(args), planned = threads * attention_scratch_bytes(config.head_dim);
  if (needed <= planned) return {};
  return Status(StatusCode::kInvalidArgument,
                formatted("device: its attention needs {} of scratch, the plan has {} for {}; plan with this device's profile",
                          format_bytes(needed), format_bytes(planned), threads));
}

Status DeviceRunner::finish() {
  OTR_ASSIGN(const Event done, backend_.record(residency_.streams().compute));
  return backend_.synchronize(done, kDevicePatience);
}

Status DeviceRunner::run_segment(const TaskGraph& graph, Lane lane, std::span<const NodeId> nodes) {
  const auto op_of = [&graph](NodeId id) { return static_cast<StepOp>(graph.nodes()[id].op); };
  const bool ends_turns = op_of(nodes.back()) == StepOp::kFinish;
  {
    NodeTrace trace(tracer_, lane);
    for (const NodeId id : nodes.first(nodes.size() - (ends_turns ? 1 : 0))) {
      trace.next(id);
      const TaskNode& node = graph.nodes()[id];
      if (lane != Lane::kDevice) {
        OTR_TRY(run_copy(node));
      } else {
        OTR_TRY(compute(graph, node));
      }
    }
    if (lane != Lane::kDevice || op_of(nodes.back()) == StepOp::kSubmit) return {};
    if (input_) return backend_.synchronize(*std::exchange(input_, std::nullopt), kDevicePatience);
    if (!ends_turns) return finish();
  }
  return finish_turns(nodes.back());
}

Status DeviceRunner::run_copy(const TaskNode& node) {
  const size_t tokens = args_.input().tokens.size();
  const auto bytes = [](auto* data) { return reinterpret_cast<std::byte*>(data); };
  const StepBuffers &host = buffers_.host, &device = buffers_.device;
  const uint64_t residual_bytes = tokens * config_.width * sizeof(float);
  switch (static_cast<StepOp>(node.op)) {
    case StepOp::kArriveOnDevice: return residency_.arrive(node.argument);
    case StepOp::kRequestToDevice: return residency_.request(node.argument, home_);
    case StepOp::kUpload: return residency_.copy_in(bytes(device.residual), bytes(host.residual), residual_bytes);
    case StepOp::kUploadAngles:
      OTR_TRY(residency_.copy_in(bytes(device.cos_sin), bytes(host.cos_sin), tokens * config_.rope_dim * sizeof(float)));
      return upload_tree();
    case StepOp::kDownload: return residency_.copy_out(bytes(host.residual), bytes(device.residual), residual_bytes);
    case StepOp::kDownloadLogits:
      return residency_.copy_out(bytes(host.logits), bytes(device.logits),
                                 args_.input().logit_tokens.size() * StepBuffers::logits_row_bytes(layout_.vocabulary));
    default: return Status(StatusCode::kInternal, "a node that copies nothing on a lane of the link");
  }
}

// The host's copy lies where the link can read it.
Status DeviceRunner::upload_tree() {
  for (const SequenceSlice& slice : args_.input().slices) {
    if (slice.tree == nullptr) continue;
    *buffers_.host.tree = *slice.tree;
    OTR_TRY(residency_.copy_in(reinterpret_cast<std::byte*>(buffers_.device.tree), reinterpret_cast<std::byte*>(buffers_.host.tree),
                               sizeof(TokenTree)));
  }
  return {};
}

Status DeviceRunner::compute(const TaskGraph& graph, const TaskNode& node) {
  const uint32_t layer = node.argument;
  const StepBuffers& buffers = buffers_.device;
  const size_t tokens = args_.input().tokens.size();
  switch (static_cast<StepOp>(node.op)) {
    case StepOp::kAttentionNorm:
      OTR_TRY(norm(buffers.residual, layout_.layers[layer].attention_norm, buffers.normed, tokens, config_.width));
      return quantize_finely(layout_.layers[layer].q, tokens);
    case StepOp::kRopeAppend: return rope_and_append(layer);
    case StepOp::kAttention: return attend(layer);
    case StepOp::kFfnNorm:
      OTR_TRY(norm(buffers.residual, layout_.layers[layer].ffn_norm, buffers.normed, tokens, config_.width));
      return quantize(buffers.normed, layout_.layers[layer].ffn.gate, tokens);
    case StepOp::kSiluMul: return silu(layer);
    case StepOp::kOutputNorm: return output_norm();
    case StepOp::kQkv:
    case StepOp::kOutput:
    case StepOp::kGateUp:
    case StepOp::kDown:
    case StepOp::kBranchOut:
    case StepOp::kHead: return product(graph, node);
    case StepOp::kBranchPanel: return branch_panels(BranchWindow::of(node.argument));
    case StepOp::kDownloadInput: return download_input(BranchWindow::of(node.argument));
    case StepOp::kUploadCorrection: return upload_correction(BranchWindow::of(node.argument));
    case StepOp::kAddCorrection: return add_correction(BranchWindow::of(node.argument));
    case StepOp::kSendResidual: return send(buffers.residual, tokens * config_.width);
    case StepOp::kReceiveResidual: return receive_residual();
    case StepOp::kSendInput: {
      const BranchWindow window = BranchWindow::of(node.argument);
      return send(args_.input_of(window), tokens * layout_.weights[window_matrices(layout_, window)[0]].columns);
    }
    case StepOp::kReceiveCorrection: return receive_correction(BranchWindow::of(node.argument));
    case StepOp::kSubmit: return backend_.record(residency_.streams().compute).status();
    default: return Status(StatusCode::kInternal, "a node that no device computes on its lane");
  }
}

Status DeviceRunner::norm(const float* src, uint64_t weight, float* dst, size_t rows, size_t width) {
  return launch(RmsNormArgs{src, args_.fixed(weight), dst, rows, width, config_.norm_epsilon});
}

// The wanted rows move together to the front of `normed`.
Status DeviceRunner::output_norm() {
  const StepBuffers& buffers = buffers_.device;
  const std::span<const uint32_t> wanted = args_.input().logit_tokens;
  for (size_t i = 0; i < wanted.size(); ++i) {
    OTR_TRY(norm(buffers.residual + wanted[i] * config_.width, layout_.output_norm, buffers.normed + i * config_.width, 1, config_.width));
  }
  return quantize_finely(layout_.head, wanted.size());
}

// Each head of each token is a row of its own.
Status DeviceRunner::norm_heads(uint64_t weight, float* first, uint32_t heads) {
  if (weight == kNoTensor) return {};
  const uint64_t width = config_.attention_width() + 2 * config_.kv_width();
  for (size_t t = 0; t < args_.input().tokens.size(); ++t)
    OTR_TRY(norm(first + t * width, weight, first + t * width, heads, config_.head_dim));
  return {};
}

Status DeviceRunner::rope_and_append(uint32_t layer) {
  const LayerLayout& parts = layout_.layers[layer];
  float* const q = buffers_.device.qkv;
  OTR_TRY(norm_heads(parts.query_norm, q, config_.heads));
  OTR_TRY(norm_heads(parts.key_norm, q + config_.attention_width(), config_.kv_heads));
  OTR_TRY(launch(args_.turning(0, args_.input().tokens.size())));
  for (const SequenceSlice& slice : args_.input().slices) {
    OTR_TRY(launch(args_.append(layer, slice, slice.first_token, slice.first_token + slice.tokens)));
  }
  return {};
}

Status DeviceRunner::attend(uint32_t layer) {
  for (const SequenceSlice& slice : args_.input().slices) {
    AttentionArgs args = args_.attention(layer, slice);
    if (args.tree != nullptr) args.tree = buffers_.device.tree;
    OTR_TRY(launch(args));
  }
  return quantize(buffers_.device.attention, layout_.layers[layer].output, args_.input().tokens.size());
}

Status DeviceRunner::silu(uint32_t layer) {
  const StepBuffers& buffers = buffers_.device;
  const size_t tokens = args_.input().tokens.size();
  OTR_TRY(launch(SiluMulArgs{buffers.gate, buffers.up, buffers.gate, tokens * config_.ffn_width}));
  return quantize(buffers.gate, layout_.layers[layer].ffn.down, tokens);
}

Status DeviceRunner::product(const TaskGraph& graph, const TaskNode& node) {
  const auto op = static_cast<StepOp>(node.op);
  for (const OperandRef& operand : graph.operands(node)) {
    const size_t blocks = args_.used_blocks(operand);
    if (blocks == 0) continue;
    MatmulArgs args = args_.product(op, node.argument, operand);
    args.rows = std::min(args.rows, blocks * kPackRows);
    OTR_TRY(launch(args));
    if (args_.is_fine(operand.matrix)) {
      args.panel = buffers_.device.remainder_panel;
      args.accumulate = true;
      OTR_TRY(launch(args));
    }
    if (layout_.biases[operand.matrix] == kNoTensor) continue;
    const float* const bias = args_.fixed(layout_.biases[operand.matrix]) + operand.first_block * kPackRows;
    OTR_TRY(launch(AddBiasArgs{bias, args.dst, args.dst_stride, args.rows, args.tokens}));
  }
  return {};
}

Status DeviceRunner::download_input(const BranchWindow& window) {
  const uint64_t floats = args_.input().tokens.size() * layout_.weights[window_matrices(layout_, window)[0]].columns;
  OTR_ASSIGN(input_, residency_.submit_copy_out(reinterpret_cast<std::byte*>(host_args_.input_of(window)),
                                                reinterpret_cast<const std::byte*>(args_.input_of(window)), floats * sizeof(float)));
  return {};
}

Status DeviceRunner::upload_correction(const BranchWindow& window) {
  float* correction = buffers_.device.corrections;
  for (const WindowResults& results : host_args_.results_of(window)) {
    if (results.data == nullptr) continue;
    const uint64_t floats = args_.input().tokens.size() * results.width;
    OTR_TRY(residency_.submit_copy_in(reinterpret_cast<std::byte*>(correction), reinterpret_cast<const std::byte*>(results.data),
                                      floats * sizeof(float)));
    correction += floats;
  }
  return {};
}

Status DeviceRunner::add_correction(const BranchWindow& window) {
  const float* correction = buffers_.device.corrections;
  const size_t tokens = args_.input().tokens.size();
  for (const WindowResults& results : args_.results_of(window)) {
    if (results.data == nullptr) continue;
    OTR_TRY(launch(AddArgs{correction, results.width, results.data, results.width, tokens, results.width}));
    correction += tokens * results.width;
  }
  return {};
}

Status DeviceRunner::branch_panels(const BranchWindow& window) {
  if (args_.numerics() != Numerics::kFast) return {};
  for (const uint32_t matrix : branched_matrices(layout_, window)) {
    if (matrix != kNoMatrix && args_.used_rank(matrix) > 0) OTR_TRY(launch(args_.components(matrix)));
  }
  return {};
}

Status DeviceRunner::quantize(const float* src, uint32_t matrix, size_t tokens) {
  const uint64_t width = layout_.weights[matrix].columns;
  std::byte* const panel = buffers_.device.panel;
  switch (args_.panel_of_window(matrix)) {
    case Activations::kInt8: return launch(QuantizeArgs{src, width, panel, tokens, width});
    case Activations::kBf16: return launch(RoundArgs{{src, width, panel, width}, tokens});
    case Activations::kFloat32: break;
  }
  return {};
}

Status DeviceRunner::quantize_finely(uint32_t matrix, size_t tokens) {
  const StepBuffers& buffers = buffers_.device;
  OTR_TRY(quantize(buffers.normed, matrix, tokens));
  if (args_.panel_of_window(matrix) != Activations::kInt8) return {};
  const uint64_t width = config_.width;
  float* const remainder = buffers.attention;  // not in use before attention
  OTR_TRY(launch(RemainderArgs{{buffers.normed, width, buffers.panel, tokens, width}, remainder}));
  return launch(QuantizeArgs{remainder, width, buffers.remainder_panel, tokens, width});
}

}  // namespace outrigger
