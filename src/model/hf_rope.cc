// HfRope: linear, llama3 and yarn scaling.
#include "src/model/hf_rope.h"

#include <cmath>
#include <tuple>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/io/printable.h"
#include "src/model/config_limits.h"
#include "src/model/hf_fields.h"

namespace outrigger {
namespace {

// What yarn multiplies queries and keys by where the file states no factor of its own.
double usual_attention_factor(double factor, double scale = 1) { return factor <= 1 ? 1 : 0.1 * scale * std::log(factor) + 1; }

Status read_llama3(const HfFields& fields, HfRope& rope) {
  OTR_ASSIGN(rope.factor, fields.positive("factor"));
  OTR_ASSIGN(rope.low_frequency, fields.positive("low_freq_factor"));
  OTR_ASSIGN(rope.high_frequency, fields.positive("high_freq_factor"));
  if (rope.high_frequency > rope.low_frequency) return {};
  return fields.find("high_freq_factor")
      ->wrong(fields.name("high_freq_factor"), formatted("more than low_freq_factor, {}", rope.low_frequency));
}

Status read_yarn(const HfFields& fields, uint64_t context, HfRope& rope) {
  OTR_ASSIGN(rope.factor, fields.positive_or("factor", static_cast<double>(context) / static_cast<double>(rope.original_context)));
  OTR_ASSIGN(rope.attention_factor, fields.positive_or("attention_factor", 0));
  OTR_ASSIGN(rope.beta_fast, fields.positive_or("beta_fast", 32));
  OTR_ASSIGN(rope.beta_slow, fields.positive_or("beta_slow", 1));
  OTR_ASSIGN(const double scale, fields.positive_or("mscale", 0));
  OTR_ASSIGN(const double scale_all, fields.positive_or("mscale_all_dim", 0));
  if (rope.attention_factor == 0 && scale > 0 && scale_all > 0) {
    rope.attention_factor = usual_attention_factor(rope.factor, scale) / usual_attention_factor(rope.factor, scale_all);
  }
  OTR_ASSIGN(const bool truncates, fields.flag_or("truncate", true));
  if (!truncates)
    rope.cannot_run =
        fields.find("truncate")
            ->error(StatusCode::kUnsupported, fields.name("truncate"), "yarn scaling without truncation is not computed by this version");
  if (rope.beta_fast > rope.beta_slow) return {};
  return (fields.find("beta_fast") ? *fields.find("beta_fast") : fields.object())
      .wrong(fields.name("beta_fast"), formatted("more than beta_slow, {}", rope.beta_slow));
}

// `scaling` is rope_scaling or rope_parameters.
Status read_scaling(JsonValue scaling, const std::string& path, uint64_t context, HfRope& rope) {
  if (scaling.kind() != JsonKind::kObject) return scaling.wrong(path, "an object");
  const HfFields fields(scaling, path + ".");
  OTR_TRY(scaling.each_member([&](std::string_view key, JsonValue value) -> Status {
    if (value.kind() != JsonKind::kObject) return {};
    rope.cannot_run = value.error(StatusCode::kUnsupported, fields.name(key), "RoPE that differs by layer is not computed by this version");
    return {};
  }));
  OTR_ASSIGN(rope.theta, fields.positive_or("rope_theta", rope.theta));
  OTR_ASSIGN(const std::string old_type, fields.text_or("type", "default"));
  OTR_ASSIGN(rope.type, fields.text_or("rope_type", old_type));
  OTR_ASSIGN(const double share, fields.positive_or("partial_rotary_factor", 1));
  if (share != 1)
    rope.cannot_run = fields.find("partial_rotary_factor")
                          ->error(StatusCode::kUnsupported, fields.name("partial_rotary_factor"),
                                  "heads that RoPE turns in part are not computed by this version");
  if (rope.type == "default") return {};
  if (rope.type == "linear") {
    OTR_ASSIGN(rope.factor, fields.positive("factor"));
    return {};
  }
  if (rope.type == "llama3" || rope.type == "yarn") {
    OTR_ASSIGN(rope.original_context, fields.size_or("original_max_position_embeddings", rope.original_context, 1, kMostContext));
    return rope.type == "yarn" ? read_yarn(fields, context, rope) : read_llama3(fields, rope);
  }
  rope.cannot_run = scaling.error(
      StatusCode::kUnsupported, fields.name("rope_type"),
      formatted("RoPE scaling \"{}\" is not computed by this version (default, linear, llama3 and yarn are)", printable(rope.type)));
  return {};
}

}  // namespace

bool HfRope::says_the_same(const HfRope& other) const {
  const auto all = [](const HfRope& rope) {
    return std::tie(rope.type, rope.theta, rope.factor, rope.low_frequency, rope.high_frequency, rope.attention_factor, rope.beta_fast,
                    rope.beta_slow, rope.original_context);
  };
  return all(*this) == all(other);
}

Result<HfRope> read_hf_rope(JsonValue root, uint64_t context, double theta) {
  const HfFields fields(root);
  HfRope plain;
  OTR_ASSIGN(plain.theta, fields.positive_or("rope_theta", theta));
  OTR_ASSIGN(plain.original_context, fields.size_or("original_max_position_embeddings", context, 1, kMostContext));
  HfRope scaled = plain, stated = plain;
  const std::optional<JsonValue> scaling = fields.find("rope_scaling"), parameters = fields.find("rope_parameters");
  if (scaling) OTR_TRY(read_scaling(*scaling, "rope_scaling", context, scaled));
  if (parameters) OTR_TRY(read_scaling(*parameters, "rope_parameters", context, stated));
  if (scaling && parameters && !scaled.says_the_same(stated)) {
    return parameters->error(StatusCode::kCorruptFile, "rope_parameters",
                             "rope_parameters and rope_scaling contradict each other; one of them is enough");
  }
  return parameters ? stated : scaled;
}

void add_hf_rope(const HfRope& rope, const std::string& architecture, GgufHeader* header) {
  const std::string prefix = architecture + ".rope.", scaling = prefix + "scaling.";
  header->add_f64(prefix + "freq_base", rope.theta);
  if (rope.type == "default" || !rope.cannot_run.is_ok()) return;
  header->add_string(scaling + "type", rope.type);
  header->add_f64(scaling + "factor", rope.factor);
  if (rope.type == "linear") return;
  header->add_u32(scaling + "original_context_length", static_cast<uint32_t>(rope.original_context));
  if (rope.type == "llama3") {
    header->add_f64(scaling + "low_freq_factor", rope.low_frequency);
    header->add_f64(scaling + "high_freq_factor", rope.high_frequency);
    return;
  }
  if (rope.attention_factor > 0) header->add_f64(scaling + "yarn_attn_factor", rope.attention_factor);
  header->add_f64(scaling + "yarn_beta_fast", rope.beta_fast);
  header->add_f64(scaling + "yarn_beta_slow", rope.beta_slow);
}

}  // namespace outrigger
