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
#include "src/kernels/matmul.h"
#include "src/memory/residency.h"
#include "src/model/kv_cache.h"
#include "src/model/layout.h"
#include "src/model/step_buffers.h"
#include "src/model/step_graph.h"

namespace outrigger {

/// Consecutive tokens of a step that belong to one session.
struct SequenceSlice {
  const KvCache* cache = nullptr;
  uint32_t first_position = 0;  ///< of the slice's first token; the cache holds everything before it
  uint32_t first_token = 0;     ///< index in StepInput::tokens
  uint32_t tokens = 0;
};

/// One step's input. Everything is borrowed until the step ends.
struct StepInput {
  std::span<const Token> tokens;               ///< ids inside the vocabulary; at most the plan's step_tokens
  std::span<const SequenceSlice> slices;       ///< cover the tokens in order
  std::span<const uint32_t> logit_tokens;      ///< ascending indices of tokens whose logits are wanted; at most the plan's logit_rows
};

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
  StepRunner(const ModelLayout& layout, TensorResidency& residency, ThreadTeam& team, const StepBuffers& buffers, const float* fixed, Numerics numerics);

  /// Sets what the next graph run computes, in as many waves of experts as the graph has. Preconditions as in StepInput.
  void begin(const StepInput& input, uint32_t expert_waves) { input_ = input, expert_waves_ = expert_waves; }
  /// Logits [vocabulary] of the i-th of logit_tokens, after a run of the graph with logits; valid until the next run.
  std::span<const float> logits(size_t i) const;

  /// Where the nodes that run from now on are recorded; null: nowhere. Must outlive the runner.
  void trace_to(Tracer* tracer) { tracer_ = tracer; }

  Status run_segment(const TaskGraph& graph, Lane lane, std::span<const NodeId> nodes) override;

 private:
  /// What a matrix is multiplied with.
  enum class Activations : uint8_t { kFloat32, kBf16, kInt8 };

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
  MatmulArgs product_args(StepOp op, uint32_t layer, const OperandRef& operand) const;
  void fine_product(const MatmulArgs& args, size_t begin, size_t end) const;
  size_t tokens_of(StepOp op) const { return op == StepOp::kHead ? input_.logit_tokens.size() : input_.tokens.size(); }
  Activations activations_of(uint32_t matrix) const;
  /// Rows [begin, end) of `src` [tokens, width] into `panel`, as the window that begins with `matrix` asks; which it is: kFloat32 for none.
  Activations quantize(const float* src, std::byte* panel, uint32_t matrix, size_t tokens, size_t begin, size_t end);
  /// Whether this matrix is multiplied with both panels.
  bool is_fine(StepOp op, uint32_t layer, uint32_t matrix) const;
  /// quantize() of rows of `normed`, into both panels if it is int8, for the windows that keep about 15 bits of their input.
  void quantize_finely(uint32_t matrix, size_t tokens, size_t begin, size_t end);

  // step_experts.cc: a mixture's layers.
  void route_tokens(uint32_t layer, const TeamMember& member);
  void assign_rows(uint32_t layer);
  void fill_rows(uint32_t layer, const TeamMember& member);
  void guess_experts(uint32_t layer, const TeamMember& member);
  void compute_wave(const ExpertWave& wave, const TeamMember& member);
  void expert_product(uint32_t layer, const ExpertUse& use, uint32_t part, const TeamMember& member) const;
  void combine(uint32_t layer, const TeamMember& member);
  std::span<const ExpertUse> wave_uses(uint32_t wave) const;
  std::byte* expert_panel(std::byte* panel, uint32_t matrix, uint32_t first_row) const;

  const ModelLayout& layout_;
  const ModelConfig& config_;
  TensorResidency& residency_;
  ThreadTeam& team_;
  StepBuffers buffers_;
  const float* fixed_;
  Numerics numerics_;
  std::vector<double> frequencies_;  ///< [rope_dim / 2] radians per position
  StepInput input_;
  uint32_t expert_waves_ = 1;
  uint32_t used_expert_count_ = 0;   ///< of the layer that was routed last
  Tracer* tracer_ = nullptr;
  Status failure_;                   ///< of the one thing on the host lane that can fail: reading an embedding row
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_STEP_RUNNER_H_
