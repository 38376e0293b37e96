// Tensors of a Hugging Face directory: names both ways, and what must be there.
#include "src/model/hf_tensors.h"

#include <algorithm>
#include <set>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/printable.h"
#include "src/model/hf_experts.h"

namespace outrigger {
namespace {

struct Name {
  std::string_view theirs, ours;
};

constexpr std::string_view kEmbedding = "model.embed_tokens.weight", kHead = "lm_head.weight";

constexpr Name kWhole[] = {{kEmbedding, "token_embd.weight"}, {"model.norm.weight", "output_norm.weight"}, {kHead, "output.weight"}};

constexpr std::string_view kTheirLayer = "model.layers.", kOurLayer = "blk.";

// Behind the layer's number.
constexpr Name kOfLayer[] = {
    {"input_layernorm.weight", "attn_norm.weight"},    {"self_attn.q_proj.weight", "attn_q.weight"},
    {"self_attn.k_proj.weight", "attn_k.weight"},      {"self_attn.v_proj.weight", "attn_v.weight"},
    {"self_attn.o_proj.weight", "attn_output.weight"}, {"self_attn.q_proj.bias", "attn_q.bias"},
    {"self_attn.k_proj.bias", "attn_k.bias"},          {"self_attn.v_proj.bias", "attn_v.bias"},
    {"self_attn.o_proj.bias", "attn_output.bias"},     {"self_attn.q_norm.weight", "attn_q_norm.weight"},
    {"self_attn.k_norm.weight", "attn_k_norm.weight"}, {"post_attention_layernorm.weight", "ffn_norm.weight"},
    {"mlp.gate_proj.weight", "ffn_gate.weight"},       {"mlp.up_proj.weight", "ffn_up.weight"},
    {"mlp.down_proj.weight", "ffn_down.weight"},       {"mlp.gate_proj.bias", "ffn_gate.bias"},
    {"mlp.up_proj.bias", "ffn_up.bias"},               {"mlp.down_proj.bias", "ffn_down.bias"},
};

// A matrix of one row there, a vector in GGUF files.
constexpr std::string_view kOneRow = ".ffn_gate_inp_shexp.weight";

// Computed from the configuration: llama files of 2023 store them, and no program reads them.
constexpr std::string_view kRedundant = "self_attn.rotary_emb.inv_freq";

std::optional<std::string> renamed(std::string_view name, std::string_view architecture, bool to_ours) {
  const auto from = [to_ours](const Name& pair) { return to_ours ? pair.theirs : pair.ours; };
  const auto to = [to_ours](const Name& pair) { return to_ours ? pair.ours : pair.theirs; };
  for (const Name& pair : kWhole) {
    if (name == from(pair)) return std::string(to(pair));
  }
  uint64_t layer = 0;
  const std::optional<std::string_view> rest = behind_number(name, to_ours ? kTheirLayer : kOurLayer, &layer);
  if (!rest) return std::nullopt;
  std::optional<std::string> part = to_ours ? gguf_mixture_name(*rest, architecture) : hf_mixture_name(*rest, architecture);
  for (const Name& pair : kOfLayer) {
    if (*rest == from(pair)) part = to(pair);
  }
  if (!part) return std::nullopt;
  return formatted("{}{}.{}", to_ours ? kOurLayer : kTheirLayer, layer, *part);
}

bool is_redundant(std::string_view name) {
  uint64_t layer = 0;
  return behind_number(name, kTheirLayer, &layer) == kRedundant;
}

bool is_fused(std::string_view name) {
  uint64_t layer = 0;
  const std::optional<std::string_view> rest = behind_number(name, kTheirLayer, &layer);
  return rest && is_fused_experts(*rest);
}

Status about_tensor(StatusCode code, const SafetensorsFile& file, const SafetensorsTensor& tensor, std::string message) {
  return Status(code, std::move(message)).in_file(file.source()->name()).about(printable(tensor.name)).at_offset(tensor.offset);
}

class TensorImporter {
 public:
  TensorImporter(const std::vector<SafetensorsFile>& files, JsonValue root, HfConfig& config, GgufHeader& header)
      : files_(files), root_(root), config_(config), header_(header) {}

