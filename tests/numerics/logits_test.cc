// Logits against an independent oracle: transformers in float32 on the dequantised weights (tests/golden/make_*.py).
#include <algorithm>
#include <cmath>
#include <map>

#include "tests/support/engines.h"
#include "tests/support/golden_logits.h"

namespace outrigger::testing {
namespace {

struct Difference {
  double most = 0;      // largest absolute difference of a logit
  int other_best = 0;   // positions where another id is the likeliest
};

Difference differ_from_oracle(const Engine& engine, const GoldenLogits& golden) {
  Difference difference;
  for (const GoldenSequence& sequence : golden.sequences) {
    Session session = must(Session::open(engine));
    std::map<size_t, std::vector<float>> rows;
    must(session.evaluate(sequence.tokens, [&](size_t index, std::span<const float> logits) { rows[index].assign(logits.begin(), logits.end()); }));
    for (size_t i = 0; i < sequence.positions.size(); ++i) {
      const std::vector<float>& row = rows.at(static_cast<size_t>(sequence.positions[i]));
      for (size_t k = 0; k < golden.ids.size(); ++k) {
        difference.most = std::max<double>(difference.most, std::abs(row[static_cast<size_t>(golden.ids[k])] - sequence.rows[i][k]));
      }
      difference.other_best += std::max_element(row.begin(), row.end()) - row.begin() != sequence.best[i];
    }
  }
  return difference;
}

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
