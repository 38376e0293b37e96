// StepRunner's products: what a window is multiplied with, and how its row blocks are shared out.
#include <algorithm>

#include "src/kernels/activations.h"
#include "src/kernels/add_bias.h"
#include "src/kernels/bf16_activations.h"
#include "src/model/step_runner.h"

namespace outrigger {

// A window has one panel. Where its matrices ask for different ones, int8 wins, and bf16 weights are multiplied with float32.
StepRunner::Activations StepRunner::activations_of(uint32_t matrix) const {
  const auto kind = [&](uint32_t m) { return layout_.weights[m].kind; };
  if (numerics_ != Numerics::kFast) return Activations::kFloat32;
  if (takes_int8_activations(kind(matrix))) return Activations::kInt8;
  if (!takes_bf16_activations(kind(matrix))) return Activations::kFloat32;
  const auto in_window = [&](uint32_t m) { return layout_.shape.matrices[m].window == layout_.shape.matrices[matrix].window; };
  for (uint32_t m = matrix; m-- > 0 && in_window(m);) {
    if (takes_int8_activations(kind(m))) return Activations::kFloat32;
  }
  for (uint32_t m = matrix + 1; m < layout_.weights.size() && in_window(m); ++m) {
    if (takes_int8_activations(kind(m))) return Activations::kFloat32;
  }
  return Activations::kBf16;
}

StepRunner::Activations StepRunner::quantize(const float* src, std::byte* panel, uint32_t matrix, size_t tokens, size_t begin, size_t end) {
  const uint32_t window = layout_.shape.matrices[matrix].window;
  const uint64_t width = layout_.weights[matrix].columns;
  for (uint32_t m = matrix; m < layout_.weights.size() && layout_.shape.matrices[m].window == window; ++m) {
    const Activations activations = activations_of(m);
    if (activations == Activations::kFloat32) continue;
    if (activations == Activations::kInt8) quantize_activations({src, width, panel, tokens, width}, begin, end);
    if (activations == Activations::kBf16) round_activations({src, width, panel, width}, begin, end);
    return activations;
  }
  return Activations::kFloat32;
}

// Inputs of v and of the head are kept to about 15 bits, as two panels: rounding them to one is 40 % of the whole path's KL to float32
// (docs/numerics.md), and v is 2 to 3 % of a layer's weights where heads share keys. q and k would take off another tenth, for four times as
// many weights and more.
bool StepRunner::is_fine(StepOp op, uint32_t layer, uint32_t matrix) const {
  return (op == StepOp::kHead || (op == StepOp::kQkv && matrix == layout_.layers[layer].v)) && activations_of(matrix) == Activations::kInt8;
}

void StepRunner::quantize_finely(uint32_t matrix, size_t tokens, size_t begin, size_t end) {
  if (begin == end || quantize(buffers_.normed, buffers_.panel, matrix, tokens, begin, end) != Activations::kInt8) return;
  const uint64_t width = config_.width;
  float* const remainder = buffers_.attention;  // not in use before attention
  quantization_remainder({buffers_.normed, width, buffers_.panel, tokens, width}, begin, end, remainder);
  quantize_activations({remainder, width, buffers_.remainder_panel, tokens, width}, begin, end);
}

// Where a window's input is, and where its results go.
MatmulArgs StepRunner::product_args(StepOp op, uint32_t layer, const OperandRef& operand) const {
  const WeightSource& weights = layout_.weights[operand.matrix];
  const LayerLayout* const parts = op == StepOp::kHead ? nullptr : &layout_.layers[layer];
  MatmulArgs args{};
  args.kind = weights.kind;
  args.weights = residency_.operand(operand);
  args.columns = args.src_stride = weights.columns;
  args.rows = std::min<size_t>(operand.blocks * kPackRows, weights.rows - operand.first_block * kPackRows);
  args.src = buffers_.normed;
  args.panel = activations_of(operand.matrix) == Activations::kFloat32 ? nullptr : buffers_.panel;
  args.tokens = tokens_of(op);
  switch (op) {
    case StepOp::kQkv:
      args.dst = buffers_.qkv + (operand.matrix == parts->q ? 0 : config_.attention_width() + (operand.matrix == parts->v ? config_.kv_width() : 0));
      args.dst_stride = config_.attention_width() + 2 * config_.kv_width();
      break;
    case StepOp::kOutput:
    case StepOp::kDown:
      args.src = op == StepOp::kDown ? buffers_.gate : buffers_.attention;
      args.dst = buffers_.residual;
      args.dst_stride = config_.width;
      args.accumulate = true;
      break;
    case StepOp::kGateUp:
      args.dst = operand.matrix == parts->ffn.gate ? buffers_.gate : buffers_.up;
      args.dst_stride = config_.ffn_width;
      break;
    case StepOp::kSharedGateUp:
      args.dst = operand.matrix == parts->shared.gate ? buffers_.gate : buffers_.up;
      args.dst_stride = config_.shared_ffn_width;
      break;
    case StepOp::kSharedDown:
      args.src = buffers_.gate;
      args.dst = buffers_.attention;
      args.dst_stride = config_.width;
      break;
    case StepOp::kRouter:  // a choice should not hang on how activations are rounded
      args.panel = nullptr;
      args.dst = buffers_.experts.router_logits;
      args.dst_stride = config_.experts;
      break;
    default:
      args.dst = buffers_.logits;
      args.dst_stride = StepBuffers::logits_row_bytes(layout_.vocabulary) / sizeof(float);
      break;
  }
  args.dst += operand.first_block * kPackRows;
  return args;
}

// What is shared out is passes over row blocks. For a token or two the second pass is nearly free: see fine_product.
void StepRunner::product(const TaskGraph& graph, const TaskNode& node, const TeamMember& member) {
  const StepOp op = static_cast<StepOp>(node.op);
  const auto passes = [&](const OperandRef& operand) { return tokens_of(op) > 2 && is_fine(op, node.argument, operand.matrix) ? size_t{2} : 1; };
  size_t all_passes = 0;
  for (const OperandRef& operand : graph.operands(node)) all_passes += operand.blocks * passes(operand);
  const Share mine = share_of(member, all_passes);

  size_t passes_before = 0;  // over the operands before this one
  for (const OperandRef& operand : graph.operands(node)) {
    // The operand's row blocks whose first pass lies in this member's share.
    const auto block_of = [&](size_t pass) {
      return std::min<size_t>(operand.blocks, pass < passes_before ? 0 : (pass - passes_before + passes(operand) - 1) / passes(operand));
    };
    const size_t begin = block_of(mine.begin), end = block_of(mine.end);
    passes_before += operand.blocks * passes(operand);
    if (begin == end) continue;
    const MatmulArgs args = product_args(op, node.argument, operand);
    if (is_fine(op, node.argument, operand.matrix)) {
      fine_product(args, begin, end);
    } else {
      matmul(args, begin, end);
    }
    if (layout_.biases[operand.matrix] != kNoTensor) {
      const size_t row = begin * kPackRows, rows_end = std::min(args.rows, end * kPackRows);
      const float* const bias = fixed_ + layout_.biases[operand.matrix] + operand.first_block * kPackRows;
      add_bias({bias + row, args.dst + row, args.dst_stride, rows_end - row, args.tokens});
    }
  }
}

// Both panels over some row blocks before the next ones: the second pass finds the weights in the second-level cache, so that for a token
// or two this costs what one pass costs, the reading of memory.
void StepRunner::fine_product(const MatmulArgs& args, size_t begin, size_t end) const {
  constexpr uint64_t kCacheBytes = 256 << 10;
  const size_t at_once = std::max<size_t>(1, kCacheBytes / packed_block_bytes(args.kind, args.columns));
  MatmulArgs remainder = args;
  remainder.panel = buffers_.remainder_panel;
  remainder.accumulate = true;
  for (size_t block = begin; block < end; block += at_once) {
    const size_t some = std::min(end, block + at_once);
    matmul(args, block, some);
    matmul(remainder, block, some);
  }
}

}  // namespace outrigger
