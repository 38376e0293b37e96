// What the nodes of a model's step are called.
#include "src/model/node_label.h"

#include <fmt/format.h>

#include "src/model/step_graph.h"

namespace outrigger {
namespace {

const char* op_name(StepOp op) {
  switch (op) {
    case StepOp::kEmbed: return "embed";
    case StepOp::kAttentionNorm: return "attention_norm";
    case StepOp::kQkv: return "qkv";
    case StepOp::kRopeAppend: return "rope_append";
    case StepOp::kAttention: return "attention";
    case StepOp::kOutput: return "output";
    case StepOp::kFfnNorm: return "ffn_norm";
    case StepOp::kGateUp: return "gate_up";
    case StepOp::kSiluMul: return "silu_mul";
    case StepOp::kDown: return "down";
    case StepOp::kOutputNorm: return "output_norm";
    case StepOp::kHead: return "head";
    case StepOp::kFetch: return "fetch";
  }
  return "unknown";
}

bool is_of_a_layer(StepOp op) { return op != StepOp::kEmbed && op != StepOp::kOutputNorm && op != StepOp::kHead && op != StepOp::kFetch; }

}  // namespace

NodeLabel label_node(const ModelLayout& layout, const TensorResidency& residency, const TaskGraph& graph, NodeId node) {
  const TaskNode& task = graph.nodes()[node];
  const auto op = static_cast<StepOp>(task.op);
  NodeLabel label;
  if (op == StepOp::kFetch) {
    const StreamUnit& unit = residency.stream().units[task.argument];
    label.name = fmt::format("fetch unit {}", task.argument);
    label.bytes = unit.file_bytes;
    label.layer = layout.shape.matrices[unit.pieces.front().matrix].layer;
    return label;
  }
  label.name = op_name(op);
  if (is_of_a_layer(op)) {
    label.name = fmt::format("blk.{} {}", task.argument, label.name);
    label.layer = task.argument;
  }
  for (const OperandRef& operand : graph.operands(task)) label.bytes += operand.blocks * layout.shape.matrices[operand.matrix].row_block_bytes;
  return label;
}

}  // namespace outrigger
