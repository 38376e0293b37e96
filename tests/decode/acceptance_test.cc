// Acceptance: what comes out of drafts is distributed as what the sampler draws alone. A rule that is slightly wrong fails the same checks.
#include "src/decode/acceptance.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <vector>

#include "tests/support/chi_square.h"
#include "tests/support/engines.h"

namespace outrigger::testing {
namespace {

constexpr int kSamples = 10000;
constexpr Token kTokens = 8;

// What a toy model says after `history`: its last token decides.
std::vector<float> model_logits(std::span<const Token> history) {
  std::vector<float> logits;
  for (Token token = 0; token < kTokens; ++token) logits.push_back(static_cast<float>(1.3 * std::sin(1 + 3 * token + 5 * history.back())));
  return logits;
}

// And its draft: the same with something else added, and one token that it never says.
std::vector<float> draft_logits(std::span<const Token> history) {
  std::vector<float> logits = model_logits(history);
  for (Token token = 0; token < kTokens; ++token) logits[token] += static_cast<float>(0.9 * std::cos(2 * token + history.back()));
  logits[3] = -INFINITY;
  return logits;
}

// Decides about a drafted token.
using Judge = std::function<Verdict(Sampler& sampler, std::span<const float> logits, std::span<const Token> history, Token token,
                                    std::span<const TokenProbability> drawn_from)>;

// The first two tokens after token 1, from chains of two drafted tokens, counted.
std::map<std::pair<Token, Token>, int> counted_pairs(const SamplingOptions& options, const Judge& judge) {
  Sampler sampler = must(Sampler::create(options)), drafter = must(Sampler::create(options));
  Random random(99);
  std::map<std::pair<Token, Token>, int> counts;
  for (int sample = 0; sample < kSamples; ++sample) {
    std::vector<Token> text = {1};
    while (text.size() < 3) {
      std::vector<Token> chain = text;
      std::vector<std::vector<TokenProbability>> drawn_from;
      for (int i = 0; i < 2; ++i) {
        const auto distribution = must(drafter.distribution(draft_logits(chain), chain));
        drawn_from.emplace_back(distribution.begin(), distribution.end());
        chain.push_back(draw_token(distribution, random.uniform()));
      }
      const size_t base = text.size();
      bool goes_on = true;
      for (size_t i = 0; i < 2 && goes_on; ++i) {
        const Verdict verdict = judge(sampler, model_logits(text), text, chain[base + i], drawn_from[i]);
        text.push_back(verdict.token);
        goes_on = verdict.is_accepted;
      }
      if (goes_on) text.push_back(must(Acceptance::judge(sampler, model_logits(text), text, {})).token);
    }
    ++counts[{text[1], text[2]}];
  }
  return counts;
}

struct PairSquares {
  double next = 0, pair = 0;  // of the first token, and of both
  int next_outcomes = 0, pair_outcomes = 0;
};

// Against what the sampler says of each outcome.
PairSquares chi_square(const SamplingOptions& options, const std::map<std::pair<Token, Token>, int>& counts) {
  Sampler sampler = must(Sampler::create(options));
  const std::vector<Token> begin = {1};
  const auto first = must(sampler.distribution(model_logits(begin), begin));
  PairSquares result;
  int seen = 0;
  for (const TokenProbability& one : std::vector(first.begin(), first.end())) {
    int count = 0;
    for (const auto& [pair, times] : counts) count += pair.first == one.token ? times : 0;
    result.next += std::pow(count - one.probability * kSamples, 2) / (one.probability * kSamples);
    ++result.next_outcomes;
    const std::vector<Token> text = {1, one.token};
    const auto second = must(sampler.distribution(model_logits(text), text));
    for (const TokenProbability& other : second) {
      const double expected = one.probability * other.probability * kSamples;
      const auto found = counts.find({one.token, other.token});
      const int times = found == counts.end() ? 0 : found->second;
      seen += times;
      result.pair += std::pow(times - expected, 2) / expected;
      ++result.pair_outcomes;
    }
  }
  CHECK(seen == kSamples);  // nothing that the sampler leaves out
  return result;
}

const SamplingOptions kSettings[] = {
    {.temperature = 1, .seed = 11},
    {.temperature = 0.7f, .top_k = 5, .seed = 12},
    {.temperature = 1.4f, .top_p = 0.85f, .min_p = 0.05f, .repeat_penalty = 1.3f, .seed = 13},
};

TEST_CASE("Acceptance: the next token and the next two are distributed as the sampler's, whatever the draft says") {
  for (const SamplingOptions& options : kSettings) {
    CAPTURE(options.temperature);
    Acceptance acceptance(options.seed + 100);
    const auto counts = counted_pairs(options, [&](Sampler& sampler, auto logits, auto history, Token token, auto drawn_from) {
      return must(acceptance.judge_drawn(sampler, logits, history, {&token, 1}, drawn_from));
    });
    const PairSquares got = chi_square(options, counts);
    CHECK(got.next < most_chi_square(got.next_outcomes));
    CHECK(got.pair < most_chi_square(got.pair_outcomes));
  }
}

TEST_CASE("Acceptance: the same checks find rules that are slightly wrong") {
  const auto probability = [](std::span<const TokenProbability> distribution, Token token) {
    for (const TokenProbability& one : distribution) {
      if (one.token == token) return one.probability;
    }
    return 0.0;
  };
  for (const SamplingOptions& options : kSettings) {
    CAPTURE(options.temperature);
    Random random(5);
    // Right but for what is drawn after a rejection: from all of p instead of what it has beyond q.
    const Judge replaces_by_any = [&](Sampler& sampler, auto logits, auto history, Token token, auto drawn_from) {
      const auto wanted = must(sampler.distribution(logits, history));
      if (random.uniform() * probability(drawn_from, token) < probability(wanted, token)) return Verdict{token, true};
      return Verdict{draw_token(wanted, random.uniform()), false};
    };
    // Takes what is drawn as if it stood for itself.
    const Judge takes_for_granted = [&](Sampler& sampler, auto logits, auto history, Token token, auto) {
      const auto wanted = must(sampler.distribution(logits, history));
      if (random.uniform() < std::sqrt(probability(wanted, token))) return Verdict{token, true};
      return Verdict{draw_token(wanted, random.uniform()), false};
    };
    for (const Judge& judge : {replaces_by_any, takes_for_granted}) {
      Sampler sampler = must(Sampler::create(options));
      const auto counts = counted_pairs(options, judge);
      const PairSquares got = chi_square(options, counts);
      CHECK(got.next > most_chi_square(got.next_outcomes));
      CHECK(got.pair > most_chi_square(got.pair_outcomes));
    }
  }
}

// Decides about tokens that were drawn for one place, without those before.
using JudgeSeveral = std::function<Verdict(Sampler& sampler, std::span<const float> logits, std::span<const Token> history,
                                           std::span<const Token> drafted, std::span<const TokenProbability> drawn_from)>;

std::vector<Token> drawn_without_replacement(std::vector<TokenProbability> left, size_t count, Random& random) {
  std::vector<Token> drawn;
  while (drawn.size() < count && !left.empty()) {
    double total = 0;
    for (const TokenProbability& one : left) total += one.probability;
    const Token token = draw_token(left, random.uniform() * total);
    drawn.push_back(token);
    std::erase_if(left, [token](const TokenProbability& one) { return one.token == token; });
  }
  return drawn;
}

// As counted_pairs(), from trees of two levels with `width` tokens under each node.
std::map<std::pair<Token, Token>, int> counted_tree_pairs(const SamplingOptions& options, size_t width, const JudgeSeveral& judge) {
  Sampler sampler = must(Sampler::create(options)), drafter = must(Sampler::create(options));
  Random random(77);
  std::map<std::pair<Token, Token>, int> counts;
  for (int sample = 0; sample < kSamples; ++sample) {
    std::vector<Token> text = {1};
    while (text.size() < 3) {
      bool goes_on = true;
      for (int level = 0; level < 2 && goes_on; ++level) {  // of the tree only what hangs under an accepted node is ever looked at
        const auto distribution = must(drafter.distribution(draft_logits(text), text));
        const std::vector<TokenProbability> drawn_from(distribution.begin(), distribution.end());
        const std::vector<Token> drafted = drawn_without_replacement(drawn_from, width, random);
        const Verdict verdict = judge(sampler, model_logits(text), text, drafted, drawn_from);
        text.push_back(verdict.token);
        goes_on = verdict.is_accepted;
      }
      if (goes_on) text.push_back(must(Acceptance::judge(sampler, model_logits(text), text, {})).token);
    }
    ++counts[{text[1], text[2]}];
  }
  return counts;
}

TEST_CASE("Acceptance: of several tokens for one place, the next token and the next two are distributed as the sampler's") {
  for (const SamplingOptions& options : kSettings) {
    for (const size_t width : {2, 3, 8}) {
      CAPTURE(options.temperature, width);
      Acceptance acceptance(options.seed + 200);
      int later = 0;  // accepted that were not the first
      const auto counts =
          counted_tree_pairs(options, width, [&](Sampler& sampler, auto logits, auto history, auto drafted, auto drawn_from) {
            const Verdict verdict = must(acceptance.judge_drawn(sampler, logits, history, drafted, drawn_from));
            later += verdict.is_accepted && verdict.token != drafted[0];
            return verdict;
          });
      const PairSquares got = chi_square(options, counts);
      CHECK(got.next < most_chi_square(got.next_outcomes));
      CHECK(got.pair < most_chi_square(got.pair_outcomes));
      CHECK(later > kSamples / 50);
    }
  }
}

TEST_CASE("Acceptance: the same checks find rules for several tokens that are slightly wrong") {
  for (const SamplingOptions& options : kSettings) {
    CAPTURE(options.temperature);
    Acceptance first(options.seed), second(options.seed + 1);
    // Each has its turn as if it were the only one: what the model wants is not made less by what was refused.
    const JudgeSeveral each_alone = [&](Sampler& sampler, auto logits, auto history, auto drafted, auto drawn_from) {
      Verdict verdict;
      for (size_t i = 0; i < drafted.size() && !verdict.is_accepted; ++i) {
        verdict = must(first.judge_drawn(sampler, logits, history, drafted.subspan(i, 1), drawn_from));
      }
      return verdict;
    };
    // The likelier ones first, not in the order in which they were drawn.
    const JudgeSeveral in_another_order = [&](Sampler& sampler, auto logits, auto history, auto drafted, auto drawn_from) {
      const auto place = [&](Token token) {
        return std::find_if(drawn_from.begin(), drawn_from.end(), [token](const TokenProbability& one) { return one.token == token; });
      };
      std::vector<Token> sorted(drafted.begin(), drafted.end());
      std::sort(sorted.begin(), sorted.end(), [&](Token a, Token b) { return place(a) < place(b); });
      return must(second.judge_drawn(sampler, logits, history, sorted, drawn_from));
    };
    for (const JudgeSeveral& judge : {each_alone, in_another_order}) {
      const PairSquares got = chi_square(options, counted_tree_pairs(options, 3, judge));
      CHECK(got.next > most_chi_square(got.next_outcomes));
      CHECK(got.pair > most_chi_square(got.pair_outcomes));
    }
  }
}

TEST_CASE("Acceptance: what stands for itself is taken where the sampler draws it, with the sampler's own numbers") {
  const SamplingOptions options{.temperature = 1, .seed = 3};
  Sampler plain = must(Sampler::create(options)), judged = must(Sampler::create(options));
  std::vector<Token> text = {1};
  int accepted = 0;
  for (int i = 0; i < 500; ++i) {
    const Token own = must(plain.sample(model_logits(text), text));
    const Token drafted = i % kTokens;
    const Verdict verdict = must(Acceptance::judge(judged, model_logits(text), text, {&drafted, 1}));
    REQUIRE(verdict.token == own);
    REQUIRE(verdict.is_accepted == (own == i % kTokens));
    accepted += verdict.is_accepted;
    text.push_back(own);
  }
  CHECK(accepted > 20);
  CHECK(accepted < 200);
}

TEST_CASE("Acceptance: a draft that draws from the model's own distribution is always taken") {
  const SamplingOptions options{.temperature = 1, .seed = 4};
  Sampler sampler = must(Sampler::create(options)), drafter = must(Sampler::create(options));
  Acceptance acceptance(8);
  Random random(1);
  const std::vector<Token> text = {2};
  for (int i = 0; i < 2000; ++i) {
    const auto distribution = must(drafter.distribution(model_logits(text), text));
    const Token token = draw_token(distribution, random.uniform());
    REQUIRE(must(acceptance.judge_drawn(sampler, model_logits(text), text, {&token, 1}, distribution)).is_accepted);
  }
}

TEST_CASE("Sampler: its distribution is what it draws from, and drawing nothing changes nothing") {
  for (const SamplingOptions& options : kSettings) {
    const std::vector<Token> text = {1};
    Sampler asked = must(Sampler::create(options)), plain = must(Sampler::create(options));
    std::map<Token, int> counts;
    double total = 0;
    for (int i = 0; i < kSamples; ++i) {
      REQUIRE(must(asked.distribution(model_logits(text), text)).size() > 1);
      const Token token = must(asked.sample(model_logits(text), text));
      REQUIRE(token == must(plain.sample(model_logits(text), text)));
      ++counts[token];
    }
    double chi = 0;
    const auto distribution = must(asked.distribution(model_logits(text), text));
    for (const TokenProbability& one : distribution) {
      total += one.probability;
      chi += std::pow(counts[one.token] - one.probability * kSamples, 2) / (one.probability * kSamples);
    }
    CHECK(std::abs(total - 1) < 1e-12);
    CHECK(counts.size() == distribution.size());
    CHECK(chi < most_chi_square(static_cast<int>(distribution.size())));
  }
  Sampler greedy = must(Sampler::create({}));
  const std::vector<float> logits = {1, 4, 2};
  const auto only = must(greedy.distribution(logits, {}));
  REQUIRE(only.size() == 1);
  CHECK(only[0].token == 1);
  CHECK(only[0].probability == 1);
  CHECK(greedy.distribution({}, {}).status().code() == StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace outrigger::testing
