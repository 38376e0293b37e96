// What the nodes of a model's step are called.
#include "src/model/node_label.h"

#include <algorithm>

#include "src/base/formatted.h"
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
    case StepOp::kBranchPanel: return "branch panel";
    case StepOp::kBranchOut: return "branch out";
    case StepOp::kResidual: return "residual";
    case StepOp::kOutputNorm: return "output_norm";
    case StepOp::kHead: return "head";
    case StepOp::kRouter: return "router";
    case StepOp::kRoute: return "route";
    case StepOp::kGuess: return "guess";
    case StepOp::kSharedGateUp: return "shared gate_up";
    case StepOp::kSharedSiluMul: return "shared silu_mul";
    case StepOp::kSharedDown: return "shared down";
    case StepOp::kExperts: return "experts";
    case StepOp::kCombine: return "combine";
    case StepOp::kArrive: return "fetch unit";
    case StepOp::kRequest: return "request unit";
    case StepOp::kArriveExperts: return "fetch experts";
    case StepOp::kRequestExperts: return "request experts";
    case StepOp::kArriveOnDevice: return "copy unit";
    case StepOp::kRequestToDevice: return "request copy of unit";
    case StepOp::kUploadAngles: return "upload angles";
    case StepOp::kUpload: return "upload residual";
    case StepOp::kDownload: return "download residual";
    case StepOp::kDownloadLogits: return "download logits";
    case StepOp::kDownloadInput: return "download input";
    case StepOp::kBeginCorrection: return "begin correction";
    case StepOp::kUploadCorrection: return "upload correction";
    case StepOp::kAddCorrection: return "add correction";
    case StepOp::kSendResidual: return "send residual";
    case StepOp::kReceiveResidual: return "receive residual";
    case StepOp::kSendInput: return "send input";
    case StepOp::kReceiveInput: return "receive input";
    case StepOp::kSendCorrection: return "send correction";
    case StepOp::kReceiveCorrection: return "receive correction";
    case StepOp::kSubmit: return "submit";
    case StepOp::kFinish: return "finish";
    case StepOp::kFetchKv: return "fetch kv";
    case StepOp::kStoreKv: return "store kv";
  }
  return "unknown";
}

bool is_of_a_layer(StepOp op) {
  constexpr StepOp kOthers[] = {StepOp::kEmbed,          StepOp::kOutputNorm, StepOp::kHead,  StepOp::kUploadAngles,
                                StepOp::kDownloadLogits, StepOp::kSubmit,     StepOp::kFinish};
  return std::find(std::begin(kOthers), std::end(kOthers), op) == std::end(kOthers);
}
bool is_of_a_unit(StepOp op) { return op == StepOp::kArrive || op == StepOp::kRequest; }
bool is_of_a_device_unit(StepOp op) { return op == StepOp::kArriveOnDevice || op == StepOp::kRequestToDevice; }
bool is_of_a_window(StepOp op) {
  constexpr StepOp kWindows[] = {StepOp::kBranchPanel,     StepOp::kBranchOut,        StepOp::kResidual,      StepOp::kDownloadInput,
                                 StepOp::kBeginCorrection, StepOp::kUploadCorrection, StepOp::kAddCorrection, StepOp::kSendInput,
                                 StepOp::kReceiveInput,    StepOp::kSendCorrection,   StepOp::kReceiveCorrection};
  return std::find(std::begin(kWindows), std::end(kWindows), op) != std::end(kWindows);
}
bool is_of_a_wave(StepOp op) { return op == StepOp::kExperts || op == StepOp::kArriveExperts; }

}  // namespace

std::optional<Lane> working_lane(const TaskGraph& graph, NodeId node, Lane lane) {
  const auto op_of = [&graph](NodeId id) { return static_cast<StepOp>(graph.nodes()[id].op); };
  if (lane == Lane::kDevice) {
    const std::span<const NodeId> all = graph.lane_nodes(lane);
    const bool by_words = !all.empty() && op_of(all.back()) == StepOp::kFinish;
    return by_words && op_of(node) != StepOp::kFinish ? std::nullopt : std::optional(lane);
  }
  if (lane != Lane::kHost) return lane;
  switch (static_cast<StepOp>(graph.nodes()[node].op)) {
    case StepOp::kArrive:
    case StepOp::kArriveExperts: return std::nullopt;
    case StepOp::kReceiveResidual:
    case StepOp::kReceiveInput: return Lane::kDevice;
    default: return lane;
  }
}

NodeLabel label_node(const ModelLayout& layout, const TensorResidency& residency, const TaskGraph& graph, NodeId node, Lane lane) {
  const TaskNode& task = graph.nodes()[node];
  const auto op = static_cast<StepOp>(task.op);
  NodeLabel label;
  const bool waits = lane == Lane::kHost && !working_lane(graph, node, lane);
  label.name = !waits ? op_name(op) : op == StepOp::kArrive ? "wait for unit" : "wait for experts";
  if (is_of_a_unit(op) || is_of_a_device_unit(op)) {
    const StreamUnit& unit = (is_of_a_unit(op) ? residency.stream() : residency.device()->stream()).units[task.argument];
    label.name += formatted(" {}", task.argument);
    if (op == StepOp::kArrive && !waits) label.bytes = unit.file_bytes;
    if (op == StepOp::kArriveOnDevice) label.bytes = unit.packed_bytes;
    label.layer = layout.shape.matrices[unit.pieces.front().matrix].layer;
  } else if (is_of_a_wave(op)) {
    const auto [layer, wave] = ExpertWave::of(task.argument);
    label.name = formatted("blk.{} {}, wave {}", layer, label.name, wave);
    label.layer = layer;
  } else if (is_of_a_window(op)) {
    const BranchWindow window = BranchWindow::of(task.argument);
    label.name = formatted("blk.{} {} {}", window.layer, op_name(window.op), label.name);
    label.layer = window.layer;
  } else if (is_of_a_layer(op)) {
    label.name = formatted("blk.{} {}", task.argument, label.name);
    label.layer = task.argument;
  }
  for (const OperandRef& operand : graph.operands(task))
    label.bytes += operand.blocks * layout.shape.matrices[operand.matrix].row_block_bytes;
  return label;
}

}  // namespace outrigger