  Result<std::vector<HfPlace>> import() {
    for (size_t i = 0; i < files_.size(); ++i) {
      for (const SafetensorsTensor& tensor : files_[i].tensors()) OTR_TRY(add(i, tensor));
    }
    if (config_.is_known) OTR_TRY(check_promises());
    return std::move(places_);
  }

 private:
  Status add(size_t file, const SafetensorsTensor& tensor);
  void refuse(size_t file, const SafetensorsTensor& tensor, std::string message) {
    if (config_.cannot_run.is_ok()) config_.cannot_run = about_tensor(StatusCode::kUnsupported, files_[file], tensor, std::move(message));
  }
  Status check_embedding(size_t file, const SafetensorsTensor& tensor) const;
  Status note_expert(size_t file, const SafetensorsTensor& tensor, std::string_view ours);
  Status check_experts();
  Status check_promises();
  Status check_layer(uint32_t layer) const;
  Status check_bias(const std::string& name, std::string_view key, bool is_announced) const;
  Status missing(const std::string& name, std::string_view key) const {
    return root_.error(StatusCode::kCorruptFile, name, formatted("tensor {} is in none of the files, though {} needs it", name, key));
  }

  const std::vector<SafetensorsFile>& files_;
  const JsonValue root_;
  HfConfig& config_;
  GgufHeader& header_;
  std::vector<HfPlace> places_;
  std::set<std::string, std::less<>> biases_;  ///< and the head, under their names
  std::vector<uint64_t> experts_;  ///< (layer x experts + expert) x 3 + part: one number each, because there may be a hundred thousand
  bool has_embedding_ = false;
  bool has_fused_experts_ = false;
};

Status TensorImporter::add(size_t file, const SafetensorsTensor& tensor) {
  const std::optional<std::string> name = config_.is_known ? renamed(tensor.name, config_.architecture, true) : tensor.name;
  if (config_.is_known && is_redundant(tensor.name)) return {};
  if (tensor.name == kHead && config_.tied.value_or(false)) return {};
  if (tensor.bytes == 0) return about_tensor(StatusCode::kCorruptFile, files_[file], tensor, "the tensor has no elements");
  const bool can_run = tensor.type == DType::kF32 || tensor.type == DType::kF16 || tensor.type == DType::kBF16;
  if (!can_run)
    refuse(file, tensor, formatted("weights of dtype {} cannot be run from a directory (F32, F16 and BF16 can)", tensor.dtype));
  if (config_.experts > 0 && is_fused(tensor.name)) {
    has_fused_experts_ = true;
    refuse(file, tensor,
           formatted("tensor {} holds all experts of a layer; split it into one for each expert, as directories of the Hub have them",
                     printable(tensor.name)));
  }
  if (!name)
    refuse(file, tensor, formatted("tensor {} has no place in the computation of \"{}\"", printable(tensor.name), config_.architecture));
  if (config_.is_known && tensor.name == kEmbedding) {
    OTR_TRY(check_embedding(file, tensor));
    has_embedding_ = true;
    if (!can_run) config_.vocabulary = 0;  // packed rows are too few bytes to vouch for a vocabulary of this size
  }
  if (tensor.name == kHead || tensor.name.ends_with(".bias")) biases_.insert(tensor.name);
  if (config_.experts > 0 && name) OTR_TRY(note_expert(file, tensor, *name));

  std::array<uint64_t, 4> dims = {1, 1, 1, 1};
  std::reverse_copy(tensor.dims.begin(), tensor.dims.begin() + tensor.rank, dims.begin());
  uint32_t rank = std::max<uint32_t>(tensor.rank, 1);
  if (rank == 2 && dims[1] == 1 && name && name->ends_with(kOneRow)) rank = 1;
  if (!tensor.type) return {};  // the header has no number for it
  header_.add_tensor(name.value_or(tensor.name), *tensor.type, std::span(dims).first(rank));
  places_.push_back({file, tensor.offset});
  return {};
}

Status TensorImporter::check_embedding(size_t file, const SafetensorsTensor& tensor) const {
  if (tensor.rank == 2 && tensor.dims[0] == config_.vocabulary) return {};
  return about_tensor(StatusCode::kCorruptFile, files_[file], tensor,
                      formatted("shape of {}: got [{}], need {} rows: the vocab_size of config.json", tensor.name,
                                joined(std::span(tensor.dims.data(), tensor.rank), ", "), config_.vocabulary));
}

// A layer beyond the last is the layout's to refuse, as for every tensor.
Status TensorImporter::note_expert(size_t file, const SafetensorsTensor& tensor, std::string_view ours) {
  uint64_t layer = 0;
  const std::optional<std::string_view> rest = behind_number(ours, kOurLayer, &layer);
  const std::optional<HfExpertPart> found = rest ? expert_part(*rest) : std::nullopt;
  if (!found || layer >= config_.layers) return {};
  if (found->expert >= config_.experts) {
    return about_tensor(StatusCode::kCorruptFile, files_[file], tensor,
                        formatted("tensor {} is of expert {}, though {} says {} experts", printable(tensor.name), found->expert,
                                  config_.experts_key, config_.experts));
  }
  experts_.push_back((layer * config_.experts + found->expert) * 3 + found->part);
  return {};
}

Status TensorImporter::check_experts() {
  if (has_fused_experts_) return {};
  std::sort(experts_.begin(), experts_.end());
  uint64_t next = 0;
  while (next < experts_.size() && experts_[next] == next) ++next;
  if (next == config_.layers * config_.experts * 3) return {};
  const uint64_t expert = next / 3;
  const char* const parts[] = {"gate", "up", "down"};
  const std::string ours =
      formatted("{}{}.ffn_{}_exps.{}.weight", kOurLayer, expert / config_.experts, parts[next % 3], expert % config_.experts);
  return missing(*renamed(ours, config_.architecture, false), config_.experts_key);
}

Status TensorImporter::check_promises() {
  if (!has_embedding_) return missing(std::string(kEmbedding), "every model");
  if (config_.tied == false && !biases_.contains(kHead)) return missing(std::string(kHead), "tie_word_embeddings, which is false,");
  if (config_.experts > 0) OTR_TRY(check_experts());
  for (uint32_t layer = 0; layer < config_.layers; ++layer) OTR_TRY(check_layer(layer));
  return {};
}

// Presence decides what is computed, so that what the configuration says of it must hold. Qwen2 has its three biases without saying so, and
// where they are missing the layout tells.
Status TensorImporter::check_layer(uint32_t layer) const {
  for (const char* part : {"q", "k", "v", "o"}) {
    if (config_.architecture == "qwen2" || config_.architecture == "qwen2moe") break;
    OTR_TRY(check_bias(formatted("{}{}.self_attn.{}_proj.bias", kTheirLayer, layer, part), "attention_bias", config_.attention_bias));
  }
  for (const char* part : {"gate", "up", "down"}) {
    OTR_TRY(check_bias(formatted("{}{}.mlp.{}_proj.bias", kTheirLayer, layer, part), "mlp_bias", config_.mlp_bias));
  }
  return {};
}

Status TensorImporter::check_bias(const std::string& name, std::string_view key, bool is_announced) const {
  if (biases_.contains(name) == is_announced) return {};
  if (is_announced) return missing(name, key);
  return root_.error(StatusCode::kCorruptFile, name, formatted("tensor {} is there, though {} does not announce it", name, key));
}

}  // namespace

Result<std::vector<HfPlace>> add_hf_tensors(const std::vector<SafetensorsFile>& files, const JsonText& source, HfConfig* config,
                                            GgufHeader* header) {
  return TensorImporter(files, source.root(), *config, *header).import();
}

std::optional<std::string> hf_tensor_name(std::string_view name, std::string_view architecture) {
  return renamed(name, architecture, false);
}

}  // namespace outrigger
