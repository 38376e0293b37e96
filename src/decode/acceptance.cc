// Which tokens of a draft the model takes: rejection sampling.
#include "src/decode/acceptance.h"

#include <algorithm>

#include "src/base/macros.h"

namespace outrigger {
namespace {

double probability_of(std::span<const TokenProbability> distribution, Token token) {
  for (const TokenProbability& candidate : distribution) {
    if (candidate.token == token) return candidate.probability;
  }
  return 0;
}

}  // namespace

Token draw_token(std::span<const TokenProbability> distribution, double uniform) {
  for (const TokenProbability& candidate : distribution) {
    if ((uniform -= candidate.probability) < 0) return candidate.token;
  }
  return distribution.back().token;  // rounding
}

Result<Verdict> Acceptance::judge(Sampler& sampler, std::span<const float> logits, std::span<const Token> history, Token token) {
  OTR_ASSIGN(const Token own, sampler.sample(logits, history));
  return Verdict{own, own == token};
}

Result<Verdict> Acceptance::judge_drawn(Sampler& sampler, std::span<const float> logits, std::span<const Token> history, Token token,
                                        std::span<const TokenProbability> drawn_from) {
  OTR_ASSIGN(const std::span<const TokenProbability> wanted, sampler.distribution(logits, history));
  if (random_.uniform() * probability_of(drawn_from, token) < probability_of(wanted, token)) return Verdict{token, true};
  return Verdict{draw_beyond(wanted, drawn_from), false};
}

// From max(p - q, 0), brought to a sum of 1. A draft's distribution has few tokens, the sampler's may have all.
Token Acceptance::draw_beyond(std::span<const TokenProbability> wanted, std::span<const TokenProbability> drawn_from) {
  const auto by_token = [](const TokenProbability& a, const TokenProbability& b) { return a.token < b.token; };
  by_token_.assign(drawn_from.begin(), drawn_from.end());
  std::sort(by_token_.begin(), by_token_.end(), by_token);
  beyond_.clear();
  double total = 0;
  for (TokenProbability candidate : wanted) {
    const auto drafted = std::lower_bound(by_token_.begin(), by_token_.end(), candidate, by_token);
    if (drafted != by_token_.end() && drafted->token == candidate.token) candidate.probability -= drafted->probability;
    if (candidate.probability <= 0) continue;
    beyond_.push_back(candidate);
    total += candidate.probability;
  }
  // Nothing beyond: both are the same but for rounding, and so is a draw from either.
  return beyond_.empty() ? draw_token(wanted, random_.uniform()) : draw_token(beyond_, random_.uniform() * total);
}

}  // namespace outrigger
