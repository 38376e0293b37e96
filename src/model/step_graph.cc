// Builds the step's graph in two passes: first what is computed, in order, then the copies and reads between, each where it is first
// possible.
#include "src/model/step_graph.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "src/base/macros.h"
#include "src/model/on_device.h"
#include "src/model/ring_nodes.h"
#include "src/tensor/kv_spread.h"

namespace outrigger {
namespace {

// Something computed, or the residual on its way to where the next one is.
struct ChainNode {
  Lane lane = Lane::kHost;
  StepOp op = StepOp::kEmbed;
  uint32_t argument = 0;
  uint32_t unit = kNoUnit;  // the stream unit its operands lie in, of its lane's ring
  std::vector<OperandRef> operands;
  size_t after = kPrevious;  // the node of the chain that must come first

  static constexpr size_t kPrevious = SIZE_MAX;
};

// By words: nodes of the device that are submitted before the host looks for the words of any of them. All must have been taken in by the
// device's queue, though it waits for the host's answer to the first: 512 operations are the least that any has room for. A layer is 9
// nodes, some 20 operations of a token, and 90 of 16 tokens of as many texts whose heads are normalised one by one; with corrections 17
// nodes, 100 operations. 256 operations at most are launched as one (cuda/device/operation_run.h).
constexpr size_t kBatchNodes = 48;

class StepGraphBuilder {
 public:
  StepGraphBuilder(const ModelLayout& layout, const Plan& plan, const TensorResidency& residency, const StepGraphOptions& options)
      : layout_(layout), plan_(plan), residency_(residency), options_(options),
        ring_(residency.stream(), layout.weights.size(), Lane::kHost, StepOp::kArrive, StepOp::kRequest) {
    if (options.streams_to_device) {
      link_.emplace(residency.device()->stream(), layout.weights.size(), Lane::kToDevice, StepOp::kArriveOnDevice,
                    StepOp::kRequestToDevice);
    }
  }

  Result<TaskGraph> build() {
    add_chain();
    ring_.begin(options_.with_logits);
    if (link_) link_->begin(options_.with_logits);
    for (size_t i = 0; i < chain_.size(); ++i) {
      if (chain_[i].unit != kNoUnit) ring_of(chain_[i].lane).note_use(chain_[i].unit, i);
    }
    nodes_.resize(chain_.size());
    if (options_.by_words) {
      emit_batches();
    } else {
      for (size_t i = 0; i < chain_.size(); ++i) emit(i, dependencies(i));
    }
    OTR_TRY(graph_.finish());
    return std::move(graph_);
  }

 private:
  void add_chain() {
    add(StepOp::kEmbed, 0);
    for (uint32_t l = 0; l < layout_.layers.size(); ++l) {
      const LayerLayout& layer = layout_.layers[l];
      move_to(layer.q, l);
      if (side_ == Lane::kDevice && !has_angles_) {
        add_on(Lane::kToDevice, StepOp::kUploadAngles, 0);
        has_angles_ = true;
      }
      add(StepOp::kAttentionNorm, l);
      add_window(StepOp::kQkv, l, {layer.q, layer.k, layer.v});
      add(StepOp::kRopeAppend, l);
      add(StepOp::kAttention, l);
      add_window(StepOp::kOutput, l, {layer.output});
      move_to(layout_.config.experts > 0 ? layer.router : layer.ffn.gate, l);
      add(StepOp::kFfnNorm, l);
      if (layout_.config.experts > 0) {
        add_mixture(l, layer);
        continue;
      }
      add_window(StepOp::kGateUp, l, {layer.ffn.gate, layer.ffn.up});
      add(StepOp::kSiluMul, l);
      add_window(StepOp::kDown, l, {layer.ffn.down});
    }
    if (!options_.with_logits) return;
    move_to(layout_.head, static_cast<uint32_t>(layout_.layers.size()));
    add(StepOp::kOutputNorm, 0);
    add_product(StepOp::kHead, 0, {&layout_.head, 1});
    if (side_ == Lane::kDevice) add_on(Lane::kToHost, StepOp::kDownloadLogits, 0);
  }

