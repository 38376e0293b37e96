// DraftLength: how many tokens to draft, from what was accepted and what it cost.
#ifndef OUTRIGGER_SRC_DECODE_DRAFT_LENGTH_H_
#define OUTRIGGER_SRC_DECODE_DRAFT_LENGTH_H_

#include <outrigger/speculation.h>

#include <algorithm>
#include <array>
#include <cstdint>

namespace outrigger {

/// What one pass did: a draft was made (or not), then one step verified it together with the last token.
struct PassRecord {
  uint32_t asked = 0;    ///< length that was wanted of the draft
  uint32_t drafted = 0;  ///< tokens that it had
  uint32_t depth = 0;    ///< of a chain: as many
  uint32_t accepted = 0;
  double draft_ms = 0, verify_ms = 0;
};

/// What each further token of a step adds, of a step of decoding, by the plan: from a decode step to a prompt's. A batch's token is one of
/// each of its texts.
double planned_growth(const Plan& plan);

/// Maximises tokens over time: a draft of n tokens yields 1 + a1 + a1 a2 + ... of them on average, a_i being how often the i-th is taken
/// when those before it were, and takes n steps of the draft and one of n + 1 tokens of the model. Both sides are measured as the
/// generation goes, with memories that fade: texts change, and steps grow with the context. Where no length is worth its time, it drafts
/// nothing for a while, then tries again. Of trees the length is their depth, with `width` tokens of each. Pure: knows no clock.
class DraftLength {
 public:
  /// Lengths up to `most`, 1 to kMostDraftTokens; most * width is less than kMostTreeTokens + width.
  /// `fixed`: that length or, if it may give up, none. `growth`: what each further token of a step is believed to add until it was
  /// measured, of a step of one token; never less than kLeastGrowth.
  DraftLength(uint32_t most, bool is_fixed, bool may_give_up, uint32_t width = 1, double growth = kLeastGrowth)
      : most_(most), width_(width), is_fixed_(is_fixed), may_give_up_(may_give_up), growth_(std::max(growth, kLeastGrowth)) {}

  /// Length to ask the draft for next; 0: a plain step.
  uint32_t next();
  /// The length that is worth most, whether it pays or not.
  uint32_t best() const;
  uint32_t width() const { return width_; }
  /// It was tried often enough to be judged.
  bool is_known() const { return drafted_passes_ >= kLeastDrafted; }
  /// Begins with what `other` knows of the same drafts in steps of other sizes: how often they are right, and the length that was worth
  /// most there. Does nothing where it has drafted before.
  void learn(const DraftLength& other);
  void record(const PassRecord& pass) {
    record_step(pass);
    if (pass.drafted > 0) record_accepted(pass.depth, pass.accepted);
  }
  /// record() in parts, where a step verifies several drafts: what it took, and how many of each draft were accepted.
  void record_step(const PassRecord& pass);
  void record_accepted(uint32_t drafted, uint32_t accepted);
  /// It is drafting nothing because that is faster.
  bool has_given_up() const { return pause_tokens_ > 0; }
  /// Says in `report` whether it has, and why.
  void tell_given_up(SpeculationReport* report) const;

  /// Expected number of tokens that are accepted of a draft of this length.
  double expected_accepted(uint32_t length) const;
  /// Expected time of a token with drafts of this length, in ms; what was not measured yet is judged kindly, so that it is tried: of steps
  /// by what is believed of their growth.
  double ms_per_token(uint32_t length) const;

  /// Nothing is given up on less than so many drafts.
  static constexpr uint32_t kLeastDrafted = 4;
  /// Next to nothing, as when reading the weights takes all the time.
  static constexpr double kLeastGrowth = 0.02;

 private:
  struct Rate {
    double hits = 0, trials = 0;
  };
  struct Time {
    double ms = 0;
    uint32_t count = 0;
    void add(double sample_ms);
  };
  double acceptance(uint32_t place) const;
  bool is_hopeless() const;
  double growth() const;
  double verify_ms(uint32_t tokens) const;
  void give_up(double drafted_ms, double plain_ms);

  const uint32_t most_, width_;
  const bool is_fixed_, may_give_up_;
  const double growth_;
  std::array<Rate, kMostDraftTokens> rates_;
  std::array<Time, kMostTreeDraftTokens + 2> verify_;  ///< by tokens of the step
  Time draft_;                                         ///< of a length of 1
  uint32_t passes_since_plain_ = 0, plain_passes_ = 0, drafted_passes_ = 0;
  uint32_t pause_tokens_ = 0;  ///< that are still to come before the next try
  uint32_t next_pause_tokens_ = kFirstPauseTokens;
  double given_up_drafted_ms_ = 0, given_up_plain_ms_ = 0;  ///< of a token, when the pause began
  uint32_t trial_passes_ = 0;  ///< that are still to be tried with a draft, whatever is expected
  uint32_t learnt_length_ = 0;  ///< of the first draft; 0: by what is believed
  static constexpr uint32_t kFirstPauseTokens = 16, kMostPauseTokens = 512;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_DECODE_DRAFT_LENGTH_H_
