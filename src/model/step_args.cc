// StepArgs: where each operation's input is, and where its results go.
#include "src/model/step_args.h"

#include <algorithm>
#include <cmath>

namespace outrigger {

std::array<uint32_t, 3> window_matrices(const ModelLayout& layout, const BranchWindow& window) {
  const LayerLayout& layer = layout.layers[window.layer];
  std::array<uint32_t, 3> matrices{kNoMatrix, kNoMatrix, kNoMatrix};
  switch (window.op) {
    case StepOp::kQkv: matrices = {layer.q, layer.k, layer.v}; break;
    case StepOp::kOutput: matrices[0] = layer.output; break;
    case StepOp::kGateUp: matrices = {layer.ffn.gate, layer.ffn.up, kNoMatrix}; break;
    case StepOp::kDown: matrices[0] = layer.ffn.down; break;
    case StepOp::kSharedGateUp: matrices = {layer.shared.gate, layer.shared.up, kNoMatrix}; break;
    case StepOp::kSharedDown: matrices[0] = layer.shared.down; break;
    default: break;
  }
  return matrices;
}

std::array<uint32_t, 3> branched_matrices(const ModelLayout& layout, const BranchWindow& window) {
  std::array<uint32_t, 3> matrices = window_matrices(layout, window);
  for (uint32_t& matrix : matrices) {
    if (matrix != kNoMatrix && layout.branches[matrix].rank == 0) matrix = kNoMatrix;
  }
  return matrices;
}

Activations StepArgs::activations_of(uint32_t matrix) const {
  if (numerics_ != Numerics::kFast) return Activations::kFloat32;
  switch (layout_.shape.matrices[matrix].product) {
    case ProductKind::kInt8:
    case ProductKind::kInt8Twice:
      return Activations::kInt8;
    case ProductKind::kBf16:
      return Activations::kBf16;
    case ProductKind::kFloat32:
      break;
  }
  return Activations::kFloat32;
}

Activations StepArgs::panel_of_window(uint32_t matrix) const {
  const uint32_t window = layout_.shape.matrices[matrix].window;
  for (uint32_t m = matrix; m < layout_.weights.size() && layout_.shape.matrices[m].window == window; ++m) {
    if (const Activations activations = activations_of(m); activations != Activations::kFloat32) return activations;
  }
  return Activations::kFloat32;
}

bool StepArgs::is_fine(uint32_t matrix) const {
  return numerics_ == Numerics::kFast && layout_.shape.matrices[matrix].product == ProductKind::kInt8Twice;
}

uint32_t StepArgs::used_rank(uint32_t matrix) const {
  if (!input_.corrects(matrix)) return 0;
  const auto groups = static_cast<float>(layout_.branches[matrix].rank / kGroup);
  return static_cast<uint32_t>(std::lround(groups * std::clamp(input_.branch_share, 0.0f, 1.0f))) * static_cast<uint32_t>(kGroup);
}

uint32_t StepArgs::used_blocks(const OperandRef& operand) const {
  const auto blocks = static_cast<uint32_t>(operand.blocks);
  const uint32_t corrected = layout_.corrects[operand.matrix];
  if (corrected == kNoMatrix) return blocks;
  const uint32_t rank = used_rank(corrected);
  if (layout_.role(operand.matrix) == MatrixRole::kBranchOut) return rank > 0 ? blocks : 0;
  const uint32_t used = rank / static_cast<uint32_t>(kPackRows);  // kGroup is whole row blocks
  return used <= operand.first_block ? 0 : std::min(blocks, used - static_cast<uint32_t>(operand.first_block));
}

float* StepArgs::input_of(const BranchWindow& window) const {
  switch (window.op) {
    case StepOp::kOutput: return buffers_.attention;
    case StepOp::kDown: return buffers_.gate;
    default: return buffers_.normed;
  }
}

std::array<WindowResults, 2> StepArgs::results_of(const BranchWindow& window) const {
  switch (window.op) {
    case StepOp::kQkv: return {{{buffers_.qkv, config_.attention_width() + 2 * config_.kv_width()}, {}}};
    case StepOp::kGateUp: return {{{buffers_.gate, config_.ffn_width}, {buffers_.up, config_.ffn_width}}};
    default: return {{{buffers_.residual, config_.width}, {}}};
  }
}

QuantizeArgs StepArgs::components(uint32_t matrix) const {
  const BranchLayout& branch = layout_.branches[matrix];
  const size_t tokens = input_.tokens.size();
  return {buffers_.components + tokens * branch.first_component, branch.rank,
          buffers_.component_panel + StepBuffers::component_panel_offset(tokens, branch.first_component), tokens, used_rank(matrix)};
}

// A branch's first factor has the window's input, its second the window's results.
MatmulArgs StepArgs::product(StepOp op, uint32_t argument, const OperandRef& operand) const {
  const BranchWindow window = op == StepOp::kBranchOut ? BranchWindow::of(argument) : BranchWindow{op, argument};
  MatmulArgs args = window_product(window.op, window.layer, operand);
  args.weights = weights_.operand(operand);
  const uint32_t corrected = layout_.corrects[operand.matrix];
  if (corrected == kNoMatrix) return args;
  const QuantizeArgs components = this->components(corrected);
  if (op == StepOp::kBranchOut) {
    args.columns = components.width;
    args.stored_columns = layout_.branches[corrected].rank;
    args.src = components.src;
    args.src_stride = components.src_stride;
    args.panel = activations_of(operand.matrix) == Activations::kFloat32 ? nullptr : components.panel;
    args.accumulate = true;
  } else {
    args.dst = const_cast<float*>(components.src) + operand.first_block * kPackRows;  // the same buffer, which this writes
    args.dst_stride = components.src_stride;
    args.accumulate = false;
  }
  return args;
}

// Where a window's input is, and where its results go.
MatmulArgs StepArgs::window_product(StepOp op, uint32_t layer, const OperandRef& operand) const {
  const WeightSource& weights = layout_.weights[operand.matrix];
  const LayerLayout* const parts = op == StepOp::kHead ? nullptr : &layout_.layers[layer];
  MatmulArgs args{};
  args.kind = weights.kind;
  args.columns = args.src_stride = weights.columns;
  args.rows = std::min<size_t>(operand.blocks * kPackRows, weights.rows - operand.first_block * kPackRows);
  const uint32_t corrected = layout_.corrects[operand.matrix], of = corrected == kNoMatrix ? operand.matrix : corrected;
  args.src = buffers_.normed;
  args.panel = activations_of(operand.matrix) == Activations::kFloat32 ? nullptr : buffers_.panel;
  args.tokens = tokens_of(op);
  switch (op) {
    case StepOp::kQkv:
      args.dst = buffers_.qkv + (of == parts->q ? 0 : config_.attention_width() + (of == parts->v ? config_.kv_width() : 0));
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
      args.dst = of == parts->ffn.gate ? buffers_.gate : buffers_.up;
      args.dst_stride = config_.ffn_width;
      break;
    case StepOp::kSharedGateUp:
      args.dst = of == parts->shared.gate ? buffers_.gate : buffers_.up;
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

RopeArgs StepArgs::turning(size_t begin, size_t end) const {
  const uint64_t width = config_.attention_width() + 2 * config_.kv_width();
  return {buffers_.qkv + begin * width, width, end - begin, config_.heads + config_.kv_heads, config_.head_dim, config_.rope_dim,
          buffers_.cos_sin + begin * config_.rope_dim, config_.rope_style};
}

AppendKvArgs StepArgs::append(uint32_t layer, const SequenceSlice& slice, size_t begin, size_t end) const {
  const uint64_t width = config_.attention_width() + 2 * config_.kv_width();
  const float* const k = buffers_.qkv + begin * width + config_.attention_width();
  return {k, k + config_.kv_width(), width, width, slice.cache->keys(layer), slice.cache->values(layer), end - begin, config_.kv_heads,
          config_.head_dim, slice.cache->capacity(), slice.place(static_cast<uint32_t>(begin - slice.first_token)), slice.cache->type()};
}

AttentionArgs StepArgs::attention(uint32_t layer, const SequenceSlice& slice) const {
  const uint64_t width = config_.attention_width() + 2 * config_.kv_width();
  return {buffers_.qkv + slice.first_token * width, width, slice.cache->keys(layer), slice.cache->values(layer),
          buffers_.attention + slice.first_token * config_.attention_width(), config_.attention_width(), slice.tokens, config_.heads,
          config_.kv_heads, config_.head_dim, slice.cache->capacity(), slice.first_position,
          1 / std::sqrt(static_cast<float>(config_.head_dim)), buffers_.scratch, slice.cache->type(), slice.tree, slice.tree_begin};
}

}  // namespace outrigger
