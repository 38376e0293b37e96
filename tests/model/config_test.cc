// ModelConfig: what a mixture of experts is read as. What is refused is in the catalogue of malformed files
// (tests/golden/make_bad_gguf.py).
#include "src/model/config.h"

#include <functional>
#include <string>

#include "src/io/byte_source.h"
#include "tests/support/engines.h"
#include "tests/support/gguf_writer.h"

namespace outrigger::testing {
namespace {

/// The settings that every model has, and those that `add` gives it.
ModelConfig config_of(const std::string& architecture, const std::function<void(GgufWriter&)>& add) {
  GgufWriter writer;
  writer.add_string("general.architecture", architecture);
  for (const auto& [key, value] :
       {std::pair{"block_count", 1}, {"embedding_length", 32}, {"context_length", 128}, {"attention.head_count", 2}})
    writer.add_u32(architecture + "." + key, static_cast<uint32_t>(value));
  writer.add_f32(architecture + ".attention.layer_norm_rms_epsilon", 1e-5f);
  add(writer);
  const std::vector<std::byte> bytes = writer.finish();
  return must(read_config(must(GgufFile::open(wrap_memory(bytes)))));
}

TEST_CASE("Config: a llama without experts is dense") {
  for (const bool says_so : {false, true}) {
    const ModelConfig config = config_of("llama", [&](GgufWriter& writer) {
      writer.add_u32("llama.feed_forward_length", 64);
      if (says_so) writer.add_u32("llama.expert_count", 0);
    });
    CHECK(config.experts == 0);
    CHECK(config.used_experts == 0);
    CHECK(config.ffn_width == 64);
    CHECK(config.expert_ffn_width == 0);
    CHECK(config.shared_ffn_width == 0);
    CHECK(!config.normalise_expert_weights);
  }
}

TEST_CASE("Config: a llama with experts is a Mixtral: experts as wide as the file's feed-forward, weights that sum to one") {
  const ModelConfig config = config_of("llama", [](GgufWriter& writer) {
    writer.add_u32("llama.feed_forward_length", 64);
    writer.add_u32("llama.expert_count", 8);
    writer.add_u32("llama.expert_used_count", 2);
  });
  CHECK(config.experts == 8);
  CHECK(config.used_experts == 2);
  CHECK(config.expert_ffn_width == 64);
  CHECK(config.shared_ffn_width == 0);
  CHECK(config.normalise_expert_weights);
}

TEST_CASE("Config: qwen2moe has a shared expert and keeps the weights of the softmax, qwen3moe the reverse") {
  for (const std::string name : {"qwen2moe", "qwen3moe"}) {
    CAPTURE(name);
    const ModelConfig config = config_of(name, [&](GgufWriter& writer) {
      writer.add_u32(name + ".feed_forward_length", 64);
      writer.add_u32(name + ".expert_count", 60);
      writer.add_u32(name + ".expert_used_count", 60);
      writer.add_u32(name + ".expert_feed_forward_length", 48);
    });
    CHECK(config.experts == 60);
    CHECK(config.used_experts == 60);
    CHECK(config.ffn_width == 64);
    CHECK(config.expert_ffn_width == 48);
    CHECK(config.shared_ffn_width == (name == "qwen2moe" ? 64 : 0));
    CHECK(config.normalise_expert_weights == (name == "qwen3moe"));
  }
}

TEST_CASE("Config: the file may say whether experts' weights are divided by their sum") {
  for (const bool divides : {false, true}) {
    const ModelConfig config = config_of("qwen3moe", [&](GgufWriter& writer) {
      writer.add_u32("qwen3moe.expert_count", 4096);
      writer.add_u32("qwen3moe.expert_used_count", 64);
      writer.add_u32("qwen3moe.expert_feed_forward_length", 48);
      writer.add_bool("qwen3moe.expert_weights_norm", divides);
    });
    CHECK(config.experts == 4096);
    CHECK(config.used_experts == 64);
    CHECK(config.normalise_expert_weights == divides);
  }
}

TEST_CASE("Config: a mixture whose experts state their widths needs no other") {
  const ModelConfig config = config_of("qwen2moe", [](GgufWriter& writer) {
    writer.add_u32("qwen2moe.expert_count", 4);
    writer.add_u32("qwen2moe.expert_used_count", 1);
    writer.add_u32("qwen2moe.expert_feed_forward_length", 40);
    writer.add_u32("qwen2moe.expert_shared_feed_forward_length", 96);
  });
  CHECK(config.ffn_width == 0);
  CHECK(config.expert_ffn_width == 40);
  CHECK(config.shared_ffn_width == 96);
}

TEST_CASE("Config: settings that say in so many words what is computed anyway are taken") {
  const ModelConfig config = config_of("qwen2moe", [](GgufWriter& writer) {
    writer.add_u32("qwen2moe.feed_forward_length", 64);
    for (const auto& [key, value] : {std::pair{"expert_count", 4},
                                     {"expert_used_count", 2},
                                     {"expert_shared_count", 1},
                                     {"expert_group_count", 1},
                                     {"expert_group_used_count", 1},
                                     {"expert_gating_func", 1},
                                     {"moe_every_n_layers", 1},
                                     {"leading_dense_block_count", 0}})
      writer.add_u32(std::string("qwen2moe.") + key, static_cast<uint32_t>(value));
    writer.add_f32("qwen2moe.expert_weights_scale", 0);
  });
  CHECK(config.experts == 4);
  const ModelConfig scaled = config_of("qwen3moe", [](GgufWriter& writer) {
    writer.add_u32("qwen3moe.feed_forward_length", 64);
    writer.add_u32("qwen3moe.expert_count", 4);
    writer.add_u32("qwen3moe.expert_used_count", 2);
    writer.add_f32("qwen3moe.expert_weights_scale", 1);
  });
  CHECK(scaled.expert_ffn_width == 64);
}

}  // namespace
}  // namespace outrigger::testing
