// The same bits at every instruction level: whole steps of the tiny models, prompt and single tokens, on the fast path and in float32.
#include "tests/kernels/kernel_case.h"
#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

// The logits of every token of a prompt, and of some that follow one by one.
std::vector<float> all_logits(const Model& model, const EngineSetup& setup) {
  const Engine engine = open_engine(model, setup);
  Session session = must(Session::open(engine));
  std::vector<float> all;
  std::vector<Token> prompt;
  for (Token token = 0; token < 150; ++token) prompt.push_back(token * 7 % 256);
  const auto take = [&all](size_t, std::span<const float> logits) { all.insert(all.end(), logits.begin(), logits.end()); };
  must(session.evaluate(prompt, take));
  for (Token token = 30; token < 40; ++token) must(session.evaluate(std::vector<Token>{token}, take));
  return all;
}

void check_levels(const std::string& name, const EngineSetup& setup) {
  const Model model = must(Model::open(tiny_model_path(name)));
  std::vector<float> plain;
  for (const SimdLevel level : levels()) {
    const AtLevel at(level);
    CAPTURE(name, simd_level_name(level), kv_type_name(setup.kv_type));
    const std::vector<float> logits = all_logits(model, setup);
    if (level == SimdLevel::kNone) plain = logits;
    CHECK(same_bits(logits, plain));
  }
}

TEST_CASE("Logits of tiny models have the same bits at every instruction level") {
  for (const char* name : {"odd-f32", "tied-q4_1", "llama3-mixed", "linear-f16", "q8_0-one-layer"}) {
    check_levels(name, {});
    check_levels(name, reference_setup());
  }
  check_levels("q8_0-one-layer", {.kv_type = KvType::kQ8_0});
}

}  // namespace
}  // namespace outrigger::testing
