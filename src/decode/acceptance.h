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
  bool is_accepted = false;  ///< it is one of the draft's
};

/// Takes a draft's tokens so that the output is distributed as the sampler's alone. What stands for itself is compared with the sampler's
/// own next token, so that the output is the one that plain decoding draws with the same seed. What was drawn from q is taken with
/// probability min(1, p/q) of the sampler's p; otherwise p becomes what it has beyond q, q what it is without that token, and the next of
/// several that were drawn for the same place has its turn; behind the last one the token is drawn from what p has become.
/// @source Leviathan, Kalman and Matias 2023, alg. 1; Chen et al. 2024 (arXiv 2402.12374) for several
class Acceptance {
 public:
  /// `seed`: of a stream of numbers beside the sampler's own.
  explicit Acceptance(uint64_t seed) : random_(seed) {}

  /// Whether one of `drafted`, which stand for themselves, follows `history`. Errors: Sampler::sample's.
  static Result<Verdict> judge(Sampler& sampler, std::span<const float> logits, std::span<const Token> history,
                               std::span<const Token> drafted);
  /// The same of tokens that were drawn from `drawn_from` in this order, without those before. Precondition: it has them all.
  Result<Verdict> judge_drawn(Sampler& sampler, std::span<const float> logits, std::span<const Token> history,
                              std::span<const Token> drafted, std::span<const TokenProbability> drawn_from);

 private:
  /// What is left of a candidate of the draft's.
  struct Left {
    Token token = -1;
    double wanted = 0, drafted = 0;
  };
  void compare(std::span<const TokenProbability> wanted, std::span<const TokenProbability> drawn_from);
  Left* find(Token token);
  void sum();
  Token draw_left(std::span<const TokenProbability> wanted);

  Random random_;
  std::vector<Left> left_;           ///< by token
  double others_ = 0;                ///< of the wanted distribution, what the draft has no candidates for
  double wanted_ = 0, drafted_ = 0;  ///< sums of what is left
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_ACCEPTANCE_H_
