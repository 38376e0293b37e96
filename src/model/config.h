// ModelConfig: a model's sizes and constants, read from the file's metadata and checked against each other.
#ifndef OUTRIGGER_SRC_MODEL_CONFIG_H_
#define OUTRIGGER_SRC_MODEL_CONFIG_H_

#include <outrigger/status.h>

#include <cstdint>
#include <string>

#include "src/io/gguf.h"
#include "src/kernels/rope.h"
#include "src/model/architectures.h"
#include "src/model/rope_scaling.h"

namespace outrigger {

/// RMSNorm, RoPE, grouped-query attention, SwiGLU; what differs beyond sizes is in the traits. Every field is within the limits of
/// read_config.
struct ModelConfig {
  std::string architecture;
  const ArchitectureTraits* traits = nullptr;  ///< the architecture's row of the table
  uint32_t layers = 0;
  uint32_t heads = 0, kv_heads = 0;  ///< kv_heads divides heads
  uint32_t head_dim = 0;
  uint64_t width = 0;                ///< of the residual stream
  uint64_t ffn_width = 0;            ///< of a dense model. 0 is possible where experts > 0
  uint32_t experts = 0;              ///< of every layer; 0: dense
  uint32_t used_experts = 0;         ///< by a token in a layer: 1 to experts
  uint64_t expert_ffn_width = 0;
  uint64_t shared_ffn_width = 0;     ///< of the expert that serves every token; 0: there is none
  bool normalise_expert_weights = false;  ///< the used experts' softmax weights are divided by their sum
  uint64_t context_tokens = 0;       ///< trained for
  uint64_t window_tokens = 0;        ///< how far attention looks back, the token itself included; 0: over everything
  uint32_t rope_dim = 0;             ///< elements of a head that turn; even
  RopeStyle rope_style = RopeStyle::kInterleaved;
  double rope_base = 10000;
  RopeScaling rope_scaling;
  float norm_epsilon = 1e-5f;

  uint64_t attention_width() const { return uint64_t{heads} * head_dim; }
  uint64_t kv_width() const { return uint64_t{kv_heads} * head_dim; }
};

/// Keys are those of GGUF files, and "<architecture>.rope.halves", a bool: true if the rows of q and k stand as Hugging Face stores them,
/// so that pairs are halves of a head whatever the architecture's own style.
/// Errors: kCorruptFile, naming the key, its value and its limits; kUnsupported for an architecture that is not in the table, by name, or a
/// variant that is not computed yet (another RoPE scaling, another way to select experts or more of them, head counts that differ by
/// layer).
Result<ModelConfig> read_config(const GgufFile& file);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_CONFIG_H_
