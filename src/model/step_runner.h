// StepRunner: computes the nodes of a step's graph with the CPU kernels.
#ifndef OUTRIGGER_SRC_MODEL_STEP_RUNNER_H_
#define OUTRIGGER_SRC_MODEL_STEP_RUNNER_H_

#include <outrigger/engine.h>
#include <outrigger/status.h>
#include <outrigger/tokenizer.h>

#include <cstdint>
#include <span>
#include <vector>

#include "src/base/thread_team.h"
#include "src/graph/executor.h"
#include "src/graph/tracer.h"
#include "src/memory/residency.h"
#include "src/model/device_runner.h"
#include "src/model/handoff.h"
#include "src/model/layout.h"
#include "src/model/rope_angles.h"
#include "src/model/step_args.h"
#include "src/model/step_buffers.h"
#include "src/model/step_graph.h"

namespace outrigger {

/// A member's part of some items.
struct Share {
  size_t begin = 0, end = 0;
};
inline Share share_of(const TeamMember& member, size_t items) {
  Share share;
  member.share(items, 1, &share.begin, &share.end);
  return share;
}

/// Owns nothing but views. One step at a time.
class StepRunner final : public NodeRunner {
 public:
  /// `fixed` is the residency's fixed memory, filled with the layout's fixed tensors. All references must outlive the runner.
  /// `in_memory`: where all is that products name, whatever the residency streams; null: products are the residency's.
  StepRunner(const ModelLayout& layout, TensorResidency& residency, ThreadTeam& team, const StepBuffers& buffers, const float* fixed,
             Numerics numerics, const OperandSource* in_memory = nullptr);

  /// Sets what the next graph run computes, in as many waves of experts as the graph has. Preconditions as in StepInput.
  /// `cancel` is looked at between units that stream; it must outlive the run.
  void begin(const StepInput& input, uint32_t expert_waves, const CancelToken& cancel);
  /// Logits [vocabulary] of the i-th of logit_tokens, after a run of the graph with logits; valid until the next run.
  std::span<const float> logits(size_t i) const;

  /// Where the nodes that run from now on are recorded; null: nowhere. Must outlive the runner.
  void trace_to(Tracer* tracer);
  /// Where the layout's residuals lie. Must outlive the runner.
  void read_residuals_from(const std::byte* residuals) { residuals_ = residuals; }
  /// Who runs the nodes of the device's lanes, and the handoff of graphs by words; null: there are none. Must outlive the runner.
  void run_device_with(DeviceRunner* device, Handoff* handoff) { device_ = device, handoff_ = handoff; }

  Status run_segment(const TaskGraph& graph, Lane lane, std::span<const NodeId> nodes) override;
  void give_up() noexcept override {
    if (handoff_ != nullptr) handoff_->close();
  }

 private:
  Status run_host_segment(const TaskGraph& graph, std::span<const NodeId> nodes);
  /// Of nodes that wait for others or ask them for more.
  Status run_caller_node(const TaskGraph& graph, NodeId id);
  // step_turns.cc: what the device sends, and what it is given, members each their share.
  Status take_over(const TaskNode& node);
  void give_residual(const TeamMember& member);
  void give_correction(const BranchWindow& window, const TeamMember& member);
  void trace_arrival(const TaskGraph& graph, NodeId id, const UnitTimes& times);
  Status run_disk_node(const TaskNode& node, NodeTrace& trace);
  /// A spilled layer's keys and values of every slice: `move` is KvCache::fetch or store.
  Status move_kv(uint32_t layer, Status (KvCache::*move)(uint32_t, uint32_t, uint32_t, uint64_t*) const, NodeTrace& trace) const;
  void run_node(const TaskGraph& graph, const TaskNode& node, const TeamMember& member);
  void embed(const TeamMember& member);
  void fill_angles(const TeamMember& member);
  void attention_norm(uint32_t layer, const TeamMember& member);
  void ffn_norm(uint32_t layer, const TeamMember& member);
  void norm(const float* weight, size_t begin, size_t end);
  void output_norm(const TeamMember& member);
  void norm_queries_and_keys(uint32_t layer, size_t begin, size_t end);
  void rope_and_append(uint32_t layer, const TeamMember& member);
  void attend(uint32_t layer, const TeamMember& member);
  void silu(uint64_t ffn_width, uint32_t down, const TeamMember& member);

