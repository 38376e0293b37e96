// QuoteChoice: when to copy a draft from the text instead of computing one.
#ifndef OUTRIGGER_SRC_DECODE_QUOTE_CHOICE_H_
#define OUTRIGGER_SRC_DECODE_QUOTE_CHOICE_H_

#include <cstddef>
#include <cstdint>

#include "src/decode/draft_length.h"

namespace outrigger {

/// Beside a source whose drafts take time: n-grams, whose drafts take none, where so much of the text's end stands in it already that it is
/// likely to be repeated, and as long as that is measured to be faster. Pure: knows no clock.
class QuoteChoice {
 public:
  /// Quotes up to `most` tokens, 1 to kMostDraftTokens. `growth`: as DraftLength's.
  explicit QuoteChoice(uint32_t most, double growth = DraftLength::kLeastGrowth) : length_(most, false, false, 1, growth) {}

  /// Tokens to quote next, behind a text whose last `match` tokens stand in it before; 0: the other source is to be asked, with whose
  /// drafts a token is expected to take `other_ms`; 0 where that is not known yet.
  uint32_t next(size_t match, double other_ms) const;
  /// A pass with a quote, or a plain one.
  void record_own(const PassRecord& pass);
  /// Of a quote of so many tokens, before its pass is recorded.
  double expected_accepted(uint32_t tokens) const { return length_.expected_accepted(tokens); }
  /// A pass with a draft of the other source's.
  void record_other() { ++passes_since_quote_; }

  /// Tokens that are to match. Shorter matches are a matter of style, and a computed draft is better than what followed them.
  static constexpr size_t kLeastMatch = 6;
  /// Where quotes were slower, they are tried once more after so many other passes: one that is all wrong costs what one pass gives.
  static constexpr uint32_t kPassesPerTrial = 64;

 private:
  DraftLength length_;
  uint32_t passes_since_quote_ = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_QUOTE_CHOICE_H_
