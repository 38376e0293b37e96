// HfExperts: settings and names of the two ways that families write them.
#include "src/model/hf_experts.h"

#include <charconv>
#include <iterator>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/model/config_limits.h"
#include "src/model/hf_fields.h"

namespace outrigger {
namespace {

struct Name {
  std::string_view mixtral, others, ours;
};

constexpr Name kPrefix = {"block_sparse_moe.experts.", "mlp.experts.", ""};
constexpr Name kParts[] = {{"w1.weight", "gate_proj.weight", "ffn_gate_exps."},
                           {"w3.weight", "up_proj.weight", "ffn_up_exps."},
                           {"w2.weight", "down_proj.weight", "ffn_down_exps."}};
constexpr Name kOfLayer[] = {
    {"block_sparse_moe.gate.weight", "mlp.gate.weight", "ffn_gate_inp.weight"},
    {"", "mlp.shared_expert_gate.weight", "ffn_gate_inp_shexp.weight"},
    {"", "mlp.shared_expert.gate_proj.weight", "ffn_gate_shexp.weight"},
    {"", "mlp.shared_expert.up_proj.weight", "ffn_up_shexp.weight"},
    {"", "mlp.shared_expert.down_proj.weight", "ffn_down_shexp.weight"},
};

bool is_mixtral(std::string_view architecture) { return architecture == "llama"; }

std::string_view of(const Name& name, std::string_view architecture) { return is_mixtral(architecture) ? name.mixtral : name.others; }

// transformers 5 writes Qwen3's "num_experts" as "num_local_experts", the way that Mixtral has it always.
Status read_count(const HfFields& fields, HfExperts& experts) {
  experts.counted_by = fields.find("num_experts") ? "num_experts" : "num_local_experts";
  OTR_ASSIGN(experts.count, fields.size(experts.counted_by, 1, UINT32_MAX));
  OTR_ASSIGN(const uint64_t other, fields.size_or("num_local_experts", experts.count, 1, UINT32_MAX));
  if (other == experts.count) return {};
  return fields.find("num_local_experts")->wrong("num_local_experts", formatted("num_experts, {}, or nothing", experts.count));
}

Status refuse_dense_layers(const HfFields& fields, HfExperts& experts) {
  OTR_ASSIGN(const uint64_t step, fields.size_or("decoder_sparse_step", 1, 1, UINT32_MAX));
  if (step != 1) {
    experts.cannot_run =
        fields.find("decoder_sparse_step")
            ->error(StatusCode::kUnsupported, "decoder_sparse_step",
                    formatted("experts in one of {} layers are not computed by this version; in every layer they are", step));
  }
  const std::optional<JsonValue> dense = fields.find("mlp_only_layers");
  if (!dense) return {};
  if (dense->kind() != JsonKind::kArray) return dense->wrong("mlp_only_layers", "an array of layers");
  return dense->each_item([&](JsonValue layer) -> Status {
    if (!layer.whole()) return layer.wrong("mlp_only_layers", "an array of layers");
    if (experts.cannot_run.is_ok())
      experts.cannot_run = layer.error(StatusCode::kUnsupported, "mlp_only_layers",
                                       "layers without experts are not computed by this version where others have them");
    return {};
  });
}

}  // namespace

Result<HfExperts> read_hf_experts(JsonValue root, std::string_view architecture) {
  const HfFields fields(root);
  HfExperts experts;
  OTR_TRY(read_count(fields, experts));
  OTR_ASSIGN(experts.used, fields.size("num_experts_per_tok", 1, experts.count));
  if (is_mixtral(architecture)) return experts;
  OTR_ASSIGN(experts.width, fields.size("moe_intermediate_size", 1, kMostFfnWidth));
  if (architecture == "qwen2moe") {
    OTR_ASSIGN(experts.shared_width, fields.size("shared_expert_intermediate_size", 1, kMostFfnWidth));
  }
  OTR_ASSIGN(experts.normalises, fields.flag_or("norm_topk_prob", false));
  OTR_TRY(refuse_dense_layers(fields, experts));
  return experts;
}

void add_hf_experts(const HfExperts& experts, std::string_view architecture, GgufHeader* header) {
  const auto add = [&](const char* name, uint64_t value) {
    if (value != 0) header->add_u32(formatted("{}.expert_{}", architecture, name), static_cast<uint32_t>(value));
  };
  add("count", experts.count);
  add("used_count", experts.used);
  add("feed_forward_length", experts.width);
  add("shared_feed_forward_length", experts.shared_width);
  if (experts.normalises) header->add_bool(formatted("{}.expert_weights_norm", architecture), *experts.normalises);
}

std::optional<std::string_view> behind_number(std::string_view name, std::string_view prefix, uint64_t* number) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  const auto [end, problem] = std::from_chars(name.data(), name.data() + name.size(), *number);
  const auto digits = static_cast<size_t>(end - name.data());
  if (problem != std::errc() || digits == name.size() || *end != '.' || (name[0] == '0' && digits > 1)) return std::nullopt;
  return name.substr(digits + 1);
}

std::optional<std::string> gguf_mixture_name(std::string_view theirs, std::string_view architecture) {
  for (const Name& name : kOfLayer) {
    if (!theirs.empty() && theirs == of(name, architecture)) return std::string(name.ours);
  }
  uint64_t expert = 0;
  const std::optional<std::string_view> matrix = behind_number(theirs, of(kPrefix, architecture), &expert);
  for (const Name& part : kParts) {
    if (matrix && *matrix == of(part, architecture)) return formatted("{}{}.weight", part.ours, expert);
  }
  return std::nullopt;
}

std::optional<std::string> hf_mixture_name(std::string_view ours, std::string_view architecture) {
  for (const Name& name : kOfLayer) {
    if (ours == name.ours && !of(name, architecture).empty()) return std::string(of(name, architecture));
  }
  const std::optional<HfExpertPart> found = expert_part(ours);
  if (!found) return std::nullopt;
  return formatted("{}{}.{}", of(kPrefix, architecture), found->expert, of(kParts[found->part], architecture));
}

std::optional<HfExpertPart> expert_part(std::string_view ours) {
  HfExpertPart found = {0, 0};
  for (; found.part < std::size(kParts); ++found.part) {
    const std::optional<std::string_view> rest = behind_number(ours, kParts[found.part].ours, &found.expert);
    if (rest && *rest == "weight") return found;
  }
  return std::nullopt;
}

bool is_fused_experts(std::string_view theirs) { return theirs == "mlp.experts.gate_up_proj" || theirs == "mlp.experts.down_proj"; }

}  // namespace outrigger
