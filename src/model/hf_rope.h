// HfRope: how a Hugging Face configuration states RoPE, in its old and its new form.
#ifndef OUTRIGGER_SRC_MODEL_HF_ROPE_H_
#define OUTRIGGER_SRC_MODEL_HF_ROPE_H_

#include <outrigger/status.h>

#include <cstdint>
#include <string>

#include "src/io/gguf_header.h"
#include "src/io/json_text.h"

namespace outrigger {

struct HfRope {
  std::string type = "default";
  double theta = 10000;
  double factor = 1;
  double low_frequency = 0, high_frequency = 0;  ///< llama3
  double attention_factor = 0;                   ///< yarn; 0: by the factor
  double beta_fast = 32, beta_slow = 1;          ///< yarn
  uint64_t original_context = 0;                 ///< llama3, yarn
  Status cannot_run;                             ///< a scaling that is not computed

  bool says_the_same(const HfRope& other) const;
};

/// Reads rope_theta with rope_scaling, or rope_parameters; where both are there they must say the same. Preconditions: `root` is an object,
/// `context` its max_position_embeddings. `theta` where it states none. Errors: kCorruptFile, naming the key.
Result<HfRope> read_hf_rope(JsonValue root, uint64_t context, double theta);

/// As "<architecture>.rope.*".
void add_hf_rope(const HfRope& rope, const std::string& architecture, GgufHeader* header);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_HF_ROPE_H_
