// Small random models whose rows are whole blocks of 64, made in memory.
#ifndef OUTRIGGER_TESTS_SUPPORT_RANDOM_DENSE_H_
#define OUTRIGGER_TESTS_SUPPORT_RANDOM_DENSE_H_

#include <cmath>
#include <cstddef>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/support/gguf_writer.h"

namespace outrigger::testing {

/// Which of the families without experts.
enum class DenseKind {
  kLlama,
  kLlamaUntied,  ///< with a head of its own
  kQwen2,        ///< with biases of q, k and v
  kQwen3,        ///< with norms of q and k
  kLlamaBf16,    ///< eight layers, their matrices BF16
  kLlamaWide,    ///< twice as wide, rows whole blocks of 128
};
inline constexpr DenseKind kDenseKinds[] = {DenseKind::kLlama, DenseKind::kLlamaUntied, DenseKind::kQwen2, DenseKind::kQwen3,
                                            DenseKind::kLlamaBf16};

/// Heads are 32 wide.
struct DenseShape {
  uint64_t width = 64, ffn = 128, kv = 32;
  uint32_t layers = 3;
};

/// By default three layers of width 64, two heads that share their keys, a feed-forward part of 128; 200 tokens; float32, the head tied but
/// in kLlamaUntied. `spoil` may change a tensor's values.
template <typename Spoil>
std::vector<std::byte> random_dense(DenseKind kind, Spoil spoil, DenseShape shape = {}) {
  constexpr uint64_t kVocabulary = 200;
  if (kind == DenseKind::kLlamaWide) shape = {.width = 128, .ffn = 256, .kv = 64};
  const uint64_t width = shape.width, ffn = shape.ffn, kv = shape.kv;
  const uint32_t layers = kind == DenseKind::kLlamaBf16 ? 8 : shape.layers;
  GgufWriter writer;
  const std::string architecture = kind == DenseKind::kQwen2 ? "qwen2" : kind == DenseKind::kQwen3 ? "qwen3" : "llama";
  const auto key = [&architecture](const char* name) { return architecture + "." + name; };
  writer.add_string("general.architecture", architecture);
  writer.add_u32(key("block_count"), layers);
  writer.add_u32(key("context_length"), 256);
  writer.add_u32(key("embedding_length"), static_cast<uint32_t>(width));
  writer.add_u32(key("feed_forward_length"), static_cast<uint32_t>(ffn));
  writer.add_u32(key("attention.head_count"), static_cast<uint32_t>(width / 32));
  writer.add_u32(key("attention.head_count_kv"), static_cast<uint32_t>(kv / 32));
  writer.add_f32(key("attention.layer_norm_rms_epsilon"), 1e-5f);
  writer.add_u32(key("rope.dimension_count"), 32);
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 1);
  const auto add = [&](const std::string& name, std::vector<uint64_t> dims, float scale, float mean = 0) {
    std::vector<float> values(dims[0] * (dims.size() > 1 ? dims[1] : 1));
    for (float& value : values) value = mean + scale * normal(random);
    spoil(name, values);
    if (kind != DenseKind::kLlamaBf16 || dims.size() < 2) return writer.add_tensor_f32(name, dims, values);
    std::vector<std::byte> halves(2 * values.size());
    for (size_t i = 0; i < values.size(); ++i) std::memcpy(&halves[2 * i], reinterpret_cast<const char*>(&values[i]) + 2, 2);
    writer.add_tensor(name, DType::kBF16, dims, std::move(halves));
  };
  add("token_embd.weight", {width, kVocabulary}, 1);
  for (uint64_t layer = 0; layer < layers; ++layer) {
    const std::string part = "blk." + std::to_string(layer) + ".";
    add(part + "attn_norm.weight", {width}, 0.1f, 1);
    add(part + "attn_q.weight", {width, width}, 0.15f);
    add(part + "attn_k.weight", {width, kv}, 0.15f);
    add(part + "attn_v.weight", {width, kv}, 0.15f);
    if (kind == DenseKind::kQwen2) {
      add(part + "attn_q.bias", {width}, 0.1f);
      add(part + "attn_k.bias", {kv}, 0.1f);
      add(part + "attn_v.bias", {kv}, 0.1f);
    }
    if (kind == DenseKind::kQwen3) {
      add(part + "attn_q_norm.weight", {32}, 0.1f, 1);
      add(part + "attn_k_norm.weight", {32}, 0.1f, 1);
    }
    add(part + "attn_output.weight", {width, width}, 0.15f);
    add(part + "ffn_norm.weight", {width}, 0.1f, 1);
    add(part + "ffn_gate.weight", {width, ffn}, 0.15f);
    add(part + "ffn_up.weight", {width, ffn}, 0.15f);
    add(part + "ffn_down.weight", {ffn, width}, 0.1f);
  }
  add("output_norm.weight", {width}, 0.1f, 1);
  if (kind == DenseKind::kLlamaUntied) add("output.weight", {width, kVocabulary}, 1);
  return writer.finish();
}

template <typename Spoil>
std::vector<std::byte> random_dense(Spoil spoil) {
  return random_dense(DenseKind::kLlama, spoil);
}

inline std::vector<std::byte> random_dense(DenseKind kind = DenseKind::kLlama) {
  return random_dense(kind, [](const std::string&, std::vector<float>&) {});
}

inline std::vector<std::byte> random_dense(DenseKind kind, const DenseShape& shape) {
  return random_dense(kind, [](const std::string&, std::vector<float>&) {}, shape);
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_RANDOM_DENSE_H_
