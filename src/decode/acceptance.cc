// Which tokens of a draft the model takes: rejection sampling.
#include "src/decode/acceptance.h"

#include <algorithm>

#include "src/base/macros.h"

namespace outrigger {
Token draw_token(std::span<const TokenProbability> distribution, double uniform) {
  for (const TokenProbability& candidate : distribution) {
    if ((uniform -= candidate.probability) < 0) return candidate.token;
  }
  return distribution.back().token;  // rounding
}

Result<Verdict> Acceptance::judge(Sampler& sampler, std::span<const float> logits, std::span<const Token> history,
                                  std::span<const Token> drafted) {
  OTR_ASSIGN(const Token own, sampler.sample(logits, history));
  return Verdict{own, std::find(drafted.begin(), drafted.end(), own) != drafted.end()};
}

Result<Verdict> Acceptance::judge_drawn(Sampler& sampler, std::span<const float> logits, std::span<const Token> history,
                                        std::span<const Token> drafted, std::span<const TokenProbability> drawn_from) {
  OTR_ASSIGN(const std::span<const TokenProbability> wanted, sampler.distribution(logits, history));
  compare(wanted, drawn_from);
  for (const Token token : drafted) {
    Left& tried = *find(token);
    if (random_.uniform() * tried.drafted * wanted_ < tried.wanted * drafted_) return Verdict{token, true};
    const double scale = wanted_ / drafted_;  // both to the same measure
    for (Left& candidate : left_) candidate.wanted = std::max(candidate.wanted - scale * candidate.drafted, 0.0);
    tried.drafted = 0;
    sum();
  }
  return Verdict{draw_left(wanted), false};
}

// A draft's distribution has few tokens, the sampler's may have all: only those of the draft's are looked up.
void Acceptance::compare(std::span<const TokenProbability> wanted, std::span<const TokenProbability> drawn_from) {
  left_.clear();
  for (const TokenProbability& candidate : drawn_from) left_.push_back({candidate.token, 0, candidate.probability});
  std::sort(left_.begin(), left_.end(), [](const Left& a, const Left& b) { return a.token < b.token; });
  others_ = 0;
  for (const TokenProbability& candidate : wanted) {
    if (Left* const of_draft = find(candidate.token)) {
      of_draft->wanted = candidate.probability;
    } else {
      others_ += candidate.probability;
    }
  }
  sum();
}

Acceptance::Left* Acceptance::find(Token token) {
  const auto found = std::lower_bound(left_.begin(), left_.end(), token, [](const Left& a, Token b) { return a.token < b; });
  return found == left_.end() || found->token != token ? nullptr : &*found;
}

void Acceptance::sum() {
  wanted_ = others_;
  drafted_ = 0;
  for (const Left& candidate : left_) wanted_ += candidate.wanted, drafted_ += candidate.drafted;
}

Token Acceptance::draw_left(std::span<const TokenProbability> wanted) {
  const double uniform = random_.uniform();
  double point = uniform * wanted_;
  Token last = -1;  // for rounding
  for (const TokenProbability& candidate : wanted) {
    const Left* const of_draft = find(candidate.token);
    const double left = of_draft == nullptr ? candidate.probability : of_draft->wanted;
    if (left <= 0) continue;
    if ((point -= left) < 0) return candidate.token;
    last = candidate.token;
  }
  // Nothing left: both are the same but for rounding, and so is a draw from either.
  return last >= 0 ? last : draw_token(wanted, uniform);
}

}  // namespace outrigger
