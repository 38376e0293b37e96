// Builds the step's graph in two passes: first the host nodes in order, then the fetches between them, each where its slot becomes free.
#include "src/model/step_graph.h"

#include <initializer_list>
#include <vector>

#include "src/base/macros.h"

namespace outrigger {
namespace {

constexpr uint32_t kNoUnit = UINT32_MAX;

struct HostNode {
  StepOp op;
  uint32_t argument = 0;
  uint32_t unit = kNoUnit;           // the stream unit its operands lie in
  std::vector<OperandRef> operands;
};

// Where each streamed row block is: the pieces of a matrix in order, with their units.
struct PieceOfMatrix {
  uint32_t unit;
  OperandRef operand;
};

class StepGraphBuilder {
 public:
  StepGraphBuilder(const ModelLayout& layout, const TensorResidency& residency, bool with_logits)
      : layout_(layout), residency_(residency), with_logits_(with_logits), pieces_(layout.weights.size()) {
    const StreamLayout& stream = residency.stream();
    for (uint32_t unit = 0; unit < stream.units.size(); ++unit) {
      for (const StreamPiece& piece : stream.units[unit].pieces) {
        pieces_[piece.matrix].push_back({unit, {piece.matrix, piece.first_block, piece.blocks}});
      }
    }
  }

  Result<TaskGraph> build() {
    add_host_nodes();
    return emit();
  }

 private:
  void add_host_nodes() {
    add(StepOp::kEmbed, 0);
    for (uint32_t l = 0; l < layout_.layers.size(); ++l) {
      const LayerLayout& layer = layout_.layers[l];
      add(StepOp::kAttentionNorm, l);
      add_product(StepOp::kQkv, l, {layer.q, layer.k, layer.v});
      add(StepOp::kRopeAppend, l);
      add(StepOp::kAttention, l);
      add_product(StepOp::kOutput, l, {layer.output});
      add(StepOp::kFfnNorm, l);
      add_product(StepOp::kGateUp, l, {layer.gate, layer.up});
      add(StepOp::kSiluMul, l);
      add_product(StepOp::kDown, l, {layer.down});
    }
    if (with_logits_) {
      add(StepOp::kOutputNorm, 0);
      add_product(StepOp::kHead, 0, {layout_.head});
    }
  }

  void add(StepOp op, uint32_t layer) { host_.push_back({op, layer, kNoUnit, {}}); }

  // One node for everything resident and one unit; the next unit starts another.
  void add_product(StepOp op, uint32_t layer, std::initializer_list<uint32_t> window) {
    host_.push_back({op, layer, kNoUnit, {}});
    for (const uint32_t matrix : window) {
      if (residency_.is_resident(matrix)) {
        const uint32_t blocks = static_cast<uint32_t>((layout_.weights[matrix].rows + kPackRows - 1) / kPackRows);
        host_.back().operands.push_back({matrix, 0, blocks});
      }
      for (const PieceOfMatrix& piece : pieces_[matrix]) {
        if (host_.back().unit != kNoUnit && host_.back().unit != piece.unit) host_.push_back({op, layer, kNoUnit, {}});
        host_.back().unit = piece.unit;
        host_.back().operands.push_back(piece.operand);
      }
    }
  }

  Result<TaskGraph> emit() const {
    const uint32_t units = residency_.stream().step_units(with_logits_);
    const uint32_t slots = residency_.stream().ring_slots;
    std::vector<size_t> last_use(units, 0);
    for (size_t i = 0; i < host_.size(); ++i) {
      if (host_[i].unit != kNoUnit) last_use[host_[i].unit] = i;
    }

    TaskGraph graph;
    std::vector<NodeId> fetches;
    for (size_t i = 0; i < host_.size(); ++i) {
      const HostNode& host = host_[i];
      std::vector<NodeId> after;
      if (host.unit != kNoUnit && host.unit >= slots) after.push_back(fetches[host.unit - slots]);
      const NodeId node = graph.add(Lane::kHost, static_cast<uint16_t>(host.op), host.argument, host.operands, after);
      if (host.unit != kNoUnit && last_use[host.unit] == i) {
        const uint32_t next = (host.unit + slots) % units;
        fetches.push_back(graph.add(Lane::kDisk, static_cast<uint16_t>(StepOp::kFetch), next, {}, {&node, 1}));
      }
    }
    OTR_TRY(graph.finish());
    return graph;
  }

  const ModelLayout& layout_;
  const TensorResidency& residency_;
  const bool with_logits_;
  std::vector<std::vector<PieceOfMatrix>> pieces_;  // by matrix
  std::vector<HostNode> host_;
};

}  // namespace

Result<TaskGraph> build_step_graph(const ModelLayout& layout, const TensorResidency& residency, bool with_logits) {
  return StepGraphBuilder(layout, residency, with_logits).build();
}

}  // namespace outrigger
