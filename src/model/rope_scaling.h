// RopeScaling: how a model stretches RoPE beyond the context it was first trained for.
#ifndef OUTRIGGER_SRC_MODEL_ROPE_SCALING_H_
#define OUTRIGGER_SRC_MODEL_ROPE_SCALING_H_

#include <outrigger/status.h>

#include <cstdint>
#include <vector>

#include "src/model/config_reader.h"

namespace outrigger {

enum class RopeScalingKind : uint8_t {
  kNone,
  kLinear,  ///< every frequency is divided by the factor
  kLlama3,  ///< low frequencies are, high ones are not, between them a blend by wavelength
  kYarn,    ///< the same by index of the frequency, and cosines and sines grow a little
};

struct RopeScaling {
  RopeScalingKind kind = RopeScalingKind::kNone;
  double factor = 1;                                ///< > 0
  double original_context_tokens = 0;               ///< llama3, yarn: > 0
  double low_freq_factor = 1, high_freq_factor = 4; ///< llama3: low < high
  double beta_fast = 32, beta_slow = 1;             ///< yarn: turns within the original context at the ramp's two ends
  double magnitude = 1;                             ///< cosines and sines are multiplied by it
};

/// Reads rope.scaling.*. `base` is the frequencies' base, `rope_dim` the elements of a head that turn, `context_tokens` what the model was
/// trained for: the original context where the file states none.
/// Keys: type ("none", "linear", "yarn" as in GGUF files, and "llama3", which there is a tensor instead), factor, original_context_length,
/// low_freq_factor, high_freq_factor, yarn_beta_fast, yarn_beta_slow, yarn_attn_factor (replaces yarn's own magnitude, as attention_factor
/// does in transformers), attn_factor (multiplies the magnitude). A factor without a type is linear, and so is the older rope.scale_linear.
/// Errors: kCorruptFile for numbers that mean nothing, with the key; kUnsupported for any other type, by name.
Result<RopeScaling> read_rope_scaling(const ConfigReader& reader, double base, uint32_t rope_dim, uint64_t context_tokens);

/// What frequency i of rope_dim / 2, base^(-2i / rope_dim), is divided by. Precondition: as read_rope_scaling returns it.
/// @source Chen et al. 2023 (arXiv 2306.15595): linear; Peng et al. 2023 (arXiv 2309.00071), section 3: yarn; Llama 3.1's published
/// settings: llama3. Where texts differ in details, this is what transformers computes.
std::vector<double> rope_divisors(const RopeScaling& scaling, double base, uint32_t rope_dim);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_ROPE_SCALING_H_
