// Small random mixtures of experts whose rows are whole blocks of 64, made in memory.
#ifndef OUTRIGGER_TESTS_SUPPORT_RANDOM_MIXTURE_H_
#define OUTRIGGER_TESTS_SUPPORT_RANDOM_MIXTURE_H_

#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "tests/support/gguf_writer.h"

namespace outrigger::testing {

/// Which of the families that have mixtures.
enum class MixtureKind {
  kMixtral,       ///< "llama", a stack for all experts of a layer
  kMixtralSplit,  ///< the same with a tensor for each expert
  kQwen2,         ///< with a shared expert, weights not normalised
  kQwen3,
};
inline constexpr MixtureKind kMixtureKinds[] = {MixtureKind::kMixtral, MixtureKind::kMixtralSplit, MixtureKind::kQwen2,
                                                MixtureKind::kQwen3};

struct MixtureShape {
  uint64_t width = 64, ffn = 128, shared = 64;
};

/// By default two layers of width 64, two heads that share their keys, five experts of width 128 of which a token takes two, a shared one
/// of width 64 in kQwen2, 200 tokens; float32, the head tied. Heads are 32 wide. Inputs are correlated: tokens' vectors have eight
/// directions that most of them lies in. `spoil` may change a tensor's values; names are those of stacks, of all experts at once.
template <typename Spoil>
std::vector<std::byte> random_mixture(MixtureKind kind, Spoil spoil, const MixtureShape& shape = {}) {
  const uint64_t width = shape.width, ffn = shape.ffn, shared = shape.shared;
  constexpr uint64_t kKv = 32, kVocabulary = 200, kLayers = 2, kExperts = 5, kDirections = 8;
  const bool is_qwen2 = kind == MixtureKind::kQwen2, is_qwen3 = kind == MixtureKind::kQwen3;
  const std::string architecture = is_qwen2 ? "qwen2moe" : is_qwen3 ? "qwen3moe" : "llama";
  GgufWriter writer;
  const auto key = [&architecture](const char* name) { return architecture + "." + name; };
  writer.add_string("general.architecture", architecture);
  writer.add_u32(key("block_count"), kLayers);
  writer.add_u32(key("context_length"), 256);
  writer.add_u32(key("embedding_length"), static_cast<uint32_t>(width));
  writer.add_u32(key("feed_forward_length"), static_cast<uint32_t>(ffn));
  writer.add_u32(key("attention.head_count"), static_cast<uint32_t>(width / 32));
  writer.add_u32(key("attention.head_count_kv"), 1);
  writer.add_f32(key("attention.layer_norm_rms_epsilon"), 1e-5f);
  writer.add_u32(key("rope.dimension_count"), 32);
  writer.add_u32(key("expert_count"), kExperts);
  writer.add_u32(key("expert_used_count"), 2);
  if (is_qwen2 || is_qwen3) writer.add_u32(key("expert_feed_forward_length"), static_cast<uint32_t>(ffn));
  if (is_qwen2) writer.add_u32(key("expert_shared_feed_forward_length"), static_cast<uint32_t>(shared));
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 1);
  const auto values_of = [&](const std::string& name, uint64_t count, float scale, float mean) {
    std::vector<float> values(count);
    for (float& value : values) value = mean + scale * normal(random);
    if (name == "token_embd.weight") {
      std::vector<float> directions(kDirections * width);
      for (float& value : directions) value = normal(random);
      for (uint64_t token = 0; token < kVocabulary; ++token) {
        float* const row = values.data() + token * width;
        for (uint64_t k = 0; k < width; ++k) row[k] *= 0.2f;
        for (uint64_t d = 0; d < kDirections; ++d) {
          const float part = normal(random);
          for (uint64_t k = 0; k < width; ++k) row[k] += part * directions[d * width + k];
        }
      }
    }
    spoil(name, values);
    return values;
  };
  const auto add = [&](const std::string& name, std::vector<uint64_t> dims, float scale, float mean = 0) {
    uint64_t count = 1;
    for (const uint64_t dim : dims) count *= dim;
    const std::vector<float> values = values_of(name, count, scale, mean);
    if (dims.size() < 3 || kind != MixtureKind::kMixtralSplit) return writer.add_tensor_f32(name, dims, values);
    const uint64_t each = dims[0] * dims[1];
    for (uint64_t expert = 0; expert < kExperts; ++expert) {
      const std::string stem = name.substr(0, name.find("_exps"));
      writer.add_tensor_f32(stem + "." + std::to_string(expert) + ".weight", {dims[0], dims[1]},
                            std::span(values).subspan(expert * each, each));
    }
  };
  add("token_embd.weight", {width, kVocabulary}, 1);
  for (uint64_t layer = 0; layer < kLayers; ++layer) {
    const std::string part = "blk." + std::to_string(layer) + ".";
    add(part + "attn_norm.weight", {width}, 0.1f, 1);
    add(part + "attn_q.weight", {width, width}, 0.15f);
    add(part + "attn_k.weight", {width, kKv}, 0.15f);
    add(part + "attn_v.weight", {width, kKv}, 0.15f);
    if (is_qwen2) {
      add(part + "attn_q.bias", {width}, 0.1f);
      add(part + "attn_k.bias", {kKv}, 0.1f);
      add(part + "attn_v.bias", {kKv}, 0.1f);
    }
    if (is_qwen3) {
      add(part + "attn_q_norm.weight", {32}, 0.1f, 1);
      add(part + "attn_k_norm.weight", {32}, 0.1f, 1);
    }
    add(part + "attn_output.weight", {width, width}, 0.15f);
    add(part + "ffn_norm.weight", {width}, 0.1f, 1);
    add(part + "ffn_gate_inp.weight", {width, kExperts}, 0.3f);
    if (is_qwen2) {
      add(part + "ffn_gate_inp_shexp.weight", {width}, 0.15f);
      add(part + "ffn_gate_shexp.weight", {width, shared}, 0.15f);
      add(part + "ffn_up_shexp.weight", {width, shared}, 0.15f);
      add(part + "ffn_down_shexp.weight", {shared, width}, 0.1f);
    }
    add(part + "ffn_gate_exps.weight", {width, ffn, kExperts}, 0.15f);
    add(part + "ffn_up_exps.weight", {width, ffn, kExperts}, 0.15f);
    add(part + "ffn_down_exps.weight", {ffn, width, kExperts}, 0.1f);
  }
  add("output_norm.weight", {width}, 0.1f, 1);
  return writer.finish();
}

inline std::vector<std::byte> random_mixture(MixtureKind kind = MixtureKind::kMixtral) {
  return random_mixture(kind, [](const std::string&, std::vector<float>&) {});
}

inline std::vector<std::byte> random_mixture(MixtureKind kind, const MixtureShape& shape) {
  return random_mixture(kind, [](const std::string&, std::vector<float>&) {}, shape);
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_RANDOM_MIXTURE_H_
