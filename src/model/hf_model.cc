// HfModel: joins configuration, tensors and tokenizer.
#include "src/model/hf_model.h"

#include <algorithm>
#include <utility>

#include "src/base/macros.h"
#include "src/io/gguf_header.h"
#include "src/model/hf_config.h"
#include "src/model/hf_tensors.h"
#include "src/model/hf_tokenizer.h"

namespace outrigger {
namespace {

constexpr const char* kConfig = "config.json";

struct KeyOrigin {
  std::string_view key;  ///< of the made header; of an architecture's, what stands behind its dot
  const char* file;
  const char* member;
};

constexpr KeyOrigin kOrigins[] = {
    {"general.architecture", kConfig, "model_type"},
    {"block_count", kConfig, "num_hidden_layers"},
    {"embedding_length", kConfig, "hidden_size"},
    {"feed_forward_length", kConfig, "intermediate_size"},
    {"llama.expert_count", kConfig, "num_local_experts"},
    {"expert_count", kConfig, "num_experts"},
    {"expert_used_count", kConfig, "num_experts_per_tok"},
    {"expert_feed_forward_length", kConfig, "moe_intermediate_size"},
    {"expert_shared_feed_forward_length", kConfig, "shared_expert_intermediate_size"},
    {"expert_weights_norm", kConfig, "norm_topk_prob"},
    {"context_length", kConfig, "max_position_embeddings"},
    {"attention.head_count", kConfig, "num_attention_heads"},
    {"attention.head_count_kv", kConfig, "num_key_value_heads"},
    {"attention.key_length", kConfig, "head_dim"},
    {"attention.value_length", kConfig, "head_dim"},
    {"attention.sliding_window", kConfig, "sliding_window"},
    {"attention.layer_norm_rms_epsilon", kConfig, "rms_norm_eps"},
    {"rope.dimension_count", kConfig, "head_dim"},
    {"rope.freq_base", kConfig, "rope_theta"},
    {"rope.scaling.type", kConfig, "rope_scaling.rope_type"},
    {"rope.scaling.factor", kConfig, "rope_scaling.factor"},
    {"rope.scaling.low_freq_factor", kConfig, "rope_scaling.low_freq_factor"},
    {"rope.scaling.high_freq_factor", kConfig, "rope_scaling.high_freq_factor"},
    {"rope.scaling.original_context_length", kConfig, "rope_scaling.original_max_position_embeddings"},
    {"rope.scaling.yarn_attn_factor", kConfig, "rope_scaling.attention_factor"},
    {"rope.scaling.yarn_beta_fast", kConfig, "rope_scaling.beta_fast"},
    {"rope.scaling.yarn_beta_slow", kConfig, "rope_scaling.beta_slow"},
    {"tokenizer.ggml.tokens", "tokenizer.json", "model.vocab"},
    {"tokenizer.ggml.token_type", "tokenizer.json", "added_tokens"},
    {"tokenizer.ggml.merges", "tokenizer.json", "model.merges"},
    {"tokenizer.chat_template", "tokenizer_config.json", "chat_template"},
};

}  // namespace

Result<HfModel> open_hf_model(const HfFolder& folder, DirectIo direct) {
  OTR_ASSIGN(const std::optional<JsonText> config_text, folder.read_json(kConfig, kHfMaxSettingsBytes));
  if (!config_text) {
    return Status(StatusCode::kIo, "is a directory without config.json; a model is a GGUF file or a Hugging Face directory")
        .in_file(folder.path());
  }
  GgufHeader header;
  OTR_ASSIGN(HfConfig config, read_hf_config(*config_text, folder.name(), &header));
  OTR_ASSIGN(const std::vector<SafetensorsFile> files, folder.open_weights(direct));
  OTR_ASSIGN(const std::vector<HfPlace> places, add_hf_tensors(files, *config_text, &config, &header));

  HfModel model;
  model.architecture = config.architecture;
  model.cannot_run = std::move(config.cannot_run);
  OTR_TRY(add_hf_tokenizer(folder, *config_text, config.vocabulary, &header, &model.no_tokenizer));
  std::vector<std::shared_ptr<const ByteSource>> sources;
  for (const SafetensorsFile& file : files) sources.push_back(file.source());
  model.source = std::make_shared<SplicedSource>(folder.path(), std::move(sources));
  const std::vector<uint64_t> begins = model.source->places(header.bytes());
  std::vector<uint64_t> offsets;
  offsets.reserve(places.size());
  for (const HfPlace& place : places) offsets.push_back(begins[place.file] + place.offset);
  model.source->set_header(header.finish(offsets));
  return model;
}

Status as_in_folder(Status status, const HfFolder& folder, std::string_view architecture) {
  if (status.is_ok() || status.file() != folder.path()) return status;
  const std::string subject = status.subject();
  if (const std::optional<std::string> tensor = hf_tensor_name(subject, architecture)) return std::move(status).about(*tensor).at_offset(0);
  const std::string_view behind_dot = std::string_view(subject).substr(subject.find('.') + 1);
  for (const KeyOrigin& origin : kOrigins) {
    if (subject == origin.key || behind_dot == origin.key)
      return std::move(status).about(origin.member).in_file(folder.path_of(origin.file)).at_offset(0);
  }
  return std::move(status).at_offset(0);  // a place in the made header means nothing to anyone
}

}  // namespace outrigger
