// RoPE scalings against transformers' frequencies (tests/golden/rope_scaling.json), and how files say which one they mean.
#include "src/model/rope_scaling.h"

#include <algorithm>
#include <cmath>

#include "src/io/byte_source.h"
#include "tests/support/engines.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/golden_text.h"

namespace outrigger::testing {
namespace {

constexpr uint64_t kContext = 4096;

// What a file with these entries means. `add` writes entries of "llama.rope.scaling.".
template <typename Add>
RopeScaling read(double base, uint32_t dim, Add add) {
  GgufWriter writer;
  writer.add_string("general.architecture", "llama");
  add(writer);
  const std::vector<std::byte> bytes = writer.finish();
  const GgufFile file = must(GgufFile::open(wrap_memory(bytes)));
  return must(read_rope_scaling(ConfigReader(file, "llama"), base, dim, kContext));
}

void add_number(GgufWriter& writer, const std::string& key, const nlohmann::json& rope, const char* name) {
  if (rope.contains(name)) writer.add_f32("llama.rope.scaling." + key, rope.at(name));
}

TEST_CASE("RoPE scalings: frequencies and magnitudes are those of transformers") {
  size_t kinds[3] = {};
  for (const nlohmann::json& row : golden_json("rope_scaling.json")) {
    const nlohmann::json& rope = row.at("rope");
    const std::string type = rope.at("rope_type");
    const double base = row.at("base");
    const uint32_t dim = row.at("dim");
    CAPTURE(rope.dump(), base, dim);
    const RopeScaling scaling = read(base, dim, [&](GgufWriter& writer) {
      writer.add_string("llama.rope.scaling.type", type);
      add_number(writer, "factor", rope, "factor");
      add_number(writer, "low_freq_factor", rope, "low_freq_factor");
      add_number(writer, "high_freq_factor", rope, "high_freq_factor");
      add_number(writer, "yarn_beta_fast", rope, "beta_fast");
      add_number(writer, "yarn_beta_slow", rope, "beta_slow");
      add_number(writer, "yarn_attn_factor", rope, "attention_factor");
      if (rope.contains("original_max_position_embeddings")) {
        writer.add_u32("llama.rope.scaling.original_context_length", rope.at("original_max_position_embeddings"));
      }
    });
    const std::vector<double> divisors = rope_divisors(scaling, base, dim);
    const std::vector<double> expected = row.at("frequencies");
    REQUIRE(divisors.size() == expected.size());
    double most = 0;
    for (uint32_t i = 0; i < expected.size(); ++i) {
      most = std::max(most, std::abs(std::pow(base, -2.0 * i / dim) / divisors[i] / expected[i] - 1));
    }
    CHECK(most < 2e-6);  // the oracle computes in float32
    CHECK(std::abs(scaling.magnitude - row.at("magnitude").get<double>()) < 1e-7);
    ++kinds[type == "linear" ? 0 : type == "llama3" ? 1 : 2];
  }
  CHECK(kinds[0] >= 4);
  CHECK(kinds[1] >= 16);
  CHECK(kinds[2] >= 64);
}

TEST_CASE("RoPE scalings: a factor without a type is linear, also under its old name; type none ignores it") {
  for (const char* key : {"llama.rope.scaling.factor", "llama.rope.scale_linear"}) {
    const RopeScaling scaling = read(10000, 8, [&](GgufWriter& writer) { writer.add_f32(key, 4); });
    CHECK(rope_divisors(scaling, 10000, 8) == std::vector<double>{4, 4, 4, 4});
  }
  const RopeScaling none = read(10000, 8, [](GgufWriter& writer) {
    writer.add_string("llama.rope.scaling.type", "none");
    writer.add_f32("llama.rope.scaling.factor", 4);
  });
  CHECK(rope_divisors(none, 10000, 8) == std::vector<double>{1, 1, 1, 1});
  CHECK(none.magnitude == 1);
}

TEST_CASE("RoPE scalings: yarn takes the model's context for the original one where the file states none; attn_factor multiplies") {
  const auto yarn = [](GgufWriter& writer) {
    writer.add_string("llama.rope.scaling.type", "yarn");
    writer.add_f32("llama.rope.scaling.factor", 4);
  };
  const RopeScaling without = read(10000, 64, yarn);
  const RopeScaling with = read(10000, 64, [&](GgufWriter& writer) {
    yarn(writer);
    writer.add_u32("llama.rope.scaling.original_context_length", kContext);
    writer.add_f32("llama.rope.scaling.attn_factor", 0.5f);
  });
  CHECK(rope_divisors(without, 10000, 64) == rope_divisors(with, 10000, 64));
  CHECK(with.magnitude == without.magnitude / 2);
  CHECK(std::abs(without.magnitude - (1 + 0.1 * std::log(4.0))) < 1e-12);
}

}  // namespace
}  // namespace outrigger::testing
