// HfConfig: sizes, constants, and what is refused.
#include "src/model/hf_config.h"

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/printable.h"
#include "src/model/config_limits.h"
#include "src/model/hf_experts.h"
#include "src/model/hf_fields.h"
#include "src/model/hf_rope.h"

namespace outrigger {
namespace {

constexpr uint64_t kMostTokens = INT32_MAX;

struct Family {
  const char* model_type;
  const char* causal_lm;
  const char* architecture;          ///< GGUF's
  double rope_theta = 10000;         ///< of a configuration that does not mention it
  uint64_t sliding_window = 0;       ///< the same; 0: none
  bool all_layers_slide = false;     ///< whether a window is every layer's
  bool may_have_biases = false;      ///< whether attention_bias means something
  bool may_have_ffn_biases = false;  ///< and mlp_bias
  bool states_head_dim = false;      ///< the width is not shared among the heads
  bool has_experts = false;
};

constexpr Family kFamilies[] = {
    {.model_type = "llama", .causal_lm = "LlamaForCausalLM", .architecture = "llama", .may_have_biases = true, .may_have_ffn_biases = true},
    {.model_type = "mistral", .causal_lm = "MistralForCausalLM", .architecture = "llama", .sliding_window = 4096, .all_layers_slide = true},
    {.model_type = "mixtral",
     .causal_lm = "MixtralForCausalLM",
     .architecture = "llama",
     .rope_theta = 1000000,
     .all_layers_slide = true,
     .has_experts = true},
    {.model_type = "qwen2", .causal_lm = "Qwen2ForCausalLM", .architecture = "qwen2"},
    {.model_type = "qwen2_moe", .causal_lm = "Qwen2MoeForCausalLM", .architecture = "qwen2moe", .has_experts = true},
    {.model_type = "qwen3", .causal_lm = "Qwen3ForCausalLM", .architecture = "qwen3", .may_have_biases = true, .states_head_dim = true},
    {.model_type = "qwen3_moe",
     .causal_lm = "Qwen3MoeForCausalLM",
     .architecture = "qwen3moe",
     .may_have_biases = true,
     .has_experts = true},
};

class ConfigImporter {
 public:
  ConfigImporter(JsonValue root, GgufHeader& header) : fields_(root), header_(header) {}

  Result<HfConfig> import(std::string_view name) {
    OTR_TRY(find_family());
    header_.add_string("general.architecture", config_.architecture);
    header_.add_string("general.name", name);
    header_.add_u32("general.alignment", 1);
    if (family_ == nullptr) return std::move(config_);
    OTR_TRY(import_sizes());
    OTR_TRY(import_experts());
    OTR_TRY(import_heads());
    OTR_TRY(import_constants());
    OTR_TRY(import_sliding_window());
    OTR_TRY(refuse_variants());
    return std::move(config_);
  }

 private:
  std::string key(std::string_view name) const { return formatted("{}.{}", config_.architecture, name); }
  void add(std::string_view name, uint64_t value) { header_.add_u32(key(name), static_cast<uint32_t>(value)); }
  void refuse(const JsonValue& value, std::string subject, std::string message) {
    if (config_.cannot_run.is_ok()) config_.cannot_run = value.error(StatusCode::kUnsupported, std::move(subject), std::move(message));
  }

  Status find_family();
  Status import_sizes();
  Status import_experts();
  Status import_heads();
  Status import_constants();
  Status import_sliding_window();
  Status refuse_variants();