  // The residual goes where the next part, that of `matrix`, is computed.
  void move_to(uint32_t matrix, uint32_t layer) {
    const Lane side = is_computed_on_device(plan_, matrix, options_.streams_to_device) ? Lane::kDevice : Lane::kHost;
    if (side == side_) return;
    const Lane from = std::exchange(side_, side);
    if (options_.by_words && is_device_at_work_) {
      add_on(from, StepOp::kSendResidual, layer);
      add_on(side, StepOp::kReceiveResidual, layer);
    } else if (side == Lane::kDevice) {
      add_on(Lane::kToDevice, StepOp::kUpload, layer);
      is_device_at_work_ = true;
    } else {
      add_on(Lane::kToHost, StepOp::kDownload, layer);
    }
  }

  // The shared expert while the disk reads those that were chosen. Guesses are asked for behind the experts of this layer, and once more
  // when these have left room.
  void add_mixture(uint32_t l, const LayerLayout& layer) {
    add_product(StepOp::kRouter, l, {&layer.router, 1});
    add(StepOp::kRoute, l);
    if (residency_.experts() != nullptr) add(StepOp::kRequestExperts, l);
    if (guesses_after(l)) add(StepOp::kGuess, l);
    if (layout_.config.shared_ffn_width > 0) {
      add_window(StepOp::kSharedGateUp, l, {layer.shared.gate, layer.shared.up});
      add(StepOp::kSharedSiluMul, l);
      add_window(StepOp::kSharedDown, l, {layer.shared.down});
    }
    for (uint32_t wave = 0; wave < options_.expert_waves; ++wave) {
      if (wave > 0) add(StepOp::kArriveExperts, ExpertWave{l, wave}.argument());
      add(StepOp::kExperts, ExpertWave{l, wave}.argument());
    }
    if (guesses_after(l)) add(StepOp::kRequestExperts, l);
    add(StepOp::kCombine, l);
  }

  // Where other weights stream, or keys and values do, the disk has no idle moment, and guesses would hold up what is sure to be needed.
  bool guesses_after(uint32_t layer) const {
    return residency_.experts() != nullptr && residency_.experts()->most_guesses() > 0 && residency_.stream().units.empty() &&
           plan_.kv_spilled_layers == 0 && layer + 1 < layout_.layers.size();
  }

  RingNodes& ring_of(Lane side) { return side == Lane::kDevice ? *link_ : ring_; }

  // Of a matrix that this step computes with on the side it is at: the pieces that stream; none for one that is resident there.
  bool streams(uint32_t matrix) const {
    if (options_.by_stand_ins) return false;
    return side_ == Lane::kDevice ? !residency_.device()->is_resident(matrix) : !residency_.is_resident(matrix);
  }

  void add(StepOp op, uint32_t argument) { add_on(side_, op, argument); }
  void add_on(Lane lane, StepOp op, uint32_t argument) { chain_.push_back({lane, op, argument, kNoUnit, {}}); }

  // A window's product, and what its branches add.
  void add_window(StepOp op, uint32_t layer, std::initializer_list<uint32_t> matrices) {
    const BranchFactors factors = factors_of(matrices);
    const auto has_residual = [this](uint32_t matrix) { return layout_.residuals[matrix].file_bytes > 0; };
    const bool has_residuals = std::any_of(matrices.begin(), matrices.end(), has_residual);
    if (side_ == Lane::kDevice && plan_.corrections_beside) {
      return add_window_beside(op, layer, matrices, factors, has_residuals);
    }
    std::vector<uint32_t> all(matrices);
    all.insert(all.end(), factors.first.begin(), factors.first.end());
    add_product(op, layer, all);
    add_corrections(op, layer, factors, has_residuals);
  }

  struct BranchFactors {
    std::vector<uint32_t> first, second;
  };

  BranchFactors factors_of(std::initializer_list<uint32_t> matrices) const {
    BranchFactors factors;
    for (const uint32_t matrix : matrices) {
      const BranchLayout& branch = layout_.branches[matrix];
      if (branch.rank == 0) continue;
      factors.first.push_back(branch.a);
      factors.second.push_back(branch.b);
    }
    return factors;
  }

