// Reads and checks a model's sizes and constants.
#include "src/model/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "src/base/macros.h"

namespace outrigger {
namespace {

// Far above any model in use, and small enough that no product of a few of them overflows 64 bits.
constexpr uint64_t kMostLayers = 4096;
constexpr uint64_t kMostHeads = 65536;
constexpr uint64_t kMostHeadDim = 4096;
constexpr uint64_t kMostWidth = 1 << 20;
constexpr uint64_t kMostFfnWidth = 1 << 24;
constexpr uint64_t kMostContext = 1 << 30;

constexpr std::array<std::string_view, 1> kArchitectures = {"llama"};

// Reads "<architecture>.<name>" with range checks; what is wrong always names the key.
class ConfigReader {
 public:
  explicit ConfigReader(const GgufFile& file, std::string architecture) : file_(file), architecture_(std::move(architecture)) {}

  const GgufValue* find(std::string_view name) const { return file_.find(key(name)); }

  Result<uint64_t> size(std::string_view name, uint64_t least, uint64_t most) const {
    OTR_ASSIGN(const GgufValue* value, file_.require(key(name)));
    if (value->type() == GgufType::kArray) {
      return Status(StatusCode::kUnsupported, fmt::format("{} differs by layer, which this version does not compute", key(name))).about(key(name));
    }
    OTR_ASSIGN(const uint64_t n, value->as_u64());
    if (n < least || n > most) return bad(name, fmt::format("{}", n), fmt::format("{} to {}", least, most));
    return n;
  }
  Result<uint64_t> size_or(std::string_view name, uint64_t absent, uint64_t least, uint64_t most) const {
    if (find(name) == nullptr) return absent;
    return size(name, least, most);
  }
  Result<double> positive_or(std::string_view name, double absent) const {
    if (find(name) == nullptr) return absent;
    return positive(name);
  }
  Result<double> positive(std::string_view name) const {
    OTR_ASSIGN(const GgufValue* value, file_.require(key(name)));
    OTR_ASSIGN(const double number, value->as_f64());
    if (!(number > 0) || !std::isfinite(number)) return bad(name, fmt::format("{}", number), "a positive, finite number");
    return number;
  }

  Status bad(std::string_view name, const std::string& got, const std::string& need) const {
    return Status(StatusCode::kCorruptFile, fmt::format("{}: got {}, need {}", key(name), got, need)).in_file(file_.source().name()).about(key(name));
  }
  std::string key(std::string_view name) const { return fmt::format("{}.{}", architecture_, name); }

 private:
  const GgufFile& file_;
  std::string architecture_;
};

Status read_attention(const ConfigReader& reader, ModelConfig& config) {
  OTR_ASSIGN(const uint64_t heads, reader.size("attention.head_count", 1, kMostHeads));
  OTR_ASSIGN(const uint64_t kv_heads, reader.size_or("attention.head_count_kv", heads, 1, kMostHeads));
  if (heads % kv_heads != 0) return reader.bad("attention.head_count_kv", fmt::format("{}", kv_heads), fmt::format("a divisor of {} heads", heads));
  if (reader.find("attention.key_length") == nullptr && config.width % heads != 0) {
    return reader.bad("attention.head_count", fmt::format("{}", heads), fmt::format("a divisor of the width, {}", config.width));
  }
  OTR_ASSIGN(const uint64_t head_dim, reader.size_or("attention.key_length", std::max<uint64_t>(1, config.width / heads), 1, kMostHeadDim));
  OTR_ASSIGN(const uint64_t value_dim, reader.size_or("attention.value_length", head_dim, 1, kMostHeadDim));
  if (value_dim != head_dim) {
    return Status(StatusCode::kUnsupported, fmt::format("keys of {} and values of {} elements: this version needs them equal", head_dim, value_dim));
  }
  if (head_dim > kMostHeadDim) return reader.bad("attention.head_count", fmt::format("heads of {} elements", head_dim), fmt::format("at most {}", kMostHeadDim));
  config.heads = static_cast<uint32_t>(heads);
  config.kv_heads = static_cast<uint32_t>(kv_heads);
  config.head_dim = static_cast<uint32_t>(head_dim);
  return {};
}

Status read_rope(const ConfigReader& reader, ModelConfig& config) {
  OTR_ASSIGN(const uint64_t rope_dim, reader.size_or("rope.dimension_count", config.head_dim, 2, config.head_dim));
  if (rope_dim % 2 != 0) return reader.bad("rope.dimension_count", fmt::format("{}", rope_dim), "an even number");
  config.rope_dim = static_cast<uint32_t>(rope_dim);
  OTR_ASSIGN(config.rope_base, reader.positive_or("rope.freq_base", 10000));
  if (const GgufValue* type = reader.find("rope.scaling.type")) {
    OTR_ASSIGN(const std::string_view name, type->as_string());
    if (name == "linear") {
      OTR_ASSIGN(const double factor, reader.positive_or("rope.scaling.factor", 1));
      config.rope_position_scale = 1 / factor;
    } else if (name != "none") {
      return Status(StatusCode::kUnsupported, fmt::format("RoPE scaling \"{}\" is not computed by this version (none, linear and llama3 factors are)", name))
          .about(reader.key("rope.scaling.type"));
    }
  }
  return {};
}

}  // namespace

bool is_known_architecture(std::string_view architecture) {
  return std::find(kArchitectures.begin(), kArchitectures.end(), architecture) != kArchitectures.end();
}

Result<ModelConfig> read_config(const GgufFile& file) {
  ModelConfig config;
  OTR_ASSIGN(const GgufValue* architecture, file.require("general.architecture"));
  OTR_ASSIGN(const std::string_view name, architecture->as_string());
  config.architecture = std::string(name);
  const ConfigReader reader(file, config.architecture);

  OTR_ASSIGN(const uint64_t experts, reader.size_or("expert_count", 0, 0, UINT32_MAX));
  if (experts > 0) return Status(StatusCode::kUnsupported, fmt::format("a mixture of {} experts is not computed by this version", experts)).about(reader.key("expert_count"));
  OTR_ASSIGN(const uint64_t layers, reader.size("block_count", 1, kMostLayers));
  config.layers = static_cast<uint32_t>(layers);
  OTR_ASSIGN(config.width, reader.size("embedding_length", 1, kMostWidth));
  OTR_ASSIGN(config.ffn_width, reader.size("feed_forward_length", 1, kMostFfnWidth));
  OTR_ASSIGN(config.context_tokens, reader.size("context_length", 1, kMostContext));
  OTR_TRY(read_attention(reader, config));
  OTR_TRY(read_rope(reader, config));
  OTR_ASSIGN(const double epsilon, reader.positive("attention.layer_norm_rms_epsilon"));
  config.norm_epsilon = static_cast<float>(epsilon);
  if (!(config.norm_epsilon > 0)) return reader.bad("attention.layer_norm_rms_epsilon", fmt::format("{}", epsilon), "a number that float32 holds");
  return config;
}

}  // namespace outrigger
