// Builds the step's graph in two passes: first the host nodes in order, then the disk's between them, each where it is first possible.
#include "src/model/step_graph.h"

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "src/base/macros.h"
#include "src/tensor/kv_spread.h"

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
  StepGraphBuilder(const ModelLayout& layout, const TensorResidency& residency, const StepGraphOptions& options)
      : layout_(layout), residency_(residency), options_(options), pieces_(layout.weights.size()) {
    const StreamLayout& stream = residency.stream();
    for (uint32_t unit = 0; unit < stream.units.size(); ++unit) {
      for (const StreamPiece& piece : stream.units[unit].pieces) {
        pieces_[piece.matrix].push_back({unit, {piece.matrix, piece.first_block, piece.blocks}});
      }
    }
  }

  Result<TaskGraph> build() {
    add_host_nodes();
    units_ = residency_.stream().step_units(options_.with_logits);
    last_use_.assign(units_, 0);
    for (size_t i = 0; i < host_.size(); ++i) {
      if (host_[i].unit != kNoUnit) last_use_[host_[i].unit] = i;
    }
    for (size_t i = 0; i < host_.size(); ++i) emit(i);
    OTR_TRY(graph_.finish());
    return std::move(graph_);
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
      if (layout_.config.experts > 0) {
        add_mixture(l, layer);
        continue;
      }
      add_product(StepOp::kGateUp, l, {layer.ffn.gate, layer.ffn.up});
      add(StepOp::kSiluMul, l);
      add_product(StepOp::kDown, l, {layer.ffn.down});
    }
    if (options_.with_logits) {
      add(StepOp::kOutputNorm, 0);
      add_product(StepOp::kHead, 0, {layout_.head});
    }
  }

  // The shared expert while the disk reads those that were chosen.
  void add_mixture(uint32_t l, const LayerLayout& layer) {
    add_product(StepOp::kRouter, l, {layer.router});
    add(StepOp::kRoute, l);
    if (guesses_after(l)) add(StepOp::kGuess, l);
    if (layout_.config.shared_ffn_width > 0) {
      add_product(StepOp::kSharedGateUp, l, {layer.shared.gate, layer.shared.up});
      add(StepOp::kSharedSiluMul, l);
      add_product(StepOp::kSharedDown, l, {layer.shared.down});
    }
    for (uint32_t wave = 0; wave < options_.expert_waves; ++wave) add(StepOp::kExperts, ExpertWave{l, wave}.argument());
    add(StepOp::kCombine, l);
  }

  // Where other weights stream, or keys and values do, the disk lane has no idle moment, and guesses would hold up what is sure to be needed.
  bool guesses_after(uint32_t layer) const {
    return residency_.experts() != nullptr && residency_.experts()->most_guesses() > 0 && residency_.stream().units.empty() &&
           options_.kv_spilled_layers == 0 && layer + 1 < layout_.layers.size();
  }

  void add(StepOp op, uint32_t argument) { host_.push_back({op, argument, kNoUnit, {}}); }

  // One node for everything resident and one unit; the next unit starts another.
  void add_product(StepOp op, uint32_t layer, std::initializer_list<uint32_t> window) {
    host_.push_back({op, layer, kNoUnit, {}});
    for (const uint32_t matrix : window) {
      if (residency_.is_resident(matrix)) host_.back().operands.push_back({matrix, 0, static_cast<uint32_t>(layout_.weights[matrix].blocks())});
      for (const PieceOfMatrix& piece : pieces_[matrix]) {
        if (host_.back().unit != kNoUnit && host_.back().unit != piece.unit) host_.push_back({op, layer, kNoUnit, {}});
        host_.back().unit = piece.unit;
        host_.back().operands.push_back(piece.operand);
      }
    }
  }

  void emit(size_t i) {
    const HostNode& host = host_[i];
    std::vector<NodeId> after;
    if (host.unit != kNoUnit) {
      add_arrivals(host.unit);
      after.push_back(arrivals_[host.unit]);
    }
    // The first unit, which the step begins with, before them.
    if (kv_fetches_.empty() && (host.unit != kNoUnit || host.op == StepOp::kRopeAppend)) {
      while (kv_fetches_.size() < std::min(kKvSlots, options_.kv_spilled_layers)) add_kv_fetch();
    }
    if (host.op == StepOp::kRopeAppend && is_spilled(host.argument)) after.push_back(kv_fetches_[kv_number(host.argument)]);
    if (host.op == StepOp::kExperts && ExpertWave::of(host.argument).wave > 0) after.push_back(add_fetch(ExpertWave::of(host.argument)));
    const NodeId node = graph_.add(Lane::kHost, static_cast<uint16_t>(host.op), host.argument, host.operands, after);
    if (host.op == StepOp::kAttention && is_spilled(host.argument)) {
      add_disk(StepOp::kStoreKv, host.argument, node);
      if (kv_fetches_.size() < options_.kv_spilled_layers) add_kv_fetch();
    }
    if (host.op == StepOp::kRoute) waves_.assign(1, node);  // what the first wave's fetch waits for
    if (host.op == StepOp::kGuess) guess_ = node;
    if (host.op == StepOp::kExperts) {
      waves_.push_back(node);
      const auto [layer, wave] = ExpertWave::of(host.argument);
      if (wave + 1 == options_.expert_waves && guesses_after(layer)) add_disk(StepOp::kFetchGuesses, layer + 1, guess_);
    }
    if (host.unit != kNoUnit && last_use_[host.unit] == i) release_unit(host.unit, node);
  }

  NodeId add_disk(StepOp op, uint32_t argument, NodeId after) {
    return graph_.add(Lane::kDisk, static_cast<uint16_t>(op), argument, {}, {&after, 1});
  }

  bool is_spilled(uint32_t layer) const { return is_kv_spilled(layout_.config.layers, options_.kv_spilled_layers, layer); }
  uint32_t kv_number(uint32_t layer) const { return kv_spilled_before(layout_.config.layers, options_.kv_spilled_layers, layer); }

  // Of the next spilled layer. What its slot held before was stored, on the same lane.
  void add_kv_fetch() {
    const uint32_t layer = kv_spilled_layer(layout_.config.layers, options_.kv_spilled_layers, static_cast<uint32_t>(kv_fetches_.size()));
    kv_fetches_.push_back(graph_.add(Lane::kDisk, static_cast<uint16_t>(StepOp::kFetchKv), layer));
  }

  void add_arrivals(uint32_t unit) {
    while (arrivals_.size() <= unit) {
      arrivals_.push_back(graph_.add(Lane::kDisk, static_cast<uint16_t>(StepOp::kArrive), static_cast<uint32_t>(arrivals_.size())));
    }
  }

  // The next unit's arrival comes before the request, so that it is taken care of while this unit is still computed with. A ring of one slot has
  // room for it only afterwards.
  void release_unit(uint32_t unit, NodeId last_user) {
    const uint32_t slots = residency_.stream().ring_slots;
    if (unit + 1 < units_ && slots > 1) add_arrivals(unit + 1);
    add_disk(StepOp::kRequest, (unit + slots) % units_, last_user);
  }

  // Wave w needs the slots of wave w - 2: waves_[w - 1], with the routing in front.
  NodeId add_fetch(const ExpertWave& wave) { return add_disk(StepOp::kFetchExperts, wave.argument(), waves_[wave.wave - 1]); }

  const ModelLayout& layout_;
  const TensorResidency& residency_;
  const StepGraphOptions options_;
  std::vector<std::vector<PieceOfMatrix>> pieces_;  // by matrix
  std::vector<HostNode> host_;
  uint32_t units_ = 0;
  std::vector<size_t> last_use_;                    // by unit: the host node
  TaskGraph graph_;
  std::vector<NodeId> arrivals_;                    // by unit
  std::vector<NodeId> kv_fetches_;                  // by number of the spilled layer
  std::vector<NodeId> waves_;                       // of the layer: its routing, then its waves
  NodeId guess_ = 0;
};

}  // namespace

Result<TaskGraph> build_step_graph(const ModelLayout& layout, const TensorResidency& residency, const StepGraphOptions& options) {
  return StepGraphBuilder(layout, residency, options).build();
}

}  // namespace outrigger
