// Reads and checks a model's sizes and constants.
#include "src/model/config.h"

#include <algorithm>
#include <cmath>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/model/config_limits.h"
#include "src/model/config_reader.h"

namespace outrigger {
namespace {

constexpr uint64_t kMostExperts = 4096;    // what a router's scores take of a step's scratch grows with it
constexpr uint64_t kMostUsedExperts = 64;  // the largest in use are 10

Status read_attention(const ConfigReader& reader, ModelConfig& config) {
  OTR_ASSIGN(const uint64_t heads, reader.size("attention.head_count", 1, kMostHeads));
  OTR_ASSIGN(const uint64_t kv_heads, reader.size_or("attention.head_count_kv", heads, 1, kMostHeads));
  if (heads % kv_heads != 0)
    return reader.bad("attention.head_count_kv", formatted("{}", kv_heads), formatted("a divisor of {} heads", heads));
  if (reader.find("attention.key_length") == nullptr && config.width % heads != 0) {
    return reader.bad("attention.head_count", formatted("{}", heads), formatted("a divisor of the width, {}", config.width));
  }
  OTR_ASSIGN(const uint64_t head_dim, reader.size_or("attention.key_length", std::max<uint64_t>(1, config.width / heads), 1, kMostHeadDim));
  OTR_ASSIGN(const uint64_t value_dim, reader.size_or("attention.value_length", head_dim, 1, kMostHeadDim));
  if (value_dim != head_dim) {
    return Status(StatusCode::kUnsupported,
                  formatted("keys of {} and values of {} elements: this version needs them equal", head_dim, value_dim));
  }
  if (head_dim > kMostHeadDim)
    return reader.bad("attention.head_count", formatted("heads of {} elements", head_dim), formatted("at most {}", kMostHeadDim));
  config.heads = static_cast<uint32_t>(heads);
  config.kv_heads = static_cast<uint32_t>(kv_heads);
  config.head_dim = static_cast<uint32_t>(head_dim);
  return {};
}

// How other families choose and weigh experts, and layers that go without.
Status refuse_other_mixtures(const ConfigReader& reader, const ArchitectureTraits& traits) {
  for (const char* name : {"expert_group_count", "expert_group_used_count", "moe_every_n_layers", "interleave_moe_layer_step"}) {
    OTR_TRY(reader.at_most(name, 1));
  }
  OTR_TRY(reader.at_most("leading_dense_block_count", 0));
  OTR_TRY(reader.only("expert_gating_func", 1));  // softmax
  OTR_TRY(reader.only("expert_shared_count", traits.shared_expert ? 1 : 0));
  const GgufValue* scale = reader.find("expert_weights_scale");
  if (scale == nullptr) return {};
  OTR_ASSIGN(const double factor, scale->as_f64());
  return factor == 0 ? Status() : reader.only("expert_weights_scale", 1);  // 0 is how files say that there is none
}

Status read_experts(const ConfigReader& reader, ModelConfig& config) {
  const ArchitectureTraits& traits = *config.traits;
  const bool needed = traits.experts == Presence::kAlways;
  OTR_ASSIGN(const uint64_t experts,
             needed ? reader.size("expert_count", 1, UINT32_MAX) : reader.size_or("expert_count", 0, 0, UINT32_MAX));
  if (experts == 0) return {};
  if (traits.experts == Presence::kNever) {
    return reader.unsupported("expert_count",
                              formatted("a mixture of {} experts in \"{}\" is not computed by this version", experts, config.architecture));
  }
  if (experts > kMostExperts) {
    return reader.unsupported("expert_count",
                              formatted("a mixture of {} experts is not computed by this version (at most {} are)", experts, kMostExperts));
  }
  OTR_ASSIGN(const uint64_t used, reader.size("expert_used_count", 1, experts));
  if (used > kMostUsedExperts) {
    return reader.unsupported("expert_used_count",
                              formatted("{} experts a token are not computed by this version (at most {} are)", used, kMostUsedExperts));
  }
  OTR_TRY(refuse_other_mixtures(reader, traits));
  config.experts = static_cast<uint32_t>(experts);
  config.used_experts = static_cast<uint32_t>(used);
  OTR_ASSIGN(config.normalise_expert_weights, reader.flag_or("expert_weights_norm", traits.normalises_expert_weights));
  return {};
}

// feed_forward_length stands for whatever width has no key of its own.
Status read_feed_forward(const ConfigReader& reader, ModelConfig& config) {
  OTR_TRY(read_experts(reader, config));
  const bool has_shared = config.experts > 0 && config.traits->shared_expert;
  const bool needed = config.experts == 0 || reader.find("expert_feed_forward_length") == nullptr ||
                      (has_shared && reader.find("expert_shared_feed_forward_length") == nullptr);
  if (needed || reader.find("feed_forward_length") != nullptr) {
    OTR_ASSIGN(config.ffn_width, reader.size("feed_forward_length", needed ? 1 : 0, kMostFfnWidth));
  }
  if (config.experts == 0) return {};
  OTR_ASSIGN(config.expert_ffn_width, reader.size_or("expert_feed_forward_length", config.ffn_width, 1, kMostFfnWidth));
  if (!has_shared) return reader.at_most("expert_shared_feed_forward_length", 0);
  OTR_ASSIGN(config.shared_ffn_width, reader.size_or("expert_shared_feed_forward_length", config.ffn_width, 1, kMostFfnWidth));
  return {};
}

Status read_rope(const ConfigReader& reader, ModelConfig& config) {
  OTR_ASSIGN(const uint64_t rope_dim, reader.size_or("rope.dimension_count", config.head_dim, 2, config.head_dim));
  if (rope_dim % 2 != 0) return reader.bad("rope.dimension_count", formatted("{}", rope_dim), "an even number");
  config.rope_dim = static_cast<uint32_t>(rope_dim);
  OTR_ASSIGN(config.rope_base, reader.positive_or("rope.freq_base", 10000));
  OTR_ASSIGN(config.rope_scaling, read_rope_scaling(reader, config.rope_base, config.rope_dim, config.context_tokens));
  config.rope_style = config.traits->rope_style;
  OTR_ASSIGN(const bool halves, reader.flag_or("rope.halves", false));
  if (halves) config.rope_style = RopeStyle::kHalves;
  return {};
}

}  // namespace

Result<ModelConfig> read_config(const GgufFile& file) {
  ModelConfig config;
  OTR_ASSIGN(const GgufValue* architecture, file.require("general.architecture"));
  OTR_ASSIGN(const std::string_view name, architecture->as_string());
  config.architecture = std::string(name);
  config.traits = find_architecture(name);
  if (config.traits == nullptr) {
    return Status(StatusCode::kUnsupported,
                  formatted("architecture \"{}\" is not computed by this version ({} are)", name, known_architectures()))
        .in_file(file.source().name());
  }
  const ConfigReader reader(file, config.architecture);

  OTR_ASSIGN(const uint64_t layers, reader.size("block_count", 1, kMostLayers));
  config.layers = static_cast<uint32_t>(layers);
  OTR_ASSIGN(config.width, reader.size("embedding_length", 1, kMostWidth));
  OTR_TRY(read_feed_forward(reader, config));
  OTR_ASSIGN(config.context_tokens, reader.size("context_length", 1, kMostContext));
  OTR_TRY(read_attention(reader, config));
  OTR_ASSIGN(config.window_tokens, reader.size_or("attention.sliding_window", 0, 0, UINT32_MAX));
  OTR_TRY(read_rope(reader, config));
  OTR_ASSIGN(const double epsilon, reader.positive("attention.layer_norm_rms_epsilon"));
  config.norm_epsilon = static_cast<float>(epsilon);
  if (!(config.norm_epsilon > 0))
    return reader.bad("attention.layer_norm_rms_epsilon", formatted("{}", epsilon), "a number that float32 holds");
  return config;
}

}  // namespace outrigger
