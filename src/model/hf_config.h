// HfConfig: what config.json of a Hugging Face directory says, as the metadata of a GGUF file.
#ifndef OUTRIGGER_SRC_MODEL_HF_CONFIG_H_
#define OUTRIGGER_SRC_MODEL_HF_CONFIG_H_

#include <outrigger/status.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "src/io/gguf_header.h"
#include "src/io/json_text.h"

namespace outrigger {

/// What the other files are read by. The rest is in the header.
struct HfConfig {
  std::string architecture;  ///< GGUF's name: "llama" for mistral too; the model type itself where it is none of ours
  bool is_known = false;     ///< whether tensors have GGUF's names
  uint32_t layers = 0;
  uint64_t vocabulary = 0;      ///< 0: not known
  std::optional<bool> tied;     ///< nothing: the weights decide
  bool attention_bias = false;  ///< q, k, v and o have biases
  bool mlp_bias = false;        ///< gate, up and down have biases
  uint64_t experts = 0;         ///< of every layer; 0: dense
  std::string_view experts_key; ///< what says so
  Status cannot_run;            ///< the first thing that is not computed, if any
};

/// Adds "general.*" and "<architecture>.*" to the header. RoPE is marked as turning halves: the rows of q and k stay as they are.
/// Errors: kCorruptFile, naming the key, for a missing one, a wrong type, a number out of its range, or two keys that contradict each
/// other. What is well formed but not computed (quantised weights, another activation, another RoPE scaling) goes to cannot_run.
Result<HfConfig> read_hf_config(const JsonText& config, std::string_view name, GgufHeader* header);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_HF_CONFIG_H_
