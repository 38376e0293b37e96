// Sampler: greedy, each cut alone, the penalty, and the distribution that is left.
#include <outrigger/sampling.h>

#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::map<Token, int> draw(SamplingOptions options, const std::vector<float>& logits, int times, const std::vector<Token>& history = {}) {
  Sampler sampler = must(Sampler::create(options));
  std::map<Token, int> counts;
  for (int i = 0; i < times; ++i) ++counts[must(sampler.sample(logits, history))];
  return counts;
}

TEST_CASE("Sampler: temperature 0 takes the likeliest, the lower id of equals, and ignores NaN") {
  CHECK(draw({}, {1, 3, 3, 2}, 1) == std::map<Token, int>{{1, 1}});
  CHECK(draw({}, {NAN, -kInfinity, -5, NAN}, 1) == std::map<Token, int>{{2, 1}});
  CHECK(draw({}, {0, kInfinity, 1}, 1) == std::map<Token, int>{{1, 1}});
}

TEST_CASE("Sampler: logits that leave nothing to draw are refused") {
  Sampler sampler = must(Sampler::create({}));
  CHECK(sampler.sample({}, {}).status().code() == StatusCode::kInvalidArgument);
  const std::vector<float> none = {-kInfinity, NAN};
  CHECK(sampler.sample(none, {}).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("Sampler: draws follow the softmax at the temperature") {
  const std::vector<float> logits = {0, 1, 2, -1};
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    CAPTURE(temperature);
    const int times = 40000;
    std::map<Token, int> counts = draw({.temperature = temperature, .seed = 5}, logits, times);
    double total = 0, chi_square = 0;
    for (const float logit : logits) total += std::exp(logit / temperature);
    for (size_t i = 0; i < logits.size(); ++i) {
      const double expected = times * std::exp(logits[i] / temperature) / total;
      chi_square += std::pow(counts[static_cast<Token>(i)] - expected, 2) / expected;
    }
    CHECK(chi_square < 16.27);  // 3 degrees of freedom, 0.1 %
    CHECK(chi_square > 1e-4);   // a fixed answer would not vary at all
  }
}

TEST_CASE("Sampler: top-k, top-p and min-p keep what they say") {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.25f), std::log(0.15f), std::log(0.1f)};
  CHECK(draw({.temperature = 1, .top_k = 2}, logits, 500).size() == 2);
  CHECK(draw({.temperature = 1, .top_k = 1}, logits, 50).size() == 1);
  CHECK(draw({.temperature = 1, .top_p = 0.74f}, logits, 500).size() == 2);
  CHECK(draw({.temperature = 1, .top_p = 0.76f}, logits, 500).size() == 3);
  CHECK(draw({.temperature = 1, .top_p = 1e-6f}, logits, 50).size() == 1);
  CHECK(draw({.temperature = 1, .min_p = 0.25f}, logits, 500).size() == 3);
  CHECK(draw({.temperature = 1, .min_p = 1}, logits, 50).size() == 1);
}

TEST_CASE("Sampler: the penalty makes recent tokens less likely once, whatever their sign, and looks no further back than told") {
  CHECK(draw({.repeat_penalty = 2}, {4, 3, -1}, 1, {0, 0}) == std::map<Token, int>{{1, 1}});      // 4 -> 2
  CHECK(draw({.repeat_penalty = 1.2f}, {4, 3, -1}, 1, {0, 0}) == std::map<Token, int>{{0, 1}});   // 4 -> 3.33, once
  CHECK(draw({.repeat_penalty = 4}, {-2, -3}, 1, {0}) == std::map<Token, int>{{1, 1}});           // -2 -> -8
  CHECK(draw({.repeat_penalty = 2, .repeat_last_tokens = 1}, {4, 3}, 1, {0, 1}) == std::map<Token, int>{{0, 1}});
  CHECK(draw({.repeat_penalty = 2, .repeat_last_tokens = -1}, {4, 3}, 1, {0, 5, 6, -7}) == std::map<Token, int>{{1, 1}});
}

TEST_CASE("Sampler: a seed gives the same draws again, another one others") {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i % 17) / 10;
  const auto sequence = [&](uint64_t seed) {
    Sampler sampler = must(Sampler::create({.temperature = 1, .seed = seed}));
    std::vector<Token> tokens;
    for (int i = 0; i < 20; ++i) tokens.push_back(must(sampler.sample(logits, tokens)));
    return tokens;
  };
  CHECK(sequence(1) == sequence(1));
  CHECK(sequence(1) != sequence(2));
}

TEST_CASE("Sampler: options out of range are refused by name") {
  const auto message = [](SamplingOptions options) { return Sampler::create(options).status().message(); };
  CHECK(message({.temperature = -1}).starts_with("temperature: got"));
  CHECK(message({.temperature = NAN}).starts_with("temperature: got"));
  CHECK(message({.top_k = -1}).starts_with("top_k: got"));
  CHECK(message({.top_p = 0}).starts_with("top_p: got"));
  CHECK(message({.top_p = 1.5f}).starts_with("top_p: got"));
  CHECK(message({.min_p = -0.1f}).starts_with("min_p: got"));
  CHECK(message({.repeat_penalty = 0}).starts_with("repeat_penalty: got"));
  CHECK(message({.repeat_last_tokens = -2}).starts_with("repeat_last_tokens: got"));
}

}  // namespace
}  // namespace outrigger::testing