  // After the product that has made the branches' components.
  void add_corrections(StepOp op, uint32_t layer, const BranchFactors& factors, bool has_residuals) {
    const uint32_t window = BranchWindow{op, layer}.argument();
    if (!factors.second.empty()) {
      add(StepOp::kBranchPanel, window);
      add_product(StepOp::kBranchOut, window, factors.second);
    }
    if (has_residuals) add(StepOp::kResidual, window);
  }

  // The device goes on to multiply while the window's input travels and the host corrects. What streams is several nodes that the link
  // waits for, so that there the host begins after the copy and not after the product that follows it in the same segment.
  void add_window_beside(StepOp op, uint32_t layer, std::initializer_list<uint32_t> matrices, const BranchFactors& factors,
                         bool has_residuals) {
    const std::vector<uint32_t> own(matrices);
    const bool is_corrected = options_.is_corrected && plan_.tensors[own.front()].is_corrected;
    if (!is_corrected || (factors.first.empty() && !has_residuals)) return add_product(op, layer, own);
    const uint32_t window = BranchWindow{op, layer}.argument();
    if (options_.by_words) return add_window_by_words(op, layer, own, factors, has_residuals);
    const bool is_resident = std::none_of(own.begin(), own.end(), [this](uint32_t matrix) { return streams(matrix); });
    add(StepOp::kDownloadInput, window);
    size_t awaited = chain_.size() - 1;
    if (!options_.corrects_in_turn) {
      add_product(op, layer, own);
      if (is_resident) ++awaited;
    }
    side_ = Lane::kHost;
    const size_t begin = chain_.size();
    add(StepOp::kBeginCorrection, window);
    chain_[begin].after = awaited;
    if (!factors.first.empty()) add_product(op, layer, factors.first);
    add_corrections(op, layer, factors, has_residuals);
    side_ = Lane::kDevice;
    add(StepOp::kUploadCorrection, window);
    if (options_.corrects_in_turn) add_product(op, layer, own);
    add(StepOp::kAddCorrection, window);
  }

  // The device goes on as soon as it has sent the input, and waits for the host's part with its own.
  void add_window_by_words(StepOp op, uint32_t layer, const std::vector<uint32_t>& own, const BranchFactors& factors, bool has_residuals) {
    const uint32_t window = BranchWindow{op, layer}.argument();
    add(StepOp::kSendInput, window);
    add_product(op, layer, own);
    side_ = Lane::kHost;
    add(StepOp::kReceiveInput, window);
    add(StepOp::kBeginCorrection, window);
    if (!factors.first.empty()) add_product(op, layer, factors.first);
    add_corrections(op, layer, factors, has_residuals);
    add(StepOp::kSendCorrection, window);
    side_ = Lane::kDevice;
    add(StepOp::kReceiveCorrection, window);
  }

  // One node for everything resident and one unit; the next unit starts another.
  void add_product(StepOp op, uint32_t layer, std::span<const uint32_t> window) {
    add(op, layer);
    for (const uint32_t matrix : window) {
      if (!streams(matrix)) {
        chain_.back().operands.push_back({matrix, 0, static_cast<uint32_t>(layout_.weights[matrix].blocks())});
        continue;
      }
      for (const PieceOfMatrix& piece : ring_of(side_).pieces(matrix)) {
        if (chain_.back().unit != kNoUnit && chain_.back().unit != piece.unit) add(op, layer);
        chain_.back().unit = piece.unit;
        chain_.back().operands.push_back(piece.operand);
      }
    }
  }

  // Of other lanes, in the order of the chain.
  std::vector<NodeId> dependencies(size_t i) const {
    const size_t before = chain_[i].after == ChainNode::kPrevious ? i - 1 : chain_[i].after;
    if (i == 0 || chain_[before].lane == chain_[i].lane) return {};
    return {nodes_[before]};
  }

