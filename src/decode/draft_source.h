// DraftSource: who proposes the tokens that a step then verifies.
#ifndef OUTRIGGER_SRC_DECODE_DRAFT_SOURCE_H_
#define OUTRIGGER_SRC_DECODE_DRAFT_SOURCE_H_

#include <outrigger/cancel.h>
#include <outrigger/sampling.h>
#include <outrigger/status.h>

#include <cstdint>
#include <span>
#include <vector>

namespace outrigger {

/// Tokens in a row. Where they were drawn, distribution(i) is what the i-th was drawn from, given those before it; else none is kept, and
/// the tokens stand for themselves.
class Draft {
 public:
  /// Capacity for `most_tokens`, with `most_candidates` of each distribution: what stays within it does not allocate.
  Draft(size_t most_tokens, size_t most_candidates) {
    tokens_.reserve(most_tokens);
    ends_.reserve(most_tokens);
    candidates_.reserve(most_tokens * most_candidates);
  }

  void clear() {
    tokens_.clear();
    ends_.clear();
    candidates_.clear();
  }
  void add(Token token) { tokens_.push_back(token); }
  void add(Token token, std::span<const TokenProbability> drawn_from) {
    tokens_.push_back(token);
    candidates_.insert(candidates_.end(), drawn_from.begin(), drawn_from.end());
    ends_.push_back(candidates_.size());
  }

  std::span<const Token> tokens() const { return tokens_; }
  bool is_drawn() const { return !ends_.empty(); }
  std::span<const TokenProbability> distribution(size_t i) const {
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::span(candidates_).subspan(begin, ends_[i] - begin);
  }

 private:
  std::vector<Token> tokens_;
  std::vector<TokenProbability> candidates_;
  std::vector<size_t> ends_;
};

/// One generation's. A draft is anyone's guess: a bad one costs time, never a wrong token.
class DraftSource {
 public:
  virtual ~DraftSource() = default;

  /// Computes what there is to know of `tokens` before a draft behind them, as propose() would: so that a prompt that is read once does not
  /// count as what drafts take. Errors: as propose().
  virtual Status read(std::span<const Token> tokens, const CancelToken& cancel) {
    (void)tokens;
    (void)cancel;
    return {};
  }
  /// Fills `draft`, which is empty, with up to `most` tokens that may follow `tokens`; with fewer or none where it knows of no more.
  /// `tokens` are those of the call before, as far as they were accepted, and what came after them; what a source computed of these it does
  /// not compute again. Errors: kCancelled, after which it may be asked again; any other ends its use.
  virtual Status propose(std::span<const Token> tokens, uint32_t most, const CancelToken& cancel, Draft* draft) = 0;
  /// Its tokens stand for themselves, whatever the sampling.
  virtual bool is_certain() const { return false; }
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_DRAFT_SOURCE_H_
