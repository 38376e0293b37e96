// Sampling: from logits to the next token.
#ifndef OUTRIGGER_SAMPLING_H_
#define OUTRIGGER_SAMPLING_H_

#include <outrigger/export.h>
#include <outrigger/status.h>
#include <outrigger/tokenizer.h>

#include <cstdint>
#include <memory>
#include <span>

namespace outrigger {

/// Applied in this order: repetition penalty, temperature, top-k, top-p, min-p, then one draw. Defaults give greedy decoding.
struct OTR_API SamplingOptions {
  float temperature = 0;          ///< 0: the most likely token, whatever the rest says; else logits are divided by it
  int32_t top_k = 0;              ///< keep the k most likely; 0: all
  float top_p = 1;                ///< keep the smallest set whose probabilities sum to at least p; 1: all
  float min_p = 0;                ///< keep tokens at least this share as likely as the most likely one; 0: all
  float repeat_penalty = 1;       ///< logits of recent tokens: divided by it when positive, multiplied when negative; 1: off
  int32_t repeat_last_tokens = 64;///< how far back the penalty looks; -1: the whole context
  uint64_t seed = 0;              ///< the same seed, options and logits draw the same tokens on every machine

  /// Errors: kInvalidArgument naming the field, its value and its range. NaN is out of every range.
  Status validate() const;
};

/// A token and how likely it is.
struct TokenProbability {
  Token token = -1;
  double probability = 0;
};

/// Draws tokens. One per stream of text; not shared between threads.
class OTR_API Sampler {
 public:
  /// Errors: those of options.validate().
  static Result<Sampler> create(const SamplingOptions& options);
  Sampler(Sampler&&) noexcept;
  Sampler& operator=(Sampler&&) noexcept;
  ~Sampler();

  /// The next token for `logits` [vocabulary], given the tokens so far (for the penalty). Ties go to the lower id.
  /// NaN logits count as minus infinity. Cost: one pass over the vocabulary; allocates on the first call only.
  /// Errors: kInvalidArgument for empty logits or when all are minus infinity.
  Result<Token> sample(std::span<const float> logits, std::span<const Token> history);
  /// What sample() would draw from, likeliest first: the tokens that are left after penalty and cuts, with probabilities that sum to 1; one
  /// token of probability 1 at temperature 0. Draws nothing. Valid until the next call. Cost and errors: those of sample().
  Result<std::span<const TokenProbability>> distribution(std::span<const float> logits, std::span<const Token> history);

 private:
  struct State;
  explicit Sampler(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SAMPLING_H_
