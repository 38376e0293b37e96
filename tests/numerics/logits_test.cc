// Logits against an independent oracle: transformers in float32 on the dequantised weights (tests/golden/make_*.py).
#include "tests/support/logits_difference.h"

namespace outrigger::testing {
namespace {

TEST_CASE("Logits of tiny models in float32 are those of transformers") {
  for (const char* name : {"odd-f32", "tied-q4_1", "llama3-mixed", "linear-f16", "q8_0-one-layer"}) {
    CAPTURE(name);
    const Engine engine = open_engine(must(Model::open(tiny_model_path(name))), reference_setup());
    const Difference difference = differ_from_oracle(engine, GoldenLogits::read(name));
    CAPTURE(difference.most);
    CHECK(difference.most < 2e-5);  // logits reach 7: some 40 units in the last place
    CHECK(difference.other_best == 0);
  }
}

TEST_CASE("Logits with int8 activations stay close to float32, and would be noticed if they were not rounded at all") {
  for (const char* name : {"tied-q4_1", "q8_0-one-layer"}) {
    CAPTURE(name);
    const Engine engine = open_engine(must(Model::open(tiny_model_path(name))));
    const Difference difference = differ_from_oracle(engine, GoldenLogits::read(name));
    CAPTURE(difference.most);
    CHECK(difference.most < 0.25);
    CHECK(difference.most > 4e-3);
  }
}

TEST_CASE("Logits with activations rounded to bf16 stay close to float32, and would be noticed if they were not rounded") {
  EngineSetup setup;
  setup.kv_type = KvType::kF32;  // so that nothing else is rounded: half of this model's matrices are F16
  const Engine engine = open_engine(must(Model::open(tiny_model_path("linear-f16"))), setup);
  const Difference difference = differ_from_oracle(engine, GoldenLogits::read("linear-f16"));
  CAPTURE(difference.most);
  CHECK(difference.most < 0.1);
  CHECK(difference.most > 4e-3);
}

TEST_CASE("The oracle notices two tokens that changed places") {
  const Engine engine = open_engine(must(Model::open(tiny_model_path("odd-f32"))), reference_setup());
  GoldenLogits golden = GoldenLogits::read("odd-f32");
  for (GoldenSequence& sequence : golden.sequences) {
    if (sequence.tokens.size() > 2) std::swap(sequence.tokens[0], sequence.tokens[1]);
  }
  CHECK(differ_from_oracle(engine, golden).most > 1e-2);
}

}  // namespace
}  // namespace outrigger::testing
