// StepArgs: what the kernels are given at each place of a step, whoever runs them.
#ifndef OUTRIGGER_SRC_MODEL_STEP_ARGS_H_
#define OUTRIGGER_SRC_MODEL_STEP_ARGS_H_

#include <outrigger/engine.h>
#include <outrigger/plan.h>
#include <outrigger/tokenizer.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "src/graph/operand.h"
#include "src/kernels/activations.h"
#include "src/kernels/append_kv.h"
#include "src/kernels/attention.h"
#include "src/kernels/matmul.h"
#include "src/kernels/rope.h"
#include "src/kernels/token_tree.h"
#include "src/model/kv_cache.h"
#include "src/model/layout.h"
#include "src/model/step_buffers.h"
#include "src/model/step_graph.h"

namespace outrigger {

/// Consecutive tokens of a step that belong to one session.
struct SequenceSlice {
  const KvCache* cache = nullptr;
  uint32_t first_position = 0;  ///< of the slice's first token, or of the tree's root; the cache holds everything before it
  uint32_t first_token = 0;     ///< index in StepInput::tokens
  uint32_t tokens = 0;
  /// Of which the slice has the tokens from `tree_begin` on, in order of their depth. null: each token follows the one before it.
  /// Precondition: where a device computes attention it is the step's only one.
  const TokenTree* tree = nullptr;
  uint32_t tree_begin = 0;

  /// Of the slice's i-th token: how many tokens it follows, and where in the cache its keys and values go.
  uint32_t position(uint32_t i) const {
    return first_position + (tree == nullptr ? i : static_cast<uint32_t>(tree->depth(tree_begin + i)));
  }
  uint32_t place(uint32_t i) const { return first_position + tree_begin + i; }
};

/// One step's input. Everything is borrowed until the step ends.
struct StepInput {
  std::span<const Token> tokens;               ///< ids inside the vocabulary; at most the plan's step_tokens
  std::span<const SequenceSlice> slices;       ///< cover the tokens in order
  std::span<const uint32_t> logit_tokens;      ///< ascending indices of tokens whose logits are wanted; at most the plan's logit_rows
  float branch_share = 1;                      ///< of each branch's components, the first ones: 0 for the bare weights, 1 for all
  bool by_stand_ins = false;                   ///< with copies of what streams, as a draft does: of up to kStandInTokens, with logits
  std::span<const TensorPlacement> placements; ///< the plan's, of which some may leave out corrections; empty: none does

  /// Whether the matrix's branch and residual are used at all.
  bool corrects(uint32_t matrix) const { return branch_share > 0 && (placements.empty() || placements[matrix].is_corrected); }
};

/// What a matrix is multiplied with.
enum class Activations : uint8_t { kFloat32, kBf16, kInt8 };

/// The window's matrices that have branches, and kNoMatrix in the other places.
std::array<uint32_t, 3> branched_matrices(const ModelLayout& layout, const BranchWindow& window);
/// The window's matrices, and kNoMatrix where it has fewer.
std::array<uint32_t, 3> window_matrices(const ModelLayout& layout, const BranchWindow& window);

/// Floats [tokens, width] of a window's results. null: there are none.
struct WindowResults {
  float* data = nullptr;
  uint64_t width = 0;
};

/// Addresses are those of the buffers and weights it was made with, the host's or a device's: nothing is touched here.
/// Threads: any, but for begin(). Allocates nothing.
class StepArgs {
 public:
  /// References must outlive it. `fixed` is where the layout's fixed tensors lie.
  StepArgs(const ModelLayout& layout, const OperandSource& weights, const StepBuffers& buffers, const float* fixed, Numerics numerics)
      : layout_(layout), config_(layout.config), weights_(weights), buffers_(buffers), fixed_(fixed), numerics_(numerics) {}

  void begin(const StepInput& input) { input_ = input; }
  const StepInput& input() const { return input_; }
  Numerics numerics() const { return numerics_; }
  const StepBuffers& buffers() const { return buffers_; }
  const float* fixed(uint64_t offset) const { return fixed_ + offset; }
  /// Tokens whose rows an operation works on.
  size_t tokens_of(StepOp op) const {
    return op == StepOp::kHead || op == StepOp::kOutputNorm ? input_.logit_tokens.size() : input_.tokens.size();
  }

  Activations activations_of(uint32_t matrix) const;
  /// Of the window that begins with `matrix`: what its panel holds; kFloat32 for no panel.
  Activations panel_of_window(uint32_t matrix) const;
  /// Whether this matrix is multiplied with both panels.
  bool is_fine(uint32_t matrix) const;

  /// Components of a matrix's branch that this step computes: a multiple of 32.
  uint32_t used_rank(uint32_t matrix) const;
  /// Of an operand's row blocks those that this step computes with: all, but for branches of which only a part is used.
  uint32_t used_blocks(const OperandRef& operand) const;

  /// `argument` as the node's.
  MatmulArgs product(StepOp op, uint32_t argument, const OperandRef& operand) const;
  /// What a window is given, [tokens, its matrices' columns].
  float* input_of(const BranchWindow& window) const;
  /// Where its results go, side by side or in buffers of their own.
  std::array<WindowResults, 2> results_of(const BranchWindow& window) const;
  /// Of a window's matrix, as product(), but for the weights, which may be elsewhere.
  MatmulArgs window_product(StepOp op, uint32_t layer, const OperandRef& operand) const;
  /// What makes the panel of a matrix's components. Precondition: it has a branch.
  QuantizeArgs components(uint32_t matrix) const;
  /// Of tokens [begin, end): queries and keys, which stand side by side.
  RopeArgs turning(size_t begin, size_t end) const;
  /// Of tokens [begin, end) of the step, which are the slice's.
  AppendKvArgs append(uint32_t layer, const SequenceSlice& slice, size_t begin, size_t end) const;
  AttentionArgs attention(uint32_t layer, const SequenceSlice& slice) const;

 private:

  const ModelLayout& layout_;
  const ModelConfig& config_;
  const OperandSource& weights_;
  const StepBuffers buffers_;
  const float* const fixed_;
  const Numerics numerics_;
  StepInput input_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_STEP_ARGS_H_
