// A step, node by node.
#include "src/model/step_runner.h"

#include <algorithm>
#include <cmath>

#include "src/base/macros.h"
#include "src/kernels/activations.h"
#include "src/kernels/add_bias.h"
#include "src/kernels/append_kv.h"
#include "src/kernels/attention.h"
#include "src/kernels/bf16_activations.h"
#include "src/kernels/matmul.h"
#include "src/kernels/rms_norm.h"
#include "src/kernels/rope.h"
#include "src/kernels/silu_mul.h"

namespace outrigger {
namespace {

struct Share {
  size_t begin = 0, end = 0;
};

Share share_of(const TeamMember& member, size_t items, size_t granule = 1) {
  Share share;
  member.share(items, granule, &share.begin, &share.end);
  return share;
}

}  // namespace

StepRunner::StepRunner(const ModelLayout& layout, TensorResidency& residency, ThreadTeam& team, const StepBuffers& buffers, const float* fixed,
                       Numerics numerics)
    : layout_(layout), config_(layout.config), residency_(residency), team_(team), buffers_(buffers), fixed_(fixed), numerics_(numerics) {
  const std::vector<double> divisors = rope_divisors(config_.rope_scaling, config_.rope_base, config_.rope_dim);
  for (uint32_t i = 0; i < config_.rope_dim / 2; ++i) {
    double frequency = std::pow(config_.rope_base, -2.0 * i / config_.rope_dim) / divisors[i];
    if (layout_.rope_factors != kNoTensor) frequency /= fixed_[layout_.rope_factors + i];
    frequencies_.push_back(frequency);
  }
}

std::span<const float> StepRunner::logits(size_t i) const {
  return {buffers_.logits + i * (StepBuffers::logits_row_bytes(layout_.vocabulary) / sizeof(float)), layout_.vocabulary};
}

Status StepRunner::run_segment(const TaskGraph& graph, Lane lane, std::span<const NodeId> nodes) {
  NodeTrace trace(tracer_, lane);
  if (lane == Lane::kDisk) {
    for (const NodeId id : nodes) {
      trace.next(id);
      OTR_TRY(residency_.fetch(graph.nodes()[id].argument));
    }
    return {};
  }
  failure_ = Status();
  // A barrier after each node: the next one reads what all members wrote. The region's end is the last node's.
  team_.run_elastic([&](const TeamMember& member) {
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (i > 0) member.barrier();
      if (member.index() == 0) trace.next(nodes[i]);
      run_node(graph, graph.nodes()[nodes[i]], member);
    }
  });
  return failure_;
}

void StepRunner::run_node(const TaskGraph& graph, const TaskNode& node, const TeamMember& member) {
  const uint32_t layer = node.argument;
  switch (static_cast<StepOp>(node.op)) {
    case StepOp::kEmbed: return embed(member), fill_angles(member);
    case StepOp::kAttentionNorm: return attention_norm(layer, member);
    case StepOp::kRopeAppend: return rope_and_append(layer, member);
    case StepOp::kAttention: return attend(layer, member);
    case StepOp::kFfnNorm: return ffn_norm(layer, member);
    case StepOp::kSiluMul: return silu(layer, member);
    case StepOp::kOutputNorm: return output_norm(member);
    case StepOp::kQkv:
    case StepOp::kOutput:
    case StepOp::kGateUp:
    case StepOp::kDown:
    case StepOp::kHead: return product(graph, node, member);
    case StepOp::kFetch: return;  // the disk lane's
  }
}

// Rows that are in memory are shared among the members; reading them from the file is one member's work, since the row buffer is one.
void StepRunner::embed(const TeamMember& member) {
  const bool in_memory = residency_.is_resident(layout_.embedding);
  const Share mine = in_memory ? share_of(member, input_.tokens.size()) : Share{0, member.index() == 0 ? input_.tokens.size() : 0};
  for (size_t t = mine.begin; t < mine.end; ++t) {
    float* const dst = buffers_.residual + t * config_.width;
    const uint64_t row = static_cast<uint64_t>(input_.tokens[t]);
    if (in_memory) {
      const WeightSource& weights = layout_.weights[layout_.embedding];
      unpack_row(weights.kind, residency_.operand({layout_.embedding, 0, 1}), row, weights.columns, dst);
    } else if (Status status = residency_.read_row(layout_.embedding, row, dst); !status.is_ok()) {
      failure_ = std::move(status);
      return;
    }
  }
}

