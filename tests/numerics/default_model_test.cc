// The default model, as people run it: logits against transformers, and one text whatever the budget, threads and chunks.
#include <algorithm>
#include <cmath>
#include <map>

#include "src/base/bytes.h"
#include "tests/kernels/kernel_case.h"
#include "tests/support/engines.h"
#include "tests/support/few_cases.h"
#include "tests/support/golden_logits.h"
#include "tests/support/greedy.h"

namespace outrigger::testing {
namespace {

const Model& default_model() {
  static const Model model = must(Model::open(default_model_path()));
  return model;
}

std::vector<Token> chat_prompt(const std::string& question) {
  const ChatMessage message{"user", question};
  return must(must(default_model().tokenizer()).chat({&message, 1}));
}

TEST_CASE("The default model's float32 logits are within 2e-3 of transformers") {
  const GoldenLogits golden = GoldenLogits::read("default");
  EngineSetup setup = reference_setup();
  setup.context_tokens = 640;
  const Engine engine = open_engine(default_model(), setup);
  for (const GoldenSequence& sequence : golden.sequences) {
    Session session = must(Session::open(engine));
    size_t next = 0;
    double most = 0;
    must(session.evaluate(sequence.tokens, [&](size_t index, std::span<const float> logits) {
      if (next == sequence.positions.size() || static_cast<int32_t>(index) != sequence.positions[next]) return;
      for (size_t k = 0; k < golden.ids.size(); ++k) {
        most = std::max<double>(most, std::abs(logits[static_cast<size_t>(golden.ids[k])] - sequence.rows[next][k]));
      }
      CHECK(std::max_element(logits.begin(), logits.end()) - logits.begin() == sequence.best[next]);
      ++next;
    }));
    CAPTURE(sequence.tokens.size(), most);
    CHECK(next == sequence.positions.size());
    CHECK(most < 2e-3);
  }
}

TEST_CASE("The default model says the same under a budget smaller than itself, with 1, 2 and 3 threads") {
  const std::vector<Token> prompt = chat_prompt("What is gravity?");
  const std::vector<Token> expected = greedy(open_engine(default_model()), prompt, 24);
  REQUIRE(expected.size() == 24);
  for (const uint32_t threads : {1u, 2u, 3u}) {
    CAPTURE(threads);
    const EngineSetup setup{.host_bytes = 64_MiB, .threads = threads};
    const Engine engine = open_engine(default_model(), setup);
    CHECK(greedy(engine, prompt, 24) == expected);
    const TierUse host = engine.memory().host;
    CHECK(host.peak_bytes <= 64_MiB);
    CHECK(host.peak_bytes == host.planned_bytes);
    CHECK(engine.streamed().disk_bytes > 0);
  }
}

TEST_CASE("The default model's logits have the same bits at every instruction level") {
  const std::vector<Token> prompt = chat_prompt("What is gravity?");
  std::vector<std::vector<float>> rows;
  for (const SimdLevel level : levels()) {
    const AtLevel at(level);
    CAPTURE(simd_level_name(level));
    Session session = must(Session::open(open_engine(default_model())));
    must(session.prefill(prompt));
    must(session.step(28));
    rows.emplace_back(session.logits().begin(), session.logits().end());
    CHECK(same_bits(rows.back(), rows.front()));
  }
}

// Mean distance of the logits of a prompt's tokens from those with a float32 cache, everything else in float32.
double distance_from_float32_cache(KvType type) {
  const std::vector<Token> prompt = chat_prompt("Describe a river from its spring to the sea, and say who lives beside it.");
  const auto logits_with = [&prompt](KvType kv_type) {
    EngineSetup setup = reference_setup();
    setup.kv_type = kv_type;
    Session session = must(Session::open(open_engine(default_model(), setup)));
    std::vector<float> all;
    must(session.evaluate(prompt, [&all](size_t, std::span<const float> logits) { all.insert(all.end(), logits.begin(), logits.end()); }));
    return all;
  };
  const std::vector<float> exact = logits_with(KvType::kF32), rounded = logits_with(type);
  double sum = 0;
  for (size_t i = 0; i < exact.size(); ++i) sum += std::abs(double{exact[i]} - rounded[i]);
  return sum / static_cast<double>(exact.size());
}

TEST_CASE("The default model's logits hardly move with a float16 cache, and little with q8_0") {
  const double halves = distance_from_float32_cache(KvType::kF16), codes = distance_from_float32_cache(KvType::kQ8_0);
  CAPTURE(halves, codes);
  CHECK(halves > 0);
  CHECK(halves < 0.02);
  CHECK(codes > 2 * halves);
  CHECK(codes < 0.2);
}

TEST_CASE("The default model runs in the smallest budget its plan allows, and one byte less is refused with that number") {
  EngineSetup setup{.context_tokens = 96, .logit_rows = 1};
  const uint64_t least = smallest_budget(default_model(), setup);
  CHECK(least < 24_MiB);
  setup.host_bytes = least - 1;
  const Status refused = plan_for(default_model(), setup).status();
  CHECK(refused.code() == StatusCode::kBudget);
  CHECK(refused.needed_bytes() == least);
  setup.host_bytes = least;
  const std::vector<Token> prompt = chat_prompt("Count to five.");
  CHECK(greedy(open_engine(default_model(), setup), prompt, 8) == greedy(open_engine(default_model()), prompt, 8));
}

TEST_CASE("The default model says the same after a long prompt in chunks of 1, 7, 64 and 512, with 1, 2 and 3 threads") {
  const std::vector<Token> words =
      chat_prompt("Write a short poem about rivers and the sea, in simple words that a child can understand, please.");
  std::vector<Token> prompt;
  while (prompt.size() < 530) prompt.insert(prompt.end(), words.begin(), words.end());
  std::vector<Token> expected;
  for (const uint32_t threads : {2u, 1u, 3u}) {
    const Engine engine = open_engine(default_model(), {.threads = threads, .context_tokens = 600});
    for (const size_t chunk : {512, 64, 7, 1}) {
      // A token at a time takes its time: once is enough, since a step of one token is what generating is made of. So does each of these
      // with a sanitizer, which looks for what a shorter run shows as well.
      if ((chunk == 1 && threads != 2) || (kIsSanitized && (chunk < 64 || threads == 1))) continue;
      CAPTURE(threads, chunk);
      const std::vector<Token> tokens = greedy(engine, prompt, 16, chunk);
      if (expected.empty()) expected = tokens;
      CHECK(tokens == expected);
    }
  }
}

}  // namespace
}  // namespace outrigger::testing
