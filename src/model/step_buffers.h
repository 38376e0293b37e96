// StepBuffers: where a step's activations lie in one arena.
#ifndef OUTRIGGER_SRC_MODEL_STEP_BUFFERS_H_
#define OUTRIGGER_SRC_MODEL_STEP_BUFFERS_H_

#include <cstddef>
#include <cstdint>

#include "src/kernels/activations.h"
#include "src/kernels/attention.h"
#include "src/memory/expert_pool.h"
#include "src/model/config.h"
#include "src/tensor/packed.h"

namespace outrigger {

/// The step sizes on offer to the planner, in tokens. 128 is where the matrix kernels reach their best rate; each one above halves the
/// times that weights stream during a long prompt.
inline constexpr uint32_t kStepTokens[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048};

/// What a model's weights ask of the buffers besides their widths: roundings of activations (float32 is always there), and room for
/// branches.
struct PanelKinds {
  bool has_int8 = false, has_bf16 = false;
  uint32_t most_components = 0;  ///< of a window's branches together, a multiple of 32
  uint64_t residual_columns = 0;  ///< of the widest matrix that has a sparse residual

  void add(PackedKind kind) {
    has_int8 |= takes_int8_activations(kind);
    has_bf16 |= takes_bf16_activations(kind);
  }
};

/// Tokens that share the reading of a residual's columns.
inline constexpr size_t kResidualTokens = 8;

/// Tokens of a step for which the next layer's experts are guessed one by one. In larger steps what is used is nearly everything or
/// unknown.
inline constexpr uint32_t kMostGuessedTokens = 8;

/// What a step does with experts. Only for mixtures. A row is a token in an expert: tokens * used_experts of them.
struct ExpertBuffers {
  float* rows = nullptr;           ///< [rows, width]: the experts' input, expert by expert; then their results
  std::byte* input_panel = nullptr;   ///< the input as int8 or bf16, a panel for each expert
  std::byte* down_panel = nullptr;    ///< the same of `gate`
  float* router_logits = nullptr;  ///< [tokens, experts]
  uint32_t* chosen = nullptr;      ///< [tokens, used_experts]
  float* weights = nullptr;        ///< [tokens, used_experts]
  uint32_t* row_of = nullptr;      ///< [tokens, used_experts]
  uint32_t* token_of = nullptr;    ///< [rows]
  ExpertUse* uses = nullptr;       ///< [experts]: those that are used, in the order of their rows
  uint32_t* counts = nullptr;      ///< [experts]
  uint32_t* wave_ends = nullptr;   ///< [experts + 1]
  uint32_t* guesses = nullptr;     ///< [max(experts, kMostGuessedTokens * used_experts)]
};

/// Views into an arena of bytes(config, panels, tokens) + threads * StepShape::activation_bytes_per_thread + tokens * correction_row_bytes
/// + logit_rows * logits_row_bytes(vocabulary) bytes, in that order.
struct StepBuffers {
  float* residual = nullptr;   ///< [tokens, width]
  float* normed = nullptr;     ///< [tokens, width]: the input of the next window
  std::byte* panel = nullptr;  ///< the same as int8 or bf16, for whichever window is next
  std::byte* remainder_panel = nullptr;  ///< what the panel's rounding lost, for the inputs of v and the head
  float* qkv = nullptr;        ///< [tokens, attention_width + 2 * kv_width]
  float* attention = nullptr;  ///< [tokens, attention_width]; room for [tokens, width], since before attention it holds remainders
  /// [tokens, ffn_width]; SwiGLU's result too; of a mixture [rows, expert_ffn_width] and [tokens, shared_ffn_width]
  float* gate = nullptr;
  float* up = nullptr;         ///< the same
  float* components = nullptr; ///< of a window's branches: each one's [tokens, rank], one after the other
  std::byte* component_panel = nullptr;  ///< the same as int8, a panel for each branch
  float* cos_sin = nullptr;    ///< [tokens, rope_dim / 2, 2]
  TokenTree* tree = nullptr;   ///< the step's, for a device that computes attention
  std::byte* scratch = nullptr;///< [threads], attention_scratch_bytes apart
  std::byte* residual_scratch = nullptr;  ///< [threads], residual_scratch_bytes apart
  /// On a device, what the host corrects: the results of a window, matrix by matrix as far as these have buffers of their own
  float* corrections = nullptr;
  float* logits = nullptr;     ///< [logit_rows, vocabulary], logits_row_bytes apart
  ExpertBuffers experts;

  /// Bytes for steps of up to `tokens`: a multiple of 64.
  static uint64_t bytes(const ModelConfig& config, PanelKinds panels, uint32_t tokens);
  static uint64_t logits_row_bytes(uint64_t vocabulary);
  /// A thread's part of `residual_scratch`: of kResidualTokens tokens the input less its means, and the columns that are chosen.
  static uint64_t residual_scratch_bytes(PanelKinds panels);
  /// Where the panel of the branch whose first component is this begins in `component_panel`.
  static uint64_t component_panel_offset(size_t tokens, uint32_t first_component);
  /// Precondition: `arena` is 64-byte aligned and large enough.
  /// `correction_row_bytes`: StepShape's, where the host corrects what a device computes; a multiple of 64.
  static StepBuffers place(std::byte* arena, const ModelConfig& config, PanelKinds panels, uint32_t tokens, uint32_t threads,
                           uint64_t correction_row_bytes = 0);
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_STEP_BUFFERS_H_
