// The random llama of random_dense.h as a Hugging Face directory of float16.
#ifndef OUTRIGGER_TESTS_SUPPORT_RANDOM_DIRECTORY_H_
#define OUTRIGGER_TESTS_SUPPORT_RANDOM_DIRECTORY_H_

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "src/tensor/half.h"
#include "tests/support/random_dense.h"

namespace outrigger::testing {

inline std::string hf_name(std::string name) {
  const std::pair<const char*, const char*> kNames[] = {{"token_embd", "model.embed_tokens"},
                                                        {"output_norm", "model.norm"},
                                                        {"blk.", "model.layers."},
                                                        {"attn_norm", "input_layernorm"},
                                                        {"ffn_norm", "post_attention_layernorm"},
                                                        {"attn_q", "self_attn.q_proj"},
                                                        {"attn_k", "self_attn.k_proj"},
                                                        {"attn_v", "self_attn.v_proj"},
                                                        {"attn_output", "self_attn.o_proj"},
                                                        {"ffn_gate", "mlp.gate_proj"},
                                                        {"ffn_up", "mlp.up_proj"},
                                                        {"ffn_down", "mlp.down_proj"}};
  for (const auto& [ours, theirs] : kNames) {
    if (const size_t at = name.find(ours); at != std::string::npos) name.replace(at, std::string(ours).size(), theirs);
  }
  return name;
}

/// Makes `folder`, with biases of attention; no tokenizer. `rope`: more members of config.json, each followed by a comma.
inline void write_random_directory(const std::filesystem::path& folder, const std::string& rope = "") {
  std::string header = "{", data;
  const auto add = [&](const std::string& name, const std::string& shape, const std::vector<float>& values) {
    const size_t begin = data.size();
    for (const float value : values) {
      const uint16_t bits = float_to_f16(value);
      data.append(reinterpret_cast<const char*>(&bits), 2);
    }
    header += std::string(header.size() > 1 ? "," : "") + "\"" + name + "\":{\"dtype\":\"F16\",\"shape\":[" + shape +
              "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(data.size()) + "]}";
  };
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0, 0.3f);
  random_dense([&](const std::string& name, std::vector<float>& values) {
    const bool is_vector = name.find("norm") != std::string::npos;
    const size_t columns = is_vector                                    ? values.size()
                           : name.find("ffn_down") != std::string::npos ? 128
                                                                        : 64,
                 rows = values.size() / columns;
    const std::string theirs = hf_name(name);
    add(theirs, is_vector ? std::to_string(columns) : std::to_string(rows) + "," + std::to_string(columns), values);
    if (theirs.find("self_attn") == std::string::npos) return;
    std::vector<float> bias(rows);
    for (float& value : bias) value = normal(random);
    add(theirs.substr(0, theirs.rfind('.')) + ".bias", std::to_string(rows), bias);
  });
  header += "}";
  std::filesystem::create_directory(folder);
  std::ofstream weights(folder / "model.safetensors", std::ios::binary);
  const uint64_t length = header.size();
  weights.write(reinterpret_cast<const char*>(&length), sizeof length);
  weights << header << data;
  std::ofstream(folder / "config.json") << "{\"model_type\":\"llama\"," << rope
                                        << "\"hidden_size\":64,\"intermediate_size\":128,\"num_hidden_layers\":3,\"num_attention_heads\":2,"
                                           "\"num_key_value_heads\":1,\"head_dim\":32,"
                                           "\"max_position_embeddings\":256,\"rms_norm_eps\":1e-5,\"vocab_size\":200,\"hidden_act\":"
                                           "\"silu\",\"attention_bias\":true,\"tie_word_embeddings\":true}";
}

}  // namespace outrigger::testing

#endif  // OUTRIGGER_TESTS_SUPPORT_RANDOM_DIRECTORY_H_
