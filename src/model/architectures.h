// What sets one architecture of the llama family apart from another: a row of a table, which config, layout and the runner read.
#ifndef OUTRIGGER_SRC_MODEL_ARCHITECTURES_H_
#define OUTRIGGER_SRC_MODEL_ARCHITECTURES_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "src/kernels/rope.h"

namespace outrigger {

/// Whether files of an architecture hold a tensor. With kIfPresent the first layer decides for all.
enum class Presence : uint8_t { kNever, kIfPresent, kAlways };

/// All of them: RMSNorm, RoPE, grouped-query attention, SwiGLU; sizes are in the file. Experts' weights are a softmax over all of a
/// layer's.
struct ArchitectureTraits {
  std::string_view name;    ///< general.architecture
  std::string_view models;  ///< for people
  RopeStyle rope_style;     ///< of the rows of q and k in GGUF files
  Presence qkv_bias;        ///< attn_q.bias, attn_k.bias, attn_v.bias
  Presence output_bias;     ///< attn_output.bias
  Presence ffn_bias;        ///< ffn_gate.bias, ffn_up.bias, ffn_down.bias
  bool query_key_norm;      ///< RMSNorm of each head of q and k before RoPE: attn_q_norm, attn_k_norm [head_dim]
  Presence experts = Presence::kNever;      ///< a mixture of experts in every layer instead of one gate, up and down; expert_count decides
  bool normalises_expert_weights = false;   ///< where the file does not say: the weights of the selected experts are divided by their sum
  /// Of a mixture: one more expert for every token, times sigmoid(dot(input, ffn_gate_inp_shexp))
  bool shared_expert = false;
};

/// Null for one this version does not compute. The traits live as long as the program.
const ArchitectureTraits* find_architecture(std::string_view name);

/// "llama, qwen2, qwen2moe, qwen3 and qwen3moe": what error texts list.
std::string known_architectures();

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_ARCHITECTURES_H_
