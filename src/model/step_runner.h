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

/// Owns nothing but views. One step at a time.
class StepRunner final : public NodeRunner {
 public:
  /// `fixed` is the residency's fixed memory, filled with the layout's fixed tensors. All references must outlive the runner.
  StepRunner(const ModelLayout& layout, TensorResidency& residency, ThreadTeam& team, const StepBuffers& buffers, const float* fixed, Numerics numerics);

  /// Sets what the next graph run computes. Preconditions as in StepInput.
  void begin(const StepInput& input) { input_ = input; }
  /// Logits [vocabulary] of the i-th of logit_tokens, after a run of the graph with logits; valid until the next run.
  std::span<const float> logits(size_t i) const;

  /// Where the nodes that run from now on are recorded; null: nowhere. Must outlive the runner.
  void trace_to(Tracer* tracer) { tracer_ = tracer; }

  Status run_segment(const TaskGraph& graph, Lane lane, std::span<const NodeId> nodes) override;

 private:
  void run_node(const TaskGraph& graph, const TaskNode& node, const TeamMember& member);
  void embed(const TeamMember& member);
  void fill_angles(const TeamMember& member);
  void attention_norm(uint32_t layer, const TeamMember& member);
  void ffn_norm(uint32_t layer, const TeamMember& member);
  void norm(const float* weight, size_t begin, size_t end);
  void output_norm(const TeamMember& member);
  void product(const TaskGraph& graph, const TaskNode& node, const TeamMember& member);
  void norm_queries_and_keys(uint32_t layer, size_t begin, size_t end);
  void rope_and_append(uint32_t layer, const TeamMember& member);
  void attend(uint32_t layer, const TeamMember& member);
  void silu(uint32_t layer, const TeamMember& member);
  /// What a matrix is multiplied with.
  enum class Activations : uint8_t { kFloat32, kBf16, kInt8 };

  /// The panel of rows [begin, end) of `src` for the window that begins with `matrix`, and which one it is: kFloat32 for none.
  Activations quantize(const float* src, uint32_t matrix, size_t tokens, size_t begin, size_t end);
  /// Whether this matrix is multiplied with both panels.
  bool is_fine(StepOp op, uint32_t layer, uint32_t matrix) const;
  /// quantize() of rows of `normed`, into both panels if it is int8, for the windows that keep about 15 bits of their input.
  void quantize_finely(uint32_t matrix, size_t tokens, size_t begin, size_t end);
  void fine_product(const MatmulArgs& args, size_t begin, size_t end) const;
  Activations activations_of(uint32_t matrix) const;

  const ModelLayout& layout_;
  const ModelConfig& config_;
  TensorResidency& residency_;
  ThreadTeam& team_;
  StepBuffers buffers_;
  const float* fixed_;
  Numerics numerics_;
  std::vector<double> frequencies_;  ///< [rope_dim / 2] radians per position
  StepInput input_;
  Tracer* tracer_ = nullptr;
  Status failure_;                   ///< of the one thing on the host lane that can fail: reading an embedding row
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_STEP_RUNNER_H_
