// A small random llama whose rows are whole blocks of 64, made in memory.
#ifndef OUTRIGGER_TESTS_SUPPORT_RANDOM_DENSE_H_
#define OUTRIGGER_TESTS_SUPPORT_RANDOM_DENSE_H_

#include <cmath>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "tests/support/gguf_writer.h"

namespace outrigger::testing {

/// Three layers of width 64, two heads that share their keys, a feed-forward part of 128, 200 tokens; float32, the head tied. `spoil` may change a tensor's values.
template <typename Spoil>
std::vector<std::byte> random_dense(Spoil spoil) {
  constexpr uint64_t kWidth = 64, kFfn = 128, kKv = 32, kVocabulary = 200, kLayers = 3;
  GgufWriter writer;
  writer.add_string("general.architecture", "llama");
  writer.add_u32("llama.block_count", kLayers);
  writer.add_u32("llama.context_length", 256);
  writer.add_u32("llama.embedding_length", kWidth);
  writer.add_u32("llama.feed_forward_length", kFfn);
  writer.add_u32("llama.attention.head_count", 2);
  writer.add_u32("llama.attention.head_count_kv", 1);
  writer.add_f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  writer.add_u32("llama.rope.dimension_count", 32);
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 1);
  const auto add = [&](const std::string& name, std::vector<uint64_t> dims, float scale, float mean = 0) {
    std::vector<float> values(dims[0] * (dims.size() > 1 ? dims[1] : 1));
    for (float& value : values) value = mean + scale * normal(random);
    spoil(name, values);
    writer.add_tensor_f32(name, dims, values);
  };
  add("token_embd.weight", {kWidth, kVocabulary}, 1);
  for (uint64_t layer = 0; layer < kLayers; ++layer) {
    const std::string part = "blk." + std::to_string(layer) + ".";
    add(part + "attn_norm.weight", {kWidth}, 0.1f, 1);
    add(part + "attn_q.weight", {kWidth, kWidth}, 0.15f);
    add(part + "attn_k.weight", {kWidth, kKv}, 0.15f);
    add(part + "attn_v.weight", {kWidth, kKv}, 0.15f);
    add(part + "attn_output.weight", {kWidth, kWidth}, 0.15f);
    add(part + "ffn_norm.weight", {kWidth}, 0.1f, 1);
    add(part + "ffn_gate.weight", {kWidth, kFfn}, 0.15f);
    add(part + "ffn_up.weight", {kWidth, kFfn}, 0.15f);
    add(part + "ffn_down.weight", {kFfn, kWidth}, 0.1f);
  }
  add("output_norm.weight", {kWidth}, 0.1f, 1);
  return writer.finish();
}

inline std::vector<std::byte> random_dense() {
  return random_dense([](const std::string&, std::vector<float>&) {});
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_RANDOM_DENSE_H_