  // What comes before the device has its first input, as ever; then batches; and the logits.
  void emit_batches() {
    size_t i = 0;
    for (; i < chain_.size() && chain_[i].lane != Lane::kDevice; ++i) emit(i, dependencies(i));
    if (i == chain_.size()) return;
    std::vector<NodeId> begun = dependencies(i);
    while (i < chain_.size() && chain_[i].lane != Lane::kToHost) {
      const size_t begin = i;
      for (size_t nodes = 0; i < chain_.size() && chain_[i].lane != Lane::kToHost; ++i) {
        if (chain_[i].lane == Lane::kDevice && ++nodes > kBatchNodes) break;
      }
      emit_batch(begin, i, std::exchange(begun, {}));
    }
    const NodeId done = graph_.add(Lane::kDevice, static_cast<uint16_t>(StepOp::kFinish), 0);
    for (; i < chain_.size(); ++i) emit(i, {done});
  }

  // Nodes [begin, end) of the chain: the device's, then the host's, since these wait for nothing but that those were submitted. What the
  // host answers first may have been sent in the batch before.
  void emit_batch(size_t begin, size_t end, std::vector<NodeId> after) {
    for (size_t i = begin; i < end; ++i) {
      if (chain_[i].lane == Lane::kDevice) emit(i, std::exchange(after, {}));
    }
    std::vector<NodeId> submitted = {graph_.add(Lane::kDevice, static_cast<uint16_t>(StepOp::kSubmit), 0)};
    for (size_t i = begin; i < end; ++i) {
      if (chain_[i].lane == Lane::kHost) emit(i, std::exchange(submitted, {}));
    }
  }

  void emit(size_t i, std::vector<NodeId> after) {
    const ChainNode& link = chain_[i];
    if (link.unit != kNoUnit) after.push_back(ring_of(link.lane).arrival(graph_, link.unit));
    // The first unit, which the step begins with, before them.
    if (kv_fetches_.empty() && (link.unit != kNoUnit || link.op == StepOp::kRopeAppend)) {
      while (kv_fetches_.size() < std::min(kKvSlots, plan_.kv_spilled_layers)) add_kv_fetch();
    }
    if (link.op == StepOp::kRopeAppend && is_spilled(link.argument)) after.push_back(kv_fetches_[kv_number(link.argument)]);
    const NodeId node = graph_.add(link.lane, static_cast<uint16_t>(link.op), link.argument, link.operands, after);
    nodes_[i] = node;
    if (link.op == StepOp::kAttention && is_spilled(link.argument)) {
      add_disk(StepOp::kStoreKv, link.argument, node);
      if (kv_fetches_.size() < plan_.kv_spilled_layers) add_kv_fetch();
    }
    if (link.unit != kNoUnit && ring_of(link.lane).is_last_use(link.unit, i)) ring_of(link.lane).release(graph_, link.unit, node);
  }

  NodeId add_disk(StepOp op, uint32_t argument, NodeId after) {
    return graph_.add(Lane::kDisk, static_cast<uint16_t>(op), argument, {}, {&after, 1});
  }

  bool is_spilled(uint32_t layer) const { return is_kv_spilled(layout_.config.layers, plan_.kv_spilled_layers, layer); }
  uint32_t kv_number(uint32_t layer) const { return kv_spilled_before(layout_.config.layers, plan_.kv_spilled_layers, layer); }

  // Of the next spilled layer. What its slot held before was stored, on the same lane.
  void add_kv_fetch() {
    const uint32_t layer = kv_spilled_layer(layout_.config.layers, plan_.kv_spilled_layers, static_cast<uint32_t>(kv_fetches_.size()));
    kv_fetches_.push_back(graph_.add(Lane::kDisk, static_cast<uint16_t>(StepOp::kFetchKv), layer));
  }

  const ModelLayout& layout_;
  const Plan& plan_;
  const TensorResidency& residency_;
  const StepGraphOptions options_;
  RingNodes ring_;
  std::optional<RingNodes> link_;
  Lane side_ = Lane::kHost;
  bool has_angles_ = false;          // the device has them
  bool is_device_at_work_ = false;   // it was given the step's first residual
  std::vector<ChainNode> chain_;
  TaskGraph graph_;
  std::vector<NodeId> nodes_;        // of the chain
  std::vector<NodeId> kv_fetches_;   // by number of the spilled layer
};

}  // namespace

Result<TaskGraph> build_step_graph(const ModelLayout& layout, const Plan& plan, const TensorResidency& residency,
                                   const StepGraphOptions& options) {
  return StepGraphBuilder(layout, plan, residency, options).build();
}

}  // namespace outrigger
