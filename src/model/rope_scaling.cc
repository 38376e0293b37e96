// Reads RoPE scalings and turns them into a divisor for each frequency.
#include "src/model/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/model/config_limits.h"

namespace outrigger {
namespace {

constexpr double kMostMagnitude = 1e6;  // models have 1 to 2; float32 must hold the angles' cosines
constexpr double kTurn = 2 * std::numbers::pi;

// Indices of frequencies: below `begin` none is stretched, from `end` on all are.
struct Ramp {
  double begin, end;
};

// Which index makes so many turns within the original context, as a real number.
double index_of_turns(double turns, const RopeScaling& scaling, double base, double rope_dim) {
  return rope_dim * std::log(scaling.original_context_tokens / (turns * kTurn)) / (2 * std::log(base));
}

Ramp yarn_ramp(const RopeScaling& scaling, double base, double rope_dim) {
  return {std::max(std::floor(index_of_turns(scaling.beta_fast, scaling, base, rope_dim)), 0.0),
          std::min(std::ceil(index_of_turns(scaling.beta_slow, scaling, base, rope_dim)), rope_dim - 1)};
}

double yarn_divisor(const RopeScaling& scaling, const Ramp& ramp, double index) {
  const double width = ramp.begin == ramp.end ? 0.001 : ramp.end - ramp.begin;
  const double stretched = std::clamp((index - ramp.begin) / width, 0.0, 1.0);
  return 1 / (stretched / scaling.factor + (1 - stretched));
}

double llama3_divisor(const RopeScaling& scaling, double frequency) {
  const double turns = scaling.original_context_tokens * frequency / kTurn;  // within the original context
  if (turns > scaling.high_freq_factor) return 1;
  if (turns < scaling.low_freq_factor) return scaling.factor;
  const double kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return 1 / ((1 - kept) / scaling.factor + kept);
}

Status read_llama3(const ConfigReader& reader, RopeScaling& scaling) {
  OTR_ASSIGN(scaling.factor, reader.positive("rope.scaling.factor"));
  OTR_ASSIGN(const uint64_t original, reader.size("rope.scaling.original_context_length", 1, kMostContext));
  scaling.original_context_tokens = static_cast<double>(original);
  OTR_ASSIGN(scaling.low_freq_factor, reader.positive("rope.scaling.low_freq_factor"));
  OTR_ASSIGN(scaling.high_freq_factor, reader.positive("rope.scaling.high_freq_factor"));
  if (scaling.low_freq_factor < scaling.high_freq_factor) return {};
  return reader.bad("rope.scaling.high_freq_factor", formatted("{}", scaling.high_freq_factor),
                    formatted("more than low_freq_factor, {}", scaling.low_freq_factor));
}

Status read_yarn(const ConfigReader& reader, double base, uint32_t rope_dim, uint64_t context_tokens, RopeScaling& scaling) {
  OTR_ASSIGN(scaling.factor, reader.positive("rope.scaling.factor"));
  OTR_ASSIGN(const uint64_t original, reader.size_or("rope.scaling.original_context_length", context_tokens, 1, kMostContext));
  scaling.original_context_tokens = static_cast<double>(original);
  OTR_ASSIGN(scaling.beta_fast, reader.positive_or("rope.scaling.yarn_beta_fast", 32));
  OTR_ASSIGN(scaling.beta_slow, reader.positive_or("rope.scaling.yarn_beta_slow", 1));
  OTR_TRY(reader.only("rope.scaling.yarn_ext_factor", 1));
  OTR_TRY(reader.only("rope.scaling.yarn_log_multiplier", 0));
  if (!(base > 1)) return reader.bad("rope.freq_base", formatted("{}", base), "more than 1 for yarn scaling");
  const Ramp ramp = yarn_ramp(scaling, base, rope_dim);
  // Other programs disagree on what a ramp that runs backwards means, so no model can want one.
  if (ramp.begin > ramp.end) {
    return reader.bad(
        "rope.scaling.yarn_beta_fast",
        formatted("{} with yarn_beta_slow {} and an original context of {} tokens", scaling.beta_fast, scaling.beta_slow, original),
        "numbers whose ramp over the frequencies does not run backwards");
  }
  const double own = scaling.factor > 1 ? 0.1 * std::log(scaling.factor) + 1 : 1;
  OTR_ASSIGN(scaling.magnitude, reader.positive_or("rope.scaling.yarn_attn_factor", own));
  return {};
}

}  // namespace

Result<RopeScaling> read_rope_scaling(const ConfigReader& reader, double base, uint32_t rope_dim, uint64_t context_tokens) {
  RopeScaling scaling;
  const std::string_view factor = reader.find("rope.scaling.factor") != nullptr ? "rope.scaling.factor" : "rope.scale_linear";
  std::string_view type = "none";
  if (const GgufValue* value = reader.find("rope.scaling.type")) {
    OTR_ASSIGN(type, value->as_string());
  } else if (reader.find(factor) != nullptr) {
    type = "linear";
  }
  if (type == "linear") {
    scaling.kind = RopeScalingKind::kLinear;
    OTR_ASSIGN(scaling.factor, reader.positive_or(factor, 1));
  } else if (type == "llama3") {
    scaling.kind = RopeScalingKind::kLlama3;
    OTR_TRY(read_llama3(reader, scaling));
  } else if (type == "yarn") {
    scaling.kind = RopeScalingKind::kYarn;
    OTR_TRY(read_yarn(reader, base, rope_dim, context_tokens, scaling));
  } else if (type != "none") {
    return Status(StatusCode::kUnsupported,
                  formatted("RoPE scaling \"{}\" is not computed by this version (none, linear, llama3 and yarn are)", type))
        .about(reader.key("rope.scaling.type"));
  }
  OTR_TRY(reader.only("rope.scaling.alpha", 0));
  OTR_ASSIGN(const double magnitude, reader.positive_or("rope.scaling.attn_factor", 1));
  scaling.magnitude *= magnitude;
  if (scaling.magnitude > kMostMagnitude) {
    return reader.bad("rope.scaling.attn_factor", formatted("cosines and sines times {}", scaling.magnitude),
                      formatted("at most {}", kMostMagnitude));
  }
  return scaling;
}

std::vector<double> rope_divisors(const RopeScaling& scaling, double base, uint32_t rope_dim) {
  std::vector<double> divisors;
  const Ramp ramp = scaling.kind == RopeScalingKind::kYarn ? yarn_ramp(scaling, base, rope_dim) : Ramp{};
  for (uint32_t i = 0; i < rope_dim / 2; ++i) {
    switch (scaling.kind) {
      case RopeScalingKind::kNone: divisors.push_back(1); break;
      case RopeScalingKind::kLinear: divisors.push_back(scaling.factor); break;
      case RopeScalingKind::kLlama3: divisors.push_back(llama3_divisor(scaling, std::pow(base, -2.0 * i / rope_dim))); break;
      case RopeScalingKind::kYarn: divisors.push_back(yarn_divisor(scaling, ramp, i)); break;
    }
  }
  return divisors;
}

}  // namespace outrigger
