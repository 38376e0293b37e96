// BatchDraftLength: how many tokens the texts of a batch draft, where they may as long as it pays.
#ifndef OUTRIGGER_SRC_DECODE_BATCH_DRAFT_LENGTH_H_
#define OUTRIGGER_SRC_DECODE_BATCH_DRAFT_LENGTH_H_

#include <algorithm>
#include <cstdint>

#include "src/decode/draft_length.h"

namespace outrigger {

/// One length for all: a row that one text takes is time of everyone's, so that each by itself would find its own draft cheap. What steps
/// take is kept by how many tokens the texts of a step drafted on average. Pure: knows no clock.
class BatchDraftLength {
 public:
  /// `growth`: as DraftLength's, a token being one of each text.
  explicit BatchDraftLength(double growth = DraftLength::kLeastGrowth) : length_(kMostDraftTokens, false, true, 1, growth) {}

  /// Tokens to ask each text's draft for in the next step; 0: none.
  uint32_t next() {
    asked_ = has_drafted_ ? length_.next() : std::min(length_.next(), kFirstTokens);
    return asked_;
  }
  /// Begins with what the same texts' drafts were in steps of more of them.
  void learn(const BatchDraftLength& other) {
    length_.learn(other.length_);
    has_drafted_ |= other.has_drafted_;
  }
  /// It is drafting nothing because that is faster.
  bool has_given_up() const { return length_.has_given_up(); }
  /// A text of the step that drafts as it pays.
  void add(uint32_t drafted, uint32_t accepted) {
    ++texts_;
    drafted_ += drafted;
    has_drafted_ |= drafted > 0;
    if (drafted > 0) length_.record_accepted(drafted, accepted);
  }
  /// The step of those that were added is done. Steps that read prompts as well say nothing about drafts: `is_comparable` is false.
  void end_step(double draft_ms, double step_ms, bool is_comparable) {
    const uint32_t mean = texts_ == 0 ? 0 : (drafted_ + texts_ - 1) / texts_;  // a few drafts are more than none
    if (texts_ > 0 && is_comparable) length_.record_step({asked_, mean, mean, 0, draft_ms, step_ms});
    texts_ = drafted_ = asked_ = 0;
  }
  /// Says in `report` whether nothing is drafted because that is faster, and why.
  void tell_given_up(SpeculationReport* report) const { length_.tell_given_up(report); }

 private:
  // What a draft costs is not known before the first one, which is everyone's time.
  static constexpr uint32_t kFirstTokens = 1;

  DraftLength length_;
  bool has_drafted_ = false;
  uint32_t asked_ = 0, texts_ = 0, drafted_ = 0;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_BATCH_DRAFT_LENGTH_H_
