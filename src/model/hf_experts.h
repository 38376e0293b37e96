// HfExperts: mixtures of experts in a Hugging Face directory: what config.json says of them, and their tensors' names.
#ifndef OUTRIGGER_SRC_MODEL_HF_EXPERTS_H_
#define OUTRIGGER_SRC_MODEL_HF_EXPERTS_H_

#include <outrigger/status.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "src/io/gguf_header.h"
#include "src/io/json_text.h"

namespace outrigger {

struct HfExperts {
  uint64_t count = 0;              ///< of every layer; 0: dense
  std::string_view counted_by;     ///< the key of the count
  uint64_t used = 0;
  uint64_t width = 0;              ///< 0: that of the model's feed-forward
  uint64_t shared_width = 0;       ///< 0: no shared expert
  std::optional<bool> normalises;  ///< nothing: the family decides
  Status cannot_run;               ///< layers without experts
};

/// For the architectures of GGUF that may be mixtures. Precondition: `root` is an object. Errors: kCorruptFile, naming the key.
Result<HfExperts> read_hf_experts(JsonValue root, std::string_view architecture);

/// As "<architecture>.expert_*".
void add_hf_experts(const HfExperts& experts, std::string_view architecture, GgufHeader* header);

/// One matrix of one expert.
struct HfExpertPart {
  uint64_t expert;
  uint32_t part;  ///< 0 to 2: gate, up, down
};

/// "<prefix>N.<rest>" with N as it is printed; the rest, or nothing.
std::optional<std::string_view> behind_number(std::string_view name, std::string_view prefix, uint64_t* number);

/// Names of a mixture's tensors, without what names the layer: "block_sparse_moe.experts.3.w1.weight" (Mixtral, "llama") and
/// "mlp.experts.3.gate_proj.weight" (the others) are "ffn_gate_exps.3.weight". Nothing for other tensors. Experts of a directory lie
/// anywhere in its files, so that they do not become the stacks that GGUF files have, but one tensor each.
std::optional<std::string> gguf_mixture_name(std::string_view theirs, std::string_view architecture);
std::optional<std::string> hf_mixture_name(std::string_view ours, std::string_view architecture);
std::optional<HfExpertPart> expert_part(std::string_view ours);

/// Whether a tensor's name, without its layer, is that of all experts of a layer in one.
bool is_fused_experts(std::string_view theirs);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_MODEL_HF_EXPERTS_H_
