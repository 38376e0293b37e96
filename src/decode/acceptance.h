// Acceptance: which tokens of a draft the model takes, and what it says instead.
#ifndef OUTRIGGER_SRC_DECODE_ACCEPTANCE_H_
#define OUTRIGGER_SRC_DECODE_ACCEPTANCE_H_

#include <outrigger/sampling.h>
#include <outrigger/status.h>

#include <span>
#include <vector>

#include "src/decode/random.h"

namespace outrigger {

/// Draws from a distribution by a number uniform in [0, 1). Precondition: it is not empty.
Token draw_token(std::span<const TokenProbability> distribution, double uniform);

/// What the model says at one place of a draft.
struct Verdict {
  Token token = -1;          ///< the next token of the output, whether the draft had it or not
  bool is_accepted = false;  ///< it is the draft's
};

/// Takes a draft's tokens so that the output is distributed as the sampler's alone. What stands for itself is compared with the sampler's
/// own next token, so that the output is the one that plain decoding draws with the same seed. What was drawn from q is taken with
/// probability min(1, p/q) of the sampler's p, and otherwise replaced by a draw from what p has beyond q. @source Leviathan, Kalman and
/// Matias 2023, alg. 1
class Acceptance {
 public:
  /// `seed`: of a stream of numbers beside the sampler's own.
  explicit Acceptance(uint64_t seed) : random_(seed) {}

  /// Whether `token`, which stands for itself, follows `history`. Errors: Sampler::sample's.
  static Result<Verdict> judge(Sampler& sampler, std::span<const float> logits, std::span<const Token> history, Token token);
  /// The same of a token that was drawn from `drawn_from`.
  Result<Verdict> judge_drawn(Sampler& sampler, std::span<const float> logits, std::span<const Token> history, Token token,
                              std::span<const TokenProbability> drawn_from);

 private:
  Token draw_beyond(std::span<const TokenProbability> wanted, std::span<const TokenProbability> drawn_from);

  Random random_;
  std::vector<TokenProbability> by_token_, beyond_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_ACCEPTANCE_H_