// In double: at position 8000 a float angle is off by 5e-4 radians.
void StepRunner::fill_angles(const TeamMember& member) {
  const Share mine = share_of(member, input_.tokens.size());
  for (const SequenceSlice& slice : input_.slices) {
    const size_t begin = std::max<size_t>(mine.begin, slice.first_token), end = std::min<size_t>(mine.end, slice.first_token + slice.tokens);
    for (size_t t = begin; t < end; ++t) {
      const double position = static_cast<double>(slice.first_position + (t - slice.first_token)), magnitude = config_.rope_scaling.magnitude;
      float* const dst = buffers_.cos_sin + t * config_.rope_dim;
      for (size_t i = 0; i < frequencies_.size(); ++i) {
        dst[2 * i] = static_cast<float>(std::cos(position * frequencies_[i]) * magnitude);
        dst[2 * i + 1] = static_cast<float>(std::sin(position * frequencies_[i]) * magnitude);
      }
    }
  }
}

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

StepRunner::Activations StepRunner::quantize(const float* src, uint32_t matrix, size_t tokens, size_t begin, size_t end) {
  const uint32_t window = layout_.shape.matrices[matrix].window;
  const uint64_t width = layout_.weights[matrix].columns;
  for (uint32_t m = matrix; m < layout_.weights.size() && layout_.shape.matrices[m].window == window; ++m) {
    const Activations activations = activations_of(m);
    if (activations == Activations::kFloat32) continue;
    if (activations == Activations::kInt8) quantize_activations({src, width, buffers_.panel, tokens, width}, begin, end);
    if (activations == Activations::kBf16) round_activations({src, width, buffers_.panel, width}, begin, end);
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
  if (begin == end || quantize(buffers_.normed, matrix, tokens, begin, end) != Activations::kInt8) return;
  const uint64_t width = config_.width;
  float* const remainder = buffers_.attention;  // not in use before attention
  quantization_remainder({buffers_.normed, width, buffers_.panel, tokens, width}, begin, end, remainder);
  quantize_activations({remainder, width, buffers_.remainder_panel, tokens, width}, begin, end);
}

void StepRunner::norm(const float* weight, size_t begin, size_t end) {
  if (begin == end) return;
  const uint64_t offset = begin * config_.width;
  rms_norm({buffers_.residual + offset, weight, buffers_.normed + offset, end - begin, config_.width, config_.norm_epsilon});
}

void StepRunner::attention_norm(uint32_t layer, const TeamMember& member) {
  const Share mine = share_of(member, input_.tokens.size());
  norm(fixed_ + layout_.layers[layer].attention_norm, mine.begin, mine.end);
  quantize_finely(layout_.layers[layer].q, input_.tokens.size(), mine.begin, mine.end);
}

void StepRunner::ffn_norm(uint32_t layer, const TeamMember& member) {
  const Share mine = share_of(member, input_.tokens.size());
  norm(fixed_ + layout_.layers[layer].ffn_norm, mine.begin, mine.end);
  quantize(buffers_.normed, layout_.layers[layer].gate, input_.tokens.size(), mine.begin, mine.end);
}

// The wanted rows move together to the front of `normed`.
void StepRunner::output_norm(const TeamMember& member) {
  const uint64_t width = config_.width;
  const Share mine = share_of(member, input_.logit_tokens.size());
  for (size_t i = mine.begin; i < mine.end; ++i) {
    rms_norm({buffers_.residual + input_.logit_tokens[i] * width, fixed_ + layout_.output_norm, buffers_.normed + i * width, 1, width, config_.norm_epsilon});
  }
  quantize_finely(layout_.head, input_.logit_tokens.size(), mine.begin, mine.end);
}

void StepRunner::product(const TaskGraph& graph, const TaskNode& node, const TeamMember& member) {
  const uint64_t qkv_width = config_.attention_width() + 2 * config_.kv_width();
  const StepOp op = static_cast<StepOp>(node.op);
  // What is shared out is passes over row blocks. For a token or two the second pass is nearly free: see fine_product.
  const size_t tokens = op == StepOp::kHead ? input_.logit_tokens.size() : input_.tokens.size();
  const auto passes = [&](const OperandRef& operand) { return tokens > 2 && is_fine(op, node.argument, operand.matrix) ? size_t{2} : 1; };
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
    const WeightSource& weights = layout_.weights[operand.matrix];
    MatmulArgs args{};
    args.kind = weights.kind;
    args.weights = residency_.operand(operand);
    args.columns = weights.columns;
    args.rows = std::min<size_t>(operand.blocks * kPackRows, weights.rows - operand.first_block * kPackRows);
    args.src = buffers_.normed;
    const Activations activations = activations_of(operand.matrix);
    args.panel = activations == Activations::kFloat32 ? nullptr : buffers_.panel;
    args.tokens = tokens;
    const LayerLayout* layer = op == StepOp::kHead ? nullptr : &layout_.layers[node.argument];
    switch (op) {
      case StepOp::kQkv:
        args.dst = buffers_.qkv + (operand.matrix == layer->q ? 0 : config_.attention_width() + (operand.matrix == layer->v ? config_.kv_width() : 0));
        args.dst_stride = qkv_width;
        break;
      case StepOp::kOutput: args.src = buffers_.attention; [[fallthrough]];
      case StepOp::kDown:
        if (op == StepOp::kDown) args.src = buffers_.gate;
        args.dst = buffers_.residual;
        args.dst_stride = config_.width;
        args.accumulate = true;
        break;
      case StepOp::kGateUp:
        args.dst = operand.matrix == layer->gate ? buffers_.gate : buffers_.up;
        args.dst_stride = config_.ffn_width;
        break;
      default:
        args.dst = buffers_.logits;
        args.dst_stride = StepBuffers::logits_row_bytes(layout_.vocabulary) / sizeof(float);
        break;
    }
    args.src_stride = args.columns;
    args.dst += operand.first_block * kPackRows;
    if (begin == end) continue;
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

// Each head is a vector of its own, as long as head_dim.
void StepRunner::norm_queries_and_keys(uint32_t layer, size_t begin, size_t end) {
  const LayerLayout& parts = layout_.layers[layer];
  if (parts.query_norm == kNoTensor) return;
  for (size_t t = begin; t < end; ++t) {
    float* const q = buffers_.qkv + t * (config_.attention_width() + 2 * config_.kv_width());
    float* const k = q + config_.attention_width();
    rms_norm({q, fixed_ + parts.query_norm, q, config_.heads, config_.head_dim, config_.norm_epsilon});
    rms_norm({k, fixed_ + parts.key_norm, k, config_.kv_heads, config_.head_dim, config_.norm_epsilon});
  }
}

void StepRunner::rope_and_append(uint32_t layer, const TeamMember& member) {
  const uint64_t width = config_.attention_width() + 2 * config_.kv_width();
  const Share mine = share_of(member, input_.tokens.size());
  norm_queries_and_keys(layer, mine.begin, mine.end);
  if (mine.begin < mine.end) {  // q and k stand side by side: one call turns the heads of both
    rope({buffers_.qkv + mine.begin * width, width, mine.end - mine.begin, config_.heads + config_.kv_heads, config_.head_dim, config_.rope_dim,
          buffers_.cos_sin + mine.begin * config_.rope_dim, config_.rope_style});
  }
  for (const SequenceSlice& slice : input_.slices) {
    const size_t begin = std::max<size_t>(mine.begin, slice.first_token), end = std::min<size_t>(mine.end, slice.first_token + slice.tokens);
    if (begin >= end) continue;
    const float* const k = buffers_.qkv + begin * width + config_.attention_width();
    append_kv({k, k + config_.kv_width(), width, width, slice.cache->keys(layer), slice.cache->values(layer), end - begin, config_.kv_heads,
               config_.head_dim, slice.cache->capacity(), slice.first_position + (begin - slice.first_token), slice.cache->type()},
              0, config_.kv_heads);
  }
}

void StepRunner::attend(uint32_t layer, const TeamMember& member) {
  const uint64_t width = config_.attention_width() + 2 * config_.kv_width();
  for (const SequenceSlice& slice : input_.slices) {
    if (slice.first_token > 0) member.barrier();  // the scratch is one
    const AttentionArgs args{buffers_.qkv + slice.first_token * width, width, slice.cache->keys(layer), slice.cache->values(layer),
                             buffers_.attention + slice.first_token * config_.attention_width(), config_.attention_width(), slice.tokens, config_.heads,
                             config_.kv_heads, config_.head_dim, slice.cache->capacity(), slice.first_position,
                             1 / std::sqrt(static_cast<float>(config_.head_dim)), buffers_.scratch, slice.cache->type()};
    attention(args, member);
  }
  member.barrier();
  const Share mine = share_of(member, input_.tokens.size());
  quantize(buffers_.attention, layout_.layers[layer].output, input_.tokens.size(), mine.begin, mine.end);
}

void StepRunner::silu(uint32_t layer, const TeamMember& member) {
  const Share mine = share_of(member, input_.tokens.size());
  if (mine.begin == mine.end) return;
  const uint64_t offset = mine.begin * config_.ffn_width;
  silu_mul({buffers_.gate + offset, buffers_.up + offset, buffers_.gate + offset, (mine.end - mine.begin) * config_.ffn_width});
  quantize(buffers_.gate, layout_.layers[layer].down, input_.tokens.size(), mine.begin, mine.end);
}

}  // namespace outrigger
