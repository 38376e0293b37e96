// DraftChoice: which shape of draft, and how large.
#ifndef OUTRIGGER_SRC_DECODE_DRAFT_CHOICE_H_
#define OUTRIGGER_SRC_DECODE_DRAFT_CHOICE_H_

#include <outrigger/speculation.h>

#include <optional>

#include "src/decode/draft_length.h"
#include "src/decode/draft_source.h"

namespace outrigger {

/// Chains, trees or, of both, what has been measured to be faster. The other shape is tried for a few passes early, and again now and then,
/// since texts change. Pure: knows no clock.
class DraftChoice {
 public:
  /// `most_tokens`: that a step has rows for, behind its first. `width`: of trees; 1: only chains are possible. `growth`: as DraftLength's.
  DraftChoice(const DraftOptions& options, uint32_t most_tokens, uint32_t width, double growth = DraftLength::kLeastGrowth);

  /// What to ask for next; no tokens: a plain step.
  DraftSize next();
  /// Precondition: the pass is that of the last next(), or a plain one.
  void record(const PassRecord& pass);
  /// Of a draft so deep, of the shape that the last next() asked for, before its pass is recorded.
  double expected_accepted(uint32_t depth) const { return (asked_tree_ ? tree_ : chain_)->expected_accepted(depth); }
  /// Says in `report` whether it is drafting nothing because that is faster, and why.
  void tell_given_up(SpeculationReport* report) const { (prefers_tree_ ? tree_ : chain_)->tell_given_up(report); }
  /// Expected time of a token, drafting or not, whichever is faster; 0: not known yet.
  double ms_per_token() const;
  /// Tokens of the largest draft that is asked for.
  uint32_t most_tokens() const { return tree_ ? most_tree_tokens_ : most_chain_tokens_; }

 private:
  bool is_other_faster() const;

  std::optional<DraftLength> chain_, tree_;  ///< one at least
  uint32_t most_chain_tokens_ = 0, most_tree_tokens_ = 0;
  bool prefers_tree_ = false;  ///< of two
  bool asked_tree_ = false;    ///< by the last next()
  uint32_t drafted_passes_ = 0, next_trial_ = DraftLength::kLeastDrafted;
  uint32_t trial_passes_ = 0;  ///< that are still to be made with the other shape
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_DRAFT_CHOICE_H_
