// A small random mixture of experts with residuals, made in memory of shapes that are no powers of two.
#ifndef OUTRIGGER_TESTS_SUPPORT_CORRECTED_MIXTURE_H_
#define OUTRIGGER_TESTS_SUPPORT_CORRECTED_MIXTURE_H_

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "src/tensor/dequantize.h"
#include "src/tensor/dtype.h"
#include "src/tensor/half.h"
#include "tests/support/gguf_writer.h"

namespace outrigger::testing {

struct CorrectedMixture {
  static constexpr uint64_t kWidth = 96, kFfn = 160, kExperts = 5, kUsed = 2, kVocabulary = 120, kSteps = 33;
  static constexpr uint32_t kLayers = 2;

  DType type = DType::kQ4_0;  ///< of residuals
  bool has_residuals = true;
  bool attends = true;  ///< false: attention adds nothing, so that tokens know nothing of each other
  /// Changes a tensor of a residual before it is written, or leaves it out.
  struct Written {
    std::string name;
    DType type;
    std::vector<uint64_t> dims;
    bool is_left_out = false;
  };
  std::function<void(Written&)> spoil;
};

/// Two layers of width 96, five experts of width 160 of which a token takes two, float32 but for the residuals, the head tied. Thresholds
/// of every expert are of their own, and leave something to be read where the whole planned share is.
inline std::vector<std::byte> corrected_mixture(const CorrectedMixture& shape) {
  constexpr uint64_t kWidth = CorrectedMixture::kWidth, kFfn = CorrectedMixture::kFfn, kExperts = CorrectedMixture::kExperts, kKv = 32;
  GgufWriter writer;
  writer.add_string("general.architecture", "llama");
  for (const auto& [key, value] : {std::pair{"block_count", uint64_t{CorrectedMixture::kLayers}},
                                   {"context_length", uint64_t{256}},
                                   {"embedding_length", kWidth},
                                   {"feed_forward_length", kFfn},
                                   {"attention.head_count", kWidth / 32},
                                   {"attention.head_count_kv", uint64_t{1}},
                                   {"rope.dimension_count", uint64_t{32}},
                                   {"expert_count", kExperts},
                                   {"expert_used_count", CorrectedMixture::kUsed}}) {
    writer.add_u32(std::string("llama.") + key, static_cast<uint32_t>(value));
  }
  writer.add_f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0, 1);
  const auto drawn = [&](uint64_t count, float scale, float mean) {
    std::vector<float> values(count);
    for (float& value : values) value = mean + scale * normal(random);
    return values;
  };
  const auto add = [&](const std::string& name, std::vector<uint64_t> dims, float scale, float mean = 0) {
    uint64_t count = 1;
    for (const uint64_t dim : dims) count *= dim;
    writer.add_tensor_f32(name, dims, drawn(count, scale, mean));
  };
  const auto add_changed = [&](const std::string& name, DType type, std::vector<uint64_t> dims, std::vector<std::byte> bytes) {
    CorrectedMixture::Written written{name, type, std::move(dims)};
    if (shape.spoil) shape.spoil(written);
    if (!written.is_left_out && shape.has_residuals) writer.add_tensor(written.name, written.type, written.dims, std::move(bytes));
  };
  const auto add_vectors = [&](const std::string& name, uint64_t each, const std::vector<float>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    add_changed(name, DType::kF32, {each, kExperts}, {bytes.begin(), bytes.end()});
  };
  const auto add_residual = [&](const std::string& stem, uint64_t rows, uint64_t columns) {
    std::vector<std::byte> blocks(kExperts * columns * rows / 32 * 18);
    for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::byte>(random() & 255);
    for (size_t at = 0; at < blocks.size(); at += 18) {
      const uint16_t scale = float_to_f16((shape.type == DType::kQ4_0 ? 0.02f : 0.002f) * (1 + std::abs(normal(random))));
      std::memcpy(blocks.data() + at, &scale, sizeof scale);
    }
    std::vector<float> values(kExperts * columns * rows), norms(kExperts * columns), thresholds;
    (void)dequantize(shape.type, blocks.data(), values.data(), values.size());
    for (size_t i = 0; i < norms.size(); ++i) {
      for (size_t r = 0; r < rows; ++r) norms[i] += values[i * rows + r] * values[i * rows + r];
      norms[i] = std::sqrt(norms[i]);
    }
    for (size_t expert = 0; expert < kExperts; ++expert) {
      const float size = (0.4f + 0.15f * static_cast<float>(expert)) * std::accumulate(norms.begin(), norms.end(), 0.0f) /
                         static_cast<float>(norms.size());
      thresholds.push_back(std::numeric_limits<float>::infinity());
      for (size_t k = 1; k < CorrectedMixture::kSteps; ++k) thresholds.push_back(size * (0.2f + 1.5f * static_cast<float>(32 - k) / 32));
    }
    add_changed(stem, shape.type, {rows, columns, kExperts}, std::move(blocks));
    add_vectors(stem + "_norms", columns, norms);
    add_vectors(stem + "_means", columns, drawn(kExperts * columns, 0.2f, 0));
    add_vectors(stem + "_bias", rows, drawn(kExperts * rows, 0.05f, 0));
    add_vectors(stem + "_thresholds", CorrectedMixture::kSteps, thresholds);
  };
  add("token_embd.weight", {kWidth, CorrectedMixture::kVocabulary}, 1);
  for (uint32_t layer = 0; layer < CorrectedMixture::kLayers; ++layer) {
    const std::string part = "blk." + std::to_string(layer) + ".";
    add(part + "attn_norm.weight", {kWidth}, 0.1f, 1);
    for (const auto& [name, rows] : {std::pair{"attn_q", kWidth}, {"attn_k", kKv}, {"attn_v", kKv}})
      add(part + name + ".weight", {kWidth, rows}, 0.12f);
    add(part + "attn_output.weight", {kWidth, kWidth}, shape.attends ? 0.12f : 0);
    add(part + "ffn_norm.weight", {kWidth}, 0.1f, 1);
    add(part + "ffn_gate_inp.weight", {kWidth, kExperts}, 0.2f);
    add(part + "ffn_gate_exps.weight", {kWidth, kFfn, kExperts}, 0.12f);
    add(part + "ffn_up_exps.weight", {kWidth, kFfn, kExperts}, 0.12f);
    add(part + "ffn_down_exps.weight", {kFfn, kWidth, kExperts}, 0.1f);
    add_residual(part + "ffn_gate_exps.residual", kFfn, kWidth);
    add_residual(part + "ffn_up_exps.residual", kFfn, kWidth);
    add_residual(part + "ffn_down_exps.residual", kWidth, kFfn);
  }
  add("output_norm.weight", {kWidth}, 0.1f, 1);
  return writer.finish();
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_CORRECTED_MIXTURE_H_