  // step_products.cc: products of all tokens with a window's matrices, and what they are given.
  void product(const TaskGraph& graph, const TaskNode& node, const TeamMember& member);
  void begin_correction(const BranchWindow& window, const TeamMember& member);
  void branch_panels(const BranchWindow& window, const TeamMember& member);
  void fine_product(const MatmulArgs& args, size_t begin, size_t end) const;
  void unpack_and_multiply(const MatmulArgs& args, const OperandRef& operand, bool is_fine, const Share& blocks,
                           const TeamMember& member) const;
  /// Rows [begin, end) of `src` [tokens, width] into `panel`, as the window that begins with `matrix` asks; which it is: kFloat32 for none.
  Activations quantize(const float* src, std::byte* panel, uint32_t matrix, size_t tokens, size_t begin, size_t end);
  /// quantize() of rows of `normed`, into both panels if it is int8, for the windows that keep about 15 bits of their input.
  void quantize_finely(uint32_t matrix, size_t tokens, size_t begin, size_t end);

  // step_residuals.cc: of what matrices lost, the columns that matter to each token.
  struct ResidualOperand {
    DType type;
    const std::byte* columns;
    const float *norms, *means, *bias;
    float threshold;
  };
  bool adds_residual(uint32_t matrix) const { return input_.corrects(matrix) && layout_.residuals[matrix].file_bytes > 0; }
  /// Of a matrix, of a stack this expert's.
  ResidualOperand residual_operand(uint32_t matrix, uint32_t expert) const;
  void add_residuals(const BranchWindow& window, const TeamMember& member) const;
  void add_expert_residual(const ExpertUse& use, uint32_t matrix, const MatmulArgs& product, const Share& rows,
                           const TeamMember& member) const;
  template <typename ThresholdOf>
  void add_residual(const ResidualOperand& residual, const MatmulArgs& product, const Share& rows, const TeamMember& member,
                    const ThresholdOf& threshold_of) const;

  // step_experts.cc: a mixture's layers.
  void route_tokens(uint32_t layer, const TeamMember& member);
  void assign_rows(uint32_t layer);
  void fill_rows(uint32_t layer, const TeamMember& member);
  void guess_experts(uint32_t layer, const TeamMember& member);
  void compute_wave(const ExpertWave& wave, const TeamMember& member);
  void expert_product(uint32_t layer, const ExpertUse& use, uint32_t part, const TeamMember& member) const;
  void pack_and_multiply(const MatmulArgs& args, uint32_t layer, const ExpertUse& use, uint32_t part, const Share& blocks) const;
  void combine(uint32_t layer, const TeamMember& member);
  std::span<const ExpertUse> wave_uses(uint32_t wave) const;
  /// What the row's token takes of its result.
  float expert_weight(size_t row, uint32_t expert) const;
  std::byte* expert_panel(std::byte* panel, uint32_t matrix, uint32_t first_row) const;

  const ModelLayout& layout_;
  const ModelConfig& config_;
  TensorResidency& residency_;
  ThreadTeam& team_;
  const bool is_all_in_memory_;
  StepBuffers buffers_;
  const float* fixed_;
  const std::byte* residuals_ = nullptr;
  StepArgs args_;
  RopeAngles angles_;
  StepInput input_;
  const CancelToken* cancel_ = nullptr;
  uint32_t expert_waves_ = 1;
  uint32_t used_expert_count_ = 0;   ///< of the layer that was routed last
  Tracer* tracer_ = nullptr;
  int64_t disk_traced_ns_ = 0;       ///< until when the disk lane's track is full
  DeviceRunner* device_ = nullptr;
  Handoff* handoff_ = nullptr;
  Status failure_;                   ///< of the one thing on the host lane that can fail: reading an embedding row
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_STEP_RUNNER_H_