  const HfFields fields_;
  GgufHeader& header_;
  HfConfig config_;
  const Family* family_ = nullptr;
  uint64_t width_ = 0, context_ = 0, head_dim_ = 0;
};

// The model type says how the other keys are meant; the class in "architectures" says what the weights are of.
Status ConfigImporter::find_family() {
  OTR_ASSIGN(std::string type, fields_.text_or("model_type", ""));
  std::string made_by;
  if (const std::optional<JsonValue> classes = fields_.find("architectures")) {
    if (classes->kind() != JsonKind::kArray) return classes->wrong("architectures", "an array of class names");
    OTR_TRY(classes->each_item([&](JsonValue item) -> Status {
      const std::optional<std::string> name = item.string();
      if (!name) return item.wrong("architectures", "an array of class names");
      if (made_by.empty()) made_by = *name;
      return {};
    }));
  }
  for (const Family& family : kFamilies) {
    if (type.empty() ? made_by == family.causal_lm : type == family.model_type) family_ = &family;
  }
  if (family_ == nullptr) {
    if (type.empty() && made_by.empty()) return fields_.missing("model_type");
    config_.architecture = printable(type.empty() ? made_by : type);
    return {};
  }
  config_.architecture = family_->architecture;
  config_.is_known = true;
  if (!made_by.empty() && made_by != family_->causal_lm) {
    refuse(*fields_.find("architectures"), "architectures",
           formatted("{} is not computed by this version; {} is", printable(made_by), family_->causal_lm));
  }
  return {};
}

Status ConfigImporter::import_sizes() {
  OTR_ASSIGN(const uint64_t layers, fields_.size("num_hidden_layers", 1, kMostLayers));
  config_.layers = static_cast<uint32_t>(layers);
  add("block_count", layers);
  OTR_ASSIGN(width_, fields_.size("hidden_size", 1, kMostWidth));
  add("embedding_length", width_);
  // Where all layers have experts of a width of their own, nothing has this one.
  if (!(family_->has_experts && fields_.find("moe_intermediate_size")) || fields_.find("intermediate_size")) {
    OTR_ASSIGN(const uint64_t ffn_width, fields_.size("intermediate_size", 1, kMostFfnWidth));
    add("feed_forward_length", ffn_width);
  }
  OTR_ASSIGN(context_, fields_.size("max_position_embeddings", 1, kMostContext));
  add("context_length", context_);
  OTR_ASSIGN(config_.vocabulary, fields_.size("vocab_size", 1, kMostTokens));
  add("vocab_size", config_.vocabulary);
  if (fields_.find("tie_word_embeddings")) {
    OTR_ASSIGN(config_.tied, fields_.flag_or("tie_word_embeddings", false));
  }
  return {};
}

Status ConfigImporter::import_experts() {
  if (!family_->has_experts) return {};
  OTR_ASSIGN(const HfExperts experts, read_hf_experts(fields_.object(), config_.architecture));
  add_hf_experts(experts, config_.architecture, &header_);
  config_.experts = experts.count;
  config_.experts_key = experts.counted_by;
  if (config_.cannot_run.is_ok()) config_.cannot_run = experts.cannot_run;
  return {};
}

Status ConfigImporter::import_heads() {
  OTR_ASSIGN(const uint64_t heads, fields_.size("num_attention_heads", 1, kMostHeads));
  add("attention.head_count", heads);
  // Only llama's oldest files leave it out; the other families' defaults are sizes of one model.
  if (family_ != &kFamilies[0] && !fields_.find("num_key_value_heads")) return fields_.missing("num_key_value_heads");
  OTR_ASSIGN(const uint64_t kv_heads, fields_.size_or("num_key_value_heads", heads, 1, kMostHeads));
  if (heads % kv_heads != 0)
    return fields_.find("num_key_value_heads")->wrong("num_key_value_heads", formatted("a divisor of {} heads", heads));
  add("attention.head_count_kv", kv_heads);
  if (family_->states_head_dim && !fields_.find("head_dim")) return fields_.missing("head_dim");
  if (!fields_.find("head_dim") && width_ % heads != 0) {
    return fields_.find("num_attention_heads")->wrong("num_attention_heads", formatted("a divisor of hidden_size, {}", width_));
  }
  if (!fields_.find("head_dim") && width_ / heads > kMostHeadDim) {
    return fields_.find("num_attention_heads")->wrong("num_attention_heads", formatted("heads of at most {} elements", kMostHeadDim));
  }
  OTR_ASSIGN(head_dim_, fields_.size_or("head_dim", width_ / heads, 1, kMostHeadDim));
  if (head_dim_ % 2 != 0)
    return (fields_.find("head_dim") ? fields_.find("head_dim") : fields_.find("num_attention_heads"))
        ->wrong("head_dim", "an even number of elements in a head");
  for (const char* name : {"attention.key_length", "attention.value_length", "rope.dimension_count"}) add(name, head_dim_);
  return {};
}

Status ConfigImporter::import_constants() {
  OTR_ASSIGN(const double epsilon, fields_.positive("rms_norm_eps"));
  if (!(static_cast<float>(epsilon) > 0) || epsilon > 1)
    return fields_.find("rms_norm_eps")->wrong("rms_norm_eps", "a positive number of at most 1 that float32 holds");
  header_.add_f64(key("attention.layer_norm_rms_epsilon"), epsilon);
  header_.add_bool(key("rope.halves"), true);
  OTR_ASSIGN(const HfRope rope, read_hf_rope(fields_.object(), context_, family_->rope_theta));
  add_hf_rope(rope, config_.architecture, &header_);
  if (config_.cannot_run.is_ok()) config_.cannot_run = rope.cannot_run;
  return {};
}

// Mistral's window is every layer's, and GGUF has a key for that. Qwen's is that of some layers, and 0 where none has one.
Status ConfigImporter::import_sliding_window() {
  OTR_ASSIGN(uint64_t window, fields_.size_or("sliding_window", 0, family_->all_layers_slide ? 1 : 0, kMostContext));
  if (family_->all_layers_slide) {
    if (!fields_.object().find("sliding_window")) window = family_->sliding_window;
    if (window != 0 && window < context_) add("attention.sliding_window", window);
    return {};
  }
  OTR_ASSIGN(bool slides, fields_.flag_or("use_sliding_window", false));
  if (const std::optional<JsonValue> types = fields_.find("layer_types"); types && types->kind() == JsonKind::kArray) {
    slides = false;
    OTR_TRY(types->each_item([&](JsonValue type) -> Status {
      slides = slides || !type.says("full_attention");
      return type.kind() == JsonKind::kString ? Status() : type.wrong("layer_types", "an array of strings");
    }));
  } else if (types) {
    return types->wrong("layer_types", "an array of strings");
  }
  if (slides && (window == 0 || window < context_)) {
    const char* subject = fields_.find("layer_types") ? "layer_types" : "use_sliding_window";
    refuse(*fields_.find(subject), subject, "layers that attend to a sliding window are not computed by this version");
  }
  return {};
}

Status ConfigImporter::refuse_variants() {
  if (const std::optional<JsonValue> quantised = fields_.find("quantization_config")) {
    const std::optional<JsonValue> method = quantised->find_value("quant_method");
    const std::string name = method ? method->string().value_or("") : "";
    refuse(*quantised, "quantization_config",
           formatted("weights quantised by \"{}\" cannot be run from a directory; F32, F16 and BF16 can", printable(name)));
  }
  OTR_ASSIGN(const std::string activation, fields_.text_or("hidden_act", "silu"));
  if (activation != "silu" && activation != "swish") {
    refuse(*fields_.find("hidden_act"), "hidden_act",
           formatted("the activation \"{}\" is not computed by this version; silu is", printable(activation)));
  }
  OTR_ASSIGN(const bool mlp_bias, fields_.flag_or("mlp_bias", false));
  config_.mlp_bias = mlp_bias && family_->may_have_ffn_biases;
  OTR_ASSIGN(const bool attention_bias, fields_.flag_or("attention_bias", false));
  config_.attention_bias = attention_bias && family_->may_have_biases;
  if (config_.architecture == "qwen2moe") {
    OTR_ASSIGN(const bool qkv_bias, fields_.flag_or("qkv_bias", true));
    if (!qkv_bias) refuse(*fields_.find("qkv_bias"), "qkv_bias", "q, k and v of qwen2_moe without biases are not computed by this version");
  }
  OTR_ASSIGN(const double share, fields_.positive_or("partial_rotary_factor", 1));
  if (share != 1)
    refuse(*fields_.find("partial_rotary_factor"), "partial_rotary_factor",
           "heads that RoPE turns in part are not computed by this version");
  return {};
}

}  // namespace

Result<HfConfig> read_hf_config(const JsonText& config, std::string_view name, GgufHeader* header) {
  return ConfigImporter(config.root(), *header).import(name);
}

}  // namespace outrigger
